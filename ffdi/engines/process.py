"""A fold in processes of its own, which say through pipes what happens in it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import NamedTuple

from ffdi.core import console, machine, signals
from ffdi.core.errors import FFDIError, TrainingError
from ffdi.core.signals import Interrupted
from ffdi.engines.job import Job
from ffdi.training import fold
from ffdi.training.loop import Step
from ffdi.training.runtime import distributed
from ffdi.training.runtime.device import Device

EVERY = 0.2
"""Seconds between two steps that are told: a bar shows no more, and a pipe is no place for thousands."""
PATIENCE = 10.0
"""Seconds that a training has to write down where it is."""
GRACE = 1.0
"""Seconds that the others have to say why one of them has failed."""
SERVED = sys.platform == "linux"
"""Whether processes are forked by a server; elsewhere the libraries of the system do not bear a fork."""


class ProcessGroup(NamedTuple):
    """The processes that train a fold together: how many there are, and the file by which they find each other."""

    count: int  # type: ignore[assignment]  # takes the place of tuple.count
    meeting: Path

    def joined(self, rank: int, device: Device) -> AbstractContextManager[None]:
        """Inside, a process is one of them."""
        return nullcontext() if self.count == 1 else distributed.process_group(rank, self.count, self.meeting, device)


@dataclass(frozen=True, eq=False)
class Training:
    """A fold that is being trained in other processes.

    Attributes:
        processes: by the pipe through which each is heard; the first one leads.
        pipes: of those that have not ended.
        place: where they meet.
    """

    job: Job
    processes: dict[Connection, BaseProcess]
    pipes: list[Connection]
    place: TemporaryDirectory[str]

    @property
    def ended(self) -> bool:
        """Whether it was heard that the leading process has ended, and well."""
        return next(iter(self.processes)) not in self.pipes

    def told(self, pipe: Connection) -> fold.Event | None:
        """What was said last through a pipe; waits for it. None where that process has ended well.

        Raises:
            FFDIError: what the fold has raised.
            Stopped: it was asked to end, and has.
            TrainingError: the process was killed.
        """
        said = self._said(pipe)
        if isinstance(said, str):  # whoever's company has died fails too: what has happened to that one is told
            others = [one for one in self.pipes if one is not pipe]
            for other in ready_pipes(others, GRACE) if others else []:
                if isinstance(found := self._said(other), BaseException):
                    said = found
        if isinstance(said, BaseException):
            raise said
        if isinstance(said, str):
            raise RuntimeError(f"fold {self.job.folder.fold} has failed in its process:\n{said}")
        if said is None:
            self.pipes.remove(pipe)
        return said

    def _said(self, pipe: Connection) -> fold.Event | BaseException | str | None:
        """A str is the traceback of a fault of ours."""
        try:
            said: fold.Event | BaseException | str = pipe.recv()
            return said
        except EOFError:
            process = self.processes[pipe]
            process.join()
            if process.exitcode == 0:
                return None
            return TrainingError(
                f"the process that trained fold {self.job.folder.fold} was killed (exit status {process.exitcode})",
                hint="the same command goes on from its last checkpoint; if memory was short, pass a smaller --jobs",
            )

    def ask_to_end(self) -> None:
        """It writes a checkpoint and ends; `told` says so."""
        next(iter(self.processes.values())).terminate()

    def end(self, until: float) -> None:
        """Waits till then, by the monotonic clock, for its end, and kills what is left."""
        try:
            next(iter(self.processes.values())).join(max(0.0, until - time.monotonic()))
        finally:
            for pipe, process in self.processes.items():
                process.kill()
                process.join()
                pipe.close()
            self.place.cleanup()


def train(job: Job, devices: Sequence[Device]) -> fold.Events:
    """As `fold.train`, in processes of its own, one for each device."""
    training = start_process(job, devices)
    try:
        while not training.ended:
            for pipe in ready_pipes(training.pipes):
                if (event := training.told(pipe)) is not None:
                    yield event
    finally:
        training.ask_to_end()
        training.end(time.monotonic() + PATIENCE)


def ready_pipes(pipes: Iterable[Connection], seconds: float | None = None) -> list[Connection]:
    """Those pipes through which something was said, or that are closed; waits for one, at most so long."""
    return connection.wait(pipes, seconds)  # type: ignore[return-value]  # nothing but what it was given


def start_process_group() -> None:
    """Begins the server, where there is none yet, which imports once what takes each process seconds; a fork of this
    one would inherit locks of threads that it does not have."""
    if SERVED:
        forkserver.set_forkserver_preload(["ffdi.engines.forkserver_preload"])
        resource_tracker.ensure_running()  # which a server has too; its beginning would let SIGTERM through
        with _no_program(), signals.block_signals(at_first=True):
            forkserver.ensure_running()


def start_process(job: Job, devices: Sequence[Device]) -> Training:
    """Begins to train a fold in processes of its own, one for each device, which end when this one does."""
    start_process_group()
    context = multiprocessing.get_context("forkserver") if SERVED else multiprocessing.get_context("spawn")
    training = Training(job, {}, [], TemporaryDirectory(prefix="ffdi-"))
    company = ProcessGroup(len(devices), Path(training.place.name) / "meeting")
    for rank, device in enumerate(devices):
        ours, theirs = context.Pipe(duplex=False)
        name, given = f"fold {job.folder.fold}, rank {rank}", (theirs, job, device, company, rank, dict(os.environ))
        training.processes[ours] = process = context.Process(target=_train, args=given, name=name)
        with _no_program(), nullcontext() if SERVED else signals.block_signals():
            process.start()
        training.pipes.append(ours)
        theirs.close()
    return training


@contextmanager
def _no_program() -> Iterator[None]:
    """A new process begins by running this one's program again, where it is a module: `python -m invoke` would."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def _train(
    pipe: Connection, job: Job, device: Device, company: ProcessGroup, rank: int, environment: Mapping[str, str]
) -> None:
    """All of another process."""
    signals.exit_with_parent()
    os.environ.update(environment)  # a server has that of its first process: Ray gives each task other GPUs
    told = 0.0
    try:
        with signals.handle_signals(interrupts=False), console.silence(), company.joined(rank, device):
            if SERVED:
                signals.unblock_signals()
            for event in fold.train(job.plan, job.folder, device, job.until):
                if rank == 0 and _worth_telling(event, told):
                    pipe.send(event)
                    told = time.monotonic()
    except (FFDIError, Interrupted) as error:
        pipe.send(error)
    except Exception as error:  # a fault of ours: its traceback is shown where a person sees it
        pipe.send(machine.explain_memory_error(error) if machine.is_memory_error(error) else traceback.format_exc())
    pipe.close()
    os._exit(0)  # all is written; to clear away what torch has loaded takes seconds


def _worth_telling(event: fold.Event, told: float) -> bool:
    """Whether it is no step, or the last one of an epoch, or the first for a while."""
    return not isinstance(event, Step) or time.monotonic() - told > EVERY or event.step + 1 == event.steps
