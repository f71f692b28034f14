"""Where folds are trained: on this machine, or on a cluster's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ffdi.core import console
from ffdi.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from ffdi.engines.job import Ask, Heard
    from ffdi.training.fold import Plan
    from ffdi.training.runtime.device import Device

Run = Callable[["Ask"], AbstractContextManager[Iterator["Heard"]]]
"""Asks for jobs, does them, and gives what happens in them; left, it ends them in good order."""


class Engine(NamedTuple):
    """What a person says about it.

    Attributes:
        name: a key of ENGINES.
        address: of the cluster.
        jobs: folds at once.
        ranks: processes of each fold, each on a device of its own.
    """

    name: str
    address: str | None
    jobs: int | None
    ranks: int

    def check(self) -> None:
        """Refuses what is not there.

        Raises:
            ConfigError: names the nearest engine; or what is said does not go together.
        """
        if self.name not in ENGINES:
            raise ConfigError(
                f"unknown engine '{self.name}': {nearest(self.name, ENGINES)}", hint="pass --engine local"
            )
        if self.address is not None and self.name != "ray":
            raise ConfigError(f"--address {self.address} is a Ray cluster's", hint="pass --engine ray beside it")

    def check_company(self, plan: Plan) -> None:
        """Refuses more ranks than there is work for.

        Raises:
            ConfigError: one of them would have no image.
        """
        if plan.config.train.batch_size < self.ranks:
            raise ConfigError(
                f"--gpus-per-fold {self.ranks}: a batch of {plan.config.train.batch_size} has not an image for each",
                hint="set a larger train.batch_size in config.toml, or pass fewer --gpus-per-fold",
            )
        fewest = min([int(np.bincount(plan.fold_of).min()), *([] if plan.val is None else [len(plan.val)])])
        if fewest < self.ranks:
            raise ConfigError(
                f"--gpus-per-fold {self.ranks}: {_count(fewest, 'image')} to be scored, which is not one for each",
                hint="pass fewer --gpus-per-fold",
            )


def open_engine(
    engine: Engine, device: Device, asked: str, workers: int | None, k: int | None
) -> AbstractContextManager[Run]:
    """An engine that is ready, and says where folds will run.

    Args:
        engine: which.
        device: that was chosen on this machine.
        asked: `--device`, as a person has said it.
        workers: `--workers`.
        k: folds of an experiment; None where any number is trained.
    """
    return ENGINES[engine.name](engine, device, asked, workers, k)


@contextmanager
def _local(engine: Engine, device: Device, asked: str, _workers: int | None, k: int | None) -> Iterator[Run]:
    from ffdi.engines import local, process
    from ffdi.training.runtime import device as devices

    shared = devices.share(device, asked, k, engine.jobs, engine.ranks)
    console.say(f"device: {device.why}")
    if len(shared) > 1 or engine.ranks > 1:
        names, first = ", ".join(dict.fromkeys(one.name for some in shared for one in some)), shared[0][0]
        each = f"each of their {engine.ranks} ranks" if engine.ranks > 1 else "each"
        workers = f" and {_count(first.workers, 'loader worker')}" if first.workers else ""
        threads = f"{_count(first.threads, 'thread')}{workers}"
        console.say(f"{_count(len(shared), 'fold')} at once: on {names}, {each} with {threads}")
        process.start_process_group()  # it imports while images are looked at
    yield lambda ask: closing(local.run(ask, shared))


@contextmanager
def _ray(engine: Engine, device: Device, asked: str, workers: int | None, k: int | None) -> Iterator[Run]:
    from ffdi.engines import cluster, ray
    from ffdi.engines.cluster import Request
    from ffdi.training.runtime import device as devices

    with cluster.connect(engine.address):
        kind = cluster.kind() if asked == "auto" else asked.partition(":")[0]
        threads = devices.share(device, asked, k, engine.jobs, engine.ranks)[0][0].threads if kind == "cpu" else 0
        request = Request.of(kind, threads, workers, engine.ranks)
        request.check()
        console.say(f"engine: Ray on {cluster.describe_machines()}; each fold has {request}")
        yield lambda ask: closing(ray.run(ask, request))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


ENGINES: dict[str, Callable[..., AbstractContextManager[Run]]] = {"local": _local, "ray": _ray}
