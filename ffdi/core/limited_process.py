"""A process of its own that may take so much time and memory and no more, for files that somebody else made."""

from __future__ import annotations

import importlib
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ffdi.core import machine, signals

TAIL = 4096
"""Bytes of what the child has written last that are looked at."""
LONGEST = 300
"""Characters of a message: it may have names in it that somebody else chose."""
NO_MEMORY = 77
"""The child's exit status where an allocation failed."""


@dataclass(frozen=True)
class Bounds:
    """What a child may take.

    Attributes:
        seconds: from its start to its end, by the clock; of CPU time so many on each core.
        memory: bytes of address space, beside what its imports have taken.
        doing: for what, as the end of a sentence.
    """

    seconds: float
    memory: int
    doing: str


def run_limited(module: str, words: Sequence[str], bounds: Bounds) -> str:
    """Calls `main(*words)` of a module in a child, which ends when this process does.

    Args:
        module: its dotted name. Its imports are not bounded, only `main` is.
        words: for `main`.
        bounds: on Linux all of them hold; elsewhere only those that the system knows, and always the time.

    Returns:
        What went wrong, in words that follow a subject: "took more than 60 s to be read". Empty where `main` has
        returned.
    """
    root = Path(__file__).resolve().parents[2]
    limits = [str(bounds.seconds), str(bounds.memory)]
    command = [sys.executable, "-m", "ffdi.core.limited_process", *limits, module, *words]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}  # each of glibc's arenas takes address space
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
        ) as child,
    ):
        try:
            child.wait(bounds.seconds)
        except subprocess.TimeoutExpired:
            return f"took more than {bounds.seconds:.0f} s {bounds.doing}"
        finally:
            child.kill()
        if child.returncode == 0:
            return ""
        signals.raise_if_interrupted()  # Ctrl-C reaches the child too
        said.seek(max(0, said.seek(0, os.SEEK_END) - TAIL))
        return _fault(child.returncode, said.read().decode(errors="replace"), bounds)


def _fault(code: int, said: str, bounds: Bounds) -> str:
    """What an exit status and the end of what was written to stderr mean."""
    memory = f"took more than {bounds.memory / 2**20:.0f} MiB of memory {bounds.doing}"
    if code == NO_MEMORY:
        return memory
    if code < 0:  # libraries also end so where an allocation fails
        return f"{memory}, or broke its reader ({signals.signal_name(-code)})"
    lines = said.strip().splitlines() or [f"broke its reader (exit status {code})"]
    return "".join(letter if letter.isprintable() else "?" for letter in lines[-1][:LONGEST])


def _leave_with_parent() -> None:
    """The parent holds the other end of this pipe, and nobody writes to it."""
    os.read(0, 1)
    os._exit(1)


def _limit(seconds: float, memory: int) -> None:
    """What this process may take from now on."""
    try:
        import resource
    except ImportError:  # Windows knows no such limits
        return
    cpu = math.ceil(seconds * machine.cores())  # where the parent, which watches the clock, is gone
    with suppress(ValueError, OSError):  # the system has lower ones already
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    with suppress(ValueError, OSError):  # macOS has no /proc, and does not hold this one
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _main(seconds: str, memory: str, module: str, *words: str) -> None:
    """In the child."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    body = importlib.import_module(module).main
    _limit(float(seconds), int(memory))
    try:
        body(*words)
    except MemoryError:
        sys.exit(NO_MEMORY)
    except Exception as error:  # what somebody else made can make its reader fail in any way
        what = (str(error).splitlines() or [""])[0] or type(error).__name__
        sys.exit(NO_MEMORY if re.search("alloc|out of memory", what, re.IGNORECASE) else what)
    sys.stderr.flush()
    os._exit(0)  # to clear away what a library has loaded takes seconds


if __name__ == "__main__":
    _main(*sys.argv[1:])
