"""What the machine gives to a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


RETURN = """
import resource
from ffdi.core import machine
def count_pages():
    return int(open("/proc/self/statm").read().split()[1])
machine.keep_freed_memory()
before = count_pages()
block = bytearray(b"x" * (1 << 27))
del block
kept = count_pages()
machine.return_freed_memory()
print(kept - before, count_pages() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_kept_memory_can_be_returned() -> None:
    kept, left = map(int, subprocess.check_output([sys.executable, "-c", RETURN], cwd=PROJECT, text=True).split())
    assert kept > 2**27 / 4096 * 0.9
    assert left < kept / 10


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("bad allocation of a type in alloc/bad.onnx", False),
        ("Failed to allocate memory for requested buffer of size 64", True),
        ("could not create a primitive", True),
        ("[Errno 12] Cannot allocate memory", True),
    ],
)
def test_memory_errors_are_recognised_by_their_message(message: str, expected: bool) -> None:
    assert machine.is_memory_error(RuntimeError(message)) == expected


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/not/visible\n", {"cpu.max": "400000 100000\n"}, 4),
        (
            "4:memory:/x\n3:cpu,cpuacct:/x\n0::/\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"},
            3,
        ),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "nonsense\n"}, 8),
    ],
)
def test_the_quota_of_a_container_limits_the_cores(
    own: str, files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(content)
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert machine.count_cores() == cores
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert machine.count_cores() == 1
    monkeypatch.setattr(machine, "OWN_CGROUP", tmp_path / "gone")
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    assert machine.count_cores() == 8
