"""--set and --as: an experiment with other settings, without a copy of its config.toml by hand; and the data folder,
which an experiment remembers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ffdi.config import schema
from ffdi.core import manifests
from tests.conftest import TINY, Invoke, skip_export_trial

Snapshot = Callable[[Path], dict[str, bytes]]


def read_config(root: Path, name: str) -> dict[str, Any]:
    return schema.load_experiment(root / "experiments" / name / "config.toml").model_dump()


def list_finished(root: Path, name: str) -> list[str]:
    return sorted(path.parent.name for path in (root / "experiments" / name).glob("fold_*/manifest.json"))


def test_one_command_makes_and_trains_a_new_experiment(workspace: Path, competition: Path, invoke: Invoke) -> None:
    skip_export_trial(workspace, "tiny")
    words = ["train-folds", "-e", "tiny", "--set", "train.epochs=1", "--set", 'augment.recipe="light"', "--as", "mine"]
    answer = invoke(*words, "--data", str(competition))
    assert answer.code == 0, answer.err
    config = workspace / "experiments" / "mine" / "config.toml"
    assert f"written: {config}: " in answer.out
    assert "train.epochs: 3 -> 1" in answer.out
    assert "augment.recipe: 'flips' -> 'light'" in answer.out
    assert list_finished(workspace, "mine") == ["fold_0", "fold_1"]
    assert not list_finished(workspace, "tiny")
    assert (workspace / "experiments" / "tiny" / "config.toml").read_text() == TINY
    found = read_config(workspace, "mine")
    assert found.pop("data")["root"] == str(competition)
    expected = read_config(workspace, "tiny")
    del expected["data"]
    expected["train"]["epochs"], expected["augment"]["recipe"] = 1, "light"
    assert found == expected
    answer = invoke(*words, "--data", str(competition))  # the same command continues
    assert answer.code == 0, answer.err
    assert "fold 0: finished before, kept" in answer.out
    assert invoke("ensemble-submit", "-e", "mine").code == 0


def test_a_name_that_is_taken_is_refused(
    workspace: Path, competition: Path, invoke: Invoke, snapshot: Snapshot
) -> None:
    words = ["doctor", "-e", "tiny", "--as", "mine", "--data", str(competition)]
    assert invoke(*words, "--set", "train.lr=1e-3").code == 0
    before = snapshot(workspace)
    answer = invoke(*words, "--set", "train.lr=2e-3")
    assert (answer.code, answer.err) == (
        1,
        "error: the experiment mine exists, and its config.toml is not that of tiny with these changes\n"
        "  train.lr: 0.001 -> 0.002\n"
        "next: pass another name, such as --as mine-2; or omit --set and --as, and pass --experiment mine\n",
    )
    assert snapshot(workspace) == before


def test_without_a_name_the_experiment_itself_changes(workspace: Path, competition: Path, invoke: Invoke) -> None:
    path = workspace / "experiments" / "tiny" / "config.toml"
    path.write_text(f"# mine\n{TINY}")
    skip_export_trial(workspace, "tiny")
    words = ["train-folds", "-e", "tiny", "--data", str(competition), "--set"]
    answer = invoke(*words, "train.epochs=1")
    assert answer.code == 0, answer.err
    assert path.read_text() == f"# mine\n{TINY.replace('epochs = 3', 'epochs = 1')}"
    answer = invoke(*words, "train.epochs=2")
    assert (answer.code, answer.err) == (
        1,
        "error: experiment tiny is trained with other values; its folds would not match\n"
        "  train.epochs: 1 -> 2\n"
        "next: train another experiment: add --as tiny-2\n",
    )
    assert "epochs = 1\n" in path.read_text()
    assert invoke(*words, 'ensemble.method="mean"').code == 0  # the folds do not depend on it
    assert invoke(*words, "train.epochs=1").code == 0
    answer = invoke(*words, "train.epochs=2", "--restart")
    assert answer.code == 0, answer.err
    assert "epoch  2/2" in answer.out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ("--set", "train.lrr=1"),
            "config.toml has 1 bad key\n  unknown key 'train.lrr': did you mean 'lr'?\nnext: correct config.toml; "
            "docs/config.md lists every key with its default\n",
        ),
        (
            ("--set", "train.lr=1e-3,2e-3"),
            "--set train.lr has 2 values, and an experiment has one\n"
            "next: pass one value; invoke sweep --experiment tiny --data DATA compares several\n",
        ),
        (("--set", "train.lr"), "--set train.lr: no key with values\nnext: pass --set train.lr=1e-4,3e-4\n"),
        (("--as", "a/b"), "--as 'a/b' is no folder name\nnext: pass a name without slashes\n"),
        (
            ("--as", "new", "-e", "quickstart"),
            "--set and --as change one experiment, and several are named\n"
            "next: pass one --experiment, or write a [group.grid] (docs/config.md)\n",
        ),
        (
            ("--set", "augment.recipe=lite", "--as", "new"),
            "unknown augment.recipe 'lite': did you mean 'light'?\nnext: correct augment.recipe in config.toml\n",
        ),
    ],
    ids=["key", "values", "no value", "name", "several", "word"],
)
def test_changes_that_cannot_be_made_are_refused(
    words: tuple[str, ...], error: str, workspace: Path, competition: Path, invoke: Invoke, snapshot: Snapshot
) -> None:
    before = snapshot(workspace)
    answer = invoke("train-folds", "-e", "tiny", "--data", str(competition), *words)
    assert (answer.code, answer.err) == (1, f"error: {error.replace('DATA', str(competition))}")
    assert snapshot(workspace) == before


def test_a_budget_fits_a_new_experiment_and_the_same_command_goes_on(
    workspace: Path, competition: Path, invoke: Invoke
) -> None:
    skip_export_trial(workspace, "tiny")
    words = ["train-folds", "-e", "tiny", "--as", "mine", "--budget", "20s", "--folds", "0", "--data", str(competition)]
    answer = invoke(*words)
    assert answer.code == 0, answer.err
    assert read_config(workspace, "tiny")["train"]["epochs"] == 3
    answer = invoke(*words)
    assert answer.code == 0, answer.err
    assert "budget: mine has started before" in answer.out


def test_the_data_folder_is_remembered(copy: Path, competition: Path, invoke: Invoke) -> None:
    config = copy / "experiments" / "tiny" / "config.toml"
    config.write_text(f'{config.read_text()}\n[data]\nroot = "data/phase1"\n')
    for words in (
        ["doctor"],
        ["train-folds"],
        ["find-lr", "--steps", "40"],
        ["sweep", "--set", "train.lr=3e-3"],
        ["cache"],
        ["score", "--stress"],
        ["ensemble-submit"],
        ["doctor", "--as", "other"],
    ):
        answer = invoke(*words, "-e", "tiny")
        assert answer.code == 0, (words, answer.err)
    assert read_config(copy, "other")["data"]["root"] == str(competition)


def test_a_scan_remembers_the_folder_for_the_training(workspace: Path, competition: Path, invoke: Invoke) -> None:
    skip_export_trial(workspace, "tiny")
    assert invoke("doctor", "-e", "tiny", "--data", str(competition)).code == 0
    assert invoke("train-folds", "-e", "tiny", "--set", "train.epochs=1", "--folds", "0").code == 0


def test_findings_of_other_images_leave_those_of_the_training_alone(
    copy: Path, competition: Path, tmp_path: Path, invoke: Invoke
) -> None:
    other = tmp_path / "other"
    shutil.copytree(competition, other)
    labels = other / "trainset_label.txt"
    labels.write_text("".join(labels.open().readlines()[:-4]))
    folder = copy / "experiments" / "tiny"
    own = (folder / "doctor.json").read_bytes()
    answer = invoke("doctor", "-e", "tiny", "--data", str(other))
    assert answer.code == 0, answer.err
    assert (folder / "doctor.json").read_bytes() == own
    found = manifests.read_manifest(folder / "doctor_other.json")
    assert found["splits"]["train"]["images"] == 60
    assert f"tiny is trained on other images; their findings stay in {folder / 'doctor.json'}" in answer.out
    answer = invoke("train-folds", "-e", "tiny", "--data", str(other))
    assert answer.code == 1
    assert (folder / "doctor.json").read_bytes() == own
    answer = invoke("train-folds", "-e", "tiny", "--data", str(other), "--restart")
    assert answer.code == 0, answer.err
    assert manifests.read_manifest(folder / "doctor.json")["splits"]["train"]["images"] == 60


def test_the_doctor_checks_the_whole_config(workspace: Path, competition: Path, invoke: Invoke) -> None:
    path = workspace / "experiments" / "tiny" / "config.toml"
    path.write_text(TINY.replace("size = 32", "size = 32\nweights_file = 'gone.pth'"))
    answer = invoke("doctor", "-e", "tiny", "--data", str(competition))
    assert (answer.code, answer.err) == (
        1,
        f"error: model.weights_file names {workspace}/gone.pth, which does not exist\n"
        "next: correct it in config.toml\n",
    )
    assert "no two images show the same picture" in answer.out


def test_the_report_shows_the_findings_of_the_images_that_were_trained_on(copy: Path, invoke: Invoke) -> None:
    assert invoke("report", "-e", "tiny").code == 0
    page = copy / "exports" / "tiny" / "report.html"
    assert "Labels predicted from file properties only" in page.read_text()
    path = copy / "experiments" / "tiny" / "doctor.json"
    content = manifests.read_manifest(path)
    for key in ("schema", manifests.DIGEST):
        content.pop(key, None)
    manifests.write_manifest(path, {**content, "image_list": "0" * 64})
    assert invoke("report", "-e", "tiny").code == 0
    assert "Labels predicted from file properties only" not in page.read_text()
    assert "Run: invoke doctor --experiment tiny, then this report again." in page.read_text()
