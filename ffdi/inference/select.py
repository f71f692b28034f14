"""Chooses the runtime of a graph: the requested one, or the fastest one that gives the golden scores here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffdi.core.errors import ConfigError, DeviceError, FFDIError, ParityError
from ffdi.experiments.export import ExportFolder
from ffdi.inference import backend, bundle, onnxruntime, openvino
from ffdi.inference.backend import NO_DEVICE, Load, OpenGraph, Runtime, Setup
from ffdi.inference.bundle import Golden

RUNTIMES: dict[str, Runtime] = {**onnxruntime.RUNTIMES, **openvino.RUNTIMES}
"""Runtimes by their name in --device."""
PLAIN = "cpu"
"""The runtime that every machine has."""
RACE_BATCHES = 5
"""Warm batches that measure an option of a runtime."""


@dataclass(frozen=True, eq=False)
class GoldenProof:
    """The golden scores that a runtime has to reproduce before it scores other images.

    Attributes:
        golden: images with their scores.
        limits: largest difference from these scores by runtime; None for a runtime that the export has refused.
        setup: how the graph is opened.
    """

    golden: Golden
    limits: Mapping[str, float | None]
    setup: Setup = backend.DEFAULT

    def get_limit(self, name: str) -> float | None:
        """Returns the limit of a runtime; an exact runtime without a record has the limit of the plain one."""
        return self.limits.get(name, self.limits[PLAIN] if RUNTIMES[name].exact else None)


class Device(NamedTuple):
    """A value of --device.

    Attributes:
        runtime: a key of RUNTIMES.
        options: of the runtime, such as ("nhwc", "graph"); empty: the fastest ones.
        number: the number of the device.
    """

    runtime: str
    options: tuple[str, ...]
    number: int


class Verdict(NamedTuple):
    """The check of a runtime: its provider and largest difference, or `fault`, why it cannot be used here."""

    runtime: str
    provider: str
    difference: float
    fault: str


def make_proof(
    export: ExportFolder, described: Mapping[str, Any], engines: Path | None, count: int = bundle.GOLDEN_IMAGES
) -> GoldenProof:
    """Builds the proof from the first `count` golden images of an export; `engines` is as in `Setup`."""
    limits = {name: record["limit"] for name, record in described["runtimes"].items()}
    precision = str(described.get("precision", "fp32")).partition("+")[0]  # of 'int8+fp32'
    golden = bundle.read_golden(export.golden_path, bundle.read_resize_policy(described), count)
    return GoldenProof(golden, limits, Setup(precision, engines=engines))


def open_graph(model: Path, device: str, load: Load, proof: GoldenProof) -> OpenGraph:
    """Opens a graph on the requested device, and checks the golden scores.

    Args:
        model: an ONNX file.
        device: a key of RUNTIMES, with '+graph' for an option and ':1' for one of several devices, or 'auto' for the
            fastest. Without options, those that are fastest here are used.
        load: the expected use.
        proof: the golden scores.

    Raises:
        DeviceError: the runtime or the graph does not run here; there is no silent fallback.
        ParityError: the runtime gives other scores.
        ConfigError: the runtime is unknown.
    """
    if device == "auto":
        return _open_fastest(model, load, proof)
    requested = parse_device(device)
    if fault := _explain_refusal(requested, proof):
        raise DeviceError(f"--device {device}: {fault}", hint="pass --device auto or --device cpu")
    return _open_device(model, requested, load, proof)


def choose_device(device: str, started: str | None) -> str:
    """Returns the device of the unfinished run for 'auto', and for the same runtime without options.

    Another runtime would start from the beginning.

    Args:
        device: the value of --device.
        started: `OpenGraph.device` of the unfinished run.
    """
    with suppress(ConfigError):  # it is of another version
        before = parse_device(started or "")
        if device == "auto":
            return device if RUNTIMES[before.runtime].missing(0) else str(started)
        if parse_device(device)[:2] == (before.runtime, ()):
            return str(started) + device.removeprefix(before.runtime)
    return device


def measure_runtimes(model: Path, device: str, threads: int, proof: GoldenProof) -> Iterator[Verdict]:
    """Checks the golden scores of every runtime, or of the requested one: image by image, and in parallel batches."""
    for one in [parse_device(device)] if device != "auto" else [Device(name, (), 0) for name in RUNTIMES]:
        fault = _explain_refusal(one, proof)
        if fault:
            yield Verdict(one.runtime, "", 0, fault)
            continue
        try:
            graphs = [_open_checked(model, one, load, proof) for load in (Load(1, 1, threads), Load(999, threads, 1))]
            yield Verdict(one.runtime, graphs[0][0].provider, max(difference for _, difference in graphs), "")
        except FFDIError as error:
            yield Verdict(one.runtime, "", 0, str(error))


def parse_device(device: str) -> Device:
    """Parses a device such as 'cpu' or 'tensorrt:1', with options such as '+nhwc+graph' before the number.

    Raises:
        ConfigError: the runtime or an option is unknown, or its devices have no numbers.
    """
    before, colon, number = device.partition(":")
    name, *options = before.split("+")
    if name in RUNTIMES and (not colon or (RUNTIMES[name].numbered and number.isdecimal())):
        known = {backend.NO_OPTIONS, *(option for some in RUNTIMES[name].options.values() for option in some)}
        if (RUNTIMES[name].options and known >= set(options)) or not options:
            return Device(name, tuple(options), int(number or 0))
    known_devices = ", ".join(["auto", *(f"{one}:N" if runtime.numbered else one for one, runtime in RUNTIMES.items())])
    raise ConfigError(f"unknown device '{device}': known: {known_devices}", hint="pass --device auto")


def explain_precision(name: str, precision: str) -> str:
    """Returns why a runtime is not used for graphs of a precision; empty if it is."""
    return RUNTIMES[name].refused.get(precision, "")


def _explain_refusal(device: Device, proof: GoldenProof) -> str:
    """Returns why a runtime cannot be used here; empty if it can be tried."""
    runtime, precision = RUNTIMES[device.runtime], proof.setup.precision
    if reason := runtime.missing(device.number):
        return f"it does not run here: {reason}"
    if reason := explain_precision(device.runtime, precision):
        return reason
    if unfit := [one for one in device.options if one not in (backend.NO_OPTIONS, *runtime.options.get(precision, ()))]:
        return f"{unfit[0]} is no option for a graph of {precision}"
    if proof.get_limit(device.runtime) is None:
        return "the export has not checked this graph on it; export again on a machine where it runs"
    return ""


def _open_checked(model: Path, device: Device, load: Load, proof: GoldenProof) -> tuple[OpenGraph, float]:
    """Opens a graph; returns it with its largest difference from the golden scores.

    Raises:
        DeviceError, ParityError: as for `open_graph`.
    """
    setup = replace(proof.setup, options=device.options)
    graph = RUNTIMES[device.runtime].open(model, device.number, load, setup)
    return graph, _check_golden(graph, proof)


def _check_golden(graph: OpenGraph, proof: GoldenProof) -> float:
    limit = proof.get_limit(graph.runtime)
    assert limit is not None
    return proof.golden.check_scores(graph.score, limit, graph.runtime)


def _open_device(model: Path, device: Device, load: Load, proof: GoldenProof) -> OpenGraph:
    """Opens a graph with the requested options, else with those that are fastest here."""
    graph, _ = _open_checked(model, device, load, proof)
    return graph if device.options else _tune(model, device, graph, load, proof)


def _tune(model: Path, device: Device, best: OpenGraph, load: Load, proof: GoldenProof) -> OpenGraph:
    """Opens a graph again with the options that are fastest here.

    Each option of the runtime is added to those that were kept before it. It is kept if the golden scores are right and
    the graph is faster. The graph's `why` has all rates.

    Args:
        model: the graph.
        device: without options.
        best: the graph that was opened without options.
        load: the expected use.
        proof: the golden scores.

    Raises:
        DeviceError, ParityError: the device does not work any more after the error of an option.
    """
    options = RUNTIMES[device.runtime].options.get(proof.setup.precision, ())
    if not options:
        return best
    rate = measure_rate(best, proof.golden.images, RACE_BATCHES)
    results = [f"{backend.NO_OPTIONS} {rate:.0f} images/s"]
    for option in options:
        added = (*(one for one in best.options if one != backend.NO_OPTIONS), option)
        try:
            graph, _ = _open_checked(model, device._replace(options=added), load, proof)
            found = measure_rate(graph, proof.golden.images, RACE_BATCHES)
        except (DeviceError, ParityError) as error:
            results.append(f"{option} refused: {error.what}")
            _check_golden(best, proof)  # an error can break the device for the whole process
            continue
        results.append(f"{'+'.join(added)} {found:.0f} images/s")
        if found > rate:
            best, rate = graph, found
    return replace(best, why=f"{best.why}, {'+'.join(best.options)} ({', '.join(results)})")


def _open_fastest(model: Path, load: Load, proof: GoldenProof) -> OpenGraph:
    """Opens the fastest runtime that runs here and gives the golden scores, with its fastest options.

    Some runtimes have to be requested. Only the fastest one tries its options.
    """
    offered = {name: one for name, one in RUNTIMES.items() if one.offered}
    names = [name for name in offered if not _explain_refusal(Device(name, (), 0), proof)]
    results = _list_unused(offered, proof)
    while (graph := _find_fastest(names, model, load, proof, results)) is not None:
        try:
            graph = _tune(model, Device(graph.runtime, (), 0), graph, load, proof)
        except (DeviceError, ParityError) as error:
            results.append(f"{graph.runtime} refused: {error.what}")
            names.remove(graph.runtime)
            continue
        return replace(graph, why=f"{graph.why}; {', '.join(results)}") if results else graph
    raise DeviceError(
        "no runtime of this machine gives this export's scores", problems=results, hint="export again on this machine"
    )


def _find_fastest(
    names: list[str], model: Path, load: Load, proof: GoldenProof, results: list[str]
) -> OpenGraph | None:
    """Returns the graph on the fastest runtime, without options; None if none of them gives the golden scores.

    Args:
        names: the runtimes; those that cannot be used are removed.
        model: the graph.
        load: the expected use.
        proof: the golden scores.
        results: gets a rate or a reason for each runtime, but none for a single runtime that can be used.
    """
    best: tuple[float, OpenGraph] | None = None
    several = len(names) > 1
    for name in list(names):
        try:
            graph, _ = _open_checked(model, Device(name, (), 0), load, proof)
            rate = measure_rate(graph, proof.golden.images) if several else 0.0
        except (DeviceError, ParityError) as error:
            results.append(f"{name} refused: {error.what}")
            names.remove(name)
            continue
        if several:
            results.append(f"{name} {rate:.0f} images/s")
        if best is None or rate > best[0]:
            best = rate, graph
    return best[1] if best else None


def _list_unused(offered: Mapping[str, Runtime], proof: GoldenProof) -> list[str]:
    """Lists the reasons why devices of this machine are not used, each with its runtimes."""
    reasons: dict[str, list[str]] = {}
    for name, runtime in offered.items():
        if runtime.numbered and (missing := runtime.missing(0)) != NO_DEVICE:
            reasons.setdefault(missing or explain_precision(name, proof.setup.precision), []).append(name)
    return [f"{', '.join(names)} not used: {reason}" for reason, names in reasons.items() if reason]


def measure_rate(graph: OpenGraph, images: np.ndarray, batches: int = 1) -> float:
    """Measures images per second of all streams, by batches on one stream; the graph is warm.

    Args:
        graph: the graph.
        images: uint8 [N, S, S, 3], repeated in larger batches.
        batches: to be timed.
    """
    batch = images[np.resize(np.arange(len(images)), graph.batch)]
    start = time.perf_counter()
    for _ in range(batches):
        graph.run(batch)
    return batches * graph.batch * graph.streams / (time.perf_counter() - start)
