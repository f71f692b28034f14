"""Which runtime a graph is served by: the one that was asked for, or the fastest that gives the right scores here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffdi.core.errors import ConfigError, DeviceError, FFDIError, ParityError
from ffdi.experiments.export import ExportFolder
from ffdi.inference import bundle, onnxruntime, openvino
from ffdi.inference.backend import Load, OpenGraph, Runtime
from ffdi.inference.bundle import Golden

RUNTIMES: dict[str, Runtime] = {**onnxruntime.RUNTIMES, **openvino.RUNTIMES}
"""By the name that --device knows them by."""
PLAIN = "cpu"
"""The runtime that is everywhere."""


@dataclass(frozen=True, eq=False)
class Proof:
    """What a runtime has to show before it may serve a graph.

    Attributes:
        golden: images with their scores.
        limits: by runtime, the largest difference from them; None where the export has refused it.
    """

    golden: Golden
    limits: Mapping[str, float | None]

    def limit(self, name: str) -> float | None:
        """A runtime's largest difference; one that is exact and was not there at the export has the plain one's."""
        return self.limits.get(name, self.limits[PLAIN] if RUNTIMES[name].exact else None)


class Verdict(NamedTuple):
    """What a runtime has shown: what really ran and its largest difference, or `fault`, why it may not serve here."""

    runtime: str
    provider: str
    difference: float
    fault: str


def make_proof(export: ExportFolder, described: Mapping[str, Any], count: int = bundle.COUNT) -> Proof:
    """What an export asks of a runtime, with so many of its golden images."""
    limits = {name: record["limit"] for name, record in described["runtimes"].items()}
    return Proof(bundle.read_golden(export.golden_path, bundle.framing(described), count), limits)


def open_graph(model: Path, asked: str, load: Load, proof: Proof) -> OpenGraph:
    """Opens a graph on the device that was asked for, once that gives the golden scores.

    Args:
        model: an ONNX file.
        asked: a key of RUNTIMES, with ':1' for one of several devices, or 'auto' for the fastest.
        load: how it will be asked.
        proof: what has to be shown.

    Raises:
        DeviceError: the runtime does not run here, or not this graph; a fall-back is never silent.
        ParityError: it gives other scores.
        ConfigError: no runtime has such a name.
    """
    if asked == "auto":
        return _fastest(model, load, proof)
    name, index = list_devices(asked)
    if fault := _unserved(name, index, proof):
        raise DeviceError(f"--device {asked}: {fault}", hint="pass --device auto or --device cpu")
    graph = RUNTIMES[name].open(model, index, load)
    _check(graph, proof)
    return graph


def reopen_graph(asked: str, begun: str | None) -> str:
    """What to ask for where a run was begun: the same runtime, else 'auto' could choose another and begin anew."""
    goes_on = asked == "auto" and begun in RUNTIMES and not RUNTIMES[str(begun)].missing(0)
    return str(begun) if goes_on else asked


def examine_graph(model: Path, asked: str, threads: int, proof: Proof) -> Iterator[Verdict]:
    """Asks every runtime, or the one that is named, for all golden scores: one by one, and all at once."""
    for name, index in [list_devices(asked)] if asked != "auto" else [(name, 0) for name in RUNTIMES]:
        fault = _unserved(name, index, proof)
        if fault:
            yield Verdict(name, "", 0, fault)
            continue
        try:
            graphs = [RUNTIMES[name].open(model, index, load) for load in (Load(1, 1, threads), Load(999, threads, 1))]
            yield Verdict(name, graphs[0].provider, max(_check(graph, proof) for graph in graphs), "")
        except FFDIError as error:
            yield Verdict(name, "", 0, str(error))


def list_devices(asked: str) -> tuple[str, int]:
    """A runtime and a device's number, from 'cpu' or 'tensorrt:1'.

    Raises:
        ConfigError: there is no such runtime, or it has no numbers.
    """
    name, colon, number = asked.partition(":")
    if name in RUNTIMES and (not colon or (RUNTIMES[name].numbered and number.isdecimal())):
        return name, int(number or 0)
    known = ", ".join(["auto", *(f"{one}:N" if runtime.numbered else one for one, runtime in RUNTIMES.items())])
    raise ConfigError(f"unknown device '{asked}': known: {known}", hint="pass --device auto")


def _unserved(name: str, index: int, proof: Proof) -> str:
    """Why a runtime may not serve here; empty where it may be tried."""
    if reason := RUNTIMES[name].missing(index):
        return f"it does not run here: {reason}"
    if proof.limit(name) is None:
        return "the export has not shown that this graph keeps its scores there; export again where it runs"
    return ""


def _check(graph: OpenGraph, proof: Proof) -> float:
    limit = proof.limit(graph.runtime)
    assert limit is not None
    return proof.golden.check(graph.score, limit, graph.runtime)


def _fastest(model: Path, load: Load, proof: Proof) -> OpenGraph:
    """Of the runtimes that are offered, run here and give the golden scores, the one that gives them soonest."""
    names = [name for name, one in RUNTIMES.items() if one.offered and not _unserved(name, 0, proof)]
    best: tuple[float, OpenGraph] | None = None
    said = []
    for name in names:
        try:
            graph = RUNTIMES[name].open(model, 0, load)
            _check(graph, proof)
        except (DeviceError, ParityError) as error:
            said.append(f"{name} refused: {error.what}")
            continue
        rate = _rate(graph, proof.golden) if len(names) > 1 else 0.0
        said.append(f"{name} {rate:.0f} images/s")
        if best is None or rate > best[0]:
            best = rate, graph
    if best is None:
        raise DeviceError(
            "no runtime of this machine gives this export's scores",
            problems=said,
            hint="export again on this machine",
        )
    return replace(best[1], why=f"{best[1].why}; {', '.join(said)}") if len(names) > 1 else best[1]


def _rate(graph: OpenGraph, golden: Golden) -> float:
    """Images a second of all streams, from one batch on one of them; the graph has run before."""
    batch = golden.images[np.resize(np.arange(len(golden.images)), graph.batch)]
    start = time.perf_counter()
    graph.run(batch)
    return graph.batch * graph.streams / (time.perf_counter() - start)
