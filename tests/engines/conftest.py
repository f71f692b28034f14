"""Runs trainings in processes, and compares their results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests import faults
from tests.conftest import PROJECT, TINY

CONFIG = TINY.replace("epochs = 3", "epochs = 24\ncheckpoint_seconds = 0.2")
LIMIT = 240.0
"""Seconds after which a training counts as hanging."""


class ForkedCommand:
    """A command in its own process and session, with the interface of `subprocess.Popen`.

    It is forked from a process that has imported all libraries, which takes seconds in a new process.
    """

    def __init__(self, words: Sequence[str], root: Path) -> None:
        (out, output), (err, errors) = (os.pipe() for _ in range(2))
        given = [Connection(one, readable=False) for one in (output, errors)]
        self.server = faults.serve()
        self._process = faults.CONTEXT.Process(target=_run_command, args=(words, root, *given))
        self._process.start()
        for one in given:
            one.close()
        self.stdout, self._stderr = os.fdopen(out), os.fdopen(err)
        self.pid: int = self._process.pid

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def communicate(self, timeout: float = LIMIT) -> tuple[str, str]:
        """The rest of stdout, and stderr."""
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
        with self.stdout, self._stderr:
            output = self.stdout.read(), self._stderr.read()
        assert self.returncode is not None, output
        return output


def _run_command(words: Sequence[str], root: Path, output: Connection, errors: Connection) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faults.call(words, root, output.fileno(), errors.fileno())


Command = subprocess.Popen[str] | ForkedCommand


def start(root: Path, data: Path, *more: str) -> ForkedCommand:
    """Starts train-folds in a forked process."""
    return ForkedCommand(_prepare(root, data, more), root)


def start_in_terminal(root: Path, data: Path, *more: str) -> subprocess.Popen[str]:
    """Starts train-folds in a new Python process, as from a terminal."""
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "invoke", *_prepare(root, data, more)],
        cwd=PROJECT,
        env={**os.environ, "FFDI_ROOT": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs inherit "ignore"
    )


def _prepare(root: Path, data: Path, more: Sequence[str]) -> list[str]:
    """Writes an experiment, and returns the arguments of train-folds."""
    folder = root / "experiments" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.toml").is_file():
        (folder / "config.toml").write_text(CONFIG)
    return ["train-folds", "--experiment", "tiny", "--data", str(data), *more]


def wait_for_both_folds(process: Command) -> list[int]:
    """Reads stdout until both folds have wait_for_end an epoch; returns the processes that train them, in order."""
    assert process.stdout is not None
    seen = set()
    for line in process.stdout:
        seen.add(line[:6])
        if {"fold 0", "fold 1"} <= seen:
            break
    return list_trainers(process)


def list_trainers(process: Command) -> list[int]:
    """The processes that train for a command, in order."""
    return [pid for pid in list_children(find_fork_server(process)) if pid != process.pid]


def find_fork_server(process: Command) -> int:
    """The fork server."""
    if isinstance(process, ForkedCommand):
        return process.server
    return next(pid for pid in list_children(process.pid) if "forkserver" in Path(f"/proc/{pid}/cmdline").read_text())


def list_children(pid: int) -> list[int]:
    """The child processes of all threads of a process."""
    found = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(word) for words in found for word in words.split()]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_end(process: Command) -> tuple[int, str]:
    _, output = process.communicate(timeout=LIMIT)
    return process.returncode, output


def read_results(root: Path) -> dict[str, object]:
    """The results of a training, without the records of the machine and the time."""
    return {name: content for name, content in faults.lasting(root).items() if name.startswith("experiments")}


@pytest.fixture(scope="session")
def uninterrupted(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The results of folds that are trained one after the other in one process, without interruption."""
    root = tmp_path_factory.mktemp("uninterrupted")
    assert wait_for_end(start(root, competition, "--jobs", "1"))[0] == 0
    return read_results(root)


@pytest.fixture(scope="session")
def head() -> Iterator[Cluster]:
    """A cluster of one machine without CPUs for tasks, which detects the loss of a machine within seconds."""
    health = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": health}
    )
    yield found
    found.shutdown()


@pytest.fixture
def cluster(head: Cluster) -> Iterator[Cluster]:
    """`head`; machines that a test adds are removed after it."""
    yield head
    for machine in list(head.worker_nodes):
        head.remove_node(machine)
    head.wait_for_nodes()
