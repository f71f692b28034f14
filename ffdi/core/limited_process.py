"""Runs a function in a child process with limits on time and memory, for files from untrusted sources."""

from __future__ import annotations

import importlib
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ffdi.core import machine, signals
from ffdi.core.errors import get_first_line

TAIL = 4096
"""Bytes of the child's stderr that are read, from its end."""
MAX_LENGTH = 300
"""Characters of a message: it may contain names from the untrusted file."""
NO_MEMORY = 77
"""Exit status of the child after a failed allocation."""


@dataclass(frozen=True)
class Bounds:
    """Limits of a child.

    Attributes:
        seconds: wall-clock time; also the CPU time for each core.
        memory: bytes of address space, in addition to that of its imports.
        purpose: of the child, as the end of a sentence: "to be read".
    """

    seconds: float
    memory: int
    purpose: str


def run_limited(module: str, words: Sequence[str], bounds: Bounds) -> str:
    """Calls `main(*words)` of a module in a child process, which also ends when this process ends.

    Args:
        module: its dotted name. The limits apply to `main`, but not to the module's imports.
        words: arguments of `main`.
        bounds: all of them hold on Linux. Other systems always keep the time, and the limits that they support.

    Returns:
        The fault, in words that follow a subject: "took more than 60 s to be read". Empty if `main` has returned.
    """
    root = Path(__file__).resolve().parents[2]
    limits = [str(bounds.seconds), str(bounds.memory)]
    command = [sys.executable, "-m", "ffdi.core.limited_process", *limits, module, *words]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}  # each arena of glibc takes address space
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(
            command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr
        ) as child,
    ):
        try:
            child.wait(bounds.seconds)
        except subprocess.TimeoutExpired:
            return f"took more than {bounds.seconds:.0f} s {bounds.purpose}"
        finally:
            child.kill()
        if child.returncode == 0:
            return ""
        signals.raise_if_interrupted()  # Ctrl-C reaches the child too
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - TAIL))
        return _explain_exit(child.returncode, stderr.read().decode(errors="replace"), bounds)


def _explain_exit(code: int, stderr: str, bounds: Bounds) -> str:
    memory = f"took more than {bounds.memory / 2**20:.0f} MiB of memory {bounds.purpose}"
    if code == NO_MEMORY:
        return memory
    if code < 0:  # some libraries abort after a failed allocation
        return f"{memory}, or broke its reader ({signals.get_signal_name(-code)})"
    lines = stderr.strip().splitlines() or [f"broke its reader (exit status {code})"]
    return "".join(letter if letter.isprintable() else "?" for letter in lines[-1][:MAX_LENGTH])


def _exit_with_parent() -> None:
    """Waits until the parent, which never writes to this pipe, closes it."""
    os.read(0, 1)
    os._exit(1)


def _set_limits(seconds: float, memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    cpu = math.ceil(seconds * machine.count_cores())  # holds without the parent, which checks the clock
    with suppress(ValueError, OSError):  # the system has lower limits already
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    with suppress(ValueError, OSError):  # macOS has no /proc, and ignores this limit
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        total = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (total, total))


def _run_child(seconds: str, memory: str, module: str, *words: str) -> None:
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    main = importlib.import_module(module).main
    _set_limits(float(seconds), int(memory))
    try:
        main(*words)
    except MemoryError:
        sys.exit(NO_MEMORY)
    except Exception as error:  # an untrusted file can make its reader fail in any way
        sys.exit(NO_MEMORY if machine.is_memory_error(error) else get_first_line(error))
    sys.stderr.flush()
    os._exit(0)  # the cleanup of loaded libraries takes seconds


if __name__ == "__main__":
    _run_child(*sys.argv[1:])
