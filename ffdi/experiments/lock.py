"""One process at a time: a lock that is free the moment its holder dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ffdi.core import files, links
from ffdi.core.errors import ExperimentError


@contextmanager
def hold(folder: Path, what: str, hint: str) -> Iterator[None]:
    """Holds a folder against a second process.

    Args:
        folder: it stands there, or is made.
        what: what the other process does, as in 'is training quickstart'.
        hint: what to do instead.

    Raises:
        ExperimentError: another process holds it; its number is named.
    """
    lock, holder = links.below(folder, ".lock"), links.below(folder, ".lock.pid")
    with files.explain_write_errors(lock):
        folder.mkdir(parents=True, exist_ok=True)
        file_lock = FileLock(lock)
        free = _acquired(file_lock)
    if not free:
        pid = holder.read_text(encoding="ascii") if holder.is_file() else "unknown"
        raise ExperimentError(f"another process (pid {pid}) {what}", hint=hint)
    try:
        with files.explain_write_errors(holder):
            files.create(holder, str(os.getpid()).encode())
        yield
    finally:
        holder.unlink(missing_ok=True)
        file_lock.release()


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True
