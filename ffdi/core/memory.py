"""Memory that runs short, in whatever words a library says so."""

from __future__ import annotations

import re

from ffdi.core.errors import DeviceError

SHORT = re.compile(
    r"out of memory|not enough memory|insufficient memory|can(?:no|')t allocate memory|bad_alloc|"
    r"failed to map segment|can't start new thread|failed to allocate memory",
    re.IGNORECASE,
)
"""What GPUs, ONNX Runtime, OpenCV, torch's and the system's allocators, C++, the loader of libraries and Python say."""


def is_short(error: BaseException) -> bool:
    """Whether an error says that this process was given no more memory."""
    return isinstance(error, MemoryError) or SHORT.search(str(error)) is not None


def explain(error: BaseException) -> DeviceError:
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
