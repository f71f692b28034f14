"""Experiments that differ from another one in a few keys of its config.toml."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w

from ffdi.config import schema
from ffdi.config.schema import Config
from ffdi.core.errors import ConfigError

Keys = dict[str, Any]
"""Values by the full name of their key, as 'train.lr'."""
Grid = dict[str, list[Any]]
"""Several values for each key."""


def grid(words: Sequence[str]) -> Grid:
    """What 'train.lr=1e-4,3e-4' and 'augment.recipe=light,strong' say.

    Raises:
        ConfigError: a word is not of that form, or names a key twice.
    """
    found: Grid = {}
    for word in words:
        key, sign, values = word.partition("=")
        key = key.strip()
        if not key or not sign or not values.strip():
            raise ConfigError(f"--set {word}: no key with values", hint="pass --set train.lr=1e-4,3e-4")
        if key in found:
            raise ConfigError(f"--set {word}: {key} stands twice", hint=f"name all its values at once: {key}=A,B")
        found[key] = _values(word, values.strip())
    return found


def combinations(grid: Mapping[str, Sequence[Any]]) -> list[Keys]:
    """Every choice of one value for each key; the last key changes first."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def name(base: str, keys: Keys) -> str:
    """What the experiment is called: 'resnet18-lr_0.001-recipe_strong'."""
    last = [key.rpartition(".")[2] for key in keys]
    shown = {key if last.count(short) > 1 else short: keys[key] for key, short in zip(keys, last, strict=True)}
    return "-".join([base, *(re.sub(r"[^\w.+]+", "_", f"{word} {one}").strip("_") for word, one in shown.items())])


def config(base: str, content: str, keys: Keys) -> Config:
    """What the config.toml of a variant says; arguments and errors as for `text`."""
    return schema.checked(tomllib.loads(text(base, content, keys)), base)


def text(base: str, content: str, keys: Keys) -> str:
    """The config.toml of a variant.

    Args:
        base: name of the experiment that it is a variant of.
        content: that one's config.toml.
        keys: what differs. With another seed the folds stay those of the base, so that both can be blended.

    Raises:
        ConfigError: there is no such key, or it does not take that value.
    """
    for key, value in keys.items():
        if isinstance(value, dict) or key.startswith("group"):
            raise ConfigError(f"{key} is no key of one experiment", hint="name a key such as train.lr")
    changed = tomllib.loads(content)
    if "seed" in keys and "folds.seed" not in keys:
        seed = changed.get("folds", {}).get("seed", changed.get("seed", 0))
        _put(changed, "folds.seed", seed)
    for key, value in keys.items():
        _put(changed, key, value)
    said = ", ".join(f"{key} = {value!r}" for key, value in keys.items())
    schema.checked(changed, f"{base} with {said}")
    return f"# {base} with {said}; written by ffdi\n\n{tomli_w.dumps(changed)}"


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise ConfigError(f"unknown key '{key}'", hint="docs/config.md has every key")
    content[last] = value


def _values(word: str, values: str) -> list[Any]:
    """What stands between commas; where those are lists, of lists."""
    if not values.startswith("["):
        return [value(one.strip()) for one in values.split(",")]
    found = value(f"[{values}]")
    if not isinstance(found, list):
        raise ConfigError(
            f"--set {word}: no list as config.toml has it",
            hint="""pass --set 'pseudo_fakes.methods=["self_blend"]', with quotes around words""",
        )
    return found


def value(word: str) -> Any:
    """As config.toml would have it; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {word}")["value"]
    except (ValueError, RecursionError):  # digits and brackets without end are no number and no list
        return word
