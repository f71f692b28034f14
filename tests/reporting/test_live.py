"""The page that follows a training: what it reads, what it concludes, and what it says."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ffdi.core import manifests
from ffdi.experiments import progress
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.progress import Finding, Progress
from ffdi.experiments.workspace import Workspace
from ffdi.reporting import live
from ffdi.reporting.followed import FoldState, TrainingFollower, TrainingState
from ffdi.reporting.live import CurveDrawer, LivePage, Part
from tests.conftest import PROJECT

EPOCHS = tuple(
    {"epoch": number, "train_loss": 0.5, "heldout_loss": 0.6, "heldout_auc": 0.71, "seconds": 10.0 * number}
    for number in (1, 2)
)
FOUND = Finding(2, ("the network has collapsed",), "lower train.lr")


@pytest.fixture
def tiny(copy: Path) -> Experiment:
    """Two finished folds of three epochs, with metrics.json."""
    return Workspace(copy, PROJECT).get_experiment("tiny")


@pytest.fixture
def started(tiny: Experiment) -> Experiment:
    """The same, as it was before fold 1 started."""
    shutil.rmtree(tiny.get_fold(1).folder)
    for path in (tiny.oof_path, tiny.metrics_path):
        path.unlink()
    return tiny


def read_metrics(trained: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((trained / "experiments" / "tiny" / "metrics.json").read_text())
    return content


def write(experiment: Experiment, known: Progress, fold: int = 1) -> None:
    progress.write_progress(
        experiment.get_fold(fold), known, experiment.read_identity(), experiment.read_folds_digest()
    )


def build(experiment: Experiment, state: TrainingState, later: float = 0.0) -> Part:
    """The page's part so many seconds after now."""
    return live.build_part(experiment, state, time.time() + later, CurveDrawer().draw)


def test_a_training_that_has_not_started_is_waited_for(workspace: Path) -> None:
    experiment = Workspace(workspace, PROJECT).get_experiment("tiny")
    state = TrainingFollower(experiment).read()
    part = build(experiment, state, later=9999)
    assert (state, part.rows, part.tiles, part.notices) == (TrainingState(), [], [], [])
    assert part.status == "Waiting for the training to start: invoke train-folds --experiment tiny"


def test_a_running_fold_has_its_epochs_findings_and_time_left(started: Experiment, trained: Path) -> None:
    follower, scores = TrainingFollower(started), read_metrics(trained)["folds"]["0"]
    assert [one.phase for one in follower.read().folds] == ["finished", "waiting"]
    write(started, Progress(3))
    assert follower.read().folds[1].phase == "starting"
    write(started, Progress(3, epoch=2, step=1, steps=4, history=EPOCHS, findings=(FOUND,)))
    state = follower.read()
    fold = state.folds[1]
    assert (fold.phase, fold.done, fold.findings) == ("training", 2.25, (FOUND,))
    assert fold.curves == {name: [epoch[name] for epoch in EPOCHS] for name in progress.CURVES}
    assert state.estimate_left(fold) == state.estimate_total() == 0.75 * 15
    assert state.pooled == state.folds[0].score == scores  # of one fold both are the same
    part = build(started, state)
    assert part.status == "1 of 2 folds finished: fold 0."
    assert [tile.value for tile in part.tiles] == [f"{scores['auc']:.4f}", "1 of 2", "about 11 s"]
    assert part.tiles[0].label == "AUC (OOF, pooled)"
    assert part.tiles[0].note.startswith("1 of 2 folds, 32 of 64 images; 95 %: ")
    assert [row.phase for row in part.rows] == ["finished, 3 epochs", "in epoch 3 of 3"]
    assert list(part.rows[1].cells) == ["0.7100", "\u2013", "about 11 s"]
    assert part.findings == ["fold 1, after epoch 2: the network has collapsed. Advice: lower train.lr."]
    assert len(part.charts) == 2


