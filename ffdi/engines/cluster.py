"""A cluster of Ray: joining one, what its machines have, and what of it a fold asks for."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ffdi import console, machine
from ffdi.errors import ConfigError, DeviceError
from ffdi.training import detector, fold
from ffdi.training import device as devices
from ffdi.training.device import Device

try:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.exceptions import RaySystemError
except ImportError:
    raise ConfigError("--engine ray needs Ray, which is not installed", hint="pip install -e '.[ray]'") from None

ANSWER = 5.0
"""Seconds that a cluster has to take a call."""
WORKERS = 3
"""Loader processes beside a GPU, where nobody says otherwise."""


@dataclass(frozen=True)
class Request:
    """What each fold asks of a machine: CPUs, as many as it has threads, and GPUs or none."""

    cpus: int
    gpus: int
    workers: int | None
    ranks: int

    @classmethod
    def of(cls, kind: str, threads: int, workers: int | None, ranks: int) -> Request:
        """What a fold of so many processes, each on a device of that kind ('cpu' or 'gpu'), asks for."""
        if kind == "cpu":
            return cls(ranks * threads, 0, workers, ranks)
        return cls(ranks * (1 + (workers or WORKERS)), ranks, workers or WORKERS, ranks)

    def devices(self, plan: fold.Plan) -> list[Device]:
        """The devices that a task has been given, on its machine."""
        depthwise = detector.is_depthwise(detector.build(plan.config.model, None))
        asked = devices.FIRST if self.gpus else "cpu"
        device = devices.choose(asked, plan.config.train.precision, self.workers, depthwise=depthwise)
        return devices.several(replace(device, threads=self.cpus // self.ranks), self.ranks)

    def __str__(self) -> str:
        return f"{self.cpus} CPU" + (f" and {self.gpus} GPU" if self.gpus else "")


@contextmanager
def joined(address: str | None) -> Iterator[None]:
    """Inside, this process belongs to a cluster.

    Args:
        address: of one that runs, or 'auto'; None makes one of this machine.

    Raises:
        ConfigError: there is none.
    """
    own = {"address": "local", "num_cpus": machine.cores(), "include_dashboard": False}
    try:
        _call(address)
        with console.hushed():
            ray.init(**(own if address is None else {"address": address}), log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, RaySystemError) as error:
        raise ConfigError(
            f"--address {address}: no Ray cluster answers there: {str(error).strip().splitlines()[0]}",
            hint="start one with: ray start --head; docs/cluster.md has the rest",
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _call(address: str | None) -> None:
    """Sees whether anybody answers: Ray itself would try for five minutes.

    Raises:
        OSError: nobody does.
        ValueError: it is no address.
    """
    if address not in (None, "auto"):
        host, _, port = address.rpartition(":")
        if not (host and port.isdecimal()):
            raise ValueError("an address is 'auto' or HOST:PORT")
        socket.create_connection((host, int(port)), ANSWER).close()


def kind() -> str:
    """What folds are trained on: 'gpu' where the cluster has any, else 'cpu'."""
    return "gpu" if any(one.get("GPU") for one in _machines()) else "cpu"


def described() -> str:
    """What the cluster has."""
    there = _machines()
    cpus, gpus = (sum(one.get(name, 0) for one in there) for name in ("CPU", "GPU"))
    return f"{len(there)} {'machine' if len(there) == 1 else 'machines'} with {cpus:g} CPU and {gpus:g} GPU"


def room(request: Request) -> int:
    """How many such requests the cluster can meet at once."""
    free = ((one.get("CPU", 0) // request.cpus, one.get("GPU", 0) // max(1, request.gpus)) for one in _machines())
    return int(sum(min(some) if request.gpus else some[0] for some in free))


def check(request: Request) -> None:
    """Refuses what no machine of the cluster will ever have.

    Raises:
        DeviceError: says what is there, and what was asked for.
    """
    there = _machines()
    if not any(one.get("CPU", 0) >= request.cpus and one.get("GPU", 0) >= request.gpus for one in there):
        have = ", ".join(f"{one.get('CPU', 0):g} CPU and {one.get('GPU', 0):g} GPU" for one in there)
        raise DeviceError(
            f"a fold asks for {request} of one machine, and the cluster's have {have or 'none'}",
            hint="pass a larger --jobs, which divides this machine's CPUs among folds, or --device, or add machines",
        )


def _machines() -> list[dict[str, float]]:
    """What each machine has, the largest first."""
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sorted(there, key=lambda one: (one.get("GPU", 0), one.get("CPU", 0)), reverse=True)
