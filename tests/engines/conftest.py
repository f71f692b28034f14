"""A training as a terminal runs it, and what it must end in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests import faults
from tests.conftest import PROJECT, TINY

CONFIG = TINY.replace("epochs = 3", "epochs = 24\ncheckpoint_every = 0.2")


def begin(root: Path, data: Path, *more: str) -> subprocess.Popen[str]:
    """train-folds in a workspace, in a session of its own, as a terminal would run it."""
    folder = root / "experiments" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.toml").is_file():
        (folder / "config.toml").write_text(CONFIG)
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "invoke", "train-folds", "--experiment", "tiny", "--data", str(data), *more],
        cwd=PROJECT,
        env={**os.environ, "FFDI_ROOT": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs inherit "ignore"
    )


def until_both_train(process: subprocess.Popen[str]) -> list[int]:
    """Reads on until both folds have ended an epoch; gives the processes that train them, in their order."""
    assert process.stdout is not None
    told = set()
    for line in process.stdout:
        told.add(line[:6])
        if {"fold 0", "fold 1"} <= told:
            break
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    words = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in found}
    return [pid for pid, line in words.items() if "spawn_main" in line]


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=120)
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


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that has room for nothing; tests add machines."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield found
    found.shutdown()
