"""Changes of keys in a config.toml: of an experiment's own, and in the variants that sweeps and groups make of it."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import tomlkit

from ffdi.config.schema import Config, validate
from ffdi.core.errors import ConfigError

Keys = dict[str, Any]
"""Values by full key, such as 'train.lr'."""
Grid = dict[str, list[Any]]
"""Several values for each key."""


def parse_grid(words: Sequence[str]) -> Grid:
    """Parses words such as 'train.lr=1e-4,3e-4' and 'augment.recipe=light,strong'.

    Raises:
        ConfigError: a word has another form, or a key is duplicate.
    """
    found: Grid = {}
    for word in words:
        key, sign, values = word.partition("=")
        key = key.strip()
        if not key or not sign or not values.strip():
            raise ConfigError(f"--set {word}: no key with values", hint="pass --set train.lr=1e-4,3e-4")
        if key in found:
            raise ConfigError(f"--set {word}: {key} is a duplicate", hint=f"pass all its values together: {key}=A,B")
        found[key] = _parse_values(word, values.strip())
    return found


def expand_grid(grid: Mapping[str, Sequence[Any]]) -> list[Keys]:
    """Lists every combination of one value for each key; the last key changes first."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def name_variant(base: str, keys: Keys) -> str:
    """Returns the name of a variant, such as 'resnet18-lr_0.001-recipe_strong'."""
    last = [key.rpartition(".")[2] for key in keys]
    shown = {key if last.count(short) > 1 else short: keys[key] for key, short in zip(keys, last, strict=True)}
    return "-".join([base, *(re.sub(r"[^\w.+]+", "_", f"{word} {one}").strip("_") for word, one in shown.items())])


def build_variant(base: str, content: str, keys: Keys) -> Config:
    """Returns the config of a variant; arguments and errors as for `format_variant`."""
    return validate(tomllib.loads(format_variant(base, content, keys)), base)


def format_variant(base: str, content: str, keys: Keys) -> str:
    """Returns the text of a variant's config.toml.

    Args:
        base: name of the original experiment.
        content: its config.toml.
        keys: the changed keys. With another seed the fold assignment stays that of the base, so that both experiments
            can be in one ensemble.

    Raises:
        ConfigError: a key is unknown, or its value is out of range.
    """
    for key, value in keys.items():
        if isinstance(value, dict) or key.startswith("group"):
            raise ConfigError(f"{key} is no key of one experiment", hint="name a key such as train.lr")
    changed = tomllib.loads(content)
    if "seed" in keys and "folds.seed" not in keys:
        seed = changed.get("folds", {}).get("seed", changed.get("seed", 0))
        _set_key(changed, "folds.seed", seed)
    for key, value in keys.items():
        _set_key(changed, key, value)
    changes = ", ".join(f"{key} = {value!r}" for key, value in keys.items())
    validate(changed, f"{base} with {changes}")
    return f"# {base} with {changes}; written by ffdi\n\n{tomlkit.dumps(changed)}"


def change_keys(content: str, keys: Keys) -> str:
    """Returns the text of a config.toml with changed keys; all other lines and comments stay as they are.

    Raises:
        ConfigError: a key is unknown, or its value is out of range.
    """
    changed = tomlkit.parse(content)
    for key, value in keys.items():
        _set_key(changed, key, value)
    written = tomlkit.dumps(changed)
    validate(tomllib.loads(written), "config.toml")
    return written


def _set_key(content: MutableMapping[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, MutableMapping):
            raise ConfigError(f"unknown key '{key}'", hint="docs/config.md has every key")
    content[last] = value


def _parse_values(word: str, values: str) -> list[Any]:
    """Splits values at commas outside of quotes and lists; a word without quotes is a string."""
    found = parse_value(f"[{values}]")
    if isinstance(found, list):
        return found
    if values.startswith("["):
        raise ConfigError(
            f"--set {word}: not a list as in config.toml",
            hint="""pass --set 'pseudo_fakes.methods=["self_blend"]', with quotes around words""",
        )
    return [parse_value(one.strip()) for one in values.split(",")]


def parse_value(word: str) -> Any:
    """Parses one value as in config.toml; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {word}")["value"]
    except (ValueError, RecursionError):  # endless digits or brackets
        return word
