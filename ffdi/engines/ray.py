"""Runs folds on any number of machines, each as a task of Ray.

Nothing is shared but the data: starting weights travel to a task, checkpoints and what it has trained travel back, and
are published here. A fold whose machine dies is begun again elsewhere, from the last checkpoint that came back.
"""

from __future__ import annotations

import os
import platform
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ffdi import __version__, console, machine, stopping
from ffdi.data.cache import Store
from ffdi.data.images import Framing
from ffdi.data.table import Table
from ffdi.errors import ConfigError, DeviceError, FFDIError, TrainingError
from ffdi.stopping import Stopped
from ffdi.store.fold import FoldFolder
from ffdi.training import detector, fold
from ffdi.training import device as devices
from ffdi.training.device import Device
from ffdi.training.fit import Step
from ffdi.training.saving import Lost

try:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.exceptions import RayError, RaySystemError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise ConfigError("--engine ray needs Ray, which is not installed", hint="pip install -e '.[ray]'") from None

LOOK = 0.5
"""Seconds between two looks whether this process, or on the other side the whole training, is to end."""
EVERY = 0.2
"""Seconds between two steps that are told."""
PATIENCE = 10.0
"""Seconds that tasks have to write down where they are."""
ANSWER = 5.0
"""Seconds that a cluster has to take a call."""
WORKERS = 3
"""Loader processes beside a GPU, where nobody says otherwise."""
LOSSES = 3
"""Machines or processes that a fold may lose without having come further."""

Told = tuple[FoldFolder, fold.Event]
Files = dict[str, bytes]


@dataclass(frozen=True)
class Request:
    """What each fold asks of a machine: CPUs, as many as it has threads, and a GPU or none."""

    cpus: int
    gpus: int
    workers: int | None

    @classmethod
    def of(cls, kind: str, threads: int, workers: int | None) -> Request:
        """What a fold on a device of that kind ('cpu' or 'gpu') asks for."""
        return cls(threads, 0, workers) if kind == "cpu" else cls(1 + (workers or WORKERS), 1, workers or WORKERS)

    def device(self, plan: fold.Plan) -> Device:
        """The device that a task has been given, on its machine."""
        depthwise = detector.is_depthwise(detector.build(plan.config.model, None))
        asked = devices.FIRST if self.gpus else "cpu"
        device = devices.choose(asked, plan.config.train.precision, self.workers, depthwise=depthwise)
        return replace(device, threads=self.cpus)

    def __str__(self) -> str:
        return f"{self.cpus} CPU" + (f" and {self.gpus} GPU" if self.gpus else "")


@dataclass(frozen=True)
class _Going:
    """Where a fold's task is: the files of a checkpoint, or, at its end, of all that it has trained."""

    files: Files


@dataclass(frozen=True)
class _Shared:
    """A plan that can travel.

    Attributes:
        plan: without what lies in files of one machine.
        weights: the name and the bytes of the file of starting weights, where there is one.
        cache: where a machine that has the cache too finds it.
        version: of ffdi.
    """

    plan: fold.Plan
    weights: tuple[str, bytes] | None
    cache: tuple[Path, Framing | None] | None
    version: str

    @classmethod
    def of(cls, plan: fold.Plan) -> _Shared:
        def bare(table: Table) -> Table:
            return replace(table, folder=table.folder.resolve(), cached=None)

        weights = None if plan.weights is None else (plan.weights.name, plan.weights.read_bytes())
        cached = plan.train.cached
        cache = None if cached is None else (cached.store.folder, cached.store.framing)
        val = None if plan.val is None else bare(plan.val)
        return cls(replace(plan, train=bare(plan.train), val=val, weights=None), weights, cache, __version__)

    def arrived(self, place: Path) -> fold.Plan:
        """The plan as this machine can work with it, with files in a folder of its own.

        Raises:
            ConfigError: ffdi is another one here.
        """
        if self.version != __version__:
            raise ConfigError(
                f"ffdi is {__version__} on {platform.node()}, and {self.version} where the training was begun",
                hint="install the same version on all machines",
            )
        store = None if self.cache is None else Store(*self.cache)

        def attached(table: Table) -> Table:
            return table if store is None else store.attach(table)

        val = None if self.plan.val is None else attached(self.plan.val)
        plan = replace(self.plan, train=attached(self.plan.train), val=val)
        if self.weights is None:
            return plan
        name, content = self.weights
        (place / name).write_bytes(content)
        return replace(plan, weights=place / name)


