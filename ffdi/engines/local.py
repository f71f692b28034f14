"""Trains folds on this machine: one after the other in this process, or several at once in child processes.

The fork server, on Linux. A new Python process needs about 5 s of a core to import torch and timm. A fork of this
process would be fast, but this process has threads, and a forked child inherits their locks without the threads that
would release them. So this module uses the fork server of `multiprocessing`:

1. `start_fork_server` starts one process, which imports all libraries (`forkserver_preload.py`) and starts no threads.
2. `start_fold_processes` asks the fork server for one child per rank of a fold. The server forks itself, and the child
   starts to train at once.
3. A child sends its events through a pipe; only rank 0 sends steps and epochs. An exception is the last message of a
   training that fails. A pipe that closes without one means that the process has ended: its exit status shows whether
   it was killed.
4. A child ends when this process ends. SIGTERM to rank 0 makes it write a checkpoint first.

On other systems the children are spawned, and each one imports the libraries itself.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from ffdi.core import console, machine, signals
from ffdi.core.errors import FFDIError, TrainingError
from ffdi.core.signals import Interrupted
from ffdi.engines.job import JobEnd, JobEvents, JobFailure, NextJob
from ffdi.training import fold
from ffdi.training.fold import FoldEvent, FoldEvents, FoldJob
from ffdi.training.loop import Step
from ffdi.training.runtime import distributed
from ffdi.training.runtime.device import Device

POLL_SECONDS = 0.5
"""Between two tests for a signal, while no child sends an event."""
STEP_SECONDS = 0.2
"""Between two Step events of a child or of a Ray task: more would not be visible in a progress bar."""
STOP_SECONDS = 10.0
"""For a child to write its checkpoint."""
CAUSE_SECONDS = 1.0
"""For the other ranks to send the error that made a rank fail."""
USES_FORK_SERVER = sys.platform == "linux"
"""Elsewhere system libraries do not support a fork."""


def train_folds(next_job: NextJob, devices: Sequence[Sequence[Device]]) -> JobEvents:
    """Trains and publishes folds, as many at once as there are device groups, and yields their events.

    Args:
        next_job: returns the jobs.
        devices: one group for each fold that is trained at the same time, with one device per rank; a single group of
            one device is used in this process.

    Raises:
        Interrupted: this process received a signal. The running folds have written a checkpoint, as they have when the
            generator is closed.
    """
    if len(devices) == len(devices[0]) == 1:
        return _train_in_turn(next_job, devices[0][0])
    return _train_concurrently(next_job, devices)


def _train_in_turn(next_job: NextJob, device: Device) -> JobEvents:
    while (job := next_job()) is not None:
        try:
            for event in fold.train(job, replace(device, precision=job.precision)):
                yield job, event
        except FFDIError as error:
            yield job, JobFailure(error)
        else:
            yield job, JobEnd()


def _train_concurrently(next_job: NextJob, devices: Sequence[Sequence[Device]]) -> JobEvents:
    free, running = list(devices), list[tuple[FoldProcesses, Sequence[Device]]]()
    try:
        while True:
            while free and (job := next_job()) is not None:
                group = [replace(device, precision=job.precision) for device in free[0]]
                running.append((start_fold_processes(job, group), free.pop(0)))
            if not running:
                return
            signals.raise_if_interrupted()
            by_pipe = {pipe: pair for pair in running for pipe in pair[0].pipes}
            for pipe in wait_for_pipes(by_pipe, POLL_SECONDS):
                processes, used = pair = by_pipe[pipe]
                if pair not in running or processes.ended:  # an earlier pipe of this loop has ended the fold
                    continue
                event = _receive_event(processes, pipe)
                if isinstance(event, JobFailure) or processes.ended:
                    running.remove(pair)
                    processes.close(time.monotonic() + STOP_SECONDS)
                    free.append(used)
                if event is not None:
                    yield processes.job, event
    finally:
        _stop_all([processes for processes, _ in running])


def train_in_processes(job: FoldJob, devices: Sequence[Device]) -> FoldEvents:
    """Trains one fold in child processes, one for each device; yields and raises what `fold.train` does."""
    processes = start_fold_processes(job, devices)
    try:
        while not processes.ended:
            for pipe in wait_for_pipes(processes.pipes):
                if (event := processes.receive(pipe)) is not None:
                    yield event
    finally:
        processes.request_stop()
        processes.close(time.monotonic() + STOP_SECONDS)


@dataclass(frozen=True, eq=False)
class FoldProcesses:
    """The child processes that train one fold, one for each rank.

    Attributes:
        processes: by the pipe that receives the process's events; rank 0 is the first.
        pipes: of the processes that have not ended.
        folder: has the file by which the ranks find each other.
    """

    job: FoldJob
    processes: dict[Connection, BaseProcess]
    pipes: list[Connection]
    folder: TemporaryDirectory[str]

    @property
    def ended(self) -> bool:
        """Whether `receive` has seen that rank 0 ended without an error."""
        return next(iter(self.processes)) not in self.pipes

    def receive(self, pipe: Connection) -> FoldEvent | None:
        """Waits for the next event of a process; None if the process ended without an error.

        Raises:
            FFDIError: the error of the fold.
            Interrupted: the process has stopped on request.
            TrainingError: the process was killed.
        """
        message = self._receive(pipe)
        if isinstance(message, str):  # a rank also fails when another one does: prefer the first cause
            others = [other for other in self.pipes if other is not pipe]
            for other in wait_for_pipes(others, CAUSE_SECONDS) if others else []:
                if isinstance(cause := self._receive(other), BaseException):
                    message = cause
        if isinstance(message, BaseException):
            raise message
        if isinstance(message, str):
            raise RuntimeError(f"{self.job.folder.label} has failed in its process:\n{message}")
        if message is None:
            self.pipes.remove(pipe)
        return message

    def _receive(self, pipe: Connection) -> FoldEvent | BaseException | str | None:
        """Returns a str, the traceback, for an error that is no FFDIError."""
        try:
            message: FoldEvent | BaseException | str = pipe.recv()
            return message
        except EOFError:
            process = self.processes[pipe]
            process.join()
            if process.exitcode == 0:
                return None
            return TrainingError(
                f"the process that trained {self.job.folder.label} was killed (exit status {process.exitcode})",
                hint="run the same command again: it resumes from the last checkpoint; if memory ran out, pass a "
                "smaller --jobs",
            )

    def request_stop(self) -> None:
        """Makes the training write a checkpoint and end; `receive` then raises Interrupted."""
        next(iter(self.processes.values())).terminate()

    def close(self, deadline: float) -> None:
        """Waits for rank 0 until `deadline`, a time of `time.monotonic`, and kills the processes that still run."""
        try:
            next(iter(self.processes.values())).join(max(0.0, deadline - time.monotonic()))
        finally:
            for pipe, process in self.processes.items():
                process.kill()
                process.join()
                pipe.close()
            self.folder.cleanup()


def wait_for_pipes(pipes: Iterable[Connection], seconds: float | None = None) -> list[Connection]:
    """Waits until a pipe has a message or is closed, for at most `seconds`; returns all such pipes."""
    return connection.wait(pipes, seconds)  # type: ignore[return-value]  # a subset of `pipes`


def start_fork_server() -> None:
    """Starts the fork server, if it does not run yet; see the docstring of this module."""
    if USES_FORK_SERVER:
        forkserver.set_forkserver_preload(["ffdi.engines.forkserver_preload"])
        resource_tracker.ensure_running()  # the fork server would start it too, and that would unblock SIGTERM
        with _hide_main_module(), signals.block_signals(at_first=True):
            forkserver.ensure_running()


def start_fold_processes(job: FoldJob, devices: Sequence[Device]) -> FoldProcesses:
    """Starts to train a fold in child processes, one for each device."""
    start_fork_server()
    context = multiprocessing.get_context("forkserver") if USES_FORK_SERVER else multiprocessing.get_context("spawn")
    result = FoldProcesses(job, {}, [], TemporaryDirectory(prefix="ffdi-"))
    rendezvous = Path(result.folder.name) / "rendezvous"
    for rank, device in enumerate(devices):
        receiver, sender = context.Pipe(duplex=False)
        arguments = (sender, job, device, rank, len(devices), rendezvous, dict(os.environ))
        name = f"{job.folder.label}, rank {rank}"
        result.processes[receiver] = process = context.Process(target=_run_process, args=arguments, name=name)
        with _hide_main_module(), nullcontext() if USES_FORK_SERVER else signals.block_signals():
            process.start()
        result.pipes.append(receiver)
        sender.close()
    return result


def _receive_event(processes: FoldProcesses, pipe: Connection) -> FoldEvent | JobFailure | JobEnd | None:
    """Returns None if a rank other than 0 has ended."""
    try:
        event = processes.receive(pipe)
    except FFDIError as error:
        return JobFailure(error)
    return JobEnd() if event is None and processes.ended else event


def _stop_all(running: Sequence[FoldProcesses]) -> None:
    """Stops folds; each one can write a checkpoint."""
    for processes in running:
        processes.request_stop()
    deadline = time.monotonic() + STOP_SECONDS
    with ExitStack() as stack:  # a second Ctrl-C interrupts one `close`; the others are still called
        for processes in running:
            stack.callback(processes.close, deadline)


@contextmanager
def _hide_main_module() -> Iterator[None]:
    """multiprocessing makes a child import the main module again, which would run `python -m invoke` a second time."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _run_process(
    pipe: Connection,
    job: FoldJob,
    device: Device,
    rank: int,
    world_size: int,
    rendezvous: Path,
    environment: Mapping[str, str],
) -> None:
    """The main function of a child process."""
    signals.exit_with_parent()
    os.environ.update(environment)  # the fork server has the environment of its start; Ray gives each task other GPUs
    group: AbstractContextManager[None] = nullcontext()
    if world_size > 1:
        group = distributed.process_group(rank, world_size, rendezvous, device)
    last_sent = 0.0
    try:
        with signals.handle_signals(interrupts=False), console.silence(), group:
            if USES_FORK_SERVER:
                signals.unblock_signals()
            for event in fold.train(job, device):
                if rank == 0 and should_report(event, last_sent):
                    pipe.send(event)
                    last_sent = time.monotonic()
    except (FFDIError, Interrupted) as error:
        pipe.send(error)
    except Exception as error:  # the parent process shows the traceback
        pipe.send(machine.explain_memory_error(error) if machine.is_memory_error(error) else traceback.format_exc())
    pipe.close()
    os._exit(0)  # all files are written; an orderly exit unloads torch, which takes seconds


def should_report(event: FoldEvent, last_sent: float) -> bool:
    """Whether an event is sent to the parent: each one, except steps within `STEP_SECONDS` of the last event."""
    return not isinstance(event, Step) or time.monotonic() - last_sent > STEP_SECONDS or event.step + 1 == event.steps
