"""Data loaders: batches of uint8 images, labels and row numbers."""

from __future__ import annotations

import itertools
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, SequentialSampler, get_worker_info

from ffdi.config.schema import MAX_EPOCHS, Config
from ffdi.core import machine, signals
from ffdi.core.errors import DataError, DeviceError, format_count
from ffdi.data.images.deferred import MOST_PIXELS, pack_resizes
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.data.loading.dataset import EncodedImage, EvalDataset, Sample, TrainDataset
from ffdi.data.loading.sampler import WHOLE_BATCH, BatchSampler, RankShard, SampleKey
from ffdi.synthetic import operations

SECONDS = 300
"""Time limit of a worker for one batch."""
PREFETCHED = 2
"""Batches that each worker makes ahead; torch's default."""
MORE_SHARED_MEMORY = "start the container with more: docker run --shm-size 4g, or --ipc=host"
FEWER_WORKERS = "pass fewer --workers"
POLL_SECONDS = 5
"""Time between two checks of the workers."""
Failure = DataError | DeviceError
"""An error that a worker sends in place of a batch: one that it raises would arrive as a traceback."""


class Encoded(NamedTuple):
    """The images of a batch that the device decodes.

    Attributes:
        contents: uint8 [N], their files one after the other.
        cuts: int64 [E, 6]: position in the batch, length of the file, and the numbers of a `deferred.Cut`.
        names: their paths, for errors.
    """

    contents: torch.Tensor
    cuts: torch.Tensor
    names: list[str]


class Batch(NamedTuple):
    """A batch of samples.

    Attributes:
        images: uint8 [B, S, S, 3] RGB; where a resize remains, [P, 3], the pixels of all images one after the other.
            Cached features in their place: float32 [B, D], or [B, W, D] for the W views of test-time augmentation.
        target: float32 [B], NaN where there is no label.
        index: int64 [B], rows of the table.
        soft_logit: float32 [B], logits of other networks as soft targets, NaN where there is none; None without any.
        steps: float64 [N, 2 + NUMBERS], of `operations.pack_steps`: what remains to be done on the device; about 100
            bytes for each step. None if nothing does.
        resizes: int64 [B, 2, 7], of `deferred.pack_resizes`: what remains to be done before the steps, which makes
            [B, S, S, 3] of the pixels. None if the images have their size.
        encoded: on the host, images whose pixels are missing in `images`. None if there are none.
        soft_features: float16 [B, D], features of a teacher, of which only those of images with a soft logit and a
            label count; None without any.
    """

    images: torch.Tensor
    target: torch.Tensor
    index: torch.Tensor  # type: ignore[assignment]  # takes the place of tuple.index
    soft_logit: torch.Tensor | None = None
    steps: torch.Tensor | None = None
    resizes: torch.Tensor | None = None
    encoded: Encoded | None = None
    soft_features: torch.Tensor | None = None


class LoaderConfig(NamedTuple):
    """How batches are made.

    Attributes:
        workers: worker processes, each makes whole batches ahead; 0 makes batches in this process, on demand.
        threads: threads of this process that share a batch; only used without workers.
        pin_memory: whether batches are copied to pinned memory.
    """

    workers: int = 0
    threads: int = 1
    pin_memory: bool = False


class _ThreadedDataset:
    """Makes the samples of a batch in several threads; decoding and most of augmentation release the GIL."""

    def __init__(self, samples: EvalDataset | TrainDataset, threads: int) -> None:
        self.samples = samples
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="samples")
        cv2.setNumThreads(1)  # the pool has a thread for each core already

    def __getitems__(self, keys: Sequence[Any]) -> list[Sample | DataError]:
        return list(self._pool.map(self.samples.__getitem__, keys))


class ScoredBatches(Protocol):
    """All batches of a table in its order: of images, or of their features."""

    @property
    def rows(self) -> int:
        """Images of the table."""

    def __iter__(self) -> Iterator[Batch]: ...


class TrainBatches(Protocol):
    """The batches of training epochs: of images, or of their features."""

    def __len__(self) -> int: ...

    @property
    def fake_fraction(self) -> float: ...

    def iterate_epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]: ...

    def list_names(self, index: Sequence[int]) -> list[str]: ...


