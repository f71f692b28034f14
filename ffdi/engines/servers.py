"""Scores a table's images on the machines of a cluster: each one opens the graph, proves it, and is given rows.

The graph and its golden images travel to the machines, scores travel back; the images lie at the same place everywhere.
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
from ffdi.core.errors import DataError, DeviceError, FFDIError
from ffdi.engines import cluster, parcel
from ffdi.engines.cluster import Machine
from ffdi.inference import predict, select
from ffdi.inference.backend import Load
from ffdi.inference.predict import Part, Score, Scorer, Task

LOOK = 0.5
"""Seconds between two looks at the servers while none has anything to say."""
AHEAD = 2
"""Ranges that a server has been given: while one travels back it scores the other."""
KEPT = 4
"""Ranges for each server that may be under way or wait for an earlier one; they bound this process's memory."""


@dataclass(frozen=True)
class _Seat:
    """A part of a machine that a server has for itself: a GPU with its share of the CPUs, or all CPUs."""

    machine: Machine
    cpus: int
    gpus: int


class _Said(NamedTuple):
    """What a server says of the graph that it has opened."""

    runtime: str
    provider: str
    why: str


@dataclass(eq=False)
class _Server:
    """One that is given rows once it has opened the graph.

    Attributes:
        name: of its machine.
        actor: what Ray gives for it.
        given: the ranges that it was given, by what Ray gives for their scores.
    """

    name: str
    actor: Any
    given: dict[Any, range] = field(default_factory=dict)

    def said(self, answer: Any) -> _Said | None:
        """What it says; None where it was lost.

        Raises:
            FFDIError: it cannot open the graph.
        """
        try:
            found: _Said | FFDIError = self._got(answer)
        except RayError:
            return None
        if isinstance(found, FFDIError):
            raise type(found)(f"{self.name}: {found.what}", problems=found.problems, hint=found.hint)
        return found

    def scored(self) -> dict[range, Part]:
        """What it has scored since it was asked the last time.

        Raises:
            RayError: it was lost.
        """
        ready, _ = ray.wait(list(self.given), num_returns=len(self.given), timeout=0) if self.given else ([], [])
        parts = {answer: self._got(answer) for answer in ready}  # before any leaves `given`
        return {self.given.pop(answer): part for answer, part in parts.items()}

    def _got(self, answer: Any) -> Any:
        try:
            return ray.get(answer)
        except RayTaskError as error:  # a fault of ours, which would be one everywhere
            raise RuntimeError(f"scoring has failed on {self.name}:\n{error}") from None


