"""Locks of folders, also on file systems that have none."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ffdi.core import signals
from ffdi.core.errors import ExperimentError
from ffdi.core.signals import Interrupted
from ffdi.experiments import experiment
from ffdi.experiments.experiment import lock_folder
from tests.conftest import PROJECT

CODES = [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK]


@pytest.fixture(params=[None, *CODES], ids=lambda code: errno.errorcode.get(code, "locks"))
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a file system with locks, or on one that answers with an error."""

    def fail(_file: object, _operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    if request.param is not None:
        monkeypatch.setattr(fcntl, "flock", fail)
    return tmp_path / "folder"


def test_a_lock_is_held_by_one_and_free_afterwards(folder: Path) -> None:
    for _ in range(2):
        with lock_folder(folder, "is busy", "wait"):
            with pytest.raises(ExperimentError) as caught, lock_folder(folder, "is busy", "wait"):
                pass
            assert str(caught.value) == f"another process (pid {os.getpid()}) is busy\nnext: wait"


def test_a_lock_can_be_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "WAIT_SECONDS", 0.01)
    seen: list[str] = []
    first = lock_folder(folder, "is busy", "wait")
    first.__enter__()

    def wait(busy: str) -> None:
        seen.append(busy)
        threading.Timer(0.1, first.__exit__, (None, None, None)).start()

    with lock_folder(folder, "is busy", "wait", wait):
        assert seen == [f"another process (pid {os.getpid()}) is busy"]
        with pytest.raises(ExperimentError), lock_folder(folder, "is busy", "wait"):
            pass


def test_waiting_for_a_lock_can_be_stopped(tmp_path: Path) -> None:
    with (
        lock_folder(tmp_path, "is busy", "wait"),
        signals.handle_signals(end=0.0),
        pytest.raises(Interrupted),
        lock_folder(tmp_path, "is busy", "wait", lambda _: None),
    ):
        pass


def test_an_old_lock_file_without_a_holder_does_not_block(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / ".lock").touch()
    monkeypatch.setattr(experiment, "EMPTY_SECONDS", -1.0)
    with lock_folder(folder, "is busy", "wait"):
        pass


def test_a_lock_file_of_a_dead_process_does_not_block(folder: Path) -> None:
    code = f"""
import errno, fcntl, os
def fail(*_):
    raise OSError(errno.ENOSYS, "no")
fcntl.flock = fail
from pathlib import Path
from ffdi.experiments.experiment import lock_folder
with lock_folder(Path({str(folder)!r}), "is busy", "wait"):
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 9
    with lock_folder(folder, "is busy", "wait"):
        pass


def test_another_error_of_a_lock_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_file: object, _operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(ExperimentError) as caught, lock_folder(tmp_path, "is busy", "wait"):
        pass
    assert caught.value.what == f"{tmp_path / '.lock'} cannot be written: Input/output error"
