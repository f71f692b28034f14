"""OpenVINO on a CPU, in fp32 or in bf16."""

from __future__ import annotations

from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from ffdi.core.errors import DeviceError, format_count
from ffdi.inference.backend import DEFAULT, Load, OpenGraph, Run, Runtime, Setup, pad_batches

BATCH = 4
"""Batch size of each stream."""


@cache
def get_core() -> Any:
    """OpenVINO, until the process ends: with networks that outlive it, the process crashes later (2026.4)."""
    import openvino

    return openvino.Core()


def _explain_missing(precision: str, _index: int) -> str:
    if find_spec("openvino") is None:
        return "openvino is not installed: pip install -e '.[openvino]'"
    capability = {"f32": "FP32", "bf16": "BF16"}[precision]
    able = get_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "" if capability in able else f"this CPU does not support {precision}"


def _open_graph(name: str, precision: str, model: Path, _index: int, load: Load, _setup: Setup = DEFAULT) -> OpenGraph:
    """Opens a graph with a fixed batch, and one stream for each parallel call.

    Raises:
        DeviceError: the file is not a graph, or OpenVINO uses another precision than the requested one.
    """
    batch = load.choose_batch(BATCH)
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "NUM_STREAMS": load.streams,
        "INFERENCE_NUM_THREADS": load.streams * load.threads,
        "ENABLE_CPU_PINNING": False,  # the decoding threads share the cores
    }
    try:
        graph = get_core().read_model(str(model))
        _fix_batch(graph, batch)
        compiled = get_core().compile_model(graph, "CPU", options)
    except RuntimeError as error:
        raise DeviceError(f"the graph cannot be opened: {str(error).splitlines()[-1]}") from None
    real = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if real != precision:
        raise DeviceError(f"--device {name}: OpenVINO computes in {real} here", hint="pass --device auto")
    why = f"OpenVINO on the CPU in {precision}, {load.streams} x {format_count(load.threads, 'thread')}"
    return OpenGraph(
        name, f"OpenVINO CPU {real}", why, batch, load.streams, pad_batches(_share_requests(compiled, load), batch)
    )


def _fix_batch(graph: Any, batch: int) -> None:
    shape = graph.input().get_partial_shape()
    shape[0] = batch
    graph.reshape(shape)


def _share_requests(compiled: Any, load: Load) -> Run:
    """Returns a function that takes a free request of the compiled graph for each call."""
    free: SimpleQueue[Any] = SimpleQueue()
    for _ in range(load.streams):
        free.put(compiled.create_infer_request())

    def run(images: np.ndarray) -> np.ndarray:
        request = free.get()
        try:
            return np.array(request.infer([images])[0])
        finally:
            free.put(request)

    return run


def _build_runtime(name: str, precision: str, *, exact: bool) -> Runtime:
    return Runtime(exact, True, False, partial(_explain_missing, precision), partial(_open_graph, name, precision))


RUNTIMES = {
    "openvino": _build_runtime("openvino", "f32", exact=True),
    "openvino-bf16": _build_runtime("openvino-bf16", "bf16", exact=False),
}