def opened(task: Task, asked: str) -> Scorer:
    """Opens a graph on all machines of the cluster, by one runtime.

    Args:
        task: what is to be scored.
        asked: as for `serving.open_graph`; 'auto' takes the machines with GPUs, where there are any, and the runtime
            that is fastest on the first of them.

    Raises:
        DeviceError: no machine has such a device, or all were lost; or, with the machine's name, as there.
        ParityError, ConfigError: with the machine's name, as there.
        DataError: a machine has no such folder of images.
    """
    seats, said = _seats(asked), None
    bare = replace(task, model=Path(), table=parcel.detach(task.table))
    given = ray.put(task.model.read_bytes()), ray.put(bare), __version__
    servers = deque(_begun(seat, given, len(task.table) // len(seats)) for seat in seats)
    name = asked if asked == "auto" else select.list_devices(asked)[0]
    while servers and (said := servers[0].said(servers[0].actor.open.remote(name))) is None:
        servers.popleft()
    if said is None:
        raise DeviceError("every machine was lost while it opened the graph", hint="add machines, or larger ones")
    others = [(server, server.actor.open.remote(said.runtime)) for server in list(servers)[1:]]
    ready = [servers[0], *(server for server, answer in others if server.said(answer) is not None)]
    each = f"each of {len(ready)} servers: " if len(ready) > 1 else ""
    return Scorer(said.runtime, said.provider, f"{each}{said.why}", lambda ranges: _scores(ready, ranges))


def _seats(asked: str) -> list[_Seat]:
    """Where servers will be.

    Raises:
        DeviceError: nowhere.
    """
    there = cluster.list_machines()
    numbered = asked != "auto" and select.RUNTIMES[select.list_devices(asked)[0]].numbered
    if numbered or (asked == "auto" and cluster.kind() == "gpu"):
        seats = [_Seat(one, one.cpus // one.gpus, 1) for one in there if one.gpus for _ in range(one.gpus)]
    else:
        seats = [_Seat(one, one.cpus, 0) for one in there if one.cpus]
    if not seats:
        raise DeviceError(
            f"--device {asked}: Ray's {cluster.describe_machines()} have none",
            hint="pass --device cpu, or add machines",
        )
    return seats


def _begun(seat: _Seat, given: Sequence[Any], images: int) -> _Server:
    """A server that has not opened the graph yet."""
    place = NodeAffinitySchedulingStrategy(seat.machine.node, soft=False)
    options = {"num_cpus": seat.cpus, "num_gpus": seat.gpus, "scheduling_strategy": place}
    actor = _Actor.options(**options)  # type: ignore[attr-defined]  # decorated
    return _Server(seat.machine.name, actor.remote(*given, Load.of(images, max(1, seat.cpus))))


def _scores(servers: list[_Server], ranges: Iterable[range]) -> Iterator[Part]:
    """Scores ranges of rows, in their order; what was left to a server that is lost is given to others.

    Raises:
        DeviceError: there is no other.
    """
    coming, lost = iter(ranges), deque[range]()
    waiting: deque[range] = deque()  # for their scores, in order
    done: dict[range, Part] = {}
    why = ""
    while True:
        for server in servers:
            while len(server.given) < AHEAD and (rows := _next(lost, coming, waiting, KEPT * len(servers))) is not None:
                server.given[server.actor.score.remote(rows)] = rows
        if not waiting:
            return
        for server in list(servers):
            try:
                done |= server.scored()
            except RayError as error:
                servers.remove(server)
                lost.extend(server.given.values())
                why = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        if not servers:
            raise DeviceError(
                f"every machine that scored was lost; the last one: {why}",
                hint="the same command goes on from what is scored",
            )
        while waiting and waiting[0] in done:
            yield done.pop(waiting.popleft())
        if under_way := [answer for server in servers for answer in server.given]:
            ray.wait(under_way, timeout=LOOK)


def _next(lost: deque[range], coming: Iterator[range], waiting: deque[range], most: int) -> range | None:
    """The rows to score next; None where there are none, or too many are under way."""
    if lost:
        return lost.popleft()
    rows = next(coming, None) if len(waiting) < most else None
    if rows is not None:
        waiting.append(rows)
    return rows


@ray.remote
class _Actor:
    """A server, in a process on its machine."""

    def __init__(self, model: bytes, task: Task, version: str, load: Load) -> None:
        self._model, self._task, self._version, self._load = model, task, version, load
        self._score: Score | None = None

    def open(self, asked: str) -> _Said | FFDIError:
        """What really runs here, or why nothing does."""
        folder = self._task.table.folder
        try:
            cluster.check_version(self._version)
            if not folder.is_dir():
                raise DataError(f"there is no folder {folder}", hint="put the images at the same place on all machines")
            with tempfile.TemporaryDirectory(prefix="ffdi-graph-") as place:
                path = Path(place) / "model.onnx"
                path.write_bytes(self._model)
                found = predict.open_scorer(replace(self._task, model=path), asked, self._load)
        except FFDIError as error:
            return error
        self._model, self._score = b"", found.score
        return _Said(found.runtime, found.provider, found.why)

    def score(self, rows: range) -> Part:
        """All rows of a range."""
        assert self._score is not None
        parts = list(self._score([rows]))
        faults = [fault for part in parts for fault in part.faults]
        return Part(rows, np.concatenate([part.y_pred for part in parts]), faults)
