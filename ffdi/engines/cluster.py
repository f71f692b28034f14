"""A Ray cluster: connecting to it, and the resources of its machines."""

from __future__ import annotations

import logging
import platform
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ffdi import __version__
from ffdi.core import console, machine
from ffdi.core.errors import ConfigError, DeviceError, format_count, get_first_line
from ffdi.data.labels.table import Table
from ffdi.data.loading import loader
from ffdi.training.fold import TrainingPlan
from ffdi.training.runtime import device as devices
from ffdi.training.runtime.device import Device

try:
    import ray
    from ray.exceptions import RaySystemError
except ImportError:
    raise ConfigError("--engine ray needs Ray, which is not installed", hint="pip install -e '.[ray]'") from None

CONNECT_SECONDS = 5.0
"""The timeout of the first connection."""


class Machine(NamedTuple):
    """A node of the cluster: its ID, its host name, and the CPUs and GPUs for tasks."""

    node: str
    name: str
    cpus: int
    gpus: int

    @classmethod
    def from_node(cls, node: Mapping[str, Any]) -> Machine:
        """From an element of `ray.nodes()`, which lists no resource of amount 0."""
        resources = node["Resources"]
        cpus, gpus = (int(resources.get(name, 0)) for name in ("CPU", "GPU"))
        return cls(node["NodeID"], node["NodeManagerHostname"], cpus, gpus)


@contextmanager
def connect(address: str | None) -> Iterator[None]:
    """Connects this process to a cluster, for the time of the context.

    Args:
        address: of a running cluster, or 'auto'; None starts a cluster of this machine.

    Raises:
        ConfigError: there is no cluster at the address.
    """
    own = {"address": "local", "num_cpus": machine.count_cores(), "include_dashboard": False}
    try:
        _check_reachable(address)
        with console.silence():
            ray.init(
                **(own if address is None else {"address": address}), log_to_driver=False, logging_level=logging.ERROR
            )
    except (OSError, RuntimeError, ValueError, RaySystemError) as error:
        raise ConfigError(
            f"--address {address}: no Ray cluster answers: {get_first_line(error)}",
            hint="start a cluster: ray start --head; see docs/cluster.md",
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Tests the connection, because Ray itself would try for five minutes.

    Raises:
        OSError: nothing listens at the address.
        ValueError: the address is malformed.
    """
    if address not in (None, "auto"):
        host, _, port = address.rpartition(":")
        if not (host and port.isdecimal()):
            raise ValueError("an address must be 'auto' or HOST:PORT")
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


def list_machines() -> list[Machine]:
    """The machines that are alive, the largest first."""
    machines = [Machine.from_node(node) for node in ray.nodes() if node["Alive"]]
    return sorted(machines, key=lambda machine: (machine.gpus, machine.cpus), reverse=True)


def detect_device_kind() -> str:
    """'gpu' if a machine of the cluster has one, else 'cpu'."""
    return "gpu" if any(machine.gpus for machine in list_machines()) else "cpu"


def describe_machines() -> str:
    """A line such as '3 machines with 2 CPU and 0 GPU'."""
    machines = list_machines()
    cpus, gpus = sum(machine.cpus for machine in machines), sum(machine.gpus for machine in machines)
    return f"{format_count(len(machines), 'machine')} with {cpus} CPU and {gpus} GPU"


def check_version(version: str) -> None:
    """Raises ConfigError if this machine has another version of ffdi than the machine that runs the command."""
    if version != __version__:
        raise ConfigError(
            f"ffdi is {__version__} on {platform.node()}, but {version} on the machine that runs the command",
            hint="install the same version on all machines",
        )


def detach_table(table: Table) -> Table:
    """Returns a table for another machine: with an absolute path of the images, and without this machine's cache."""
    return replace(table, folder=table.folder.resolve(), stored=None)


@dataclass(frozen=True)
class FoldResources:
    """The part of one machine that a fold needs.

    Attributes:
        cpus: of a CPU, one for each thread; of a GPU, one for the training and each loader process.
        gpus: 0, or one for each rank.
        workers: loader processes of each rank; None chooses on the machine.
        ranks: processes that train the fold together.
    """

    cpus: int
    gpus: int
    workers: int | None
    ranks: int

    @classmethod
    def for_gpus(cls, workers: int | None, ranks: int) -> FoldResources:
        """A GPU for each rank; without --workers, as many CPUs as every GPU of the cluster can have, at most."""
        if workers is not None:
            return cls(ranks * (1 + workers), ranks, workers, ranks)
        shares = [machine.cpus // machine.gpus for machine in list_machines() if machine.gpus >= ranks]
        share = max(1, min([*shares, 1 + devices.MAX_WORKERS]))
        return cls(ranks * share, ranks, None, ranks)

    @classmethod
    def for_cpus(cls, folds: int | None, jobs: int | None, workers: int | None, ranks: int) -> FoldResources:
        """The part of the largest machine that `device.assign_devices` gives to a fold."""
        cpus = max([1, *(machine.cpus for machine in list_machines())])
        whole = Device("cpu", "fp32", cpus, 0, "")
        threads = devices.assign_devices(whole, "cpu", folds, jobs, ranks)[0][0].threads
        return cls(ranks * threads, 0, workers, ranks)

    def choose_devices(self, plan: TrainingPlan) -> list[Device]:
        """One device for each rank, on the machine of the task.

        Raises:
            DeviceError, ConfigError: of `device.choose_device`, with the name of the machine.
        """
        config, threads = plan.config, self.cpus // self.ranks
        if self.gpus:  # the task is alone with its GPUs, and may use their part of the CPUs
            node = ray.get_runtime_context().get_node_id()
            threads = max(
                [threads, *(one.cpus // one.gpus for one in list_machines() if one.node == node and one.gpus)]
            )
        try:
            device = devices.choose_device(
                devices.FIRST_GPU if self.gpus else "cpu",
                config.train.precision,
                self.workers,
                batch_bytes=loader.measure_batch(config),
                threads=threads,
            )
        except (ConfigError, DeviceError) as error:
            raise type(error)(f"{platform.node()}: {error.what}", problems=error.problems, hint=error.hint) from None
        return devices.list_devices(device, self.ranks)

    def count_slots(self) -> int:
        """The number of folds that fit into the cluster at the same time."""
        return sum(
            min(machine.cpus // self.cpus, machine.gpus // self.gpus if self.gpus else machine.cpus)
            for machine in list_machines()
        )

    def check_available(self) -> None:
        """Raises DeviceError if no machine of the cluster is large enough."""
        machines = list_machines()
        if not any(machine.cpus >= self.cpus and machine.gpus >= self.gpus for machine in machines):
            have = ", ".join(f"{machine.cpus} CPU and {machine.gpus} GPU" for machine in machines)
            raise DeviceError(
                f"a fold needs {self} on one machine; the machines of the cluster have {have or 'none'}",
                hint="pass fewer --workers, or a larger --jobs, which divides a machine's CPUs among folds, or "
                "--device, or add machines",
            )

    def __str__(self) -> str:
        return f"{self.cpus} CPU" + (f" and {self.gpus} GPU" if self.gpus else "")
