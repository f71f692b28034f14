"""ONNX Runtime on a CPU, with CUDA and with TensorRT. Its silent fallback to the CPU is an error here."""

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
from ffdi.inference.backend import Load, OpenGraph, Run, Runtime, pad_batches

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
CPU_BATCH = 4
"""Batch size on a CPU: larger batches are not faster, and at the end one core waits for another."""
DEVICE_BATCH = 64
Provider = str | tuple[str, dict[str, Any]]
"""A provider, or a provider with options."""
Options = Callable[[int, Path], list[Provider]]
"""Number of a device and file of a graph -> providers with options, the requested one first."""


def open_on_cpu(name: str, model: Path, _index: int, load: Load) -> OpenGraph:
    """Opens a graph on the CPU; a call with one thread runs in the thread of its caller."""
    session = _open_session(model, [CPU], load.threads)
    why = f"ONNX Runtime on the CPU, {load.streams} x {load.threads} threads"
    return OpenGraph(name, CPU, why, load.choose_batch(CPU_BATCH), load.streams, partial(_run_session, session))


def open_on_device(providers: Options, name: str, model: Path, index: int, load: Load) -> OpenGraph:
    """Opens a graph on a device, with permanent buffers there.

    Raises:
        DeviceError: ONNX Runtime does not use the provider of the device.
    """
    onnxruntime.preload_dlls()  # finds the libraries of the installed packages
    wanted = providers(index, model)
    session = _open_session(model, wanted, 1)
    runs = session.get_providers()[0]
    if runs != wanted[0][0]:
        raise DeviceError(
            f"--device {name}:{index}: ONNX Runtime fell back to {runs}; its libraries for {name} did not load",
            hint="pass --device auto or --device cpu",
        )
    why = f"ONNX Runtime, {name} device {index}"
    batch = load.choose_batch(DEVICE_BATCH)
    return OpenGraph(name, runs, why, batch, 1, pad_batches(_bind_buffers(session, index, batch), batch))


def _run_session(session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    (y_pred,) = session.run(None, {session.get_inputs()[0].name: images})
    return y_pred


def _bind_buffers(session: onnxruntime.InferenceSession, index: int, batch: int) -> Run:
    """Returns a function that runs a fixed batch through buffers on the device, without allocations."""
    given, wanted = session.get_inputs()[0], session.get_outputs()[0]
    create = onnxruntime.OrtValue.ortvalue_from_shape_and_type
    images = create([batch, *given.shape[1:]], np.uint8, "cuda", index)
    y_pred = create([batch, *wanted.shape[1:]], np.float32, "cuda", index)
    binding, lock = session.io_binding(), Lock()
    binding.bind_ortvalue_input(given.name, images)
    binding.bind_ortvalue_output(wanted.name, y_pred)

    def run(filled: np.ndarray) -> np.ndarray:
        with lock:  # the buffers are shared
            images.update_inplace(np.ascontiguousarray(filled))
            session.run_with_iobinding(binding)
            return y_pred.numpy()

    return run


def _list_cuda_providers(tf32: bool, index: int, _model: Path) -> list[Provider]:
    return [(CUDA, {"device_id": index, "use_tf32": int(tf32)}), CPU]


def _list_tensorrt_providers(index: int, model: Path) -> list[Provider]:
    cache = str(links.join(model.parent, ".tensorrt"))  # an engine takes minutes to build
    options: dict[str, Any] = {"device_id": index, "trt_engine_cache_enable": True, "trt_engine_cache_path": cache}
    return [(TENSORRT, {**options, "trt_timing_cache_enable": True}), *_list_cuda_providers(True, index, model)]


def _explain_missing(provider: str, index: int) -> str:
    """Returns why a device cannot run here; empty if it can."""
    if provider not in onnxruntime.get_available_providers():
        return "this onnxruntime was built without it"
    if (count := _count_devices()) <= index:
        return f"there is no device {index}, only {count}" if count else "there is no device"
    return ""


def _count_devices() -> int:
    """Counts the devices of the driver; ONNX Runtime lists CUDA on machines without devices."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    works = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if works else 0


def _open_session(model: Path, providers: Sequence[Provider], threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the caller reports errors
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    try:
        return onnxruntime.InferenceSession(
            str(model), options, providers=providers, disabled_optimizers=["WeightBiasQuantization"]
        )  # it quantises the fp32 layers of an int8 graph
    except Exception as error:  # the base class of ONNX Runtime's errors
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        raise DeviceError(f"the graph cannot be opened: {str(error).splitlines()[0]}") from None


def _build_runtime(name: str, provider: str, providers: Options, *, exact: bool, offered: bool) -> Runtime:
    return Runtime(exact, offered, True, partial(_explain_missing, provider), partial(open_on_device, providers, name))


RUNTIMES = {
    "cuda": _build_runtime("cuda", CUDA, partial(_list_cuda_providers, False), exact=True, offered=True),
    "cuda-tf32": _build_runtime("cuda-tf32", CUDA, partial(_list_cuda_providers, True), exact=False, offered=True),
    "tensorrt": _build_runtime("tensorrt", TENSORRT, _list_tensorrt_providers, exact=False, offered=False),
    "cpu": Runtime(True, True, False, lambda _index: "", partial(open_on_cpu, "cpu")),
}
