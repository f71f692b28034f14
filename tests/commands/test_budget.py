"""invoke train-folds --budget."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffdi.config import schema
from ffdi.training.tools import budget
from ffdi.training.tools.budget import Costs
from tests.conftest import TINY, Invoke


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a step of 32 px take five minutes."""
    costs = Costs(300.0, evaluation=1.0, scoring=0.5)
    monkeypatch.setattr(budget, "measure_costs", lambda *_: costs)


@pytest.mark.usefixtures("slow")
def test_the_epochs_that_fit_are_written_and_trained(workspace: Path, competition: Path, invoke: Invoke) -> None:
    folder = workspace / "experiments" / "tiny"
    (folder / "config.toml").write_text(f"# with a comment{TINY}")
    train = ("train-folds", "--experiment", "tiny", "--data", str(competition), "--jobs", "1")
    answer = invoke(*train, "--budget", "100m")
    assert (answer.code, answer.err) == (0, "")
    assert "budget: tiny: 2 epochs of 2 networks will take about 1 h 23 min\n" in answer.out
    assert f"written: {folder / 'config.toml'}: train.epochs = 2, which was 3\n" in answer.out
    assert (folder / "config.toml").read_text() == f"# with a comment{TINY}".replace("epochs = 3", "epochs = 2")
    assert (folder / "fold_1" / "history.csv").read_text().count("\n") == 1 + 2
    # the same command continues what has started
    answer = invoke(*train, "--budget", "100m")
    assert (answer.code, answer.err) == (0, "")
    assert "budget: tiny has started before, and keeps its 2 epochs\n" in answer.out
    assert "fold 1: finished before, kept" in answer.out
    # and --restart measures again
    answer = invoke(*train, "--budget", "60m", "--restart")
    assert (answer.code, answer.err) == (0, "")
    assert schema.load_experiment(folder / "config.toml").train.epochs == 1


@pytest.mark.usefixtures("slow")
def test_a_time_that_is_too_short_is_refused_and_nothing_is_lost(copy: Path, competition: Path, invoke: Invoke) -> None:
    folder = copy / "experiments" / "tiny"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "doctor.json"}
    train = ("train-folds", "--experiment", "tiny", "--data", str(competition), "--jobs", "1", "--restart")
    answer = invoke(*train, "--budget", "10m")
    assert answer.code == 1
    assert "error: --budget 10m: 9 min are left for tiny, and 1 epoch of 2 networks would take 42 min\n" in answer.err
    longer = "pass a --budget that is longer by 37 min, fewer --folds, or set a smaller model.size"
    assert f"next: {longer} in {folder / 'config.toml'}\n" in answer.err
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.usefixtures("slow")
def test_two_experiments_share_the_time(workspace: Path, competition: Path, invoke: Invoke) -> None:
    other = workspace / "experiments" / "other"
    other.mkdir()
    (other / "config.toml").write_text(TINY.replace("epochs = 3", "epochs = 3\nfreeze_epochs = 1"))
    flags = ("--experiment", "tiny", "--experiment", "other", "--data", str(competition), "--jobs", "1", "--folds", "0")
    answer = invoke("train-folds", *flags, "--budget", "100m")
    assert (answer.code, answer.err) == (0, "")
    assert "budget: tiny: 2 epochs of 1 network will take about 42 min\n" in answer.out
    assert "budget: other: 2 epochs of 1 network will take about 42 min\n" in answer.out


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (("--budget", "soon"), "--budget soon is no time\nnext: pass --budget 90m, 8.5h or 3600s"),
        (("--budget", "1h", "--profile"), "--budget and --profile: a profile trains a few steps only"),
        (("--budget", "1h", "--gpus-per-fold", "2"), "--budget and --gpus-per-fold 2: --budget measures one device"),
        (("--budget", "1h", "--engine", "ray"), "--budget and --engine ray: --budget measures one device"),
    ],
)
def test_flags_that_do_not_fit_are_refused(
    flags: tuple[str, ...], error: str, workspace: Path, competition: Path, invoke: Invoke
) -> None:
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition), *flags)
    assert answer.code == 1
    assert f"error: {error}" in answer.err
    assert [path.name for path in (workspace / "experiments" / "tiny").iterdir()] == ["config.toml"]


def test_experiments_of_a_grid_are_refused(workspace: Path, competition: Path, invoke: Invoke) -> None:
    group = workspace / "experiments" / "both"
    group.mkdir()
    (group / "config.toml").write_text('[group]\nmembers = ["tiny"]\n[group.grid]\n"train.lr" = [1e-3, 3e-3]\n')
    answer = invoke("train-folds", "--experiment", "both", "--data", str(competition), "--budget", "1h")
    assert answer.code == 1
    assert "error: --budget changes train.epochs, and the experiments of a [group.grid] differ" in answer.err
    assert not (workspace / "experiments" / "tiny-lr_0.001").exists()
