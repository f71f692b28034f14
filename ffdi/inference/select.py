"""Chooses the runtime of a graph: the requested one, or the fastest one that gives the golden scores here."""

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
from ffdi.inference.backend import NO_DEVICE, Load, OpenGraph, Runtime
from ffdi.inference.bundle import Golden

RUNTIMES: dict[str, Runtime] = {**onnxruntime.RUNTIMES, **openvino.RUNTIMES}
"""Runtimes by their name in --device."""
PLAIN = "cpu"
"""The runtime that every machine has."""


@dataclass(frozen=True, eq=False)
class GoldenProof:
    """The golden scores that a runtime has to reproduce before it scores other images.

    Attributes:
        golden: images with their scores.
        limits: largest difference from these scores by runtime; None for a runtime that the export has refused.
    """

    golden: Golden
    limits: Mapping[str, float | None]

    def get_limit(self, name: str) -> float | None:
        """Returns the limit of a runtime; an exact runtime without a record has the limit of the plain one."""
        return self.limits.get(name, self.limits[PLAIN] if RUNTIMES[name].exact else None)


class Verdict(NamedTuple):
    """The check of a runtime: its provider and largest difference, or `fault`, why it cannot be used here."""

    runtime: str
    provider: str
    difference: float
    fault: str


def make_proof(export: ExportFolder, described: Mapping[str, Any], count: int = bundle.GOLDEN_IMAGES) -> GoldenProof:
    """Builds the proof from the first `count` golden images of an export."""
    limits = {name: record["limit"] for name, record in described["runtimes"].items()}
    return GoldenProof(bundle.read_golden(export.golden_path, bundle.read_resize_policy(described), count), limits)


def open_graph(model: Path, device: str, load: Load, proof: GoldenProof) -> OpenGraph:
    """Opens a graph on the requested device, and checks the golden scores.

    Args:
        model: an ONNX file.
        device: a key of RUNTIMES, with ':1' for one of several devices, or 'auto' for the fastest.
        load: the expected use.
        proof: the golden scores.

    Raises:
        DeviceError: the runtime or the graph does not run here; there is no silent fallback.
        ParityError: the runtime gives other scores.
        ConfigError: the runtime is unknown.
    """
    if device == "auto":
        return _open_fastest(model, load, proof)
    name, index = parse_device(device)
    if fault := _explain_refusal(name, index, proof):
        raise DeviceError(f"--device {device}: {fault}", hint="pass --device auto or --device cpu")
    graph = RUNTIMES[name].open(model, index, load)
    _check_golden(graph, proof)
    return graph


def choose_device(device: str, started: str | None) -> str:
    """Replaces 'auto' by the runtime of the unfinished run: another runtime would start from the beginning."""
    resumes = device == "auto" and started in RUNTIMES and not RUNTIMES[str(started)].missing(0)
    return str(started) if resumes else device


def measure_runtimes(model: Path, device: str, threads: int, proof: GoldenProof) -> Iterator[Verdict]:
    """Checks the golden scores of every runtime, or of the requested one: image by image, and in parallel batches."""
    for name, index in [parse_device(device)] if device != "auto" else [(name, 0) for name in RUNTIMES]:
        fault = _explain_refusal(name, index, proof)
        if fault:
            yield Verdict(name, "", 0, fault)
            continue
        try:
            graphs = [RUNTIMES[name].open(model, index, load) for load in (Load(1, 1, threads), Load(999, threads, 1))]
            yield Verdict(name, graphs[0].provider, max(_check_golden(graph, proof) for graph in graphs), "")
        except FFDIError as error:
            yield Verdict(name, "", 0, str(error))


def parse_device(device: str) -> tuple[str, int]:
    """Parses a device such as 'cpu' or 'tensorrt:1' into the runtime and the number of the device.

    Raises:
        ConfigError: the runtime is unknown, or its devices have no numbers.
    """
    name, colon, number = device.partition(":")
    if name in RUNTIMES and (not colon or (RUNTIMES[name].numbered and number.isdecimal())):
        return name, int(number or 0)
    known = ", ".join(["auto", *(f"{one}:N" if runtime.numbered else one for one, runtime in RUNTIMES.items())])
    raise ConfigError(f"unknown device '{device}': known: {known}", hint="pass --device auto")


def _explain_refusal(name: str, index: int, proof: GoldenProof) -> str:
    """Returns why a runtime cannot be used here; empty if it can be tried."""
    if reason := RUNTIMES[name].missing(index):
        return f"it does not run here: {reason}"
    if proof.get_limit(name) is None:
        return "the export has not checked this graph on it; export again on a machine where it runs"
    return ""


def _check_golden(graph: OpenGraph, proof: GoldenProof) -> float:
    limit = proof.get_limit(graph.runtime)
    assert limit is not None
    return proof.golden.check_scores(graph.score, limit, graph.runtime)


def _open_fastest(model: Path, load: Load, proof: GoldenProof) -> OpenGraph:
    """Opens the fastest runtime that runs here and gives the golden scores; some runtimes have to be requested."""
    offered = {name: one for name, one in RUNTIMES.items() if one.offered}
    names = [name for name in offered if not _explain_refusal(name, 0, proof)]
    gpus = {name: one.missing(0) for name, one in offered.items() if one.numbered}
    best: tuple[float, OpenGraph] | None = None
    results = [f"{name} not used: {reason}" for name, reason in gpus.items() if reason not in ("", NO_DEVICE)]
    for name in names:
        try:
            graph = RUNTIMES[name].open(model, 0, load)
            _check_golden(graph, proof)
        except (DeviceError, ParityError) as error:
            results.append(f"{name} refused: {error.what}")
            continue
        rate = 0.0
        if len(names) > 1:
            rate = _measure_rate(graph, proof.golden)
            results.append(f"{name} {rate:.0f} images/s")
        if best is None or rate > best[0]:
            best = rate, graph
    if best is None:
        raise DeviceError(
            "no runtime of this machine gives this export's scores",
            problems=results,
            hint="export again on this machine",
        )
    return replace(best[1], why=f"{best[1].why}; {', '.join(results)}") if results else best[1]


def _measure_rate(graph: OpenGraph, golden: Golden) -> float:
    """Measures images per second of all streams, by one batch on one stream; the graph is warm."""
    batch = golden.images[np.resize(np.arange(len(golden.images)), graph.batch)]
    start = time.perf_counter()
    graph.run(batch)
    return graph.batch * graph.streams / (time.perf_counter() - start)
