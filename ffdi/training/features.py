"""Features of a frozen backbone, computed once and trained on in place of images (`augment.views`).

A set has the features of a table's images in one view of the training, or in all views of test-time augmentation. It
consists of blocks of `BLOCK` images. The key of a block is a hash of the contents of its images, and of what else its
features depend on: an image that has changed makes its block a new one. Blocks are always computed in the same batches,
so their bits do not depend on what was computed before an interruption.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import timm
import torch

from ffdi.config.schema import AUGMENTATION_VERSION, Config
from ffdi.core import signals
from ffdi.data.images.decode import DECODE_POLICY
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.data.loading import loader
from ffdi.data.loading.feature_store import FeatureStore, FeatureWriter
from ffdi.data.loading.loader import Batch, Batches
from ffdi.data.loading.sampler import SampleKey
from ffdi.models import detector as networks
from ffdi.models import head as heads
from ffdi.models import weights as starting
from ffdi.models.detector import Detector
from ffdi.models.head import HeadDetector
from ffdi.training import inputs
from ffdi.training.predict import PartwiseRunner
from ffdi.training.runtime.device import Device

VERSION = 1
"""Raised when features are computed in another way."""
BLOCK = 256
"""Images of a block: so many are computed again after a kill, or if one of them has changed."""
BATCH = 32
"""Images that the backbone gets at once; a divisor of BLOCK."""


class View(NamedTuple):
    """What a training sees of an image: a number from 0 to `augment.views` - 1, and whether it is a pseudo-fake."""

    number: int
    pseudo_fake: bool = False


class Block(NamedTuple):
    """The key of a block, and its rows of the table: int64 [R]."""

    key: bytes
    rows: np.ndarray


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """The features of some rows of a table.

    Attributes:
        rows: int64 [M]: the rows.
        place: int64 [N]: the position of each row of the table in `rows`; -1 if it is not there.
        keys: of the blocks, each of `BLOCK` rows, the last one of the rest.
        views: of an image, side by side in a row of the store.
    """

    store: FeatureStore
    rows: np.ndarray
    place: np.ndarray
    keys: list[bytes]
    views: int = 1

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The features of rows of the table (int [M]): float32 [M, W * D], the views of an image side by side.

        Raises:
            DataError: the store was damaged since it was checked.
        """
        numbers = [divmod(place, BLOCK) for place in self.place[rows].tolist()]
        return np.stack([self.store.read(self.keys[block])[place] for block, place in numbers])

    def list_missing(self) -> list[Block]:
        parts = _split(self.rows, BLOCK)
        return [Block(key, part) for key, part in zip(self.keys, parts, strict=True) if not self.store.has(key)]


@dataclass(frozen=True, eq=False)
class CachedFeatures:
    """All features that the folds of an experiment need, and the head that is trained on them.

    Attributes:
        train: of the training images, by view.
        heldout: of the same images, in all views of test-time augmentation.
        val: of the labelled validation split; None without one.
    """

    head: HeadDetector
    train: dict[View, FeatureSet]
    heldout: FeatureSet
    val: FeatureSet | None

    def count_missing(self) -> int:
        """Images, once for each set, whose features are still to be computed."""
        sets = [*self.train.values(), self.heldout, *([] if self.val is None else [self.val])]
        return sum(len(block.rows) for one in sets for block in one.list_missing())


def describe_features(config: Config, weights_sha256: str, device: Device) -> dict[str, Any]:
    """All that the features of an image depend on, but for the image, as plain JSON."""
    augment = config.augment.model_dump(include={"recipe", "device", "decode", "crop_size"})
    return {
        "version": VERSION,
        "backbone": starting.resolve_name(config.model.backbone),
        "weights_sha256": weights_sha256,
        **config.model.model_dump(include={"size", "resize", "noise_residual"}),
        "seed": config.seed,
        "augment": {**augment, "version": AUGMENTATION_VERSION},
        "pseudo_fakes": config.pseudo_fakes.methods if config.pseudo_fakes.fraction else [],
        "cache": config.cache.model_dump(),
        "decode": DECODE_POLICY,
        "device": device.kind,
        "precision": device.precision,
        "torch": torch.__version__,
        "timm": timm.__version__,
    }