@contextmanager
def joined(address: str | None) -> Iterator[None]:
    """Inside, this process belongs to a cluster.

    Args:
        address: of one that runs, or 'auto'; None makes one of this machine.

    Raises:
        ConfigError: there is none.
    """
    own = {"address": "local", "num_cpus": machine.cores(), "include_dashboard": False}
    try:
        _call(address)
        with console.hushed():
            ray.init(**(own if address is None else {"address": address}), log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, RaySystemError) as error:
        raise ConfigError(
            f"--address {address}: no Ray cluster answers there: {str(error).strip().splitlines()[0]}",
            hint="start one with: ray start --head; docs/cluster.md has the rest",
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _call(address: str | None) -> None:
    """Sees whether anybody answers: Ray itself would try for five minutes.

    Raises:
        OSError: nobody does.
        ValueError: it is no address.
    """
    if address not in (None, "auto"):
        host, _, port = address.rpartition(":")
        if not (host and port.isdecimal()):
            raise ValueError("an address is 'auto' or HOST:PORT")
        socket.create_connection((host, int(port)), ANSWER).close()


def kind() -> str:
    """What folds are trained on: 'gpu' where the cluster has any, else 'cpu'."""
    return "gpu" if any(one.get("GPU") for one in _machines()) else "cpu"


def described() -> str:
    """What the cluster has."""
    there = _machines()
    cpus, gpus = (sum(one.get(name, 0) for one in there) for name in ("CPU", "GPU"))
    return f"{len(there)} {'machine' if len(there) == 1 else 'machines'} with {cpus:g} CPU and {gpus:g} GPU"


def check(request: Request) -> None:
    """Refuses what no machine of the cluster will ever have.

    Raises:
        DeviceError: says what is there, and what was asked for.
    """
    there = _machines()
    if not any(one.get("CPU", 0) >= request.cpus and one.get("GPU", 0) >= request.gpus for one in there):
        have = ", ".join(f"{one.get('CPU', 0):g} CPU and {one.get('GPU', 0):g} GPU" for one in there)
        raise DeviceError(
            f"a fold asks for {request} of one machine, and the cluster's have {have or 'none'}",
            hint="pass a larger --jobs, which divides this machine's CPUs among folds, or --device, or add machines",
        )


def run(plan: fold.Plan, folders: Sequence[FoldFolder], request: Request) -> Iterator[Told]:
    """Trains folds as tasks, as many at once as the cluster has room for, and publishes them here.

    Args:
        plan: what the folds share; its data lie at the same place on every machine.
        folders: those to be trained.
        request: what each of them asks for.

    Raises:
        FFDIError: what a fold has raised; the others have sent where they are.
        Stopped: where this process is to end; the same call goes on there.
    """
    shared = ray.put(_Shared.of(plan))
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    wish = _Wish.options(num_cpus=0, scheduling_strategy=here).remote()
    resources = {"num_cpus": request.cpus, "num_gpus": request.gpus}

    def begin(folder: FoldFolder) -> Any:
        task = _train.options(**resources)
        return task.remote(shared, folder.fold, request, folder.going(), wish)

    running = {begin(folder): folder for folder in folders}
    losses = dict.fromkeys((folder.fold for folder in folders), 0)
    try:
        while running:
            stopping.check()
            ready, _ = ray.wait(list(running), timeout=LOOK)
            for task in ready:
                folder = running[task]
                try:
                    event = ray.get(next(task))
                except StopIteration:
                    del running[task]
                    continue
                except RayError as error:
                    del running[task]
                    losses[folder.fold] += 1
                    yield folder, _lost(folder, error, losses[folder.fold])
                    running[begin(folder)] = folder
                    continue
                if isinstance(event, _Going):
                    _take(folder, event)
                    losses[folder.fold] = 0
                else:
                    yield folder, _raised(event)
    finally:
        _end(running, wish)


def _lost(folder: FoldFolder, error: RayError, losses: int) -> Lost:
    why = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    if losses > LOSSES:
        raise TrainingError(
            f"fold {folder.fold} has lost its process {losses} times without coming further; {why}",
            hint="the same command goes on from its last checkpoint; if memory was short, set a smaller "
            "train.batch_size, or give each fold more of a machine",
        )
    return Lost(why)


def _raised(event: Any) -> fold.Event:
    if isinstance(event, FFDIError | Stopped):
        raise event
    return event


def _take(folder: FoldFolder, going: _Going) -> None:
    """Publishes what came back; a checkpoint takes the place of those before it, a finished fold of all of them."""
    old = set(folder.going())
    folder.put(going.files)
    for name in sorted(old - set(going.files)):  # records before their tensors
        (folder.folder / name).unlink(missing_ok=True)


def _end(running: Mapping[Any, FoldFolder], wish: Any) -> None:
    """Lets those that run send where they are, and takes it."""
    if running:
        with suppress(RayError):
            ray.get(wish.ask.remote(), timeout=PATIENCE)
    left, until = dict(running), time.monotonic() + PATIENCE
    while left and time.monotonic() < until:
        ready, _ = ray.wait(list(left), timeout=LOOK)
        for task in ready:
            try:
                event = ray.get(next(task))
            except (StopIteration, RayError):
                del left[task]
                continue
            if isinstance(event, _Going):
                _take(left[task], event)
    for task in left:
        ray.cancel(task, force=True)


def _machines() -> list[dict[str, float]]:
    """What each machine has, the largest first."""
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sorted(there, key=lambda one: (one.get("GPU", 0), one.get("CPU", 0)), reverse=True)


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
def _train(shared: Any, number: int, request: Request, given: Files, wish: Any) -> Iterator[object]:
    """All of a task: what happens in a fold, where it is, and at the end what it has trained."""
    with tempfile.TemporaryDirectory(prefix="ffdi-fold-") as place, console.hushed():
        folder = FoldFolder(Path(place) / f"fold_{number}", number)
        folder.put(given)
        try:
            yield from _told(shared.arrived(Path(place)), folder, request, wish)
        except (FFDIError, Stopped) as error:
            yield error


def _told(plan: fold.Plan, folder: FoldFolder, request: Request, wish: Any) -> Iterator[object]:
    sent, told, looked = folder.last_checkpoint(), 0.0, time.monotonic()
    events = fold.train(plan, folder, request.device(plan))
    for event in events:
        now = time.monotonic()
        if not isinstance(event, Step) or now - told > EVERY or event.step + 1 == event.steps:
            yield event
            told = now
        if now - looked < LOOK:
            continue
        looked = now
        if ray.get(wish.asked.remote()):
            with suppress(Stopped):
                events.throw(Stopped("asked to", 0))  # which writes down where it is
            yield _Going(folder.going())
            return
        if folder.last_checkpoint() != sent:
            yield _Going(folder.going())
            sent = folder.last_checkpoint()
    yield _Going(folder.done())