class Batches:
    """The batches of a table. Iteration raises a DataError with the path of an image that cannot be read."""

    def __init__(self, loader: DataLoader[object], sampler: BatchSampler | None = None) -> None:
        self._loader, self._sampler = loader, sampler

    def __len__(self) -> int:
        return len(self._loader)

    @property
    def _dataset(self) -> EvalDataset | TrainDataset:
        dataset = self._loader.dataset
        return dataset.samples if isinstance(dataset, _ThreadedDataset) else dataset  # type: ignore[return-value]

    @property
    def rows(self) -> int:
        """Images of the table; an epoch may have fewer."""
        return len(self._dataset.table)

    def __iter__(self) -> Iterator[Batch]:
        batches, count = self._start_workers(), 0
        while (batch := self._get_next(batches, count)) is not None:
            if isinstance(batch, Failure):
                try:
                    raise batch
                finally:
                    del batch  # breaks the cycle of error and frame, which delays the end of the workers by 10 s
            yield batch
            count += 1

    def list_names(self, index: Sequence[int]) -> list[str]:
        return self._dataset.table.img_name[list(index)].tolist()

    def _start_workers(self) -> Iterator[Batch | Failure]:
        """An iterator of torch's loader without its SIGCHLD handler, which raises at any place in the code."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
            return iter(self._loader)
        before = signal.getsignal(signal.SIGCHLD)
        batches = iter(self._loader)
        signal.signal(signal.SIGCHLD, before)
        return batches

    def _get_next(self, batches: Iterator[Batch | Failure], count: int) -> Batch | Failure | None:
        """The batch after the first `count` ones; None at the end.

        Raises:
            DataError: a worker was killed or does not answer; the message has the images of the missing batch.
            DeviceError: a worker was killed because shared memory was full.
        """
        waited = 0
        while True:
            try:
                return next(batches, None)
            except (RuntimeError, OSError, EOFError) as error:  # the last two: the worker died while it sent a batch
                hangs = str(error).startswith("DataLoader timed out")
                dead = isinstance(error, OSError | EOFError) or str(error).startswith("DataLoader worker")
                if not self._loader.num_workers or not (hangs or dead):
                    raise
                if "shared memory" in str(error):
                    raise DeviceError(
                        f"a loader worker was killed: {describe_shared_memory()}", hint=FEWER_WORKERS
                    ) from None
            waited += POLL_SECONDS
            if dead or waited >= SECONDS:
                raise self._explain_lost_worker("was killed" if dead else f"did not answer for {SECONDS} s", count)

    def _explain_lost_worker(self, state: str, count: int) -> DataError:
        rows = next(itertools.islice(iter(self._loader.batch_sampler), count, None), [])  # type: ignore[arg-type]
        return DataError(
            f"a loader worker {state} while these images, or those after them, were read",
            problems=self.list_names([key.row if isinstance(key, SampleKey) else key for key in rows]),
            hint="pass --workers 0: images are then read one by one, and the error has the name of the bad one; a "
            "worker may also have been killed because the memory was full",
        )

    @property
    def fake_fraction(self) -> float:
        assert self._sampler is not None, "only training batches have epochs"
        return self._sampler.fake_fraction

    @property
    def changes_images(self) -> bool:
        return isinstance(self._dataset, TrainDataset) and self._dataset.changes_images

    def iterate_epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one training epoch, from batch `start` on."""
        assert self._sampler is not None, "only training batches have epochs"
        self._sampler.epoch, self._sampler.start = epoch, start
        return iter(self)

    def repeat_epochs(self) -> Iterator[Batch]:
        """The batches of all training epochs from the first on, without end."""
        for epoch in itertools.count():
            yield from self.iterate_epoch(epoch)

    def load_two_epochs(self, count: int) -> tuple[Batch, Batch]:
        """The first `count` images in two epochs behind the last one.

        They come from the workers of the training.
        """
        assert self._sampler is not None, "only training batches have epochs"
        self._sampler.fixed_batches = [
            [SampleKey(epoch, row) for row in range(count)] for epoch in (MAX_EPOCHS, MAX_EPOCHS + 1)
        ]
        first, second = self
        self._sampler.fixed_batches = None
        return first, second


