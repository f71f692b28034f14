"""Folds as tasks of a cluster, whose machines are processes here."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from ffdi.core.errors import ConfigError
from tests.conftest import Invoke
from tests.engines.conftest import CONFIG, begin, ended, folds, until_both_train


def words(cluster: Cluster) -> list[str]:
    return ["--engine", "ray", "--address", cluster.address]


def test_a_machine_that_dies_and_a_driver_that_is_stopped_cost_no_bit(
    cluster: Cluster, unbroken: dict[str, object], competition: Path, tmp_path: Path
) -> None:
    machines = [cluster.add_node(num_cpus=1) for _ in range(2)]
    process = begin(tmp_path, competition, *words(cluster))
    until_both_train(process)
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == (130, "stopped (Ctrl-C): nothing finished is lost; the same command does the rest\n")
    assert time.monotonic() - started < 15
    for fold in (0, 1):
        assert list((tmp_path / "experiments" / "tiny" / f"fold_{fold}").glob("checkpoint-*.json"))

    process = begin(tmp_path, competition, *words(cluster))
    until_both_train(process)
    cluster.remove_node(machines[0], allow_graceful=False)
    said, complaint = process.communicate(timeout=120)
    assert (process.returncode, complaint) == (0, "")
    assert "; it is trained on elsewhere\n" in said
    assert folds(tmp_path) == unbroken


def test_what_no_machine_has_is_refused_at_once(cluster: Cluster, competition: Path, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1, num_gpus=2)
    assert ended(begin(tmp_path, competition, *words(cluster))) == (
        1,
        "error: a fold asks for 4 CPU and 1 GPU of one machine, and the cluster's have 1 CPU and 2 GPU, "
        "0 CPU and 0 GPU\n"
        "next: pass a larger --jobs, which divides this machine's CPUs among folds, or --device, or add machines\n",
    )


def test_what_a_fold_raises_is_said_as_ever(cluster: Cluster, competition: Path, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=2)
    (tmp_path / "experiments" / "tiny").mkdir(parents=True)
    (tmp_path / "experiments" / "tiny" / "config.toml").write_text(CONFIG.replace("lr = 3e-3", "lr = 1e30"))
    code, said = ended(begin(tmp_path, competition, *words(cluster)))
    assert (code, "Traceback" in said) == (1, False)
    assert said.startswith("error: the ")
    assert ": training has diverged\n" in said


@pytest.mark.usefixtures("workspace")
def test_engines_and_addresses_that_are_not_there(competition: Path, invoke: Invoke) -> None:
    train = ["train-folds", "--experiment", "tiny", "--data", str(competition)]
    assert invoke(*train, "--engine", "rye").err == (
        "error: unknown engine 'rye': did you mean 'ray'?\nnext: pass --engine local\n"
    )
    assert invoke(*train, "--address", "auto").err == (
        "error: --address auto is a Ray cluster's\nnext: pass --engine ray beside it\n"
    )
    for address, why in (
        ("127.0.0.1:9", "[Errno 111] Connection refused"),
        ("ray://there", "an address is 'auto' or HOST:PORT"),
    ):
        answer = invoke(*train, "--engine", "ray", "--address", address)
        assert (answer.code, answer.err) == (
            1,
            f"error: --address {address}: no Ray cluster answers there: {why}\n"
            "next: start one with: ray start --head; docs/cluster.md has the rest\n",
        )


def test_without_ray_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ffdi.engines.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError) as error:
        import ffdi.engines.cluster  # noqa: F401
    assert str(error.value) == "--engine ray needs Ray, which is not installed\nnext: pip install -e '.[ray]'"
