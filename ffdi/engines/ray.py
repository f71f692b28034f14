"""Trains folds on the machines of a Ray cluster; each fold is one Ray task.

The machines share the images only. A task gets its job, tables, starting weights and last checkpoint through Ray's
object store; it sends checkpoints and the finished fold back, and this process publishes them. If the machine of a task
fails, the fold is started again on another machine, from the last checkpoint that was received.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ffdi import __version__
from ffdi.core import console, links, signals
from ffdi.core.errors import FFDIError, TrainingError, format_count, get_first_line
from ffdi.core.signals import Interrupted
from ffdi.data.images.cache import ImageStore, get_cached_rows
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.pseudo_labels import PseudoLabels
from ffdi.data.labels.table import Table
from ffdi.engines import cluster, local
from ffdi.engines.cluster import FoldResources
from ffdi.engines.job import JobEnd, JobEvents, JobFailure, NextJob
from ffdi.experiments.fold import FoldFolder
from ffdi.training import fold
from ffdi.training.checkpointing import MachineLoss
from ffdi.training.fold import FoldEvent, FoldJob, TrainingPlan

POLL_SECONDS = 0.5
"""Between two tests whether to stop: for a signal in this process, for the stop flag in a task."""
STOP_SECONDS = 10.0
"""For all tasks to send their checkpoints."""
MAX_LOSSES = 3
"""Machines or processes that a fold may lose between two checkpoints."""

Files = dict[str, bytes]
"""Contents by file name."""


class _FileUpload(NamedTuple):
    """The files of a checkpoint or, as the last event of a task, of the finished fold."""

    files: Files


class _RemoteTables(NamedTuple):
    """The tables of a plan, without references to files of this machine.

    Attributes:
        store: the folder and the resize policy of the image cache; None if this machine has none.
    """

    train: Table
    val: Table | None
    pseudo_labels: PseudoLabels | None
    teacher_logits: np.ndarray | None
    store: tuple[Path, ResizePolicy | None] | None

    @classmethod
    def from_plan(cls, plan: TrainingPlan) -> _RemoteTables:
        cached = get_cached_rows(plan.train)
        cache = None if cached is None else (cached.store.folder, cached.store.resize_policy)
        val = None if plan.val is None else cluster.detach_table(plan.val)
        return cls(cluster.detach_table(plan.train), val, plan.pseudo_labels, plan.teacher_logits, cache)

    def attach(self) -> tuple[Table, Table | None]:
        """Returns both tables with the image cache of the machine that runs the task, if it has one."""
        if self.store is None:
            return self.train, self.val
        store = ImageStore(*self.store)
        return store.attach(self.train), None if self.val is None else store.attach(self.val)


class _WeightsFile(NamedTuple):
    """The file of the starting weights."""

    name: str
    content: bytes


class _SharedObjects:
    """Puts into Ray's object store, once, the objects that several jobs share: tables and starting weights."""

    def __init__(self) -> None:
        self._references: dict[object, tuple[Any, object]] = {}

    def put_tables(self, plan: TrainingPlan) -> Any:
        """Returns Ray's reference to the plan's `_RemoteTables`."""
        return self._put_once(
            (id(plan.train), id(plan.val), id(plan.teacher_logits)), plan, lambda: _RemoteTables.from_plan(plan)
        )

    def put_weights(self, path: Path | None) -> Any:
        """Returns Ray's reference to a `_WeightsFile`; None for None."""
        return None if path is None else self._put_once(path, None, lambda: _WeightsFile(path.name, path.read_bytes()))

    def _put_once(self, key: object, owner: object, make: Callable[[], object]) -> Any:
        """Stores `owner` too: an `id` in the key is unique only while its object exists."""
        if key not in self._references:
            self._references[key] = ray.put(make()), owner
        return self._references[key][0]