def make_train_loader(
    table: Table,
    config: Config,
    *,
    fold: int,
    loader_config: LoaderConfig,
    shard: RankShard = WHOLE_BATCH,
    unlabelled: Table | None = None,
) -> Batches:
    """Shuffled, augmented batches; order and pixels are functions of (seed, fold, epoch, row).

    A last batch of a single image is dropped: BatchNorm cannot use it.

    Args:
        table: training images with labels of both classes.
        config: resizing, augmentation, sampling and pseudo-fakes.
        fold: the held-out fold, part of every random seed.
        loader_config: workers and threads; the batches do not depend on it.
        shard: the part of each batch that this process makes.
        unlabelled: images without labels, with soft targets, for a part of each batch; None without such images.

    Raises:
        DeviceError: the batches of the workers do not fit into shared memory.
    """
    assert table.target is not None
    _check_shared_memory(loader_config.workers, measure_train_batch(config))
    more = 0 if unlabelled is None else len(unlabelled)
    sampler = make_sampler(table, config, fold, shard, more)
    samples = TrainDataset(table if unlabelled is None else table.add_unlabelled(unlabelled), config, fold)
    return Batches(_make_loader(samples, loader_config, batch_sampler=sampler), sampler)


def make_sampler(
    table: Table, config: Config, fold: int, shard: RankShard = WHOLE_BATCH, unlabelled: int = 0
) -> BatchSampler:
    """The order of training images; arguments as for `make_train_loader`."""
    assert table.target is not None
    train, fraction = config.train, config.pseudo_fakes.fraction
    partner = table.rows(table.pair) if train.needs_pairs and table.pair is not None else None
    return BatchSampler(
        table.target,
        train.batch_size,
        config.seed,
        fold,
        train.sampling,
        fraction,
        shard,
        partner,
        train.views,
        unlabelled,
        config.pseudo_labels.fraction,
    )


def make_view_loader(
    table: Table, config: Config, batches: Sequence[Sequence[SampleKey]], *, loader_config: LoaderConfig
) -> Batches:
    """Chosen batches of training images in their `augment.views`, the same in all folds; errors as above."""
    largest = max(map(len, batches), default=0)
    _check_shared_memory(loader_config.workers, largest * measure_train_image(config))
    return Batches(_make_loader(TrainDataset(table, config, fold=0), loader_config, batch_sampler=batches))


def make_eval_loader(
    table: Table,
    resize_policy: ResizePolicy,
    *,
    batch_size: int,
    loader_config: LoaderConfig,
    distortion: str | None = None,
) -> Batches:
    """Batches in the table's order, without augmentation, optionally distorted before resizing; errors as above."""
    _check_shared_memory(loader_config.workers, min(batch_size, len(table)) * resize_policy.size**2 * 3)
    order = SequentialSampler(range(len(table)))
    samples = EvalDataset(table, resize_policy, distortion)
    return Batches(_make_loader(samples, loader_config, sampler=order, batch_size=batch_size))


def measure_batch(config: Config) -> int:
    """The most bytes of a batch, of whole images or for training."""
    return max(config.train.batch_size * config.model.size**2 * 3, measure_train_batch(config))


def measure_train_batch(config: Config) -> int:
    """The most bytes of a batch for training."""
    return config.train.batch_size * config.train.views * measure_train_image(config)


def measure_train_image(config: Config) -> int:
    """The most bytes of an image of such a batch.

    Images for a device may have so many pixels, but need not: nothing is known of their sizes before they are read.
    Decoded ones of a cache are no larger than they are there.
    """
    pixels = config.training_size**2
    if config.augment.device:
        pixels *= MOST_PIXELS
        if config.cache.decoded:
            pixels = min(pixels, ResizePolicy.from_cache(config).size ** 2)
    return pixels * 3


def count_fitting_workers(batch_bytes: int) -> int:
    """The most workers whose batches fit into the free shared memory; containers often have 64 MB."""
    free = machine.read_free_shared_memory()
    return sys.maxsize if free is None or not batch_bytes else free // (PREFETCHED * batch_bytes)


def describe_shared_memory() -> str:
    """Says how much is free, and how a container gets more."""
    free = machine.read_free_shared_memory() or 0
    return f"{machine.SHARED_MEMORY} has {free / 1e6:.0f} MB free; {MORE_SHARED_MEMORY}"


