"""The CUDA driver: its version and its devices.

torch and ONNX Runtime do not mention devices that they cannot use, such as those of a driver that is too old for them.
Functions: https://docs.nvidia.com/cuda/cuda-driver-api/
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ffdi.core.errors import DeviceError, format_count

NO_DEVICE, STUB = 100, 34
"""Errors of cuInit that mean: there is no device."""
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""Attributes of a device."""
KERNELS = re.compile(r"(?P<kind>sm|compute)_(?P<major>\d+)(?P<minor>\d)(?P<only>[af]?)")
"""An architecture that a library has kernels for, such as sm_90."""

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


def has_kernels(gpu: Version, architectures: Iterable[str]) -> bool:
    """Whether a library has kernels for a GPU: of the same major version and at most the same minor one, or as PTX.

    Source: https://docs.nvidia.com/cuda/cuda-c-programming-guide/#binary-compatibility

    Args:
        gpu: its compute capability.
        architectures: of the library, such as sm_90; True if none is known.
    """
    known = [found for found in map(KERNELS.fullmatch, architectures) if found]
    return not known or any(_runs_on(gpu, found) for found in known)


def _runs_on(gpu: Version, kernels: re.Match[str]) -> bool:
    version = int(kernels["major"]), int(kernels["minor"])
    if kernels["only"] == "a":  # such as sm_90a; those with f run on the family
        return gpu == version
    return version <= gpu if kernels["kind"] == "compute" else version[0] == gpu[0] and version[1] <= gpu[1]


def explain_unusable(driver: Driver, library: str, built: str | None, fault: str) -> DeviceError:
    """An error for GPUs that a library does not see: the network would run on the CPU without a word.

    Args:
        driver: with a device, or with a fault.
        library: with its version.
        built: the version of CUDA that it is built for; None without CUDA.
        fault: its reason, where the versions match.
    """
    if driver.fault:
        return DeviceError(
            f"the CUDA driver does not work: {driver.fault}",
            hint="restart the machine or install the driver again, or pass --device cpu",
        )
    name, newest = library.partition(" ")[0], format_version(driver.cuda)
    if built is None:
        why, install = "it is built without CUDA", f"install a {name} for CUDA {newest} or older"
    elif int(built.partition(".")[0]) > driver.cuda[0]:
        why = f"it needs a driver for CUDA {built}, and this one is for CUDA {newest}"
        install = f"install a newer driver, or a {name} for CUDA {driver.cuda[0]}"
    else:
        why, install = fault, "correct that"
    return DeviceError(
        f"this machine has {driver.describe_gpus()} that {library} cannot use: {why}",
        hint=f"{install}, or pass --device cpu",
    )