def plan_features(
    config: Config,
    tables: tuple[Table, Table | None],
    sha256: tuple[np.ndarray, np.ndarray | None],
    store: FeatureStore,
    head: HeadDetector,
) -> CachedFeatures:
    """Lists the features that the folds of an experiment need; computes nothing.

    Args:
        config: the experiment's.
        tables: the training images, and the labelled validation split.
        sha256: uint8 [N, 32] for each of them: the hash of each image's file.
        store: has features, or gets them.
        head: of the network.
    """
    (train, val), (contents, val_contents) = tables, map(_to_hex, sha256)
    assert train.target is not None
    every, real = _Rows.of(train, np.arange(len(train))), _Rows.of(train, np.flatnonzero(train.target == 0))
    images = list(zip(train.img_name.tolist(), contents, strict=True))  # the draws of a view depend on the name
    sets = {}
    for number in range(min(config.augment.views, config.train.epochs)):
        sets[View(number)] = every.make_set(store, f"view {number}", images)
        if config.pseudo_fakes.fraction:
            sources = [(*image, _describe_landmarks(train, row)) for row, image in enumerate(images)]
            sets[View(number, True)] = real.make_set(store, f"pseudo-fakes of view {number}", sources)
    scored, views = f"scored with {config.predict.tta}", networks.count_views(config.predict.tta)
    heldout = every.make_set(store, scored, contents, views)
    if val is None:
        return CachedFeatures(head, sets, heldout, None)
    rows = _Rows.of(val, np.arange(len(val)))
    return CachedFeatures(head, sets, heldout, rows.make_set(store, scored, val_contents, views))


class _Rows(NamedTuple):
    """`FeatureSet.rows` and `FeatureSet.place`, which the sets of all views share."""

    rows: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, table: Table, rows: np.ndarray) -> _Rows:
        place = np.full(len(table), -1)
        place[rows] = np.arange(len(rows))
        return cls(rows, place)

    def make_set(self, store: FeatureStore, kind: str, images: Sequence[object], views: int = 1) -> FeatureSet:
        """A set; `images` has, by row of the table, what the features of an image depend on, as plain JSON."""
        parts = _split(self.rows, BLOCK)
        contents = (json.dumps([kind, [images[row] for row in part.tolist()]]) for part in parts)
        keys = [hashlib.sha256(content.encode()).digest() for content in contents]
        return FeatureSet(store, *self, keys, views)


