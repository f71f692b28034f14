"""Writes checkpoints of a training, and resumes from them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch

from ffdi.core.errors import ExperimentError, TrainingError, get_first_line
from ffdi.core.signals import Interrupted
from ffdi.experiments.checkpoint import Checkpoints
from ffdi.models import weights
from ffdi.training.runtime import distributed
from ffdi.training.state import EpochRecord, TrainingState

MAX_TIME_FRACTION = 0.03
"""Of the training time that checkpoints take at most, even with a small `train.checkpoint_seconds`."""


@dataclass(frozen=True)
class ResumeEvent:
    """A training resumes from a checkpoint, or starts again because no checkpoint is usable.

    Attributes:
        epoch: from 0.
        step: the number of completed steps of this epoch.
        warnings: a line for each unusable checkpoint, and one if the device has changed.
        history: a record for each completed epoch.
    """

    epoch: int
    step: int
    warnings: list[str]
    history: tuple[EpochRecord, ...] = ()


@dataclass(frozen=True)
class MachineLoss:
    """The machine of a training was lost; the training starts on another one, from its last checkpoint."""

    why: str


class CheckpointManager:
    """Writes a checkpoint at intervals, and when the training is interrupted.

    Args:
        checkpoints: the folder.
        every: seconds between two checkpoints; 0 writes one at an interruption or an error only.
        machine: the properties of the device that the last bits of the weights depend on.
    """

    def __init__(self, checkpoints: Checkpoints, every: float, machine: str) -> None:
        self.checkpoints, self._every, self._machine = checkpoints, every, machine
        self._next = time.monotonic() + every

    def resume(self, state: TrainingState) -> ResumeEvent | None:
        """Loads the last undamaged checkpoint into `state`; returns None if there is no checkpoint.

        Raises:
            ExperimentError: the checkpoint belongs to another run.
        """
        warnings: list[str] = []
        checkpoint = self.checkpoints.load_newest(warnings.append)
        if checkpoint is not None:
            try:
                state.load_state_dict(safetensors.torch.load_file(checkpoint.tensors), checkpoint.record)
            except (KeyError, TypeError, ValueError, RuntimeError, IndexError, safetensors.SafetensorError) as error:
                raise ExperimentError(
                    f"{checkpoint.tensors} is not a checkpoint of this training: {get_first_line(error)}",
                    hint=f"remove the fold and train it again: rm -r {shlex.quote(str(checkpoint.tensors.parent))}",
                ) from None
            if (before := checkpoint.record.get("machine")) != self._machine:
                warnings.append(
                    f"was started with {before} and resumes with {self._machine}: the last bits of the weights may "
                    "differ from those of either"
                )
        elif not warnings:
            return None
        return ResumeEvent(state.epoch, state.progress.step, warnings, tuple(state.history))

    def save_if_due(self, state: TrainingState) -> None:
        if self._every and time.monotonic() >= self._next:
            self.save(state)

    @contextmanager
    def save_on_exit(self, state: TrainingState) -> Iterator[None]:
        """Writes a checkpoint if the code inside is interrupted, or raises an error between two steps.

        A TrainingError, such as a loss that is not finite, writes none: there is nothing to resume.
        """
        try:
            yield
        except Interrupted:
            self.save(state)
            raise
        except TrainingError:
            raise
        except (Exception, GeneratorExit):
            if state.between_steps:
                # If the disk or the device fails here too, the first error is the one to report.
                with suppress(ExperimentError, RuntimeError):
                    self.save(state)
            raise

    def save(self, state: TrainingState) -> None:
        """Writes a checkpoint; only rank 0 does."""
        if not distributed.is_main():
            return
        started = time.monotonic()

        def write(path: Path) -> None:
            weights.save_tensors(state.state_dict(), path)

        self.checkpoints.write(state.global_step, write, {**state.metadata(), "machine": self._machine})
        seconds = time.monotonic() - started
        self._next = time.monotonic() + max(self._every, seconds / MAX_TIME_FRACTION)
