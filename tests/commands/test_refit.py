"""`folds.refit`: one more network on all training images, which is the one that scores new images."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TINY, Invoke

REFIT = TINY.replace("k = 2", "k = 2\nrefit = true")
WORDS = ("train-folds", "--experiment", "tiny", "--data")


def _read_state(experiment: Path, invoke: Invoke) -> str:
    """The state of the experiment in the leaderboard."""
    assert invoke("leaderboard").code == 0
    with (experiment.parent / "leaderboard.csv").open() as file:
        return next(csv.DictReader(file))["state"]


@pytest.fixture
def experiment(workspace: Path) -> Path:
    folder = workspace / "experiments" / "tiny"
    (folder / "config.toml").write_text(REFIT)
    return folder


def test_the_network_on_all_images_is_submitted_and_exported(
    experiment: Path, competition: Path, invoke: Invoke
) -> None:
    answer = invoke(*WORDS, str(competition))
    assert (answer.code, answer.err) == (0, "")
    assert "\nrefit  epoch  3/3  loss " in answer.out
    assert "held-out" not in next(line for line in answer.out.splitlines() if line.startswith("refit  epoch"))
    assert "│ refit                │" in answer.out
    refit = experiment / "refit"
    assert not (refit / "oof.csv").exists()
    assert {"heldout_loss", "heldout_auc"} <= set(next(csv.reader((refit / "history.csv").open())))
    with (refit / "val.csv").open() as file:
        val = {row["img_name"]: float(row["logit"]) for row in csv.DictReader(file)}
    assert len(val) == 32

    answer = invoke("ensemble-submit", "--experiment", "tiny", "--split", "val")
    assert answer.code == 0, answer.err
    assert "1 network, 32 val images" in answer.out
    exports = experiment.parents[1] / "exports" / "tiny"
    with (exports / "submission.csv").open() as file:
        submitted = {row["img_name"]: float(row["y_pred"]) for row in csv.DictReader(file)}
    assert submitted == pytest.approx({name: 1 / (1 + np.exp(-logit)) for name, logit in val.items()}, abs=1e-6)
    assert [one["network"] for one in json.loads((exports / "submission.json").read_text())["members"]] == ["refit"]

    assert invoke("export-onnx", "--experiment", "tiny").code == 0
    answer = invoke("predict-onnx", "--experiment", "tiny", "--device", "cpu", "--split", "val")
    assert answer.code == 0, answer.err
    with (exports / "onnx_scores.csv").open() as file:
        scored = {row["img_name"]: float(row["y_pred"]) for row in csv.DictReader(file)}
    assert scored == pytest.approx(submitted, abs=1e-5)

    answer = invoke("report", "--experiment", "tiny")
    assert answer.code == 0, answer.err
    assert "on val, its network on all images" in (exports / "report.html").read_text()
    assert _read_state(experiment, invoke) == "ok"
    assert invoke("verify").code == 0


def test_it_is_trained_beside_folds_that_are_finished(experiment: Path, competition: Path, invoke: Invoke) -> None:
    (experiment / "config.toml").write_text(TINY)
    assert invoke(*WORDS, str(competition)).code == 0
    before = (experiment / "fold_0" / "manifest.json").read_bytes()
    (experiment / "config.toml").write_text(REFIT)
    answer = invoke("ensemble-submit", "--experiment", "tiny")
    assert answer.code == 1
    assert "experiment tiny is not complete; still to train: refit" in answer.err
    answer = invoke(*WORDS, str(competition), "--folds", "0, 1")
    assert answer.code == 0
    assert "still to train: refit, which ensemble-submit and export-onnx need" in answer.out
    assert _read_state(experiment, invoke) == "refit is not trained"
    answer = invoke(*WORDS, str(competition), "--folds", "refit", "--jobs", "2")
    assert answer.code == 0, answer.err
    assert (experiment / "fold_0" / "manifest.json").read_bytes() == before
    weights = (experiment / "refit" / "weights.safetensors").read_bytes()

    shutil.rmtree(experiment / "refit")
    assert invoke(*WORDS, str(competition)).code == 0
    assert (experiment / "refit" / "weights.safetensors").read_bytes() == weights
    assert invoke(*WORDS, str(competition), "--restart").code == 0
    assert (experiment / "refit" / "weights.safetensors").read_bytes() == weights


@pytest.mark.usefixtures("experiment")
def test_a_graph_that_is_not_exact_needs_images_that_it_was_not_trained_on(copy_of_data: Path, invoke: Invoke) -> None:
    for path in (copy_of_data / "valset", copy_of_data / "valset_label.txt"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert invoke(*WORDS, str(copy_of_data)).code == 0
    answer = invoke("export-onnx", "--experiment", "tiny", "--precision", "int8")
    assert answer.code == 1
    assert "the network was trained on all training images" in answer.err
    answer = invoke("export-onnx", "--experiment", "tiny")
    assert answer.code == 0, answer.err


@pytest.mark.usefixtures("experiment")
def test_an_unknown_fold_is_refused(competition: Path, invoke: Invoke) -> None:
    answer = invoke(*WORDS, str(competition), "--folds", "0,all")
    assert answer.code == 1
    assert "--folds 0,all: this experiment has folds 0 to 1 and refit" in answer.err


def test_the_best_epoch_needs_a_held_out_fold(experiment: Path, competition: Path, invoke: Invoke) -> None:
    (experiment / "config.toml").write_text(REFIT + 'select = "best"\n')
    answer = invoke(*WORDS, str(competition))
    assert answer.code == 1
    assert "folds.refit" in answer.err


@pytest.fixture
def copy_of_data(competition: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(competition, tmp_path / "data"))
