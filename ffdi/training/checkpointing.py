"""When a training writes down where it is, and how it goes on from there."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch

from ffdi.core.errors import ExperimentError, TrainingError
from ffdi.core.signals import Interrupted
from ffdi.experiments.checkpoint import Checkpoints
from ffdi.models import weights
from ffdi.models.weights import first_line
from ffdi.training.runtime import distributed
from ffdi.training.state import State

SHARE = 0.03
"""At most so much of the time goes into checkpoints, however often they are asked for."""


@dataclass(frozen=True)
class Resumed:
    """A training goes on where it was broken off, or begins anew.

    Attributes:
        epoch: from 0.
        step: of this epoch; steps before it are done.
        warnings: a line for each checkpoint that could not be used, and one if the machine is not what it was.
    """

    epoch: int
    step: int
    warnings: list[str]


@dataclass(frozen=True)
class Lost:
    """A training's machine was lost, and it is begun again on another one, from its last checkpoint."""

    why: str


class CheckpointManager:
    """Writes a state down every so often, and when this process is to end.

    Args:
        checkpoints: where to.
        every: seconds between two of them; 0 writes none but the one at a stop or an error.
        machine: what computes, as far as the weights' last bits depend on it.
    """

    def __init__(self, checkpoints: Checkpoints, every: float, machine: str) -> None:
        self.checkpoints, self._every, self._machine = checkpoints, every, machine
        self._next = time.monotonic() + every

    def resume(self, state: State) -> Resumed | None:
        """Makes a state what the last checkpoint that is whole says it was; None where there is no checkpoint.

        Raises:
            ExperimentError: the checkpoint belongs to another run.
        """
        warnings: list[str] = []
        found = self.checkpoints.newest(warnings.append)
        if found is not None:
            try:
                state.restore(safetensors.torch.load_file(found.tensors), found.record)
            except (KeyError, TypeError, ValueError, RuntimeError, IndexError, safetensors.SafetensorError) as error:
                raise ExperimentError(
                    f"{found.tensors} is no state of this training: {first_line(error)}",
                    hint=f"remove the fold and train it again: rm -r {shlex.quote(str(found.tensors.parent))}",
                ) from None
            if (before := found.record.get("machine")) != self._machine:
                warnings.append(
                    f"was begun with {before}, and goes on with {self._machine}: the bytes are those of neither"
                )
        elif not warnings:
            return None
        return Resumed(state.epoch, state.progress.step, warnings)

    def save_if_due(self, state: State) -> None:
        """Writes a checkpoint if the last one is long ago."""
        if self._every and time.monotonic() >= self._next:
            self.save(state)

    @contextmanager
    def at_the_end(self, state: State) -> Iterator[None]:
        """Writes a checkpoint where what happens inside is stopped, or fails between two steps.

        A training that has diverged writes none: there is nothing to resume.
        """
        try:
            yield
        except Interrupted:
            self.save(state)
            raise
        except TrainingError:
            raise
        except (Exception, GeneratorExit):
            if state.is_whole:
                # The first error is the one to mend, whether the disk or the device cannot be used any more.
                with suppress(ExperimentError, RuntimeError):
                    self.save(state)
            raise

    def save(self, state: State) -> None:
        """Writes a checkpoint."""
        if not distributed.is_main():
            return
        started = time.monotonic()

        def write(path: Path) -> None:
            weights.save_tensors(state.tensors(), path)

        self.checkpoints.write(state.done, write, {**state.record(), "machine": self._machine})
        took = time.monotonic() - started
        self._next = time.monotonic() + max(self._every, took / SHARE)