def test_a_finished_training_has_the_numbers_of_metrics_json(tiny: Experiment, trained: Path) -> None:
    metrics = read_metrics(trained)
    follower = TrainingFollower(tiny)
    state = follower.read()
    assert state.complete
    assert state.pooled == metrics["pooled"]
    assert {one.label: one.score for one in state.folds} == {f"fold {n}": one for n, one in metrics["folds"].items()}
    part = build(tiny, state, later=9999)
    assert (part.status, part.notices) == ("The training is finished: all 2 folds.", [])
    tiny.metrics_path.unlink()
    before = follower.read()
    assert not before.complete
    assert (before.pooled, before.folds) == (state.pooled, state.folds)  # computed, and to the last bit the same
    assert build(tiny, before).status == "All 2 folds are finished; the training is not."


def test_a_stopped_and_a_silent_training_are_named(started: Experiment) -> None:
    follower = TrainingFollower(started)
    write(started, Progress(3, epoch=2, history=EPOCHS))
    state = follower.read()
    assert build(started, state, later=100).notices == []
    silent = build(started, state, later=700)
    resumes = "invoke train-folds --experiment tiny"
    assert silent.notices == [
        "Nothing has come from the training for 12 min. If it is not running any more, this resumes it: " + resumes
    ]
    assert [silent.tiles[2].value, silent.rows[1].cells[2]] == ["\u2013", "\u2013"]
    write(started, Progress(3, epoch=2, history=EPOCHS, ended="stopped (Ctrl-C)"))
    stopped = build(started, follower.read())
    assert stopped.notices == [
        f"The training has ended early. fold 1: stopped (Ctrl-C). The same command resumes it: {resumes}"
    ]
    assert stopped.rows[1].phase == "stopped in epoch 3 of 3"


def test_a_slow_epoch_is_no_silence(started: Experiment) -> None:
    slow = tuple({**epoch, "seconds": 3600.0} for epoch in EPOCHS)
    write(started, Progress(3, epoch=2, history=slow))
    state = TrainingFollower(started).read()
    assert build(started, state, later=5000).notices == []
    assert len(build(started, state, later=6000).notices) == 1


@pytest.mark.parametrize("name", ["history.csv", "oof.csv", "manifest.json", "progress.json"])
def test_a_half_written_file_is_named_and_read_again(name: str, tiny: Experiment) -> None:
    path, follower = tiny.get_fold(1).folder / name, TrainingFollower(tiny)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    state = follower.read()
    assert [one.phase for one in state.folds] == ["finished", "unreadable"]
    assert not state.complete
    assert state.folds[0].score is not None
    assert build(tiny, state).notices[0].startswith(f"fold 1: {path} is damaged: ")
    path.write_bytes(whole)
    assert follower.read().complete


def test_a_config_in_an_editor_does_not_hide_the_training(started: Experiment) -> None:
    follower, text = TrainingFollower(started), started.config_path.read_text()
    known = follower.read()
    started.config_path.write_text(f"{text}\n[train\n")
    state = follower.read()
    assert state.folds == known.folds
    assert str(started.config_path) in build(started, state).notices[0]
    started.config_path.write_text(text)
    assert follower.read() == known


def test_a_training_that_starts_again_is_followed(tiny: Experiment) -> None:
    follower = TrainingFollower(tiny)
    assert follower.read().complete
    resolved, folds = tiny.resolved_path.read_bytes(), tiny.folds_path.read_bytes()
    tiny.discard()
    assert follower.read() == TrainingState()
    tiny.folds_path.write_bytes(folds)
    tiny.resolved_path.write_bytes(resolved)
    write(tiny, Progress(3), fold=0)
    assert [one.phase for one in follower.read().folds] == ["starting", "waiting"]
    shutil.rmtree(tiny.folder)
    assert follower.read() == TrainingState()


def test_the_progress_of_another_training_is_none(started: Experiment) -> None:
    write(started, Progress(3, epoch=2, history=EPOCHS))
    path = started.get_fold(1).progress_path
    content = manifests.read_manifest(path)
    del content["schema"]
    manifests.write_manifest(path, {**content, "identity": "another"})
    assert TrainingFollower(started).read().folds[1].phase == "waiting"


