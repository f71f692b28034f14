"""Folds as Ray tasks, on a cluster of processes of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from ffdi.core.errors import ConfigError
from tests.conftest import Invoke
from tests.engines.conftest import CONFIG, ForkedCommand, read_results, start, wait_for_both_folds, wait_for_end


def words(cluster: Cluster) -> list[str]:
    return ["--engine", "ray", "--address", cluster.address]


def test_a_lost_machine_and_a_stopped_driver_do_not_change_the_bytes(
    cluster: Cluster, uninterrupted: dict[str, object], competition: Path, tmp_path: Path
) -> None:
    machines = [cluster.add_node(num_cpus=1) for _ in range(2)]
    process = start(tmp_path, competition, *words(cluster))
    wait_for_both_folds(process)
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    assert wait_for_end(process) == (
        130,
        "stopped (Ctrl-C): nothing finished is lost; the same command does the rest\n",
    )
    assert time.monotonic() - started < 15
    for fold in (0, 1):
        assert list((tmp_path / "experiments" / "tiny" / f"fold_{fold}").glob("checkpoint-*.json"))

    process = start(tmp_path, competition, *words(cluster))
    wait_for_both_folds(process)
    cluster.remove_node(machines[0], allow_graceful=False)
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert "; it is trained on elsewhere\n" in output
    assert read_results(tmp_path) == uninterrupted


def test_soft_targets_reach_other_machines(cluster: Cluster, copy: Path, competition: Path, invoke: Invoke) -> None:
    teacher = ("--experiment", "tiny")
    images = ("--images", "test", "--rules", "--confidence", "0.5", "--data", str(competition))
    assert invoke("pseudo-label", *teacher, *images, "--name", "round1").code == 0
    keys = ("--set", "pseudo_labels.name=round1", "--set", "folds.refit=true")
    answer = invoke("distill", *teacher, "--student", "small", *keys)
    assert answer.code == 0, answer.err
    command = ["train-folds", "--experiment", "small", "--data", str(competition)]
    answer = invoke(*command)
    assert answer.code == 0, answer.err
    student, parts = copy / "experiments" / "small", ("fold_0", "refit")
    weights = [(student / part / "weights.safetensors").read_bytes() for part in parts]
    for part in parts:
        shutil.rmtree(student / part)
    cluster.add_node(num_cpus=1)
    assert wait_for_end(ForkedCommand([*command, *words(cluster)], copy))[0] == 0
    assert [(student / part / "weights.safetensors").read_bytes() for part in parts] == weights

    content = (student / "config.toml").read_text()
    assert "[distill]\n" in content
    (student / "config.toml").write_text(content.replace("[distill]\n", "[distill]\nfeatures = 1.0\n"))
    code, output = wait_for_end(ForkedCommand([*command, *words(cluster), "--restart"], copy))
    assert code == 1
    assert "--engine ray: the features of a teacher stay on this machine" in output
    assert (student / "fold_0" / "manifest.json").is_file()


def test_resources_that_no_machine_has_are_refused(cluster: Cluster, competition: Path, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1, num_gpus=2)
    assert wait_for_end(start(tmp_path, competition, *words(cluster), "--workers", "3", "--device", "cuda")) == (
        1,
        "error: a fold needs 4 CPU and 1 GPU on one machine; the machines of the cluster have 1 CPU and 2 GPU, "
        "0 CPU and 0 GPU\n"
        "next: pass fewer --workers, or a larger --jobs, which divides a machine's CPUs among folds, or --device, or "
        "add machines\n",
    )


def test_an_error_of_a_fold_is_reported(cluster: Cluster, competition: Path, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=2)
    (tmp_path / "experiments" / "tiny").mkdir(parents=True)
    (tmp_path / "experiments" / "tiny" / "config.toml").write_text(CONFIG.replace("lr = 3e-3", "lr = 1e30"))
    code, output = wait_for_end(start(tmp_path, competition, *words(cluster)))
    assert (code, "Traceback" in output) == (1, False)
    assert output.startswith("error: the ")
    assert ": training has diverged\n" in output


@pytest.mark.usefixtures("workspace")
def test_unknown_engines_and_addresses_are_refused(competition: Path, invoke: Invoke) -> None:
    train = ["train-folds", "--experiment", "tiny", "--data", str(competition)]
    assert invoke(*train, "--engine", "rye").err == (
        "error: unknown engine 'rye': did you mean 'ray'?\nnext: pass --engine local\n"
    )
    assert invoke(*train, "--address", "auto").err == (
        "error: --address auto is the address of a Ray cluster\nnext: add --engine ray, or omit --address\n"
    )
    assert invoke(*train, "--engine", "ray", "--device", "gpu").err == (
        "error: unknown device 'gpu': known: auto, cpu, cuda, cuda:N, mps\nnext: pass --device auto\n"
    )
    for device in ("cuda:1", "mps"):
        assert invoke(*train, "--engine", "ray", "--device", device).err == (
            f"error: --engine ray --device {device}: Ray itself chooses the GPUs of a fold, and knows no others\n"
            "next: pass --device auto, cpu or cuda\n"
        )
    for address, why in (
        ("127.0.0.1:9", "[Errno 111] Connection refused"),
        ("ray://there", "an address must be 'auto' or HOST:PORT"),
    ):
        answer = invoke(*train, "--engine", "ray", "--address", address)
        assert (answer.code, answer.err) == (
            1,
            f"error: --address {address}: no Ray cluster answers: {why}\n"
            "next: start a cluster: ray start --head; see docs/cluster.md\n",
        )


def test_without_ray_the_error_has_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ffdi.engines.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError) as error:
        import ffdi.engines.cluster  # noqa: F401
    assert str(error.value) == "--engine ray needs Ray, which is not installed\nnext: pip install -e '.[ray]'"
