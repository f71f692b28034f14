"""Runs jobs on any number of machines, each as a task of Ray.

Nothing is shared but the data: starting weights travel to a task, checkpoints and what it has trained travel back, and
are published here. A fold whose machine dies is begun again elsewhere, from the last checkpoint that came back.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ffdi.core import console, links, signals
from ffdi.core.errors import FFDIError, TrainingError
from ffdi.core.signals import Interrupted
from ffdi.engines import process
from ffdi.engines.cluster import Request
from ffdi.engines.job import Ask, Ended, Failed, Hearing, Job
from ffdi.engines.parcel import Data, File, Order, Sent
from ffdi.experiments.fold import FoldFolder
from ffdi.training import fold
from ffdi.training.checkpointing import Lost
from ffdi.training.loop import Step

LOOK = 0.5
"""Seconds between two looks whether this process, or on the other side the whole training, is to end."""
EVERY = 0.2
"""Seconds between two steps that are told."""
PATIENCE = 10.0
"""Seconds that tasks have to write down where they are."""
LOSSES = 3
"""Machines or processes that a fold may lose without having come further."""

Files = dict[str, bytes]


@dataclass(frozen=True)
class _Going:
    """Where a fold's task is: the files of a checkpoint, or, at its end, of all that it has trained."""

    files: Files


@dataclass
class _Task:
    """A fold that is being trained somewhere.

    Attributes:
        handle: what Ray gives for it.
        heard: whether it has said anything yet; one that has not may still wait for a machine.
        losses: of machines or processes, since it has come further.
    """

    job: Job
    handle: Any
    heard: bool = False
    losses: int = 0

    @property
    def folder(self) -> FoldFolder:
        return self.job.folder

    def told(self) -> Any:
        """What it says next.

        Raises:
            StopIteration: it has ended.
            RayError: it was lost.
        """
        event = ray.get(next(self.handle))
        self.heard = True
        return event

    def take(self, going: _Going) -> None:
        """Publishes what came back: a checkpoint in place of those before it, a finished fold in place of them all."""
        old = set(self.folder.going())
        self.folder.put(going.files)
        for name in sorted(old - set(going.files)):  # records before their tensors
            links.below(self.folder.folder, name).unlink(missing_ok=True)
        self.losses = 0

    def lost(self, error: RayError) -> Lost:
        """To be told of a task that was lost.

        Raises:
            TrainingError: it has been lost too often.
        """
        if isinstance(error, RayTaskError):  # a fault of ours, which would be one everywhere
            raise RuntimeError(f"fold {self.folder.fold} has failed:\n{error}") from None
        self.losses, self.heard = self.losses + 1, False
        why = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        if self.losses > LOSSES:
            raise TrainingError(
                f"fold {self.folder.fold} has lost its process {self.losses} times without coming further; {why}",
                hint="the same command goes on from its last checkpoint; if memory was short, set a smaller "
                "train.batch_size, or give each fold more of a machine",
            )
        return Lost(why)


def run(ask: Ask, request: Request) -> Hearing:
    """Trains folds as tasks, as many at once as the cluster has room for, and publishes them here.

    Args:
        ask: for what is to be done; the data lie at the same place on every machine.
        request: what each fold asks for.

    Raises:
        Stopped: where this process is to end; the same jobs go on there. So it is where the iterator is closed.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    wish = _Wish.options(num_cpus=0, scheduling_strategy=here).remote()  # type: ignore[attr-defined]  # decorated
    sent = Sent()
    train = _train.options(num_cpus=request.cpus, num_gpus=request.gpus)

    def begun(job: Job) -> Any:
        data, weights = sent.data(job.plan), sent.weights(job.plan.weights)
        return train.remote(Order.of(job), data, weights, request, job.folder.going(), wish)

    tasks: list[_Task] = []
    try:
        while True:
            while len(tasks) <= request.room() and (job := ask()) is not None:  # one more, so that it can grow
                tasks.append(_Task(job, begun(job)))
            if not tasks:
                return
            signals.raise_if_interrupted()
            for task in _speaking(tasks):
                event = _heard(task)
                if isinstance(event, Ended | Failed):
                    tasks.remove(task)
                elif isinstance(event, Lost):
                    task.handle = begun(task.job)
                if event is not None:
                    yield task.job, event
    finally:
        _end(tasks, wish)


def _heard(task: _Task) -> fold.Event | Failed | Ended | None:
    """What a task says next, once what it has sent is published; None where that is all."""
    try:
        event = task.told()
        if isinstance(event, _Going):
            task.take(event)
            return None
        if isinstance(event, Interrupted):
            raise event
        return Failed(event) if isinstance(event, FFDIError) else event
    except StopIteration:
        return Ended()
    except RayError as error:
        try:
            return task.lost(error)
        except TrainingError as fault:
            return Failed(fault)


def _speaking(tasks: Sequence[_Task]) -> list[_Task]:
    """Those that have something to say."""
    ready, _ = ray.wait([task.handle for task in tasks], timeout=LOOK)
    return [task for task in tasks if task.handle in ready]


def _end(tasks: Sequence[_Task], wish: Any) -> None:
    """Lets those that run send where they are, and takes it."""
    left, until = [task for task in tasks if task.heard], time.monotonic() + PATIENCE
    with suppress(RayError):
        ray.get(wish.ask.remote(), timeout=PATIENCE)
    while left and time.monotonic() < until:
        for task in _speaking(left):
            try:
                event = task.told()
            except (StopIteration, RayError):
                left.remove(task)
                continue
            if isinstance(event, _Going):
                task.take(event)
    for task in tasks:
        if task in left or not task.heard:
            ray.cancel(task.handle, force=True)


@ray.remote
class _Wish:
    """Whether the training is to end."""

    def __init__(self) -> None:
        self._asked = False

    def ask(self) -> None:
        self._asked = True

    def asked(self) -> bool:
        return self._asked


@ray.remote(num_returns="streaming", max_retries=0)
def _train(
    order: Order, data: Data, weights: File | None, request: Request, given: Files, wish: Any
) -> Iterator[object]:
    """All of a task: what happens in a fold, where it is, and at the end what it has trained."""
    with tempfile.TemporaryDirectory(prefix="ffdi-fold-") as place, console.silence():
        folder = FoldFolder(Path(place) / f"fold_{order.fold}", order.fold)
        folder.put(given)
        try:
            yield from _told(order.plan(data, weights, Path(place)), folder, order.until, request, wish)
        except (FFDIError, Interrupted) as error:
            yield error


def _told(plan: fold.Plan, folder: FoldFolder, until: int | None, request: Request, wish: Any) -> Iterator[object]:
    sent, told, looked = folder.last_checkpoint(), 0.0, time.monotonic()
    devices = request.devices(plan)
    if len(devices) == 1:
        events = fold.train(plan, folder, devices[0], until)
    else:
        events = process.train(Job(plan, folder, devices[0].precision, until), devices)
    for event in events:
        now = time.monotonic()
        if not isinstance(event, Step) or now - told > EVERY or event.step + 1 == event.steps:
            yield event
            told = now
        if now - looked < LOOK:
            continue
        looked = now
        if ray.get(wish.asked.remote()):
            with suppress(Interrupted):
                events.throw(Interrupted("asked to", 0))  # which writes down where it is
            yield _Going(folder.going())
            return
        if folder.last_checkpoint() != sent:
            yield _Going(folder.going())
            sent = folder.last_checkpoint()
    yield _Going(folder.done() if folder.manifest_path.is_file() else folder.going())
