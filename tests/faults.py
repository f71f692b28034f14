"""Commands in processes of their own, with one fault each: killed at a moment, or at a call that changes the disk.

The libraries are imported once; every process is forked from that one.
"""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ffdi.core import manifests
from tests.conftest import PROJECT

CONTEXT = multiprocessing.get_context("forkserver")
LIMIT = 600.0
"""Seconds after which a command counts as hanging."""
CLOCKS = ["images_per_second", "seconds", "waiting"]
"""Columns of history.csv that no two runs have alike."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Fault(NamedTuple):
    """What happens to a process.

    Attributes:
        kind: the name of a signal that it is sent, or of an errno that a call fails with; 'full' lets no file grow
            beyond `size`, as on a full disk, whoever writes it.
        call: at which of its calls, from 1; None sends the signal after `seconds`.
        seconds: since its start.
        size: in bytes.
    """

    kind: str
    call: int | None = None
    seconds: float = 0.0
    size: int = 0


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
        code: its exit code; minus the signal's number where it was killed.
        output: everything that it printed.
        calls: what it did to the disk below the workspace, in order.
        seconds: how long it took.
    """

    code: int
    output: str
    calls: list[str]
    seconds: float


def serve() -> int:
    """Starts the process from which all others are forked; returns its pid.

    Processes of ffdi are forked from it too if they are started here or in a fork.
    """
    CONTEXT.set_forkserver_preload(["tests.faults_preload"])
    forkserver.ensure_running()
    return forkserver._forkserver._forkserver_pid


def run(
    words: Sequence[str],
    root: Path,
    fault: Fault | None = None,
    before: Callable[[Path], None] | None = None,
) -> Ended:
    """Calls `invoke WORDS` on a workspace, with a fault; in the process is first called what is to come `before`."""
    serve()
    output, calls = root.with_name(f"{root.name}.output"), root.with_name(f"{root.name}.calls")
    for path in (output, calls):
        path.write_text("")
    process = CONTEXT.Process(target=_run_command, args=(list(words), root, output, calls, fault, before))
    started = time.monotonic()
    process.start()
    if fault is not None and fault.call is None and fault.kind.startswith("SIG"):
        process.join(fault.seconds)
        if process.exitcode is None:
            os.kill(process.pid, getattr(signal, fault.kind))  # type: ignore[arg-type]
    process.join(LIMIT)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"{' '.join(words)} hangs after {fault}: {output.read_text()}")
    seconds = time.monotonic() - started
    return Ended(process.exitcode, output.read_text(), calls.read_text().splitlines(), seconds)


def lasting(root: Path) -> dict[str, object]:
    """Every file of experiments/ and exports/ with its bytes, without times and the path of the workspace.

    progress.json is left out too: a training ignores that it cannot write it.
    """
    found = [path for top in ("experiments", "exports") for path in (root / top).rglob("*") if path.is_file()]
    names = {
        str(path.relative_to(root)): path
        for path in found
        if path.name not in {"provenance.json", "progress.json", ".lock"}
    }
    return {name: LASTING.get(path.name, Path.read_bytes)(path) for name, path in sorted(names.items())}


def _history(path: Path) -> str:
    return pd.read_csv(path).drop(columns=CLOCKS).to_csv()


def _manifest(path: Path) -> dict[str, Any]:
    """Without the hash of a history, which has clocks in it."""
    content: dict[str, Any] = json.loads(path.read_text())
    del content[manifests.DIGEST], content["files"]["history.csv"]
    return content


def _doctor(path: Path) -> dict[str, Any]:
    """Without the path of the data, which may be in the workspace."""
    content: dict[str, Any] = json.loads(path.read_text())
    del content[manifests.DIGEST], content["data_root"]
    return content


LASTING: dict[str, Callable[[Path], object]] = {
    "history.csv": _history,
    "manifest.json": _manifest,
    "doctor.json": _doctor,
}
"""Readers of files that contain times or paths."""


def _run_command(
    words: list[str], root: Path, output: Path, calls: Path, fault: Fault | None, before: Callable[[Path], None] | None
) -> None:
    """In the process."""
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    from ffdi.commands.shared import progress_files

    progress_files.WRITE_SECONDS = math.inf  # else the number of calls would depend on the speed
    if before is not None:
        before(root)
    _watch(root, calls, fault)
    if fault is not None and fault.kind == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.size, fault.size))
    call(words, root, descriptor, descriptor)


def call(words: Sequence[str], root: Path, out: int, err: int) -> None:
    """Calls `invoke WORDS` on a workspace in a forked process, as from a shell.

    Args:
        out: the descriptor that it prints to.
        err: the one for errors.
    """
    from invoke import Program

    multiprocessing.set_start_method("fork", force=True)  # the usual one, not that of this process
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a server that ffdi has started blocks SIGTERM
    # the server runs, but only the process that started it knows that
    forkserver.ensure_running = forkserver._forkserver.ensure_running = lambda: None
    for number, descriptor in ((1, out), (2, err)):
        os.dup2(descriptor, number)
    sys.stdout, sys.stderr = (os.fdopen(one, "w", buffering=1) for one in (1, 2))
    os.environ["FFDI_ROOT"] = str(root)
    os.chdir(PROJECT)
    sys.path.insert(0, str(PROJECT))
    Program().run(["invoke", *words])


def _watch(root: Path, calls: Path, fault: Fault | None) -> None:
    """Writes down each call that changes something below `root`, and lets the one that is meant fail or kill."""
    log = os.open(calls, os.O_WRONLY | os.O_APPEND)
    count = 0

    def seen(what: str) -> None:
        nonlocal count
        count += 1
        os.write(log, f"{what}\n".encode())
        if fault is None or fault.call != count:
            return
        if fault.kind.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, fault.kind))
            return
        number = getattr(errno, fault.kind)
        raise OSError(number, os.strerror(number))

    def audit(event: str, details: tuple[object, ...]) -> None:
        if event not in CHANGES:
            return
        path = details[0]
        if isinstance(path, str | bytes | os.PathLike) and (path_below := _below(os.fsdecode(path), root)):
            if event == "open" and not int(details[2] or 0) & WRITES:  # type: ignore[call-overload]
                return
            seen(f"{event} {path_below}")

    sys.addaudithook(audit)
    os.fsync = _fsync(os.fsync, root, seen)


def _fsync(real: Callable[[int], None], root: Path, seen: Callable[[str], None]) -> Callable[[int], None]:
    def fsync(descriptor: int) -> None:
        if path_below := _below(str(Path(f"/proc/self/fd/{descriptor}").readlink()), root):
            seen(f"fsync {path_below}")
        real(descriptor)

    return fsync


def _below(path: str, root: Path) -> str:
    """The path relative to `root`; empty where it is not below."""
    whole = os.path.abspath(path)  # noqa: PTH100
    return os.path.relpath(whole, root) if whole.startswith(f"{root}{os.sep}") else ""


CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
"""Audit events (PEP 578) of what changes a folder or a file."""
