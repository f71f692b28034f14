"""Which engine really runs a graph. ONNX Runtime falls back to the CPU without a word; here it does not."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from ffdi.errors import ConfigError, DeviceError

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@dataclass(frozen=True)
class Runtime:
    """An open graph.

    Attributes:
        provider: the execution provider that was asked for first and really runs.
        why: one line for the person who started it.
    """

    session: onnxruntime.InferenceSession
    provider: str
    why: str

    def run(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, S, S, 3] RGB -> y_pred float32 [N]."""
        (y_pred,) = self.session.run(None, {self.session.get_inputs()[0].name: images})
        return y_pred


def open_graph(model: Path | bytes, asked: str = "cpu") -> Runtime:
    """Opens a graph on the device that was asked for.

    Args:
        model: a path or the bytes of an ONNX file.
        asked: 'auto' takes CUDA where it really runs, else the CPU; 'cpu'; 'cuda' or 'cuda:N'.

    Raises:
        DeviceError: CUDA was asked for and does not run, or the graph cannot be opened.
        ConfigError: no device has such a name.
    """
    index = _cuda_index(asked)
    if index is None:
        return Runtime(_session(model, [CPU]), CPU, "the CPU, as asked")
    if CUDA not in onnxruntime.get_available_providers():
        return _without_cuda(model, asked, "this onnxruntime was built without it")
    if (count := _cuda_devices()) <= index:
        there = "there is no device" if count == 0 else f"there is no device {index}, only {count}"
        return _without_cuda(model, asked, there)
    onnxruntime.preload_dlls()  # finds the CUDA libraries that came with the packages
    session = _session(model, [(CUDA, {"device_id": index, "use_tf32": 0}), CPU])
    if session.get_providers()[0] == CUDA:
        return Runtime(session, CUDA, f"CUDA device {index}")
    return _without_cuda(model, asked, "ONNX Runtime fell back to the CPU; its CUDA libraries did not load")


def _cuda_devices() -> int:
    """How many devices the driver itself reports; ONNX Runtime lists CUDA on machines that have none."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    works = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if works else 0


def _cuda_index(asked: str) -> int | None:
    if asked == "cpu":
        return None
    kind, _, index = asked.partition(":")
    if asked in ("auto", "cuda"):
        return 0
    if kind == "cuda" and index.isdecimal():
        return int(index)
    raise ConfigError(f"unknown device '{asked}': known: auto, cpu, cuda, cuda:N", hint="pass --device auto")


def _without_cuda(model: Path | bytes, asked: str, reason: str) -> Runtime:
    if asked == "auto":
        return Runtime(_session(model, [CPU]), CPU, f"the CPU; no CUDA: {reason}")
    raise DeviceError(f"--device {asked}: CUDA does not run here: {reason}", hint="pass --device auto or --device cpu")


def _session(model: Path | bytes, providers: list[object]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is said by the caller, in its own words
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=providers)
    except Exception as error:  # ONNX Runtime's own classes derive from Exception and from nothing else
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        raise DeviceError(f"the graph cannot be opened: {str(error).splitlines()[0]}") from None
