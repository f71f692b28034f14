"""Scores a table's images on the machines of a Ray cluster.

Each machine has servers: Ray actors that open the graph, verify it with the golden images, and score ranges of rows.
The graph and its golden images are sent to the machines; the images to score have the same path on each machine.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ffdi import __version__
from ffdi.core.errors import DataError, DeviceError, FFDIError, format_count, get_first_line
from ffdi.engines import cluster
from ffdi.engines.cluster import Machine
from ffdi.inference import predict, select
from ffdi.inference.backend import Load
from ffdi.inference.predict import Part, Score, Scorer, Task

POLL_SECONDS = 0.5
"""Between two tests for lost servers, while no server has a result."""
RANGES_PER_SERVER = 2
"""One range is scored while the scores of the other are sent back."""
PENDING_PER_SERVER = 4
"""Ranges for each server whose scores are not yielded yet; limits the memory of this process."""


@dataclass(frozen=True)
class _Slot:
    """The part of a machine that one server uses: a GPU and its share of the CPUs, or all CPUs."""

    machine: Machine
    cpus: int
    gpus: int


class _OpenedGraph(NamedTuple):
    """The device that a server chose for the graph, as `OpenGraph.device`."""

    device: str
    provider: str
    why: str


@dataclass(eq=False)
class _Server:
    """A server, as this process sees it.

    Attributes:
        name: the host name of its machine.
        actor: Ray's handle.
        pending: the ranges that it has to score, by Ray's reference to their scores.
    """

    name: str
    actor: Any
    pending: dict[Any, range] = field(default_factory=dict)

    def receive_opened(self, reference: Any) -> _OpenedGraph | None:
        """Waits until the graph is open; returns None if the server was lost.

        Raises:
            FFDIError: the server cannot open the graph.
        """
        try:
            opened: _OpenedGraph | FFDIError = self._get(reference)
        except RayError:
            return None
        if isinstance(opened, FFDIError):
            raise type(opened)(f"{self.name}: {opened.what}", problems=opened.problems, hint=opened.hint)
        return opened

    def receive_scores(self) -> dict[range, Part]:
        """Returns the new scores without waiting.

        Raises:
            RayError: the server was lost.
        """
        count = len(self.pending)
        ready, _ = ray.wait(list(self.pending), num_returns=count, timeout=0) if count else ([], [])
        parts = {reference: self._get(reference) for reference in ready}  # an error here must leave `pending` unchanged
        return {self.pending.pop(reference): part for reference, part in parts.items()}

    def _get(self, reference: Any) -> Any:
        try:
            return ray.get(reference)
        except RayTaskError as error:  # an error of the code, which would be raised on each machine
            raise RuntimeError(f"scoring has failed on {self.name}:\n{error}") from None


def open_scorer(task: Task, requested: str) -> Scorer:
    """Opens a graph on all machines of the cluster, with the same runtime.

    Args:
        task: the graph and the images.
        requested: a device as in `select.open_graph`; 'auto' uses the machines with GPUs if there are any, and the
            fastest runtime of the first machine.

    Raises:
        DeviceError: no machine has such a device, or all machines were lost.
        ParityError, ConfigError: of `select.open_graph`, with the name of the machine.
        DataError: a machine has no such folder of images.
    """
    slots = _place_servers(requested)
    proof = replace(task.proof, setup=replace(task.proof.setup, engines=None))  # a folder of this machine
    detached = replace(task, model=Path(), proof=proof, table=cluster.detach_table(task.table))
    shared = ray.put(task.model.read_bytes()), ray.put(detached), __version__
    servers = deque(_start_server(slot, shared, len(task.table) // len(slots)) for slot in slots)
    name = requested.partition(":")[0]
    opened = None
    while servers and (opened := servers[0].receive_opened(servers[0].actor.open.remote(name))) is None:
        servers.popleft()
    if opened is None:
        raise DeviceError(
            "all machines were lost while they opened the graph", hint="add machines, or machines with more memory"
        )
    others = [(server, server.actor.open.remote(opened.device)) for server in list(servers)[1:]]
    ready = [servers[0], *(server for server, reference in others if server.receive_opened(reference) is not None)]
    each = f"each of {format_count(len(ready), 'server')}: " if len(ready) > 1 else ""
    return Scorer(opened.device, opened.provider, f"{each}{opened.why}", lambda ranges: _score_ranges(ready, ranges))


def _place_servers(requested: str) -> list[_Slot]:
    """One server for each GPU, or for each machine.

    Raises:
        DeviceError: no machine has the device.
    """
    machines = cluster.list_machines()
    numbered = requested != "auto" and select.RUNTIMES[select.parse_device(requested).runtime].numbered
    if numbered or (requested == "auto" and cluster.detect_device_kind() == "gpu"):
        with_gpus = [machine for machine in machines if machine.gpus]
        slots = [_Slot(machine, machine.cpus // machine.gpus, 1) for machine in with_gpus for _ in range(machine.gpus)]
    else:
        slots = [_Slot(machine, machine.cpus, 0) for machine in machines if machine.cpus]
    if not slots:
        raise DeviceError(
            f"--device {requested}: the cluster has no such device: {cluster.describe_machines()}",
            hint="pass --device cpu, or add machines",
        )
    return slots


def _start_server(slot: _Slot, shared: Sequence[Any], images: int) -> _Server:
    """Starts a server, which does not open the graph yet; `images` is the number that it will score."""
    place = NodeAffinitySchedulingStrategy(slot.machine.node, soft=False)
    options = {"num_cpus": slot.cpus, "num_gpus": slot.gpus, "scheduling_strategy": place}
    actor = _ScoringActor.options(**options)  # type: ignore[attr-defined]  # decorated
    return _Server(slot.machine.name, actor.remote(*shared, Load.plan(images, max(1, slot.cpus))))


def _score_ranges(servers: list[_Server], ranges: Iterable[range]) -> Iterator[Part]:
    """Scores ranges of rows and yields them in order; the ranges of a lost server are scored by the others.

    Raises:
        DeviceError: all servers were lost.
    """
    coming, lost = iter(ranges), deque[range]()
    waiting: deque[range] = deque()  # the ranges to yield, in order
    scored: dict[range, Part] = {}
    reason = ""
    while True:
        for server in servers:
            while (
                len(server.pending) < RANGES_PER_SERVER
                and (rows := _take_next(lost, coming, waiting, PENDING_PER_SERVER * len(servers))) is not None
            ):
                server.pending[server.actor.score.remote(rows)] = rows
        if not waiting:
            return
        for server in list(servers):
            try:
                scored |= server.receive_scores()
            except RayError as error:
                servers.remove(server)
                lost.extend(server.pending.values())
                reason = f"{type(error).__name__}: {get_first_line(error)}"
        if not servers:
            raise DeviceError(
                f"all machines that scored were lost; the last one: {reason}",
                hint="run the same command again: it continues with the images that are not scored yet",
            )
        while waiting and waiting[0] in scored:
            yield scored.pop(waiting.popleft())
        if pending := [reference for server in servers for reference in server.pending]:
            ray.wait(pending, timeout=POLL_SECONDS)


def _take_next(lost: deque[range], coming: Iterator[range], waiting: deque[range], limit: int) -> range | None:
    """The next rows to score; None if there are none, or if `limit` ranges are waiting."""
    if lost:
        return lost.popleft()
    rows = next(coming, None) if len(waiting) < limit else None
    if rows is not None:
        waiting.append(rows)
    return rows


@ray.remote
class _ScoringActor:
    """A server, in a process on its machine."""

    def __init__(self, model: bytes, task: Task, version: str, load: Load) -> None:
        self._model, self._task, self._version, self._load = model, task, version, load
        self._score: Score | None = None

    def open(self, requested: str) -> _OpenedGraph | FFDIError:
        """Opens the graph; returns the error if that is impossible."""
        folder = self._task.table.folder
        try:
            cluster.check_version(self._version)
            if not folder.is_dir():
                raise DataError(
                    f"{folder} does not exist", hint="put the images at the same path on all machines of the cluster"
                )
            with tempfile.TemporaryDirectory(prefix="ffdi-graph-") as place:
                path = Path(place) / "model.onnx"
                path.write_bytes(self._model)
                scorer = predict.open_scorer(replace(self._task, model=path), requested, self._load)
        except FFDIError as error:
            return error
        self._model, self._score = b"", scorer.score
        return _OpenedGraph(scorer.device, scorer.provider, scorer.why)

    def score(self, rows: range) -> Part:
        assert self._score is not None
        parts = list(self._score([rows]))
        faults = [fault for part in parts for fault in part.faults]
        nan_faults = [fault for part in parts for fault in part.nan_faults]
        return Part(rows, np.concatenate([part.y_pred for part in parts]), faults, nan_faults)
