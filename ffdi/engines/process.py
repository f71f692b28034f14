"""A fold in a process of its own, which says through a pipe what happens in it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType

from ffdi import console, stopping
from ffdi.errors import FFDIError, TrainingError
from ffdi.stopping import Stopped
from ffdi.store.fold import FoldFolder
from ffdi.training import fold
from ffdi.training.device import Device
from ffdi.training.fit import Step

EVERY = 0.2
"""Seconds between two steps that are told: a bar shows no more, and a pipe is no place for thousands."""


@dataclass(frozen=True)
class Training:
    """A fold that is being trained in another process."""

    folder: FoldFolder
    process: BaseProcess
    pipe: Connection

    def told(self) -> fold.Event | None:
        """What it said last; waits for it. None where it has ended well.

        Raises:
            FFDIError: what the fold has raised.
            Stopped: it was asked to end, and has.
            TrainingError: the process was killed.
        """
        try:
            event = self.pipe.recv()
        except EOFError:
            self.process.join()
            if self.process.exitcode == 0:
                return None
            raise TrainingError(
                f"the process that trained fold {self.folder.fold} was killed (exit status {self.process.exitcode})",
                hint="the same command goes on from its last checkpoint; if memory was short, pass a smaller --jobs",
            ) from None
        if isinstance(event, FFDIError | Stopped):
            raise event
        if isinstance(event, str):
            raise RuntimeError(f"fold {self.folder.fold} has failed in its process:\n{event}")
        return event

    def ask_to_end(self) -> None:
        """It writes a checkpoint and ends; `told` says so."""
        self.process.terminate()

    def end(self, until: float) -> None:
        """Waits till then, by the monotonic clock, for its end, and kills it if need be."""
        try:
            self.process.join(max(0.0, until - time.monotonic()))
        finally:
            self.process.kill()
            self.process.join()
            self.pipe.close()


def start(plan: fold.Plan, folder: FoldFolder, device: Device) -> Training:
    """Begins to train a fold in a process of its own, which ends when this one does."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit locks of threads that it does not have
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(theirs, plan, folder, device), name=f"fold {folder.fold}")
    with _no_program(), stopping.deaf():
        process.start()
    theirs.close()
    return Training(folder, process, ours)


@contextmanager
def _no_program() -> Iterator[None]:
    """A new process begins by running this one's program again, where it is a module: `python -m invoke` would."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def _train(pipe: Connection, plan: fold.Plan, folder: FoldFolder, device: Device) -> None:
    """All of the other process."""
    stopping.with_parent()
    told = 0.0
    try:
        with stopping.listening(interrupts=False), console.hushed():
            for event in fold.train(plan, folder, device):
                if not isinstance(event, Step) or time.monotonic() - told > EVERY or event.step + 1 == event.steps:
                    pipe.send(event)
                    told = time.monotonic()
    except (FFDIError, Stopped) as error:
        pipe.send(error)
    except Exception:  # a fault of ours: its traceback is shown where a person sees it
        pipe.send(traceback.format_exc())
    pipe.close()
    os._exit(0)  # all is written; to clear away what torch has loaded takes seconds
