"""From a table's rows to batches: uint8 images, labels and row numbers."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from ffdi.data import distort, images
from ffdi.data.augment import Augmentation
from ffdi.data.table import Table
from ffdi.errors import DataError

Draw = tuple[int, int]
"""Epoch and row: with seed and fold, all that decides a training sample."""

SECONDS = 300
"""How long a worker may take for a batch."""
LOOK = 5
"""Seconds between two looks whether the workers live."""


class Batch(NamedTuple):
    """images: uint8 [B, S, S, 3] RGB; target: float32 [B], NaN where there is no label; index: int64 [B]."""

    images: torch.Tensor
    target: torch.Tensor
    index: torch.Tensor


class Batches:
    """The batches of a table; iterating raises a DataError that names an image that cannot be read."""

    def __init__(self, loader: DataLoader[object], order: _Order | None = None) -> None:
        self._loader, self._order = loader, order

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        batches, given = self._begun(), 0
        while (batch := self._next(batches, given)) is not None:
            if isinstance(batch, DataError):
                try:
                    raise batch
                finally:
                    del batch  # else error and frame hold each other, and the workers are waited for in vain: 10 s
            yield batch
            given += 1

    def names(self, index: Sequence[int]) -> list[str]:
        """The images of rows."""
        table: Table = self._loader.dataset.table  # type: ignore[attr-defined]
        return table.img_name[list(index)].tolist()

    def _begun(self) -> Iterator[Batch | DataError]:
        """torch's loader, without its handler of dying children: that raises in whatever runs just then."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
            return iter(self._loader)  # type: ignore[arg-type]
        before = signal.getsignal(signal.SIGCHLD)
        batches = iter(self._loader)
        signal.signal(signal.SIGCHLD, before)
        return batches  # type: ignore[return-value]

    def _next(self, batches: Iterator[Batch | DataError], given: int) -> Batch | DataError | None:
        """The batch after those that were given; None at the end.

        Raises:
            DataError: a worker was killed, or does not answer; names the images that are waited for.
        """
        waited = 0
        while True:
            try:
                return next(batches, None)
            except (RuntimeError, OSError, EOFError) as error:  # the latter where it dies while it hands a batch over
                hangs = str(error).startswith("DataLoader timed out")
                dead = isinstance(error, OSError | EOFError) or str(error).startswith("DataLoader worker")
                if not self._loader.num_workers or not (hangs or dead):
                    raise
            waited += LOOK
            if dead or waited >= SECONDS:
                raise self._lost("was killed" if dead else f"did not answer for {SECONDS} s", given)

    def _lost(self, state: str, given: int) -> DataError:
        rows = next(itertools.islice(iter(self._loader.batch_sampler), given, None), [])  # type: ignore[arg-type]
        return DataError(
            f"a loader worker {state} while these images, or those after them, were read",
            problems=self.names([draw[1] if isinstance(draw, tuple) else draw for draw in rows]),
            hint="pass --workers 0, which reads them one by one and names the one that cannot be read; a worker that "
            "was killed may have wanted more memory than there is",
        )

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one training epoch, in that epoch's order, from number `start` on."""
        assert self._order is not None, "only training batches have epochs"
        self._order.epoch, self._order.start = epoch, start
        return iter(self)

    def twice(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The first `count` images as epochs 0 and 1 show them, by the same workers: uint8 [count, S, S, 3]."""
        assert self._order is not None, "only training batches have epochs"
        self._order.planned = [[(epoch, row) for row in range(count)] for epoch in (0, 1)]
        first, second = (batch.images.numpy() for batch in self)
        self._order.planned = None
        return first, second


def training(
    table: Table,
    size: int,
    augmentation: Augmentation,
    *,
    batch_size: int,
    seed: int,
    fold: int,
    workers: int,
    pin_memory: bool,
) -> Batches:
    """Shuffled, augmented batches; order and pixels are functions of (seed, fold, epoch, row).

    A last batch of a single image is left out: BatchNorm has nothing to estimate from it.
    """
    samples = _Samples(table, size, augmentation, seed, fold)
    order = _Order(len(table), batch_size, seed, fold)
    return Batches(_loader(samples, workers, pin_memory, batch_sampler=order), order)


def reading(
    table: Table, size: int, *, batch_size: int, workers: int, pin_memory: bool, distortion: str | None = None
) -> Batches:
    """The images as they are, or distorted before they are resized, in the table's order."""
    samples = _Samples(table, size, None, 0, 0, distortion)
    order = SequentialSampler(range(len(table)))
    return Batches(_loader(samples, workers, pin_memory, sampler=order, batch_size=batch_size))


class _Samples(Dataset[object]):
    def __init__(
        self,
        table: Table,
        size: int,
        augmentation: Augmentation | None,
        seed: int,
        fold: int,
        distortion: str | None = None,
    ) -> None:
        self.table, self.size, self.augmentation = table, size, augmentation
        self.seed, self.fold, self.distortion = seed, fold, distortion

    def __getitem__(self, draw: Draw | int) -> tuple[np.ndarray, float, int] | DataError:
        """One sample, or the error that explains why not: raised in a worker it would arrive as a traceback."""
        epoch, index = draw if isinstance(draw, tuple) else (0, draw)
        try:
            image = images.read(self.table.path(index))
        except DataError as error:
            return error
        if self.distortion is not None:
            image = distort.apply(self.distortion, image, seed=index)
        image = images.resize(image, self.size)
        if self.augmentation is not None:
            image = self.augmentation(image, (self.seed, self.fold, epoch, index))
        target = float("nan") if self.table.target is None else float(self.table.target[index])
        return image, target, index


class _Order:
    """Batches of (epoch, row), shuffled anew for each epoch."""

    def __init__(self, rows: int, batch_size: int, seed: int, fold: int) -> None:
        self.rows, self.batch_size, self.seed, self.fold = rows, batch_size, seed, fold
        self.epoch, self.start = 0, 0
        self.planned: list[list[Draw]] | None = None

    def __len__(self) -> int:
        whole, rest = divmod(self.rows, self.batch_size)
        return whole + (rest > 1 or (rest == 1 and whole == 0))

    def __iter__(self) -> Iterator[list[Draw]]:
        if self.planned is not None:
            yield from self.planned
            return
        rows = np.random.default_rng([self.seed, self.fold, self.epoch]).permutation(self.rows).tolist()
        for batch in range(self.start, len(self)):
            start = batch * self.batch_size
            yield [(self.epoch, row) for row in rows[start : start + self.batch_size]]


def _loader(samples: _Samples, workers: int, pin_memory: bool, **order: object) -> DataLoader[object]:
    return DataLoader(
        samples,
        num_workers=workers,
        timeout=LOOK if workers else 0,
        collate_fn=_collate,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=_alone,
        generator=torch.Generator(),  # else the loader draws from the global stream
        **order,  # type: ignore[arg-type]
    )


def _collate(samples: list[tuple[np.ndarray, float, int] | DataError]) -> Batch | DataError:
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
    pixels, target, index = zip(*samples, strict=True)
    return Batch(
        torch.from_numpy(np.stack(pixels)),
        torch.tensor(target, dtype=torch.float32),
        torch.tensor(index, dtype=torch.int64),
    )


def _leave_with_parent() -> None:
    """Ends a worker the moment its parent dies. torch's own watch looks every 5 s, and where workers come from a
    forkserver, as from Python 3.14 on, it watches that one, and they stay for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _alone(_worker: int) -> None:
    """One thread, and no ear for Ctrl-C, which reaches a whole group of processes: the main one decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
