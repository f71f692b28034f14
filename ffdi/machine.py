"""What this machine gives to this process."""

from __future__ import annotations

import os


def cores() -> int:
    """CPUs that this process may use; OMP_NUM_THREADS lowers their number, as it does for every library here."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(asked)) if asked.isdecimal() and int(asked) else available
