"""The resources of a fold on a cluster."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ffdi.commands.shared import planning
from ffdi.commands.shared.options import TrainFoldsOptions
from ffdi.config.schema import Config
from ffdi.core import cuda, machine
from ffdi.core.errors import DeviceError
from ffdi.data.labels.table import Table
from ffdi.engines import cluster
from ffdi.engines.cluster import FoldResources, Machine
from ffdi.experiments.fold import Identity
from ffdi.experiments.workspace import Workspace
from ffdi.training.fold import TrainingPlan
from tests.conftest import PROJECT


def set_machines(monkeypatch: pytest.MonkeyPatch, *machines: tuple[int, int]) -> None:
    """Simulates machines with (CPUs, GPUs)."""
    found = [Machine(str(number), f"machine{number}", *has) for number, has in enumerate(machines)]
    monkeypatch.setattr(cluster, "list_machines", lambda: found)


@pytest.mark.parametrize(
    ("machines", "workers", "ranks", "cpus"),
    [
        ([(16, 2)], None, 1, 8),
        ([(16, 2), (4, 4), (64, 0)], None, 1, 1),  # every GPU is used
        ([(16, 2), (4, 1)], None, 2, 16),  # one machine has two
        ([(256, 2)], None, 1, 17),  # no more loader workers than a machine chooses by itself
        ([(2, 4)], None, 1, 1),
        ([(16, 2)], 0, 1, 1),
        ([(16, 2)], 6, 2, 14),
    ],
)
def test_a_fold_on_gpus_has_their_part_of_the_cpus(
    machines: list[tuple[int, int]], workers: int | None, ranks: int, cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_machines(monkeypatch, *machines)
    request = FoldResources.for_gpus(workers, ranks)
    assert (request.cpus, request.gpus, request.workers, request.ranks) == (cpus, ranks, workers, ranks)


@pytest.mark.parametrize(
    ("machines", "folds", "jobs", "ranks", "cpus"),
    [
        ([(0, 0), (2, 0), (16, 0)], 5, None, 1, 3),
        ([(16, 0)], 5, 1, 1, 16),
        ([(16, 0)], 5, None, 2, 2),
        ([(16, 0)], None, None, 1, 16),
        ([(0, 0)], 5, None, 1, 1),
    ],
)
def test_a_fold_on_cpus_has_its_part_of_the_largest_machine(
    machines: list[tuple[int, int]],
    folds: int | None,
    jobs: int | None,
    ranks: int,
    cpus: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_machines(monkeypatch, *machines)
    request = FoldResources.for_cpus(folds, jobs, None, ranks)
    assert (request.cpus, request.gpus) == (cpus, 0)


class RuntimeContext:
    """Ray's, in a task on the second machine."""

    def get_node_id(self) -> str:
        return "1"


@pytest.fixture
def plan() -> TrainingPlan:
    config = Config.model_validate({"model": {"backbone": "test_resnet", "pretrained": False, "size": 64}})
    none = np.empty(0)
    table = Table("train", Path(), none, None, None, Path())
    return TrainingPlan(config, Identity({}, ""), table, none, "", None, None)


def test_the_machine_of_a_task_decides(plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    set_machines(monkeypatch, (4, 4), (64, 8))
    monkeypatch.setattr(cluster.ray, "get_runtime_context", RuntimeContext)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(machine, "count_cores", lambda: 1)  # of the task, by Ray's OMP_NUM_THREADS
    monkeypatch.setattr(machine, "read_free_shared_memory", lambda: None)
    request = FoldResources.for_gpus(None, 1)
    assert request.cpus == 1
    (device,) = request.choose_devices(plan)
    assert (device.name, device.precision, device.threads, device.workers) == ("cuda:0", "fp16", 8, 7)
    monkeypatch.setattr(machine, "read_free_shared_memory", lambda: 5 * 2 * 32 * 64 * 64 * 3)
    assert request.choose_devices(plan)[0].workers == 5
    devices = FoldResources(6, 0, None, 2).choose_devices(plan)
    assert [(one.name, one.threads, one.workers) for one in devices] == [("cpu", 3, 0)] * 2


def test_the_machine_of_the_command_needs_no_gpu(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cuda, "query_driver", lambda: None)
    config = Config.model_validate(
        {"model": {"backbone": "test_resnet", "pretrained": False, "size": 64}, "train": {"precision": "fp16"}}
    )
    choose = partial(planning.choose_device, Workspace(workspace, PROJECT), config)
    with pytest.raises(DeviceError):
        choose(TrainFoldsOptions(device="cuda"))
    device, _ = choose(TrainFoldsOptions(device="cuda", engine="ray"))
    assert (device.name, device.precision) == ("cpu", "fp32")


def test_an_error_of_a_machine_has_its_name(plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    set_machines(monkeypatch, (4, 4), (64, 8))
    monkeypatch.setattr(cluster.ray, "get_runtime_context", RuntimeContext)
    monkeypatch.setattr(cluster.platform, "node", lambda: "node7")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cuda, "query_driver", lambda: None)
    with pytest.raises(DeviceError) as error:
        FoldResources(1, 1, None, 1).choose_devices(plan)
    assert str(error.value) == ("node7: no CUDA device 0: there is none\nnext: pass --device auto or --device cpu")


def test_slots_need_cpus_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    set_machines(monkeypatch, (16, 2), (4, 4), (32, 0), (3, 1))
    assert FoldResources.for_gpus(3, 1).count_slots() == 2 + 1
    assert FoldResources(4, 0, None, 1).count_slots() == 4 + 1 + 8


def test_resources_larger_than_any_machine_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_machines(monkeypatch, (16, 1), (3, 4))
    FoldResources.for_gpus(3, 1).check_available()
    with pytest.raises(DeviceError) as error:
        FoldResources.for_gpus(3, 2).check_available()
    assert str(error.value) == (
        "a fold needs 8 CPU and 2 GPU on one machine; the machines of the cluster have 16 CPU and 1 GPU, 3 CPU and "
        "4 GPU\n"
        "next: pass fewer --workers, or a larger --jobs, which divides a machine's CPUs among folds, or --device, or "
        "add machines"
    )