@dataclass
class _RayTask:
    """A fold that is trained by a task.

    Attributes:
        stream: Ray's generator of references to the task's events.
        started: whether an event was received; before, the task may still wait for a machine.
        losses: of machines or processes, since the last checkpoint was received.
    """

    job: FoldJob
    stream: Any
    started: bool = False
    losses: int = 0

    @property
    def folder(self) -> FoldFolder:
        return self.job.folder

    def receive(self) -> Any:
        """Returns the next event.

        Raises:
            StopIteration: the task has ended.
            RayError: the task was lost.
        """
        event = ray.get(next(self.stream))
        self.started = True
        return event

    def publish(self, upload: _FileUpload) -> None:
        """Writes the files into the fold's folder, and removes the checkpoints that they replace."""
        old = set(self.folder.export_checkpoint())
        self.folder.import_files(upload.files)
        for name in sorted(old - set(upload.files)):  # records before their tensors
            links.join(self.folder.folder, name).unlink(missing_ok=True)
        self.losses = 0

    def handle_loss(self, error: RayError) -> MachineLoss:
        """Counts the loss of the task's machine or process.

        Raises:
            TrainingError: there were more than `MAX_LOSSES`.
        """
        if isinstance(error, RayTaskError):  # an error of the code, which would be raised on each machine
            raise RuntimeError(f"{self.folder.label} has failed:\n{error}") from None
        self.losses, self.started = self.losses + 1, False
        reason = f"{type(error).__name__}: {get_first_line(error)}"
        if self.losses > MAX_LOSSES:
            raise TrainingError(
                f"{self.folder.label} has lost its process {format_count(self.losses, 'time')} "
                f"without progress; {reason}",
                hint="run the same command again: it resumes from the last checkpoint; if memory ran out, set a "
                "smaller train.batch_size, or give each fold a larger part of a machine",
            )
        return MachineLoss(reason)


def train_folds(next_job: NextJob, resources: FoldResources) -> JobEvents:
    """Trains folds as tasks, as many at once as fit into the cluster, and publishes them on this machine.

    Args:
        next_job: returns the jobs; the images have the same path on each machine.
        resources: of each fold.

    Raises:
        Interrupted: this process received a signal. The running folds have sent a checkpoint, as they have when the
            generator is closed.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    stop_flag = _StopFlag.options(num_cpus=0, scheduling_strategy=here).remote()  # type: ignore[attr-defined]  # decorated
    shared = _SharedObjects()
    train = _train_remotely.options(num_cpus=resources.cpus, num_gpus=resources.gpus)

    def start(job: FoldJob) -> Any:
        tables, weights = shared.put_tables(job.plan), shared.put_weights(job.plan.weights)
        checkpoint = job.folder.export_checkpoint()
        return train.remote(_detach_job(job), __version__, tables, weights, resources, checkpoint, stop_flag)

    tasks: list[_RayTask] = []
    try:
        while True:
            # One task more than fits waits in Ray's queue, which makes an autoscaler add a machine.
            while len(tasks) <= resources.count_slots() and (job := next_job()) is not None:
                tasks.append(_RayTask(job, start(job)))
            if not tasks:
                return
            signals.raise_if_interrupted()
            for task in _wait_for_tasks(tasks):
                event = _receive_event(task)
                if isinstance(event, JobEnd | JobFailure):
                    tasks.remove(task)
                elif isinstance(event, MachineLoss):
                    task.stream = start(task.job)
                if event is not None:
                    yield task.job, event
    finally:
        _stop_all(tasks, stop_flag)


def _detach_job(job: FoldJob) -> FoldJob:
    """Returns the job without its tables and starting weights, which are sent once for all jobs that share them."""
    no_rows = cluster.detach_table(job.plan.train.take(np.empty(0, np.int64)))
    plan = replace(job.plan, train=no_rows, val=None, weights=None, pseudo_labels=None, teacher_logits=None)
    return replace(job, plan=plan)


def _attach_job(
    job: FoldJob, version: str, tables: _RemoteTables, weights: _WeightsFile | None, folder: FoldFolder
) -> FoldJob:
    """Completes a job of `_detach_job` on the machine that runs the task.

    Raises:
        ConfigError: this machine has another version of ffdi.
    """
    cluster.check_version(version)
    train, val = tables.attach()
    path = None
    if weights is not None:
        path = folder.folder.parent / weights.name
        path.write_bytes(weights.content)
    plan = replace(
        job.plan,
        train=train,
        val=val,
        weights=path,
        pseudo_labels=tables.pseudo_labels,
        teacher_logits=tables.teacher_logits,
    )
    return replace(job, plan=plan, folder=folder)


def _receive_event(task: _RayTask) -> FoldEvent | JobFailure | JobEnd | None:
    """Returns the next event of a task; None if the event was an upload, which is then published."""
    try:
        event = task.receive()
        if isinstance(event, _FileUpload):
            task.publish(event)
            return None
        if isinstance(event, Interrupted):
            raise event
        return JobFailure(event) if isinstance(event, FFDIError) else event
    except StopIteration:
        return JobEnd()
    except RayError as error:
        try:
            return task.handle_loss(error)
        except TrainingError as failure:
            return JobFailure(failure)


def _wait_for_tasks(tasks: Sequence[_RayTask]) -> list[_RayTask]:
    """Waits for an event, at most `POLL_SECONDS`; returns the tasks that have one."""
    ready, _ = ray.wait([task.stream for task in tasks], timeout=POLL_SECONDS)
    return [task for task in tasks if task.stream in ready]


def _stop_all(tasks: Sequence[_RayTask], stop_flag: Any) -> None:
    """Makes the running tasks send their checkpoints, publishes these, and cancels the other tasks."""
    running, deadline = [task for task in tasks if task.started], time.monotonic() + STOP_SECONDS
    with suppress(RayError):
        ray.get(stop_flag.set.remote(), timeout=STOP_SECONDS)
    while running and time.monotonic() < deadline:
        for task in _wait_for_tasks(running):
            try:
                event = task.receive()
            except (StopIteration, RayError):
                running.remove(task)
                continue
            if isinstance(event, _FileUpload):
                task.publish(event)
    for task in tasks:
        if task in running or not task.started:
            ray.cancel(task.stream, force=True)


@ray.remote
class _StopFlag:
    """A flag that all tasks read."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set


