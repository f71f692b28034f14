"""A cluster of Ray: joining one, and what its machines have."""

from __future__ import annotations

import logging
import os
import platform
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ffdi import __version__
from ffdi.core import console, machine
from ffdi.core.errors import ConfigError, DeviceError
from ffdi.models import detector
from ffdi.training import fold
from ffdi.training.runtime import device as devices
from ffdi.training.runtime.device import Device

try:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.exceptions import RaySystemError
except ImportError:
    raise ConfigError("--engine ray needs Ray, which is not installed", hint="pip install -e '.[ray]'") from None

ANSWER = 5.0
"""Seconds that a cluster has to take a call."""


class Machine(NamedTuple):
    """What Ray calls a node: its number there, its name, and what tasks may have of it."""

    node: str
    name: str
    cpus: int
    gpus: int

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> Machine:
        """From what `ray.nodes()` says of one; a resource that is not listed is not there."""
        has = node["Resources"]
        return cls(node["NodeID"], node["NodeManagerHostname"], int(has.get("CPU", 0)), int(has.get("GPU", 0)))


@contextmanager
def connect(address: str | None) -> Iterator[None]:
    """Inside, this process belongs to a cluster.

    Args:
        address: of one that runs, or 'auto'; None makes one of this machine.

    Raises:
        ConfigError: there is none.
    """
    own = {"address": "local", "num_cpus": machine.cores(), "include_dashboard": False}
    try:
        _call(address)
        with console.silence():
            ray.init(
                **(own if address is None else {"address": address}), log_to_driver=False, logging_level=logging.ERROR
            )
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


def list_machines() -> list[Machine]:
    """Those that are there, the largest first."""
    there = [Machine.of(one) for one in ray.nodes() if one["Alive"]]
    return sorted(there, key=lambda one: (one.gpus, one.cpus), reverse=True)


def kind() -> str:
    """What networks run on: 'gpu' where the cluster has any, else 'cpu'."""
    return "gpu" if any(one.gpus for one in list_machines()) else "cpu"


def describe_machines() -> str:
    """What the cluster has."""
    there = list_machines()
    cpus, gpus = sum(one.cpus for one in there), sum(one.gpus for one in there)
    return f"{len(there)} {'machine' if len(there) == 1 else 'machines'} with {cpus} CPU and {gpus} GPU"


def check_version(version: str) -> None:
    """Refuses another ffdi than a command was given to.

    Raises:
        ConfigError: says where it is which.
    """
    if version != __version__:
        raise ConfigError(
            f"ffdi is {__version__} on {platform.node()}, and {version} where the command was given",
            hint="install the same version on all machines",
        )


WORKERS = 3
"""Loader processes beside a GPU, where nobody says otherwise."""


@dataclass(frozen=True)
class Request:
    """What a fold asks of one machine: CPUs, as many as the fold has threads, and GPUs or none."""

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
        there = list_machines()
        return sum(min(one.cpus // self.cpus, one.gpus // self.gpus if self.gpus else one.cpus) for one in there)

    def check(self) -> None:
        """Refuses what no machine of the cluster will ever have.

        Raises:
            DeviceError: says what is there, and what was asked for.
        """
        there = list_machines()
        if not any(one.cpus >= self.cpus and one.gpus >= self.gpus for one in there):
            have = ", ".join(f"{one.cpus} CPU and {one.gpus} GPU" for one in there)
            raise DeviceError(
                f"a fold asks for {self} of one machine, and the cluster's have {have or 'none'}",
                hint="pass a larger --jobs, which divides this machine's CPUs among folds, or --device, or add "
                "machines",
            )

    def __str__(self) -> str:
        return f"{self.cpus} CPU" + (f" and {self.gpus} GPU" if self.gpus else "")
