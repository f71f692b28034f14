"""What this machine gives to this process."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from contextlib import suppress

from ffdi.core.errors import DeviceError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
NEVER = 2**31 - 1


def cores() -> int:
    """CPUs that this process may use; OMP_NUM_THREADS lowers their number, as it does for every library here."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(asked)) if asked.isdecimal() and int(asked) else available


def keep_freed_memory() -> None:
    """Lets this process keep what it frees, where malloc is glibc's.

    A step of training on a CPU frees and takes the same large blocks again and again; glibc gives each back to the
    system, which then hands it out anew page by page, cleared: 70,000 page faults a step of ResNet-18.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library has no such function
            malloc = ctypes.CDLL("libc.so.6")
            malloc.mallopt(M_MMAP_THRESHOLD, NEVER)
            malloc.mallopt(M_TRIM_THRESHOLD, NEVER)


SHORT = re.compile(
    r"out of memory|not enough memory|insufficient memory|can(?:no|')t allocate memory|bad_alloc|"
    r"failed to map segment|can't start new thread|failed to allocate memory",
    re.IGNORECASE,
)
"""What GPUs, ONNX Runtime, OpenCV, torch's and the system's allocators, C++, the loader of libraries and Python say."""


def is_memory_error(error: BaseException) -> bool:
    """Whether an error says that this process was given no more memory."""
    return isinstance(error, MemoryError) or SHORT.search(str(error)) is not None


def explain_memory_error(error: BaseException) -> DeviceError:
    """The same in words that a person can act on."""
    said = (str(error).splitlines() or [""])[0] or type(error).__name__
    most = _limit()
    if most is None:
        return DeviceError(f"memory is short: {said}", hint="close other programs, or use a machine with more memory")
    return DeviceError(
        f"memory is short: {said}; this process may take {most / 2**20:,.0f} MiB of address space",
        hint="raise the limit: ulimit -v unlimited (PyTorch maps gigabytes before it does anything)",
    )


def _limit() -> int | None:
    """Bytes of address space that this process may take (`ulimit -v`); None where there is no limit."""
    try:
        import resource
    except ImportError:  # Windows knows no such limits
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if most == resource.RLIM_INFINITY else most
