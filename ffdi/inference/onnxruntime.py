"""ONNX Runtime on a CPU, with CUDA and with TensorRT. Its silent fallback to the CPU is an error here."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import onnxruntime

from ffdi.core import cuda, links
from ffdi.core.errors import DeviceError, get_first_line
from ffdi.inference.backend import NO_DEVICE, Load, OpenGraph, Run, Runtime, pad_batches

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
        library = _find_missing_library(wanted[0][0])
        raise DeviceError(
            f"--device {name}:{index}: ONNX Runtime fell back to {runs}; its libraries for {name} did not load"
            + (f": {library}" if library else ""),
            hint="pass --device auto or --device cpu",
        )
    why = f"ONNX Runtime, {name} device {index}"
    batch = load.choose_batch(DEVICE_BATCH)
    return OpenGraph(name, runs, why, batch, 1, pad_batches(_bind_buffers(session, index, batch), batch))


def _run_session(session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    with _explain_errors("the graph does not run"):
        (y_pred,) = session.run(None, {session.get_inputs()[0].name: images})
    return y_pred


def _bind_buffers(session: onnxruntime.InferenceSession, index: int, batch: int) -> Run:
    """Returns a function that runs a fixed batch through buffers on the device, without allocations."""
    given, wanted = session.get_inputs()[0], session.get_outputs()[0]
    create = onnxruntime.OrtValue.ortvalue_from_shape_and_type
    with _explain_errors(f"there is no memory on device {index} for a batch of {batch}"):
        images = create([batch, *given.shape[1:]], np.uint8, "cuda", index)
        y_pred = create([batch, *wanted.shape[1:]], np.float32, "cuda", index)
    binding, lock = session.io_binding(), Lock()
    binding.bind_ortvalue_input(given.name, images)
    binding.bind_ortvalue_output(wanted.name, y_pred)

    def run(filled: np.ndarray) -> np.ndarray:
        with lock, _explain_errors(f"the graph does not run on device {index}"):  # the buffers are shared
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
    """Returns why a device cannot run here; empty if it can. ONNX Runtime lists CUDA on machines without devices."""
    driver = cuda.query_driver()
    if driver is None:
        return NO_DEVICE
    if driver.fault:
        return f"the CUDA driver does not work: {driver.fault}"
    if provider not in onnxruntime.get_available_providers():
        return "this onnxruntime was built without it"
    built = str(getattr(onnxruntime, "cuda_version", None) or "")
    if built and int(built.partition(".")[0]) > driver.cuda[0]:
        return (
            f"onnxruntime {onnxruntime.__version__} needs a driver for CUDA {built}, and this one is for CUDA "
            f"{cuda.format_version(driver.cuda)}"
        )
    if index >= len(driver.gpus):
        return f"there is no device {index}, only {len(driver.gpus)}"
    onnxruntime.preload_dlls()
    return _find_missing_library(provider)


def _find_missing_library(provider: str) -> str:
    """Why the library of a provider cannot be loaded: ONNX Runtime only logs it; empty if it can be."""
    name = provider.removesuffix("ExecutionProvider").lower()
    library = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        if "cannot open shared object file" in str(error) and library.is_file():
            return str(error)
    return ""


def _open_session(model: Path, providers: Sequence[Provider], threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the caller reports errors
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    with _explain_errors("the graph cannot be opened"):
        return onnxruntime.InferenceSession(
            str(model),
            options,
            providers=providers,
            disabled_optimizers=["WeightBiasQuantization"],  # it quantises the fp32 layers of an int8 graph
            enable_fallback=0,  # after an error it would run on the CPU, with words on stdout
        )


@contextmanager
def _explain_errors(what: str) -> Iterator[None]:
    """Turns errors of ONNX Runtime into a DeviceError, so that another runtime can be tried."""
    try:
        yield
    except Exception as error:  # the base class of ONNX Runtime's errors
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        raise DeviceError(
            f"{what}: {get_first_line(error)}", hint="pass --device cpu, or --device auto for another runtime"
        ) from None


def _build_runtime(name: str, provider: str, providers: Options, *, exact: bool, offered: bool) -> Runtime:
    return Runtime(exact, offered, True, partial(_explain_missing, provider), partial(open_on_device, providers, name))


RUNTIMES = {
    "cuda": _build_runtime("cuda", CUDA, partial(_list_cuda_providers, False), exact=True, offered=True),
    "cuda-tf32": _build_runtime("cuda-tf32", CUDA, partial(_list_cuda_providers, True), exact=False, offered=True),
    "tensorrt": _build_runtime("tensorrt", TENSORRT, _list_tensorrt_providers, exact=False, offered=False),
    "cpu": Runtime(True, True, False, lambda _index: "", partial(open_on_cpu, "cpu")),
}


def describe_library() -> str:
    """Returns the version of ONNX Runtime, its CUDA and its providers."""
    built = getattr(onnxruntime, "cuda_version", None)
    providers = ", ".join(onnxruntime.get_available_providers())
    return f"{onnxruntime.__version__}, {f'for CUDA {built}' if built else 'for CPUs'}, with {providers}"


def choose_extra(torch: str) -> str:
    """Returns the extra of ffdi with the ONNX Runtime that uses the libraries of a build of torch.

    Args:
        torch: its version, such as '2.10.0+cu128'.
    """
    build = re.search(r"\+cu(\d+)\d$", torch)
    return f"cuda{build[1]}" if build else "cpu"
