"""OpenVINO on a CPU, in fp32 or in bf16."""

from __future__ import annotations

from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from ffdi.core.errors import DeviceError
from ffdi.inference.backend import Load, OpenGraph, Run, Runtime, padded

BATCH = 4
"""Images at a time for each stream."""


@cache
def _core() -> Any:
    import openvino

    return openvino.Core()


def _missing(precision: str, _index: int) -> str:
    if find_spec("openvino") is None:
        return "openvino is not installed: pip install -e '.[openvino]'"
    capability = {"f32": "FP32", "bf16": "BF16"}[precision]
    able = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "" if capability in able else f"this CPU does not multiply in {precision}"


def _open(name: str, precision: str, model: Path, _index: int, load: Load) -> OpenGraph:
    """A graph with a fixed batch, compiled for as many streams as there are calls side by side.

    Raises:
        DeviceError: the file is no graph, or OpenVINO multiplies in something else than it was told.
    """
    batch = load.batch(BATCH)
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "NUM_STREAMS": load.streams,
        "INFERENCE_NUM_THREADS": load.streams * load.threads,
        "ENABLE_CPU_PINNING": False,  # the threads that decode share the cores
    }
    try:
        graph = _core().read_model(str(model))
        _fix_batch(graph, batch)
        compiled = _core().compile_model(graph, "CPU", options)
    except RuntimeError as error:
        raise DeviceError(f"the graph cannot be opened: {str(error).splitlines()[-1]}") from None
    real = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if real != precision:
        raise DeviceError(f"--device {name}: OpenVINO multiplies in {real} here", hint="pass --device auto")
    why = f"OpenVINO on the CPU in {precision}, {load.streams} x {load.threads} threads"
    return OpenGraph(name, f"OpenVINO CPU {real}", why, batch, load.streams, padded(_requests(compiled, load), batch))


def _fix_batch(graph: Any, batch: int) -> None:
    shape = graph.input().get_partial_shape()
    shape[0] = batch
    graph.reshape(shape)


def _requests(compiled: Any, load: Load) -> Run:
    """Lends each caller one of the compiled graph's requests."""
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


def _runtime(name: str, precision: str, *, exact: bool) -> Runtime:
    return Runtime(exact, True, False, partial(_missing, precision), partial(_open, name, precision))


RUNTIMES = {
    "openvino": _runtime("openvino", "f32", exact=True),
    "openvino-bf16": _runtime("openvino-bf16", "bf16", exact=False),
}
