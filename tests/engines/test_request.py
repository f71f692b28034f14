"""What a fold asks of a machine of a cluster, and how many of a cluster's machines can meet it."""

from __future__ import annotations

import pytest

from ffdi.core.errors import DeviceError
from ffdi.engines import cluster
from ffdi.engines.cluster import Machine, Request


def there(monkeypatch: pytest.MonkeyPatch, *machines: tuple[int, int]) -> None:
    """A cluster whose machines have so many CPUs and GPUs."""
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
def test_a_rank_has_its_threads_or_a_gpu_with_its_loader_workers(
    kind: str, workers: int | None, ranks: int, cpus: int, gpus: int
) -> None:
    request = Request.of(kind, 8, workers, ranks)
    assert (request.cpus, request.gpus) == (cpus, gpus)


def test_a_cluster_has_room_where_both_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch, (16, 2), (4, 4), (32, 0), (3, 1))
    assert Request.of("gpu", 0, None, 1).room() == 2 + 1
    assert Request.of("cpu", 4, None, 1).room() == 4 + 1 + 8


def test_what_fits_on_no_single_machine_is_refused_with_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch, (16, 1), (3, 4))
    Request.of("gpu", 0, None, 1).check()
    with pytest.raises(DeviceError) as error:
        Request.of("gpu", 0, None, 2).check()
    assert str(error.value) == (
        "a fold asks for 8 CPU and 2 GPU of one machine, and the cluster's have 16 CPU and 1 GPU, 3 CPU and 4 GPU\n"
        "next: pass a larger --jobs, which divides this machine's CPUs among folds, or --device, or add machines"
    )
