"""Every old name is refused with the new one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ffdi.config import renames, schema
from ffdi.core.errors import ConfigError, ExperimentError
from ffdi.experiments.fold import FoldFolder
from tests.conftest import PROJECT, Invoke

HEADER = "| old | new |"


def _known() -> set[str]:
    return {
        f"{section}.{key}"
        for section, field in schema.Config.model_fields.items()
        if hasattr(field.annotation, "model_fields")
        for key in field.annotation.model_fields
    }


@pytest.mark.parametrize(("old", "new"), renames.KEYS.items())
def test_an_old_key_is_refused(old: str, new: str, tmp_path: Path) -> None:
    assert new in _known()
    assert old not in _known()
    section, key = old.split(".")
    path = tmp_path / "config.toml"
    path.write_text(f"[{section}]\n{key} = 1\n")
    with pytest.raises(ConfigError) as caught:
        schema.load_config(path)
    assert f"{old} is now {new}" in caught.value.problems
    if section in renames.SECTIONS:
        assert caught.value.problems[0] == f"[{section}] is now [{renames.SECTIONS[section]}]"


@pytest.mark.parametrize(("old", "new"), renames.FLAGS.items())
@pytest.mark.parametrize("value", ["", "=2"])
def test_an_old_flag_is_refused(old: str, new: str, value: str, invoke: Invoke) -> None:
    answer = invoke("train-folds", f"{old}{value}")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == f"error: {old} is now {new}\nnext: pass {new} instead\n"
    assert new in (PROJECT / "docs" / "commands.md").read_text()


def test_old_columns_are_refused(tmp_path: Path) -> None:
    folder = FoldFolder(tmp_path, 0)
    folder.history_path.write_text(",".join(["epoch", *renames.COLUMNS]) + "\n1,0.5,0.5,0.5\n")
    with pytest.raises(ExperimentError) as caught:
        folder.read_history()
    assert caught.value.problems == tuple(f"{old} is now {new}" for old, new in renames.COLUMNS.items())
    folder.history_path.write_text(",".join(["epoch", *renames.COLUMNS.values()]) + "\n1,0.5,0.5,0.75\n")
    assert folder.read_history()["heldout_auc"].tolist() == [0.75]


@pytest.mark.parametrize(("old", "new"), renames.FILES.items())
def test_an_old_file_is_refused(old: str, new: str, tmp_path: Path) -> None:
    renames.refuse_files(tmp_path)
    (tmp_path / old).write_text("{}")
    with pytest.raises(ExperimentError) as caught:
        renames.refuse_files(tmp_path)
    assert caught.value.what == f"{tmp_path / old} was written by an earlier version of ffdi; this file is now {new}"


def test_the_changelog_has_every_new_name() -> None:
    text = (PROJECT / "CHANGELOG.md").read_text()
    rows = dict(re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", text[text.index(HEADER) :], re.MULTILINE))
    known = {**renames.KEYS, **renames.FLAGS, **renames.COLUMNS, **renames.FILES}
    known |= {f"[{old}]": f"[{new}]" for old, new in renames.SECTIONS.items()}
    assert {old: rows.get(old) for old in known} == known
