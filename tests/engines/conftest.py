"""A training as a terminal runs it, and what it must end in."""

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

CONFIG = TINY.replace("epochs = 3", "epochs = 24\ncheckpoint_every = 0.2")
LIMIT = 120.0
"""Seconds after which a training counts as hanging."""


class Forked:
    """A verb in a process and a session of its own, as `subprocess.Popen` has it, but forked from one that has imported
    all libraries: a terminal's takes seconds for that."""

    def __init__(self, words: Sequence[str], root: Path) -> None:
        (out, said), (err, complaint) = (os.pipe() for _ in range(2))
        given = [Connection(one, readable=False) for one in (said, complaint)]
        self.server = faults.serve()
        self._process = faults.CONTEXT.Process(target=_forked, args=(words, root, *given))
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
        """All that it says after what was read already, which is not much."""
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
        with self.stdout, self._stderr:
            said = self.stdout.read(), self._stderr.read()
        assert self.returncode is not None, said
        return said


def _forked(words: Sequence[str], root: Path, said: Connection, complaint: Connection) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faults.call(words, root, said.fileno(), complaint.fileno())


Begun = subprocess.Popen[str] | Forked


def begin(root: Path, data: Path, *more: str) -> Forked:
    """train-folds in a workspace, in a process of its own."""
    return Forked(_prepared(root, data, more), root)


def typed(root: Path, data: Path, *more: str) -> subprocess.Popen[str]:
    """The same as a terminal runs it, from the start."""
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "invoke", *_prepared(root, data, more)],
        cwd=PROJECT,
        env={**os.environ, "FFDI_ROOT": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs inherit "ignore"
    )


def _prepared(root: Path, data: Path, more: Sequence[str]) -> list[str]:
    """The words of train-folds, for an experiment that is there."""
    folder = root / "experiments" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.toml").is_file():
        (folder / "config.toml").write_text(CONFIG)
    return ["train-folds", "--experiment", "tiny", "--data", str(data), *more]


def until_both_train(process: Begun) -> list[int]:
    """Reads on until both folds have ended an epoch; gives the processes that train them, in their order."""
    assert process.stdout is not None
    told = set()
    for line in process.stdout:
        told.add(line[:6])
        if {"fold 0", "fold 1"} <= told:
            break
    return trainers(process)


def trainers(process: Begun) -> list[int]:
    """The processes that train for a verb, in their order."""
    return [pid for pid in begun_by(server(process)) if pid != process.pid]


def server(process: Begun) -> int:
    """The process that those are forked from."""
    if isinstance(process, Forked):
        return process.server
    return next(pid for pid in begun_by(process.pid) if "forkserver" in Path(f"/proc/{pid}/cmdline").read_text())


def begun_by(pid: int) -> list[int]:
    """The processes that any thread of a process has begun."""
    found = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(word) for words in found for word in words.split()]


def lives(pid: int) -> bool:
    """Whether a process runs: one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ended(process: Begun) -> tuple[int, str]:
    _, said = process.communicate(timeout=LIMIT)
    return process.returncode, said


def folds(root: Path) -> dict[str, object]:
    """All that a training leaves, but what is written about the machine and the time."""
    return {name: content for name, content in faults.lasting(root).items() if name.startswith("experiments")}


@pytest.fixture(scope="session")
def unbroken(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What folds that are trained one after the other, in the verb's own process, end in."""
    root = tmp_path_factory.mktemp("unbroken")
    assert ended(begin(root, competition, "--jobs", "1"))[0] == 0
    return folds(root)


@pytest.fixture(scope="session")
def head() -> Iterator[Cluster]:
    """A cluster of one machine that has room for nothing, which soon sees that another one is dead."""
    health = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": health}
    )
    yield found
    found.shutdown()


@pytest.fixture
def cluster(head: Cluster) -> Iterator[Cluster]:
    """The same; tests add machines, which are gone afterwards."""
    yield head
    for machine in list(head.worker_nodes):
        head.remove_node(machine)
    head.wait_for_nodes()
