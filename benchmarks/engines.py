"""Claim: folds at once on a CPU, each with its part of the cores, take no longer than one after the other; Ray takes at
most 5 % more time than the local engine, on one machine and on two nodes; all end in the same bytes where folds have
the same number of threads, also where one of two nodes is killed half way.

    python benchmarks/engines.py [--experiment quickstart] [--folds 4] [--epochs 12] [--rounds 2]

The experiment is trained with so many folds by every engine in turn, each round in an empty workspace; whole commands
are timed, starts included. Printed: the median seconds, and of the ratios within a round to the local engine with the
same number of folds at once the median and the range. Half way is half of that engine's seconds in the same round.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

from ffdi.core import machine, manifests

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

PROJECT = Path(__file__).resolve().parent.parent


NODES = {"ray, two nodes": False, "ray, two nodes, one killed": True}


def main() -> None:
    """Runs all in turn, and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--experiment", default="quickstart")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    cores = machine.count_cores()
    flags = {f"local, {jobs} at once": ["--jobs", str(jobs)] for jobs in (1, 2, 4) if jobs <= asked.folds}
    flags["ray, this machine"] = ["--engine", "ray", "--jobs", str(cores)]
    base = f"local, {cores} at once"
    seconds: dict[str, list[float]] = {name: [] for name in [*flags, *NODES]}
    bytes_: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        prepare(root, asked)

        def measure(name: str, words: list[str]) -> None:
            seconds[name].append(trained(root, asked.experiment, words))
            bytes_[name] = digest(root, asked.experiment)

        for _ in range(asked.rounds):
            for name, words in flags.items():
                measure(name, words)
            for name, killed in NODES.items():
                with two_nodes(cores) as cluster, dying(cluster, seconds[base][-1] / 2 if killed else None):
                    measure(name, [*flags["ray, this machine"], "--address", cluster.address])
    for name, values in seconds.items():
        ratios = [one / two for one, two in zip(values, seconds[base], strict=True)]
        print(
            f"{name:32} {statistics.median(values):7.1f} s   {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f})   weights {bytes_[name][:12]}",
            flush=True,
        )


def prepare(root: Path, asked: argparse.Namespace) -> None:
    """A workspace with the experiment, other folds and epochs, and its data."""
    source = PROJECT / "experiments" / asked.experiment / "config.toml"
    text = source.read_text()
    for key, value in (("k", asked.folds), ("epochs", asked.epochs)):
        text, count = re.subn(rf"^{key} = \d+$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert count == 1, f"{source} has no {key}"
    folder = root / "experiments" / asked.experiment
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(text)
    run(root, "doctor", "--experiment", asked.experiment)


def trained(root: Path, experiment: str, words: list[str]) -> float:
    """Seconds of the whole command, in an empty experiment."""
    folder = root / "experiments" / experiment
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "config.toml":
            path.unlink()
    started = time.perf_counter()
    run(root, "train-folds", "--experiment", experiment, *words)
    return time.perf_counter() - started


def run(root: Path, *words: str) -> None:
    """A command in its own process, on all cores."""
    command = [sys.executable, "-m", "invoke", *words]
    done = subprocess.run(
        command, cwd=PROJECT, env={**os.environ, "FFDI_ROOT": str(root)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def digest(root: Path, experiment: str) -> str:
    """Of all folds' weights."""
    found = sorted((root / "experiments" / experiment).glob("fold_*/weights.safetensors"))
    return manifests.hash_text("".join(map(manifests.hash_file, found)))


@contextmanager
def two_nodes(cores: int) -> Iterator[Cluster]:
    """A cluster of two nodes that share this machine's cores."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=max(1, cores // 2))
        yield cluster
    finally:
        cluster.shutdown()


@contextmanager
def dying(cluster: Cluster, after: float | None) -> Iterator[None]:
    """Inside, a node is killed after so many seconds; None kills none."""
    if after is None:
        yield
        return
    node = next(iter(cluster.worker_nodes))
    timer = Timer(after, lambda: cluster.remove_node(node, allow_graceful=False))
    timer.start()
    yield
    timer.join()


if __name__ == "__main__":
    main()
