"""Curves for TensorBoard, as TensorBoard reads them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import Invoke


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """Values by epoch, by the name of the curve."""
    found = EventAccumulator(str(folder)).Reload()
    return {name: {event.step: event.value for event in found.Scalars(name)} for name in found.Tags()["scalars"]}


def test_each_epoch_is_a_point_of_each_curve(workspace: Path, competition: Path, invoke: Invoke) -> None:
    folder = workspace / "experiments" / "tiny"
    words = ["--experiment", "tiny", "--data", str(competition), "--tensorboard"]
    answer = invoke("train-folds", *words, "--folds", "1")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.endswith(f"\ncurves: tensorboard --logdir {workspace / 'experiments'}\n")
    assert not (folder / "fold_0").exists()
    found, history = curves(folder / "fold_1" / "tensorboard"), pd.read_csv(folder / "fold_1" / "history.csv")
    assert len(history) == 3
    for name, column in (
        ("loss/train", "train_loss"),
        ("loss/heldout", "heldout_loss"),
        ("AUC/heldout", "heldout_auc"),
        ("accuracy/heldout", "heldout_accuracy"),
        ("rate/learning rate", "lr"),
        ("rate/images per second", "images_per_second"),
    ):
        assert list(found[name]) == [1, 2, 3]
        assert list(found[name].values()) == pytest.approx(history[column].tolist(), rel=1e-4)
    assert len(found) == 6
    assert invoke("train-folds", *words).code == 0
    assert invoke("verify", "--experiment", "tiny").code == 0
    assert list(curves(folder / "fold_0" / "tensorboard")["AUC/heldout"]) == [1, 2, 3]


def test_without_tensorboard_the_error_has_the_install_command(
    workspace: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = importlib.util.find_spec
    monkeypatch.setattr(
        "ffdi.training.tools.tensorboard.find_spec", lambda name: None if name == "tensorboard" else true(name)
    )
    answer = invoke("train-folds", "--experiment", "tiny", "--tensorboard")
    assert (answer.code, answer.err) == (
        1,
        "error: --tensorboard: TensorBoard is not installed\nnext: pip install -e '.[tensorboard]'\n",
    )
    assert workspace.is_dir()
