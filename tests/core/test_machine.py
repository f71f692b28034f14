"""What the machine gives to a process."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
def test_memory_that_is_freed_is_not_asked_for_again() -> None:
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", FAULTS, how], cwd=PROJECT, text=True))
        for how in ("kept", "given back")
    }
    assert faults["kept"] < faults["given back"] / 5