def _split(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _to_hex(sha256: np.ndarray | None) -> list[str]:
    return [] if sha256 is None else [row.tobytes().hex() for row in sha256]


def _describe_landmarks(table: Table, row: int) -> str:
    return "" if table.landmarks is None else hashlib.sha256(table.landmarks[row].tobytes()).hexdigest()


def compute_missing(
    features: CachedFeatures, config: Config, train: Table, val: Table | None, whole: Detector, device: Device
) -> Iterator[int]:
    """Computes the missing features, and writes each block when it is complete.

    Those of the training are computed in its precision, as a training on images does, those for scores in fp32.

    Args:
        features: planned; their store has to be opened again afterwards.
        config: the experiment's.
        train: the training images.
        val: the labelled validation split.
        whole: the network, on the device.
        device: of the network.

    Yields:
        How many more images are done, in views.

    Raises:
        DataError: an image is unreadable.
        TrainingError: the augmentation draws the same in two views.
        ExperimentError: the store cannot be written.
        Interrupted: this process received a signal; all complete blocks are written.
    """
    whole.eval()
    strict = config.train.deterministic
    with FeatureWriter(features.heldout.store) as writer:
        missing = [(view, block) for view, one in features.train.items() for block in one.list_missing()]
        if missing:
            _check_augmentation(train, config, device)
            keys = [
                [SampleKey(view.number, row, view.pseudo_fake) for row in part.tolist()]
                for view, block in missing
                for part in _split(block.rows, BATCH)
            ]
            batches = loader.make_view_loader(train, config, keys, loader_config=device.loader_config)
            embed = PartwiseRunner(lambda images: heads.compute_features(whole, images), device)
            with torch.inference_mode(), device.deterministic(strict, tolerant=True), device.autocast():
                yield from _fill([block for _, block in missing], batches, embed, device, writer)
        for one, table in ((features.heldout, train), (features.val, val)):
            blocks = one.list_missing() if one is not None else []
            if blocks and table is not None:
                rows = np.concatenate([block.rows for block in blocks])
                batches = _make_scored_batches(table.take(rows), config, device)
                embed = PartwiseRunner(lambda images: _embed_views(whole, images, config.predict.tta), device)
                with torch.inference_mode(), device.scoring():
                    yield from _fill(blocks, batches, embed, device, writer)


def _make_scored_batches(table: Table, config: Config, device: Device) -> Batches:
    return loader.make_eval_loader(
        table,
        ResizePolicy.from_config(config.model),
        batch_size=BATCH,
        loader_config=device.loader_config,
    )


def _check_augmentation(train: Table, config: Config, device: Device) -> None:
    batches = loader.make_train_loader(train, config, fold=0, loader_config=device.loader_config)
    inputs.check_augmentation(batches, device)


def _embed_views(whole: Detector, images: torch.Tensor, tta: str) -> torch.Tensor:
    """float32 [B, W * D]: the views of each image side by side."""
    views = networks.make_views(images, tta)
    features = heads.compute_features(whole, torch.cat(views))
    return features.reshape(len(views), len(images), -1).transpose(0, 1).flatten(1)


def _fill(
    blocks: Sequence[Block],
    batches: Batches,
    embed: Callable[[torch.Tensor], torch.Tensor],
    device: Device,
    writer: FeatureWriter,
) -> Iterator[int]:
    """Computes blocks from batches that have their rows, one after the other."""
    given = device.send_batches(batches)
    for block in blocks:
        parts: list[np.ndarray] = []
        for _ in range(0, len(block.rows), BATCH):
            signals.raise_if_interrupted()
            parts.append(embed(inputs.make_images(next(given), device)).cpu().numpy())
            yield len(parts[-1])
        writer.add(block.key, np.concatenate(parts))


class TrainFeatureBatches:
    """Shuffled batches of features, in the order of the batches of images that they take the place of.

    Args:
        features: of the experiment.
        table: the training images of a fold.
        rows: int64 [M]: the row of each of them in the table of all training images.
        config: the experiment's.
        fold: the held-out fold.
    """

    def __init__(self, features: CachedFeatures, table: Table, rows: np.ndarray, config: Config, fold: int) -> None:
        assert table.target is not None
        self._features, self._table, self._rows, self._views = features, table, rows, config.augment.views
        self._target = table.target.astype(np.float32)
        self._sampler = loader.make_sampler(table, config, fold)

    def __len__(self) -> int:
        return len(self._sampler)

    @property
    def fake_fraction(self) -> float:
        return self._sampler.fake_fraction

    def iterate_epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one training epoch, from batch `start` on."""
        self._sampler.epoch, self._sampler.start = epoch, start
        for keys in self._sampler:
            index = np.array([key.row for key in keys])
            fake = np.array([key.pseudo_fake for key in keys])
            parts = [
                self._features.train[View(epoch % self._views, made)].take(self._rows[index[fake == made]])
                for made in (False, True)
                if (fake == made).any()
            ]  # the sampler puts pseudo-fakes behind the images of a batch
            batch = _make_batch(np.concatenate(parts), np.where(fake, np.float32(1), self._target[index]), index)
            if self._table.soft_logit is not None:
                known = np.where(fake, np.float32(np.nan), self._table.soft_logit[index])
                batch = batch._replace(soft_logit=torch.from_numpy(known))
            yield batch

    def list_names(self, index: Sequence[int]) -> list[str]:
        return self._table.img_name[list(index)].tolist()


class ScoredFeatureBatches:
    """Batches of features for scores, in the order of a table.

    Args:
        features: of the table that has the images.
        target: int64 [M]: the label of each image.
        rows: int64 [M]: the row of each image in the table that `features` are of.
        size: images of a batch.
        first_view: whether a batch has the first view alone, the image as it is: [B, D] in place of [B, W, D].
    """

    def __init__(
        self, features: FeatureSet, target: np.ndarray, rows: np.ndarray, size: int, *, first_view: bool = False
    ) -> None:
        self._features, self._target, self._rows = features, target.astype(np.float32), rows
        self._size, self._first_view = size, first_view

    @property
    def rows(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self._rows), self._size):
            part = slice(start, start + self._size)
            found = self._features.take(self._rows[part])
            found = found.reshape(len(found), self._features.views, -1)
            given = np.ascontiguousarray(found[:, 0]) if self._first_view else found
            yield _make_batch(given, self._target[part], np.arange(start, start + len(found)))


def make_probe(features: CachedFeatures) -> Batch:
    """A batch of the features of two images."""
    given = next(iter(features.train.values())).take(np.arange(2))
    return _make_batch(given, np.zeros(2, np.float32), np.arange(2))


def _make_batch(features: np.ndarray, target: np.ndarray, index: np.ndarray) -> Batch:
    return Batch(torch.from_numpy(features), torch.from_numpy(target), torch.from_numpy(index))
