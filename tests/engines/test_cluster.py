"""The resources of a fold on a cluster."""

from __future__ import annotations

import pytest

from ffdi.core.errors import DeviceError
from ffdi.engines import cluster
from ffdi.engines.cluster import FoldResources, Machine


def set_machines(monkeypatch: pytest.MonkeyPatch, *machines: tuple[int, int]) -> None:
    """Simulates machines with (CPUs, GPUs)."""
    found = [Machine(str(number), f"machine{number}", *has) for number, has in enumerate(machines)]
    monkeypatch.setattr(cluster, "list_machines", lambda: found)


@pytest.mark.parametrize(
    ("kind", "workers", "ranks", "cpus", "gpus"),
    [
        ("cpu", None, 1, 8, 0),
        ("cpu", None, 2, 16, 0),
        ("gpu", None, 1, 4, 1),
        ("gpu", 0, 1, 1, 1),
        ("gpu", 6, 2, 14, 2),
    ],
)
def test_a_rank_has_threads_or_a_gpu_with_loader_workers(
    kind: str, workers: int | None, ranks: int, cpus: int, gpus: int
) -> None:
    request = FoldResources.for_kind(kind, 8, workers, ranks)
    assert (request.cpus, request.gpus) == (cpus, gpus)


def test_slots_need_cpus_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    set_machines(monkeypatch, (16, 2), (4, 4), (32, 0), (3, 1))
    assert FoldResources.for_kind("gpu", 0, None, 1).count_slots() == 2 + 1
    assert FoldResources.for_kind("cpu", 4, None, 1).count_slots() == 4 + 1 + 8


def test_resources_larger_than_any_machine_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_machines(monkeypatch, (16, 1), (3, 4))
    FoldResources.for_kind("gpu", 0, None, 1).check_available()
    with pytest.raises(DeviceError) as error:
        FoldResources.for_kind("gpu", 0, None, 2).check_available()
    assert str(error.value) == (
        "a fold needs 8 CPU and 2 GPU on one machine; the machines of the cluster have 16 CPU and 1 GPU, 3 CPU and "
        "4 GPU\n"
        "next: pass a larger --jobs, which divides this machine's CPUs among folds, or --device, or add machines"
    )
