"""progress.json of each fold, written from the events of its training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ffdi.commands.shared import progress_files
from ffdi.commands.shared.progress_files import ProgressRecorder, record_progress
from ffdi.config.schema import Config
from ffdi.core.errors import ExperimentError, TrainingError
from ffdi.core.signals import Interrupted
from ffdi.engines.job import JobEnd, JobFailure
from ffdi.experiments import progress
from ffdi.experiments.fold import FoldFolder, Identity
from ffdi.experiments.progress import Finding, Progress
from ffdi.experiments.workspace import Workspace
from ffdi.training.checkpointing import ResumeEvent
from ffdi.training.fold import FoldJob
from ffdi.training.health import HealthWarning
from ffdi.training.loop import Step
from ffdi.training.state import EpochRecord
from tests.conftest import PROJECT

IDENTITY = Identity({}, "data")
EPOCH = EpochRecord(0, 1e-3, 0.6, 0.65, 0.7, 0.8, 100.0, 5.0)
ROWS = tuple(
    {"epoch": number, "train_loss": 0.6, "heldout_loss": 0.65, "heldout_auc": 0.8, "seconds": 5.0}
    for number in (1, 2, 3)
)
ILL, FOUND = HealthWarning({"constant": "it has collapsed"}, "lower train.lr"), ("it has collapsed",)


@pytest.fixture
def job(tmp_path: Path) -> FoldJob:
    plan = SimpleNamespace(
        identity=IDENTITY, folds_digest="folds", config=Config.model_validate({"train": {"epochs": 4}})
    )
    return FoldJob(cast(Any, plan), FoldFolder(tmp_path / "fold_0", 0), "fp32")


def read(job: FoldJob) -> Progress | None:
    return progress.read_progress(job.folder, IDENTITY, "folds")


def start(job: FoldJob) -> ProgressRecorder:
    recorder = ProgressRecorder(pytest.fail)
    recorder.start(job)
    return recorder


def test_each_epoch_and_finding_is_written_at_once(job: FoldJob) -> None:
    recorder = start(job)
    assert read(job) == Progress(4)
    for number in range(2):
        recorder.add(job, replace(EPOCH, epoch=number))
        assert read(job) == Progress(4, number + 1, history=ROWS[: number + 1])
    recorder.add(job, ILL)
    assert read(job) == Progress(4, 2, history=ROWS[:2], findings=(Finding(2, FOUND, "lower train.lr"),))
    recorder.add(job, JobEnd())
    assert read(job) == Progress(4, 4, findings=(Finding(2, FOUND, "lower train.lr"),))


def test_steps_are_written_now_and_then(job: FoldJob, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = start(job)
    recorder.add(job, Step(0, 1, 8, 16))
    assert read(job) == Progress(4)
    monkeypatch.setattr(progress_files, "WRITE_SECONDS", -1.0)
    recorder.add(job, Step(0, 3, 8, 32))
    assert read(job) == Progress(4, 0, 4, 8)
    assert Progress(4, 0, 4, 8).done == 0.5


def test_a_resumed_training_keeps_what_was_before_its_checkpoint(job: FoldJob) -> None:
    recorder = start(job)
    for number in range(3):
        recorder.add(job, replace(EPOCH, epoch=number))
        recorder.add(job, ILL)
    again = start(job)
    known = read(job)
    assert known is not None
    assert [one.epoch for one in known.findings] == [1, 2, 3]
    again.add(job, ResumeEvent(2, 5, [], (EPOCH, replace(EPOCH, epoch=1))))
    known = read(job)
    assert known is not None
    assert (known.epoch, known.history, [one.epoch for one in known.findings]) == (2, ROWS[:2], [1, 2])


def test_a_training_that_starts_again_forgets_its_epochs(job: FoldJob) -> None:
    recorder = start(job)
    for number in (0, 1, 0):  # its machine was lost, before it had sent a checkpoint
        recorder.add(job, replace(EPOCH, epoch=number))
        recorder.add(job, ILL)
    assert read(job) == Progress(4, 1, history=ROWS[:1], findings=(Finding(1, FOUND, "lower train.lr"),))


def test_a_score_that_is_no_number_is_none(job: FoldJob) -> None:
    start(job).add(job, replace(EPOCH, heldout_loss=None, heldout_auc=float("nan")))
    assert read(job) == Progress(4, 1, history=({**ROWS[0], "heldout_loss": None, "heldout_auc": None},))


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Interrupted("Ctrl-C", 130), "stopped (Ctrl-C)"),
        (TrainingError("the loss is nan"), "stopped, because another fold has failed"),
        (ValueError("no such layer\nmore"), "stopped: no such layer"),
    ],
)
def test_the_reason_of_an_early_end_is_written(job: FoldJob, error: BaseException, why: str) -> None:
    with pytest.raises(type(error)), record_progress(pytest.fail) as recorder:
        recorder.start(job)
        raise error
    assert read(job) == Progress(4, ended=why)
    assert start(job)
    assert read(job) == Progress(4)


def test_a_failed_fold_has_its_own_reason(job: FoldJob) -> None:
    error = TrainingError("the loss is nan")
    with pytest.raises(TrainingError), record_progress(pytest.fail) as recorder:
        recorder.start(job)
        recorder.add(job, JobFailure(error))
        raise error
    assert read(job) == Progress(4, ended="the loss is nan")


def test_a_file_that_cannot_be_written_ends_no_training(job: FoldJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ExperimentError("progress.json cannot be written: No space left on device")

    monkeypatch.setattr(progress, "write_progress", fail)
    lines = list[str]()
    recorder = ProgressRecorder(lines.append)
    recorder.start(job)
    recorder.add(job, EPOCH)
    assert lines == [
        "warning: progress.json cannot be written: No space left on device; the training continues, and report --live "
        "does not show it"
    ]


def test_a_damaged_file_is_replaced(job: FoldJob) -> None:
    start(job)
    job.folder.progress_path.write_text("{")
    start(job)
    assert read(job) == Progress(4)


def test_a_real_training_leaves_it(trained: Path) -> None:
    experiment = Workspace(trained, PROJECT).get_experiment("tiny")
    identity, digest = experiment.read_identity(), experiment.read_folds_digest()
    found = [progress.read_progress(experiment.get_fold(fold), identity, digest) for fold in range(2)]
    assert [(one.epochs, one.done, one.history, one.ended) for one in found if one] == [(3, 3.0, (), "")] * 2
