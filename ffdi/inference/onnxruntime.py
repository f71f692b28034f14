"""ONNX Runtime on a CPU, under CUDA and with TensorRT. It falls back to the CPU without a word; here it does not."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import onnxruntime

from ffdi.core import links
from ffdi.core.errors import DeviceError
from ffdi.inference.backend import Load, OpenGraph, Run, Runtime, padded

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
CPU_BATCH = 4
"""Images at a time on a core: more are not faster, and the last of them keep one core waiting for the other."""
DEVICE_BATCH = 64
Provider = str | tuple[str, dict[str, Any]]
"""A provider, or one with its options."""
Options = Callable[[int, Path], list[Provider]]
"""A device's number and the graph's file -> providers with their options, the wanted one first."""


def on_cpu(name: str, model: Path, _index: int, load: Load) -> OpenGraph:
    """A graph on the CPU; each call runs in its caller's thread where it has one thread only."""
    session = _session(model, [CPU], load.threads)
    why = f"ONNX Runtime on the CPU, {load.streams} x {load.threads} threads"
    return OpenGraph(name, CPU, why, load.batch(CPU_BATCH), load.streams, partial(_run, session))


def on_device(providers: Options, name: str, model: Path, index: int, load: Load) -> OpenGraph:
    """A graph on a device, fed through buffers that stay there.

    Raises:
        DeviceError: the device's provider does not really run.
    """
    onnxruntime.preload_dlls()  # finds the libraries that came with the packages
    wanted = providers(index, model)
    session = _session(model, wanted, 1)
    runs = session.get_providers()[0]
    if runs != wanted[0][0]:
        raise DeviceError(
            f"--device {name}:{index}: ONNX Runtime fell back to {runs}; its libraries for {name} did not load",
            hint="pass --device auto or --device cpu",
        )
    why = f"ONNX Runtime, {name} device {index}"
    batch = load.batch(DEVICE_BATCH)
    return OpenGraph(name, runs, why, batch, 1, padded(_bound(session, index, batch), batch))


def _run(session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    (y_pred,) = session.run(None, {session.get_inputs()[0].name: images})
    return y_pred


def _bound(session: onnxruntime.InferenceSession, index: int, batch: int) -> Run:
    """Runs a fixed batch through buffers on the device, so that nothing is allocated and copied for each call."""
    given, wanted = session.get_inputs()[0], session.get_outputs()[0]
    create = onnxruntime.OrtValue.ortvalue_from_shape_and_type
    images = create([batch, *given.shape[1:]], np.uint8, "cuda", index)
    y_pred = create([batch, *wanted.shape[1:]], np.float32, "cuda", index)
    binding, lock = session.io_binding(), Lock()
    binding.bind_ortvalue_input(given.name, images)
    binding.bind_ortvalue_output(wanted.name, y_pred)

    def run(filled: np.ndarray) -> np.ndarray:
        with lock:  # there is one pair of buffers
            images.update_inplace(np.ascontiguousarray(filled))
            session.run_with_iobinding(binding)
            return y_pred.numpy()

    return run


def _cuda(tf32: bool, index: int, _model: Path) -> list[Provider]:
    return [(CUDA, {"device_id": index, "use_tf32": int(tf32)}), CPU]


def _tensorrt(index: int, model: Path) -> list[Provider]:
    cache = str(links.below(model.parent, ".tensorrt"))  # an engine takes minutes to build
    options: dict[str, Any] = {"device_id": index, "trt_engine_cache_enable": True, "trt_engine_cache_path": cache}
    return [(TENSORRT, {**options, "trt_timing_cache_enable": True}), *_cuda(True, index, model)]


def _missing(provider: str, index: int) -> str:
    """Why a device cannot run here; empty where it can."""
    if provider not in onnxruntime.get_available_providers():
        return "this onnxruntime was built without it"
    if (count := _devices()) <= index:
        return f"there is no device {index}, only {count}" if count else "there is no device"
    return ""


def _devices() -> int:
    """How many devices the driver itself reports; ONNX Runtime lists CUDA on machines that have none."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    works = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if works else 0


def _session(model: Path, providers: Sequence[Provider], threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is said by the caller, in its own words
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    try:
        return onnxruntime.InferenceSession(
            str(model), options, providers=providers, disabled_optimizers=["WeightBiasQuantization"]
        )  # that one takes to 8 bits what an int8 graph has left in fp32
    except Exception as error:  # ONNX Runtime's own classes derive from Exception and from nothing else
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        raise DeviceError(f"the graph cannot be opened: {str(error).splitlines()[0]}") from None


def _on_device(name: str, provider: str, providers: Options, *, exact: bool, offered: bool) -> Runtime:
    return Runtime(exact, offered, True, partial(_missing, provider), partial(on_device, providers, name))


RUNTIMES = {
    "cuda": _on_device("cuda", CUDA, partial(_cuda, False), exact=True, offered=True),
    "cuda-tf32": _on_device("cuda-tf32", CUDA, partial(_cuda, True), exact=False, offered=True),
    "tensorrt": _on_device("tensorrt", TENSORRT, _tensorrt, exact=False, offered=False),
    "cpu": Runtime(True, True, False, lambda _index: "", partial(on_cpu, "cpu")),
}