@ray.remote(num_returns="streaming", max_retries=0)
def _train_remotely(
    job: FoldJob,
    version: str,
    tables: _RemoteTables,
    weights: _WeightsFile | None,
    resources: FoldResources,
    checkpoint: Files,
    stop_flag: Any,
) -> Iterator[object]:
    """The task: yields the events of a fold, its checkpoints, and at the end the files of the finished fold."""
    with tempfile.TemporaryDirectory(prefix="ffdi-fold-") as place, console.silence():
        folder = FoldFolder(Path(place) / job.folder.folder.name, job.folder.fold)
        folder.import_files(checkpoint)
        try:
            yield from _stream_events(_attach_job(job, version, tables, weights, folder), resources, stop_flag)
        except (FFDIError, Interrupted) as error:
            yield error


def _stream_events(job: FoldJob, resources: FoldResources, stop_flag: Any) -> Iterator[object]:
    folder = job.folder
    uploaded, last_sent, last_poll = folder.find_last_checkpoint(), 0.0, time.monotonic()
    devices = resources.choose_devices(job.plan)
    job = replace(job, precision=devices[0].precision)
    events = fold.train(job, devices[0]) if len(devices) == 1 else local.train_in_processes(job, devices)
    for event in events:
        if local.should_report(event, last_sent):
            yield event
            last_sent = time.monotonic()
        if time.monotonic() - last_poll < POLL_SECONDS:
            continue
        last_poll = time.monotonic()
        if ray.get(stop_flag.is_set.remote()):
            with suppress(Interrupted):
                events.throw(Interrupted("stop requested", 0))  # the training writes a checkpoint
            yield _FileUpload(folder.export_checkpoint())
            return
        if folder.find_last_checkpoint() != uploaded:
            yield _FileUpload(folder.export_checkpoint())
            uploaded = folder.find_last_checkpoint()
    yield _FileUpload(folder.export_files() if folder.manifest_path.is_file() else folder.export_checkpoint())
