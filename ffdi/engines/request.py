"""What each fold asks of a machine of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ffdi.core.errors import DeviceError
from ffdi.engines import cluster
from ffdi.models import detector
from ffdi.training import fold
from ffdi.training.runtime import device as devices
from ffdi.training.runtime.device import Device

WORKERS = 3
"""Loader processes beside a GPU, where nobody says otherwise."""


@dataclass(frozen=True)
class Request:
    """CPUs, as many as a fold has threads, and GPUs or none."""

    cpus: int
    gpus: int
    workers: int | None
    ranks: int

    @classmethod
    def of(cls, kind: str, threads: int, workers: int | None, ranks: int) -> Request:
        """What a fold of so many processes, each on a device of that kind ('cpu' or 'gpu'), asks for."""
        if kind == "cpu":
            return cls(ranks * threads, 0, workers, ranks)
        workers = WORKERS if workers is None else workers
        return cls(ranks * (1 + workers), ranks, workers, ranks)

    def devices(self, plan: fold.Plan) -> list[Device]:
        """The devices that a task has been given, on its machine."""
        depthwise = detector.is_depthwise(detector.build(plan.config.model, None))
        asked = devices.FIRST if self.gpus else "cpu"
        device = devices.choose(asked, plan.config.train.precision, self.workers, depthwise=depthwise)
        return devices.several(replace(device, threads=self.cpus // self.ranks), self.ranks)

    def room(self) -> int:
        """How many of its kind the cluster can meet at once."""
        there = cluster.machines()
        return sum(min(one.cpus // self.cpus, one.gpus // self.gpus if self.gpus else one.cpus) for one in there)

    def check(self) -> None:
        """Refuses what no machine of the cluster will ever have.

        Raises:
            DeviceError: says what is there, and what was asked for.
        """
        there = cluster.machines()
        if not any(one.cpus >= self.cpus and one.gpus >= self.gpus for one in there):
            have = ", ".join(f"{one.cpus} CPU and {one.gpus} GPU" for one in there)
            raise DeviceError(
                f"a fold asks for {self} of one machine, and the cluster's have {have or 'none'}",
                hint="pass a larger --jobs, which divides this machine's CPUs among folds, or --device, or add "
                "machines",
            )

    def __str__(self) -> str:
        return f"{self.cpus} CPU" + (f" and {self.gpus} GPU" if self.gpus else "")
