"""A child that may take so much and no more, and leaves with its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ffdi.core import limited_process
from ffdi.core.limited_process import Bounds

WIDE = Bounds(60, 2**30, "to be read")


def main(what: str, *words: str) -> None:
    """What children do here."""
    if what == "wait":
        with Path(words[0]).open("w") as pipe:
            print("here", file=pipe, flush=True)
            threading.Event().wait(20)
            print("left alone", file=pipe)
    elif what == "swell":
        bytearray(2**30)
    elif what == "spin":
        while True:
            pass
    elif what == "abort":
        os.abort()
    elif what == "refuse":
        raise ValueError("is \x1b[31mred\nand more")
    elif what == "fill":
        raise RuntimeError("Failed to allocate memory for requested buffer of size 7")


@pytest.mark.parametrize(
    ("what", "bounds", "fault"),
    [
        ("nothing", WIDE, ""),
        ("refuse", WIDE, "is ?[31mred"),
        ("swell", Bounds(60, 2**28, "to be read"), "took more than 256 MiB of memory to be read"),
        ("fill", WIDE, "took more than 1024 MiB of memory to be read"),
        ("abort", WIDE, "took more than 1024 MiB of memory to be read, or broke its reader (SIGABRT)"),
        ("spin", Bounds(1, 2**30, "to be read"), "took more than 1 s to be read"),
    ],
)
def test_a_child_ends_within_its_limits_with_a_reason(what: str, bounds: Bounds, fault: str) -> None:
    assert limited_process.run_limited("tests.core.test_limited_process", [what], bounds) == fault


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such pipes")
@pytest.mark.parametrize("signal", ["KILL", "TERM", "INT"])
def test_a_child_ends_with_its_parent(signal: str, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    code = f"""
import signal
from ffdi.core.limited_process import Bounds, run_limited
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
run_limited("tests.core.test_limited_process", ["wait", {str(pipe)!r}], Bounds(60, 2**30, ""))
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as parent, pipe.open() as child:
        assert child.readline() == "here\n"
        subprocess.run(["kill", f"-{signal}", str(parent.pid)], check=True)
        assert child.read() == ""  # the end: no process can write
