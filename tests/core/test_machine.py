"""What the machine gives to a process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ffdi.core import machine
from tests.conftest import PROJECT

FAULTS = """
import resource, sys
from ffdi.core import machine
if sys.argv[1] == "kept":
    machine.keep_freed_memory()
block = b"x" * (1 << 26)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytearray(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_memory_is_reused() -> None:
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", FAULTS, how], cwd=PROJECT, text=True))
        for how in ("kept", "given back")
    }
    assert faults["kept"] < faults["given back"] / 5


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("bad allocation of a type in alloc/bad.onnx", False),
        ("Failed to allocate memory for requested buffer of size 64", True),
        ("[Errno 12] Cannot allocate memory", True),
    ],
)
def test_memory_errors_are_recognised_by_their_message(message: str, expected: bool) -> None:
    assert machine.is_memory_error(RuntimeError(message)) == expected
