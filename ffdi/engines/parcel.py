"""What travels to a task of Ray: a job, its tables, its starting weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray

from ffdi import __version__
from ffdi.config.schema import Config
from ffdi.data.images.cache import Store, rows_of
from ffdi.data.images.decode import ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.engines import cluster
from ffdi.engines.job import Job
from ffdi.experiments.fold import Identity
from ffdi.training.fold import Plan


def detach(table: Table) -> Table:
    """A table that can travel, without what lies in files of this machine."""
    return replace(table, folder=table.folder.resolve(), stored=None)


class Data(NamedTuple):
    """A plan's tables as they can travel, without what lies in files of one machine.

    Attributes:
        train: the training images.
        val: the validation images, where there are any.
        cache: where a machine that has their cache too finds it.
    """

    train: Table
    val: Table | None
    cache: tuple[Path, ResizePolicy | None] | None

    @classmethod
    def of(cls, plan: Plan) -> Data:
        """A plan's tables, and where their cache lies on this machine."""
        cached = rows_of(plan.train)
        cache = None if cached is None else (cached.store.folder, cached.store.framing)
        return cls(detach(plan.train), None if plan.val is None else detach(plan.val), cache)

    def attached(self) -> tuple[Table, Table | None]:
        """Both tables as this machine can read them."""
        if self.cache is None:
            return self.train, self.val
        store = Store(*self.cache)
        return store.attach(self.train), None if self.val is None else store.attach(self.val)


class File(NamedTuple):
    """A file that travels."""

    name: str
    content: bytes

    def put(self, folder: Path) -> Path:
        """Writes it there."""
        path = folder / self.name
        path.write_bytes(self.content)
        return path


class Order(NamedTuple):
    """A job as it travels, beside its tables and its starting weights.

    Attributes:
        version: of ffdi.
    """

    config: Config
    identity: Identity
    fold_of: np.ndarray
    folds_digest: str
    fold: int
    until: int | None
    version: str

    @classmethod
    def of(cls, job: Job) -> Order:
        """What a job says beside its tables and its starting weights, with the version of this ffdi."""
        plan = job.plan
        dealt = plan.config, plan.identity, plan.fold_of, plan.folds_digest
        return cls(*dealt, job.folder.fold, job.until, __version__)

    def plan(self, data: Data, weights: File | None, place: Path) -> Plan:
        """The plan as this machine can work with it, with files in a folder of its own.

        Raises:
            ConfigError: ffdi is another one here.
        """
        cluster.check_version(self.version)
        train, val = data.attached()
        path = None if weights is None else weights.put(place)
        return Plan(self.config, self.identity, train, self.fold_of, self.folds_digest, path, val)


class Sent:
    """What several tasks need, sent once: to a list of experiments, or to a sweep's trials, the same tables."""

    def __init__(self) -> None:
        self._references: dict[object, tuple[Any, object]] = {}

    def data(self, plan: Plan) -> Any:
        """What Ray gives for a plan's tables."""
        return self._once((id(plan.train), id(plan.val)), plan, lambda: Data.of(plan))

    def weights(self, path: Path | None) -> Any:
        """What Ray gives for a file; None for none."""
        return None if path is None else self._once(path, None, lambda: File(path.name, path.read_bytes()))

    def _once(self, key: object, held: object, made: Callable[[], object]) -> Any:
        """`held` keeps alive whatever the key is the number of."""
        if key not in self._references:
            self._references[key] = ray.put(made()), held
        return self._references[key][0]
