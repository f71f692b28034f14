"""Cores and memory of this process, and the provenance of its results."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from ffdi import __version__
from ffdi.core.errors import DeviceError, get_first_line

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Constants of glibc's malloc.h."""
NEVER = 2**31 - 1
STACK = 8 * 2**20
"""Bytes of a thread's stack without a limit of the system."""


def count_cores() -> int:
    """Counts the CPUs that this process may use: those of its affinity, at most those of its cgroup's quota.

    OMP_NUM_THREADS is an upper limit too, as in all libraries here.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    limits = [math.ceil(quota) for quota in _read_cpu_quotas()] + ([int(limit)] if limit.isdecimal() else [])
    return min([available, *filter(None, limits)])


CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def _read_cpu_quotas() -> list[float]:
    """The limits of containers in CPUs: of the process's cgroup and those above it, in version 2 and 1 of cgroups."""
    try:
        groups = [line.split(":", 2)[1:] for line in OWN_CGROUP.read_text().splitlines()]
    except OSError:  # not Linux
        return []
    quotas = []
    for controllers, path in groups:
        if controllers and "cpu" not in controllers.split(","):
            continue
        own = PurePosixPath(path)
        for group in (own, *own.parents):
            folder = CGROUPS / controllers / group.relative_to("/")
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            with suppress(OSError, ValueError):  # no limit, or not visible in the container
                quota, period = " ".join((folder / name).read_text() for name in names).split()
                if int(quota) > 0:
                    quotas.append(int(quota) / int(period))
    return quotas


SHARED_MEMORY = Path("/dev/shm")


def read_free_shared_memory() -> int | None:
    """Returns the free bytes of the memory that processes share; None where a system has no limit of its own."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return None


def keep_freed_memory() -> None:
    """Tells glibc's malloc to keep freed memory.

    Each training step on a CPU frees and allocates the same large blocks. By default glibc returns them to the system,
    which clears and maps them again page by page: 70,000 page faults in a step of ResNet-18. The same happens with each
    image that is decoded: without it, decoding 512 px takes 1.6 times as long.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # not glibc
            malloc = ctypes.CDLL("libc.so.6")
            malloc.mallopt(M_MMAP_THRESHOLD, NEVER)
            malloc.mallopt(M_TRIM_THRESHOLD, NEVER)


def return_freed_memory() -> None:
    """Returns memory to the system that was kept: code that is generated, for one, cannot be in malloc's memory."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # not glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)


MEMORY_ERRORS = re.compile(
    r"out of memory|not enough memory|insufficient memory|can(?:no|')t allocate memory|bad_alloc|"
    r"could not create a (?:memory|primitive)|failed to map segment|can't start new thread|failed to allocate|"
    r"unable to allocate|ALLOC(ATION)?_FAILED",
    re.IGNORECASE,
)
"""Messages about short memory: of GPUs, cuBLAS, cuDNN, oneDNN, ONNX Runtime, OpenCV, allocators, C++, the loader and
Python. oneDNN has no words of its own for it."""


def is_memory_error(error: BaseException) -> bool:
    """True if an error means that the process got no more memory."""
    return isinstance(error, MemoryError) or MEMORY_ERRORS.search(str(error)) is not None


def explain_memory_error(error: BaseException) -> DeviceError:
    """Turns such an error into one with a next step."""
    message = get_first_line(error)
    most = _read_address_space_limit()
    if most is None:
        return DeviceError(f"memory is short: {message}", hint="close other programs, or use a larger machine")
    return DeviceError(
        f"memory is short: {message}; this process may take {most / 2**20:,.0f} MiB of address space",
        hint="raise the limit: ulimit -v unlimited (PyTorch alone maps gigabytes)",
    )


def _read_address_space_limit() -> int | None:
    """Returns the limit of `ulimit -v` in bytes; None if there is no limit."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if most == resource.RLIM_INFINITY else most


def read_stack_size() -> int:
    """Returns the address space of a thread's stack in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        return STACK
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return STACK if soft == resource.RLIM_INFINITY else soft


LIBRARIES = ("torch", "torchvision", "timm", "albumentations", "numpy", "opencv-python-headless", "onnx")


def collect_provenance(data_root: Path, command: list[str]) -> dict[str, Any]:
    """Collects where, when and with which versions a run started. For people; never part of a result's identity."""
    return {
        "data_root": str(data_root.resolve()),
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "libraries": {name: version for name in LIBRARIES if (version := find_version(name))},
        "commit": _describe_commit(),
        "version": __version__,
    }


def find_version(package: str) -> str | None:
    """Returns the version of an installed package, else None. OpenCV, for one, has several packages."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _describe_commit() -> str | None:
    """Returns the git commit of the code, with '+' if files have changed since; None outside a repository."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
