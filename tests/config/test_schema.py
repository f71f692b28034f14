"""The schema of config.toml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ffdi.commands.shared import setting_checks
from ffdi.config import schema, variants
from ffdi.config.schema import Config, InputHashes
from ffdi.core.errors import ConfigError

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(PROJECT.glob("experiments/*/config.toml"))


def load(tmp_path: Path, content: str) -> Config:
    """The config of this content."""
    path = tmp_path / "config.toml"
    path.write_text(content)
    return schema.load_experiment(path)


def test_an_empty_config_is_all_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Config()


def test_a_config_never_changes() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().train.lr = 1  # type: ignore[misc]


def test_seed_zero_is_a_seed(tmp_path: Path) -> None:
    assert load(tmp_path, "seed = 0").seed == 0
    assert Config(seed=1).build_identity() != Config(seed=0).build_identity()


def test_data_paths_are_not_in_the_identity(tmp_path: Path) -> None:
    here = load(tmp_path, '[data]\nroot = "here"\n[data.test]\nfolder = "t"\n[ensemble]\nmethod = "logit_mean"')
    assert here.build_identity() == Config().build_identity()
    assert load(tmp_path, '[data]\ntarget_column = "label"').build_identity() != Config().build_identity()


def test_a_weights_file_is_identified_by_its_content(tmp_path: Path) -> None:
    one = load(tmp_path, '[model]\nweights_file = "a.pth"')
    two = load(tmp_path, '[model]\nweights_file = "b.pth"')
    assert one.build_identity(InputHashes("hash")) == two.build_identity(InputHashes("hash"))
    assert one.build_identity(InputHashes("hash")) != one.build_identity(InputHashes("other"))


def test_differences_name_the_key_with_both_values() -> None:
    old, new = Config().build_identity(), Config(seed=1, train={"lr": 0.5}).build_identity()
    assert schema.list_differences(old, new) == ["seed: 0 -> 1", "train.lr: 0.001 -> 0.5"]
    assert schema.list_differences(old, old) == []


def test_a_nested_unknown_key_is_found(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, '[data.train]\nfoldr = "x"')
    path = tmp_path / "config.toml"
    assert str(caught.value) == (
        f"{path} has 1 bad key\n  unknown key 'data.train.foldr': did you mean 'folder'?\n"
        f"next: correct {path}; docs/config.md lists every key with its default"
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_a_shipped_experiment_is_valid_and_opens_with_a_comment(path: Path) -> None:
    settings = schema.load_config(path)
    setting_checks.check_settings(settings)
    for name in settings.group.members:
        base = PROJECT / "experiments" / name / "config.toml"
        schema.load_experiment(base)
        for keys in variants.expand_grid(settings.group.grid):
            variants.format_variant(name, base.read_text(), keys)
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
