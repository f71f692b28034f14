"""Where a notebook finds its workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffdi.experiments import workspace
from ffdi.experiments.workspace import Workspace
from tests.conftest import PROJECT


@pytest.fixture(autouse=True)
def _no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FFDI_ROOT", raising=False)


def test_a_notebook_in_a_checkout_uses_the_checkout() -> None:
    assert Workspace.find(PROJECT / "docs") == Workspace(PROJECT, PROJECT)


def test_a_folder_with_experiments_is_a_workspace_also_in_a_checkout(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "tasks.py").touch()
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert Workspace.find(inner).root == tmp_path
    (inner / "experiments").mkdir()
    assert Workspace.find(inner).root == inner


def test_another_folder_becomes_the_workspace_with_the_experiments_of_ffdi(tmp_path: Path) -> None:
    found = Workspace.find(tmp_path)
    assert found == Workspace(tmp_path, PROJECT)
    made = found.get_experiment("quickstart")
    assert made.config_path == tmp_path / "experiments" / "quickstart" / "config.toml"
    assert made.config_path.read_text() == (PROJECT / "experiments" / "quickstart" / "config.toml").read_text()


def test_the_variable_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiments").mkdir()
    monkeypatch.setenv("FFDI_ROOT", str(tmp_path / "other"))
    assert Workspace.find(tmp_path).root == tmp_path / "other"


def test_an_installed_ffdi_has_its_experiments_beside_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "CHECKOUT", tmp_path)
    assert Workspace.find(tmp_path).project == PROJECT / "ffdi" / "shipped"
