"""The CUDA driver: its version and its devices.

torch and ONNX Runtime do not mention devices that they cannot use, such as those of a driver that is too old for them.
Functions: https://docs.nvidia.com/cuda/cuda-driver-api/
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import NamedTuple

from ffdi.core.errors import format_count

NO_DEVICE, STUB = 100, 34
"""Errors of cuInit that mean: there is no device."""
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""Attributes of a device."""

Version = tuple[int, int]


class Gpu(NamedTuple):
    """A device of the driver; `capability` is its compute capability, such as (9, 0)."""

    name: str
    capability: Version


@dataclass(frozen=True)
class Driver:
    """The CUDA driver of this machine.

    Attributes:
        cuda: the newest version of CUDA that it runs, such as (12, 4).
        gpus: the devices that this process may use, in CUDA's order.
        fault: why it does not work; empty if it does.
    """

    cuda: Version
    gpus: tuple[Gpu, ...] = ()
    fault: str = ""

    def describe_gpus(self) -> str:
        """Returns '2 GPUs (Tesla T4, Tesla T4)'."""
        return f"{format_count(len(self.gpus), 'GPU')} ({', '.join(gpu.name for gpu in self.gpus)})"


def query_driver() -> Driver | None:
    """Asks the driver; None if there is no driver or no device. Opens no context on a device."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    code = ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(code))
    cuda = code.value // 1000, code.value % 1000 // 10
    if (error := library.cuInit(0)) in (NO_DEVICE, STUB):
        return None
    if error:
        return Driver(cuda, fault=_describe_error(library, error))
    count = ctypes.c_int(0)
    library.cuDeviceGetCount(ctypes.byref(count))
    return Driver(cuda, tuple(_query_gpu(library, number) for number in range(count.value))) if count.value else None


def _query_gpu(library: ctypes.CDLL, number: int) -> Gpu:
    device, name = ctypes.c_int(0), ctypes.create_string_buffer(256)
    library.cuDeviceGet(ctypes.byref(device), number)
    library.cuDeviceGetName(name, len(name), device)
    capability = []
    for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR):
        value = ctypes.c_int(0)
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(value.value)
    return Gpu(name.value.decode(errors="replace"), (capability[0], capability[1]))


def _describe_error(library: ctypes.CDLL, error: int) -> str:
    text = ctypes.c_char_p()
    library.cuGetErrorString(error, ctypes.byref(text))
    return f"CUDA error {error}: {text.value.decode(errors='replace') if text.value else 'unknown'}"


def format_version(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
