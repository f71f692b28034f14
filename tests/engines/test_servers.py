"""Images that are scored on a Ray cluster have the same scores as on one machine."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from ffdi.inference import predict
from ffdi.inference.predict import Shards
from tests.conftest import Invoke
from tests.engines.conftest import is_alive, list_children

IMAGES, ROWS = 120, 4


@pytest.fixture
def images(competition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of many images, in many shards."""
    monkeypatch.setattr(predict, "ROWS", ROWS)
    folder = tmp_path / "images"
    folder.mkdir()
    files = sorted((competition / "testset").iterdir())
    for number in range(IMAGES):
        os.link(files[number % len(files)], folder / f"{number:03d}.jpg")
    return folder


def words(folder: Path, output: Path, *more: str) -> list[str]:
    return ["predict-onnx", "--experiment", "tiny", "--images", str(folder), "--output", str(output), *more]


def on_ray(cluster: Cluster) -> list[str]:
    return ["--engine", "ray", "--address", cluster.address]


@pytest.mark.usefixtures("copy")
def test_a_lost_machine_does_not_change_the_scores(
    cluster: Cluster, images: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    assert invoke(*words(images, here, "--device", "cpu")).code == 0
    machines = [cluster.add_node(num_cpus=1) for _ in range(2)]
    publish, published = Shards._publish, []

    def publish_and_kill(self: Shards, rows: range, parts: list) -> None:
        published.append(rows)
        if len(published) == 3:
            cluster.remove_node(machines[0], allow_graceful=False)
        publish(self, rows, parts)

    monkeypatch.setattr(Shards, "_publish", publish_and_kill)
    answer = invoke(*words(images, there, "--device", "cpu", *on_ray(cluster)))
    assert (answer.code, answer.err) == (0, "")
    assert "\nengine: Ray on 3 machines with 2 CPU and 0 GPU, which open the graph\n" in answer.out
    assert "\nruns on: CPUExecutionProvider (each of 2 servers: ONNX Runtime on the CPU, 1 x 1 thread)\n" in answer.out
    assert len(published) == IMAGES / ROWS
    assert here.read_bytes() == there.read_bytes()


@pytest.mark.usefixtures("copy")
def test_a_cluster_without_the_device_is_refused(
    cluster: Cluster, images: Path, tmp_path: Path, invoke: Invoke
) -> None:
    cluster.add_node(num_cpus=0)
    for device in ("cpu", "auto"):
        answer = invoke(*words(images, tmp_path / "none.csv", "--device", device, *on_ray(cluster)))
        assert (answer.code, answer.err) == (
            1,
            f"error: --device {device}: the cluster has no such device: 2 machines with 0 CPU and 0 GPU\n"
            "next: pass --device cpu, or add machines\n",
        )


@pytest.mark.usefixtures("copy")
def test_the_loss_of_the_last_machine_is_an_error_and_scores_are_retained(
    cluster: Cluster, images: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "scores.csv"
    machine = cluster.add_node(num_cpus=1)
    publish, published = Shards._publish, []

    def publish_and_kill(self: Shards, rows: range, parts: list) -> None:
        publish(self, rows, parts)
        published.append(rows)
        if rows.start == 2 * ROWS:
            servers = list_children(machine.all_processes["raylet"][0].process.pid)
            assert servers
            cluster.remove_node(machine, allow_graceful=False)
            until = time.monotonic() + 30
            while any(map(is_alive, servers)) and time.monotonic() < until:  # for a moment, and would score on
                time.sleep(0.05)

    monkeypatch.setattr(Shards, "_publish", publish_and_kill)
    answer = invoke(*words(images, output, "--device", "cpu", *on_ray(cluster)))
    assert answer.code == 1
    lost = r"error: all machines that scored were lost; the last one: Actor(Died|Unavailable)Error: .+\n"
    assert re.fullmatch(
        lost + "next: run the same command again: it continues with the images that are not scored yet\n", answer.err
    )
    assert not output.exists()
    monkeypatch.setattr(Shards, "_publish", publish)
    answer = invoke(*words(images, output, "--device", "cpu"))
    assert answer.code == 0
    assert f"; scored before: {ROWS * len(published)}\n" in answer.out


@pytest.mark.usefixtures("copy")
def test_an_error_of_a_machine_has_its_name(cluster: Cluster, images: Path, tmp_path: Path, invoke: Invoke) -> None:
    cluster.add_node(num_cpus=1)
    (images / "007.jpg").unlink()
    (images / "007.jpg").write_bytes(b"no image")
    answer = invoke(*words(images, tmp_path / "scores.csv", "--device", "cpu", *on_ray(cluster)))
    assert answer.code == 1
    assert answer.err.startswith(
        "error: 1 of 120 images cannot be used; no result was written; the scores so far are saved"
    )
    assert "007.jpg" in answer.err

    answer = invoke(*words(images, tmp_path / "scores.csv", "--device", "openvono", *on_ray(cluster)))
    assert (answer.code, answer.err.splitlines()[0][:32]) == (1, "error: unknown device 'openvono'")
    answer = invoke(*words(images, tmp_path / "scores.csv", "--engine", "rye"))
    assert answer.err == "error: unknown engine 'rye': did you mean 'ray'?\nnext: pass --engine local\n"