def _check_shared_memory(workers: int, batch: int) -> None:
    """Refuses workers whose batches, of at most so many bytes, do not fit: they would be killed without a word.

    Raises:
        DeviceError: there is too little shared memory.
    """
    if workers > count_fitting_workers(batch):
        raise DeviceError(
            f"{format_count(workers, 'loader worker')} would need {workers * PREFETCHED * batch / 1e6:.0f} MB "
            "of shared memory for their "
            f"batches; {machine.SHARED_MEMORY} has {(machine.read_free_shared_memory() or 0) / 1e6:.0f} MB free",
            hint=f"pass fewer --workers or --workers 0, or {MORE_SHARED_MEMORY}",
        )


def _make_loader(
    samples: EvalDataset | TrainDataset, loader_config: LoaderConfig, **order: object
) -> DataLoader[object]:
    in_threads = not loader_config.workers and loader_config.threads > 1
    return DataLoader(
        _ThreadedDataset(samples, loader_config.threads) if in_threads else samples,  # type: ignore[arg-type]
        num_workers=loader_config.workers,
        prefetch_factor=PREFETCHED if loader_config.workers else None,
        timeout=POLL_SECONDS if loader_config.workers else 0,
        collate_fn=collate,
        pin_memory=loader_config.pin_memory,
        persistent_workers=loader_config.workers > 0,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # without it the loader would use the global random state
        **order,  # type: ignore[arg-type]
    )


def collate(samples: list[Sample | DataError]) -> Batch | Failure:
    """Makes a batch of samples; the first error among them takes its place, or that shared memory is full."""
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
    pixels, target, index, soft_logit, steps, resizes, encoded = zip(*samples, strict=True)
    deferred = None not in resizes
    try:
        images = _pack_pixels(pixels) if deferred else torch.from_numpy(np.stack(pixels))
    except OSError as error:
        return DeviceError(
            f"a loader worker cannot share a batch: {error.strerror}; {describe_shared_memory()}", hint=FEWER_WORKERS
        )
    return Batch(
        images,
        torch.tensor(target, dtype=torch.float32),
        torch.tensor(index, dtype=torch.int64),
        None if all(map(math.isnan, soft_logit)) else torch.tensor(soft_logit, dtype=torch.float32),
        None if None in steps else torch.from_numpy(operations.pack_steps(steps)),
        torch.from_numpy(pack_resizes(resizes)) if deferred else None,
        _pack_encoded(encoded),
    )


def _pack_encoded(images: Sequence[EncodedImage | None]) -> Encoded | None:
    """The encoded images among those of a batch."""
    given = [(place, image) for place, image in enumerate(images) if image is not None]
    if not given:
        return None
    contents = np.frombuffer(bytearray().join(image.content for _, image in given), np.uint8)
    cuts = torch.tensor([[place, len(image.content), *image.cut] for place, image in given])
    return Encoded(torch.from_numpy(contents), cuts, [image.name for _, image in given])


def _pack_pixels(images: Sequence[np.ndarray]) -> torch.Tensor:
    """The pixels of uint8 [H, W, 3], image after image: uint8 [P, 3]. A worker has them in the memory that it shares.

    Raises:
        OSError: shared memory is full.
    """
    count = sum(image.size for image in images)
    if get_worker_info() is None or not count:
        return torch.from_numpy(np.concatenate([image.reshape(-1, 3) for image in images]))
    storage, start = torch.UntypedStorage._new_shared(count, device="cpu"), 0
    packed = torch.empty(0, dtype=torch.uint8).set_(storage).resize_(count).view(-1, 3)
    if torch.multiprocessing.get_sharing_strategy() != "file_descriptor":
        np.concatenate([image.reshape(-1, 3) for image in images], out=packed.numpy())
        return packed
    file = storage._share_fd_cpu_()[0]
    for image in images:  # written, not copied: a process takes long for its first access to each page of new memory
        left = np.ascontiguousarray(image).reshape(-1).data
        while left:
            written = os.pwrite(file, left, start)
            left, start = left[written:], start + written
    return packed


def _start_worker(_worker: int) -> None:
    """Sets one thread, and ignores Ctrl-C, which all processes of a group get: the main process handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signals.exit_with_parent()
    machine.keep_freed_memory()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
