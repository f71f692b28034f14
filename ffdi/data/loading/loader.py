"""From a table's rows to batches: uint8 images, labels and row numbers."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, SequentialSampler

from ffdi.config.schema import Config
from ffdi.core import signals
from ffdi.core.errors import DataError
from ffdi.data.images.decode import ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.data.loading.dataset import EvalDataset, Sample, TrainDataset
from ffdi.data.loading.sampler import WHOLE, BatchSampler, RankShard, SampleKey

SECONDS = 300
"""How long a worker may take for a batch."""
LOOK = 5
"""Seconds between two looks whether the workers live."""


class Batch(NamedTuple):
    """images: uint8 [B, S, S, 3] RGB; target: float32 [B], NaN where there is no label; index: int64 [B]."""

    images: torch.Tensor
    target: torch.Tensor
    index: torch.Tensor  # type: ignore[assignment]  # takes the place of tuple.index


class LoaderConfig(NamedTuple):
    """Who makes batches.

    Attributes:
        workers: processes, each of which makes whole batches ahead; 0 makes them in this one when they are asked for.
        threads: of this process, which then share a batch.
        pin_memory: whether batches wait in pinned memory.
    """

    workers: int = 0
    threads: int = 1
    pin_memory: bool = False


class _Shared:
    """Samples that several threads make side by side; decoding and most of augmentation let others run."""

    def __init__(self, samples: EvalDataset | TrainDataset, threads: int) -> None:
        self.table, self._samples = samples.table, samples
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="samples")
        cv2.setNumThreads(1)  # a thread for each core is here already

    def __getitems__(self, draws: Sequence[Any]) -> list[Sample | DataError]:
        return list(self._pool.map(self._samples.__getitem__, draws))


class Batches:
    """The batches of a table; iterating raises a DataError that names an image that cannot be read."""

    def __init__(self, loader: DataLoader[object], order: BatchSampler | None = None) -> None:
        self._loader, self._order = loader, order

    def __len__(self) -> int:
        return len(self._loader)

    @property
    def rows(self) -> int:
        """Images of the table, however many of them an epoch shows."""
        return len(self._loader.dataset.table)  # type: ignore[attr-defined]

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
            return iter(self._loader)
        before = signal.getsignal(signal.SIGCHLD)
        batches = iter(self._loader)
        signal.signal(signal.SIGCHLD, before)
        return batches

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
            problems=self.names([draw.row if isinstance(draw, SampleKey) else draw for draw in rows]),
            hint="pass --workers 0, which reads them one by one and names the one that cannot be read; a worker that "
            "was killed may have wanted more memory than there is",
        )

    @property
    def fakes(self) -> float:
        """The share of fakes among an epoch's images."""
        assert self._order is not None, "only training batches have epochs"
        return self._order.fakes

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one training epoch, in that epoch's order, from number `start` on."""
        assert self._order is not None, "only training batches have epochs"
        self._order.epoch, self._order.start = epoch, start
        return iter(self)

    def twice(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The first `count` images as epochs 0 and 1 show them, by the same workers: uint8 [count, S, S, 3]."""
        assert self._order is not None, "only training batches have epochs"
        self._order.planned = [[SampleKey(epoch, row) for row in range(count)] for epoch in (0, 1)]
        first, second = (batch.images.numpy() for batch in self)
        self._order.planned = None
        return first, second


def make_train_loader(
    table: Table,
    config: Config,
    *,
    fold: int,
    supply: LoaderConfig,
    share: RankShard = WHOLE,
) -> Batches:
    """Shuffled, augmented batches; order and pixels are functions of (seed, fold, epoch, row).

    A last batch of a single image is left out: BatchNorm has nothing to estimate from it.

    Args:
        table: with labels of both classes.
        config: how images are prepared, changed, chosen and forged.
        fold: the one that is not among them.
        supply: who makes them; no batch depends on it.
        share: what of each batch is made here.
    """
    assert table.target is not None
    samples = TrainDataset(table, config, fold)
    train, forged = config.train, config.pseudo_fakes.fraction
    order = BatchSampler(table.target, train.batch_size, config.seed, fold, train.sampling, forged, share)
    return Batches(_loader(samples, supply, batch_sampler=order), order)


def make_eval_loader(
    table: Table,
    framing: ResizePolicy,
    *,
    batch_size: int,
    supply: LoaderConfig,
    distortion: str | None = None,
) -> Batches:
    """The images as they are, or distorted before they are resized, in the table's order."""
    order = SequentialSampler(range(len(table)))
    samples = EvalDataset(table, framing, distortion)
    return Batches(_loader(samples, supply, sampler=order, batch_size=batch_size))


def _loader(samples: EvalDataset | TrainDataset, supply: LoaderConfig, **order: object) -> DataLoader[object]:
    in_threads = not supply.workers and supply.threads > 1
    return DataLoader(
        _Shared(samples, supply.threads) if in_threads else samples,  # type: ignore[arg-type]
        num_workers=supply.workers,
        timeout=LOOK if supply.workers else 0,
        collate_fn=_collate,
        pin_memory=supply.pin_memory,
        persistent_workers=supply.workers > 0,
        worker_init_fn=_alone,
        generator=torch.Generator(),  # else the loader draws from the global stream
        **order,  # type: ignore[arg-type]
    )


def _collate(samples: list[Sample | DataError]) -> Batch | DataError:
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
    pixels, target, index = zip(*samples, strict=True)
    return Batch(
        torch.from_numpy(np.stack(pixels)),
        torch.tensor(target, dtype=torch.float32),
        torch.tensor(index, dtype=torch.int64),
    )


def _alone(_worker: int) -> None:
    """One thread, and no ear for Ctrl-C, which reaches a whole group of processes: the main one decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signals.exit_with_parent()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
