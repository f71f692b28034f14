"""Too little memory is an error that a person can act on, wherever a library meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ffdi.commands import leaderboard
from ffdi.core import machine
from tests.conftest import Invoke

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:40],
)
def test_every_way_to_say_it_is_known(error: Exception) -> None:
    assert machine.is_memory_error(error)
    assert str(machine.explain_memory_error(error)).startswith(f"memory is short: {str(error) or 'MemoryError'}")


def test_other_errors_are_none() -> None:
    assert not machine.is_memory_error(RuntimeError("shapes differ"))
    assert not machine.is_memory_error(ImportError("libGL.so.1: cannot open shared object file"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no limit that stops a library from loading")
def test_a_limit_that_torch_does_not_fit_in_is_named() -> None:
    command = f"ulimit -v 900000; exec {sys.executable} -m invoke train-folds"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: memory is short: ")
    assert "this process may take 879 MiB of address space\nnext: raise the limit: ulimit -v unlimited" in done.stderr


def test_a_library_that_cannot_be_loaded_is_named(
    workspace: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file", name="cv2")

    monkeypatch.setattr(leaderboard, "run", fail)
    answer = invoke("leaderboard")
    assert (answer.code, answer.err) == (
        1,
        "error: a library cannot be loaded: libGL.so.1: cannot open shared object file\n"
        "next: install it again in this environment: pip install -e .\n",
    )
    assert workspace.is_dir()


def test_a_fault_of_ours_keeps_its_traceback(workspace: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ImportError("cannot import name 'x' from 'ffdi.data'", name="ffdi.data")

    monkeypatch.setattr(leaderboard, "run", fail)
    with pytest.raises(ImportError):
        invoke("leaderboard")
    assert workspace.is_dir()
