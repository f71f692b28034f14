"""Experiments as config.toml says them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ffdi.commands.shared import planning
from ffdi.config import schema, variants
from ffdi.config.schema import Config
from ffdi.core.errors import ConfigError

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(PROJECT.glob("experiments/*/config.toml"))


def load(tmp_path: Path, content: str) -> Config:
    """The config that `content` says."""
    path = tmp_path / "config.toml"
    path.write_text(content)
    return schema.load(path)


def test_an_empty_config_is_all_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Config()


def test_a_config_never_changes() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().train.lr = 1  # type: ignore[misc]


def test_seed_zero_is_a_seed(tmp_path: Path) -> None:
    assert load(tmp_path, "seed = 0").seed == 0
    assert Config(seed=1).identity() != Config(seed=0).identity()


def test_where_the_data_lie_is_no_part_of_the_identity(tmp_path: Path) -> None:
    here = load(tmp_path, '[data]\nroot = "here"\n[data.test]\nfolder = "t"\n[ensemble]\nmethod = "logit_mean"')
    assert here.identity() == Config().identity()
    assert load(tmp_path, '[data]\ntarget_column = "label"').identity() != Config().identity()


def test_a_weights_file_counts_by_its_content(tmp_path: Path) -> None:
    one = load(tmp_path, '[model]\nweights_file = "a.pth"')
    two = load(tmp_path, '[model]\nweights_file = "b.pth"')
    assert one.identity("hash") == two.identity("hash")
    assert one.identity("hash") != one.identity("other")


def test_differences_name_the_key_with_both_values() -> None:
    old, new = Config().identity(), Config(seed=1, train={"lr": 0.5}).identity()
    assert schema.differences(old, new) == ["seed: 0 -> 1", "train.lr: 0.001 -> 0.5"]
    assert schema.differences(old, old) == []


def test_a_nested_unknown_key_is_found(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, '[data.train]\nfoldr = "x"')
    path = tmp_path / "config.toml"
    assert str(caught.value) == (
        f"{path} has 1 bad key\n  unknown key 'data.train.foldr': did you mean 'folder'?\n"
        f"next: correct {path}; every key with its default stands in docs/config.md"
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_a_shipped_experiment_is_valid_and_opens_with_what_to_expect(path: Path) -> None:
    settings = schema.read(path)
    planning.check_settings(settings)
    for name in settings.group.members:
        base = PROJECT / "experiments" / name / "config.toml"
        schema.load(base)
        for keys in variants.combinations(settings.group.grid):
            variants.text(name, base.read_text(), keys)
    opening = path.read_text().split("\n\n")[0]
    words = re.findall(r"^# (\w+)  ", opening, re.MULTILINE)
    assert words == ["purpose", "command", "machine", "minutes", "expect"]
    assert path.parent.name in opening or path.parent.name == "quickstart"


def keys(section: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every key of the config with its default."""
    found: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if isinstance(field.default, BaseModel):
            found |= keys(type(field.default), f"{prefix}{name}.")
        else:
            found[prefix + name] = field.default
    return found


def toml(value: Any) -> str:
    """A default as config.toml would say it; a key that has none is left out of the file."""
    if isinstance(value, dict):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return (
        {None: "not set", True: "true", False: "false"}.get(value, f'"{value}"')
        if isinstance(value, str | bool | None)
        else str(value)
    )


def test_the_documentation_has_every_key_with_its_default() -> None:
    text = (PROJECT / "docs" / "config.md").read_text()
    documented = dict(re.findall(r"^\| `([\w.]+)` \| `?([^|`]*)`? \|", text, re.MULTILINE))
    wanted = {key: toml(value) for key, value in keys(Config).items()}
    assert {key: value.strip() for key, value in documented.items()} == wanted