def test_reading_writes_nothing(started: Experiment, snapshot: Callable[[Path], dict[str, bytes]]) -> None:
    write(started, Progress(3, epoch=1, step=1, steps=4, history=EPOCHS[:1]))
    before = snapshot(started.folder)
    TrainingFollower(started).read()
    assert snapshot(started.folder) == before


def test_the_time_left_counts_folds_at_once() -> None:
    def fold(number: int, phase: str, done: float) -> FoldState:
        curves = {"seconds": [99.0, 10.0, 10.0, 10.0]} if done else None
        return FoldState(f"fold {number}", phase, 10, done, curves)

    one_at_once = TrainingState((fold(0, "training", 4), fold(1, "waiting", 0), fold(2, "waiting", 0)))
    assert one_at_once.estimate_total() == 60 + 100 + 100
    two_at_once = TrainingState((fold(0, "training", 4), fold(1, "training", 8), fold(2, "waiting", 0)))
    assert two_at_once.estimate_total() == 20 + 100
    assert TrainingState((fold(0, "starting", 0), fold(1, "waiting", 0))).estimate_total() is None


def test_the_network_on_all_images_has_no_score(started: Experiment) -> None:
    text = started.config_path.read_text()
    started.config_path.write_text(text.replace("[folds]\n", "[folds]\nrefit = true\n"))
    unknown = tuple({**epoch, "heldout_loss": None, "heldout_auc": None} for epoch in EPOCHS)
    identity, digest = started.read_identity(), started.read_folds_digest()
    progress.write_progress(started.get_refit(2), Progress(3, epoch=2, history=unknown), identity, digest)
    state = TrainingFollower(started).read()
    assert [one.label for one in state.folds] == ["fold 0", "fold 1", "refit"]
    assert state.folds[2].curves is not None
    assert math.isnan(state.folds[2].curves["heldout_auc"][0])
    assert state == TrainingFollower(started).read()  # a NaN is no change
    part = build(started, state)
    assert list(part.rows[2].cells) == ["\u2013", "\u2013", "about 15 s"]
    assert part.tiles[1].label == "networks finished"
    assert "refit" not in part.charts[0].svg


def test_curves_are_drawn_again_only_after_an_epoch() -> None:
    drawer, fold = (
        CurveDrawer("one "),
        FoldState("fold 0", "training", 3, 2.0, {name: [1.0, 2.0] for name in progress.CURVES}),
    )
    drawn = drawer.draw([fold])
    assert drawn[0].points[0].places[0][2].startswith("one fold 0: epoch 1, ")
    assert drawer.draw([FoldState("fold 0", "training", 3, 2.5, fold.curves)]) is drawn
    assert (
        drawer.draw([FoldState("fold 0", "training", 3, 3.0, {name: [1.0, 2.0, 3.0] for name in progress.CURVES})])
        != drawn
    )


def test_a_name_is_no_markup(started: Experiment) -> None:
    part = build(started, TrainingFollower(started).read())._replace(name="<b>&", status="<i>")
    page = LivePage([part, part], datetime.now(UTC), "", "invoke report --live", []).render()
    assert "<b>" not in page
    assert "<i>" not in page
    assert page.count("<h2>&lt;b&gt;&amp;</h2>") == 2


def test_several_experiments_have_a_page_beside_them(copy: Path, tiny: Experiment) -> None:
    workspace = Workspace(copy, PROJECT)
    assert workspace.get_live_path([tiny], workspace.get_export(["tiny"])) == tiny.folder / "live.html"
    export = workspace.get_export(["tiny", "other"])
    assert workspace.get_live_path([tiny, tiny], export) == copy / "experiments" / "tiny+other.live.html"


def test_the_time_of_the_last_change_is_that_of_the_files(started: Experiment) -> None:
    for path in started.folder.rglob("*"):
        os.utime(path, (1000, 1000))
    follower = TrainingFollower(started)
    assert follower.read().changed == 1000
    write(started, Progress(3))
    assert follower.read().changed == pytest.approx(time.time(), abs=60)
