"""Writes progress.json of each fold while it trains, for `report --live`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from ffdi.core.errors import ExperimentError, FFDIError, get_first_line
from ffdi.core.signals import Interrupted
from ffdi.experiments import progress
from ffdi.experiments.progress import CURVES, Finding, Progress

if TYPE_CHECKING:
    from ffdi.training.fold import FoldJob
    from ffdi.training.state import EpochRecord

WRITE_SECONDS = 5.0
"""Between two files of a fold within an epoch."""


class ProgressRecorder:
    """Keeps progress.json of each fold up to date, from the events of its training.

    A file that cannot be written ends no training.

    Args:
        warn: prints a line.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn, self._warned = warn, False
        self._known: dict[FoldJob, Progress] = {}
        self._written: dict[FoldJob, float] = {}

    def start(self, job: FoldJob) -> None:
        """Notes that a fold starts, or starts again; findings of an interrupted training stay until it resumes."""
        plan = job.plan
        epochs = plan.config.train.epochs
        try:
            before = progress.read_progress(job.folder, plan.identity, plan.folds_digest)
        except ExperimentError:
            before = None  # a damaged file is replaced
        self._update(job, Progress(epochs, findings=before.findings if before is not None else ()))

    def add(self, job: FoldJob, event: object) -> None:
        """Notes an event of a fold's training."""
        from ffdi.engines.job import JobEnd, JobFailure
        from ffdi.training.checkpointing import ResumeEvent
        from ffdi.training.health import HealthWarning
        from ffdi.training.loop import Step
        from ffdi.training.state import EpochRecord

        known = self._known[job]
        if isinstance(event, Step):
            due = time.monotonic() - self._written[job] > WRITE_SECONDS
            known = replace(known, epoch=event.epoch, step=event.step + 1, steps=event.steps)
            self._update(job, known, write=due)
        elif isinstance(event, ResumeEvent):
            history = tuple(map(_describe_epoch, event.history))
            self._update(job, replace(_cut(known, event.epoch), history=history))
        elif isinstance(event, EpochRecord):
            known = _cut(known, event.epoch)
            self._update(job, replace(known, epoch=event.epoch + 1, history=(*known.history, _describe_epoch(event))))
        elif isinstance(event, HealthWarning):
            found = Finding(known.epoch, tuple(event.symptoms.values()), event.advice)
            self._update(job, replace(known, findings=(*known.findings, found)))
        elif isinstance(event, JobEnd):
            self._update(job, replace(known, epoch=known.epochs, step=0, steps=0, history=()))
            del self._known[job]
        elif isinstance(event, JobFailure):
            self._update(job, replace(known, ended=event.error.what))
            del self._known[job]

    def end(self, why: str) -> None:
        """Notes why the folds that still train have ended."""
        for job, known in self._known.items():
            self._update(job, replace(known, ended=why))

    def _update(self, job: FoldJob, known: Progress, *, write: bool = True) -> None:
        self._known[job] = known
        if not write:
            return
        self._written[job] = time.monotonic()
        try:
            progress.write_progress(job.folder, known, job.plan.identity, job.plan.folds_digest)
        except ExperimentError as error:
            if not self._warned:
                self._warned = True
                self._warn(f"warning: {error.what}; the training continues, and report --live does not show it")


@contextmanager
def record_progress(warn: Callable[[str], None]) -> Iterator[ProgressRecorder]:
    """Gives a recorder, and notes at an early end why the folds have ended."""
    recorder = ProgressRecorder(warn)
    try:
        yield recorder
    except Interrupted as interrupted:
        recorder.end(f"stopped ({interrupted.why})")
        raise
    except FFDIError:
        recorder.end("stopped, because another fold has failed")
        raise
    except Exception as error:
        recorder.end(f"stopped: {get_first_line(error)}")
        raise


def _cut(known: Progress, epoch: int) -> Progress:
    """What was known at the end of an epoch, counted from 1: a training may start again from an earlier one."""
    history = tuple(one for one in known.history if (one["epoch"] or 0) <= epoch)
    findings = tuple(one for one in known.findings if one.epoch <= epoch)
    return replace(known, epoch=epoch, step=0, steps=0, history=history, findings=findings)


def _describe_epoch(record: EpochRecord) -> dict[str, float | None]:
    """`CURVES` of an epoch, which history.csv numbers from 1."""
    values = {**asdict(record), "epoch": record.epoch + 1}
    return {name: _keep_finite(values[name]) for name in CURVES}


def _keep_finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
