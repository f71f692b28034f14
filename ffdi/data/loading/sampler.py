"""The order of training images and their distribution to batches, as functions of (seed, fold, epoch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np


class SampleKey(NamedTuple):
    """Determines a training sample, together with seed and fold.

    Attributes:
        epoch: the epoch, from 0.
        row: the row of the image.
        pseudo_fake: whether the sample is a fake that is made from this real image.
        view_of: the row whose crop and augmentation the image gets; -1: its own.
        clean: whether the image gets no augmentation, only its crop.
    """

    epoch: int
    row: int
    pseudo_fake: bool = False
    view_of: int = -1
    clean: bool = False

    @property
    def view_row(self) -> int:
        """The row whose crop and augmentation the image gets."""
        return self.row if self.view_of < 0 else self.view_of


class RankShard(NamedTuple):
    """The part of each batch that one of several processes makes: its rank, from 0, and the number of processes."""

    rank: int = 0
    ranks: int = 1


WHOLE_BATCH = RankShard()


class BatchSampler:
    """Batches of sample keys, in another order in each epoch.

    Args:
        target: int64 [N], 1 = fake.
        batch_size: samples in a batch, of all processes together.
        seed, fold: determine the order.
        sampling: a key of SAMPLINGS.
        fake_fraction: fraction of each batch that is pseudo-fakes, made from the batch's real images.
        shard: the part of each batch for this process; a last batch with less than one sample for each process is
            dropped.
        partner: int64 [N], for 'paired' sampling: the row of the real image of each fake; -1 where it is unknown.
        views: 2 adds a clean view behind each sample, which does not count as a sample; else 1.
        unlabelled: number of images without labels, in the rows behind those of `target`.
        unlabelled_fraction: fraction of each batch that they have, each as often as the others.
    """

    def __init__(
        self,
        target: np.ndarray,
        batch_size: int,
        seed: int,
        fold: int,
        sampling: str = "all",
        fake_fraction: float = 0.0,
        shard: RankShard = WHOLE_BATCH,
        partner: np.ndarray | None = None,
        views: int = 1,
        unlabelled: int = 0,
        unlabelled_fraction: float = 0.0,
    ) -> None:
        self.epoch, self.start = 0, 0
        self.fixed_batches: list[list[SampleKey]] | None = None
        self._target, self._seed, self._fold, self._shard = target, seed, fold, shard
        self._classes = [np.flatnonzero(target == label) for label in (0, 1)]
        self._pseudo_fakes = max(round(fake_fraction * batch_size), 1) if fake_fraction else 0
        self._unlabelled = unlabelled
        self._extra = min(max(round(unlabelled_fraction * batch_size), 1), unlabelled) if unlabelled else 0
        self._images, self._views = max(batch_size - self._pseudo_fakes - self._extra, 1), views
        self._partner: np.ndarray | None = None
        if sampling == "paired":
            self._images -= self._images % 2
            self._partner = np.full(len(target), -1) if partner is None else partner
        real, fake = map(len, self._classes)
        self._counts = SAMPLINGS[sampling](real, fake, self._pseudo_fakes / batch_size)

    def __len__(self) -> int:
        whole, rest = divmod(sum(self._counts), self._images)
        return whole + (rest >= max(2, self._shard.ranks) or (rest > 0 and whole == 0))

    @property
    def fake_fraction(self) -> float:
        """The fraction of fakes in an epoch, pseudo-fakes included."""
        real, fake = self._counts
        pseudo_fakes = (real + fake) * self._pseudo_fakes / self._images
        return (fake + pseudo_fakes) / (real + fake + pseudo_fakes)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        if self.fixed_batches is not None:
            yield from self.fixed_batches
            return
        rows = self._order_rows(self.epoch)
        for batch in range(self.start, len(self)):
            part = rows[batch * self._images : (batch + 1) * self._images]
            keys = [*self._make_keys(part), *self._pick_pseudo_fakes(batch, part), *self._pick_unlabelled(batch, part)]
            own = keys[self._shard.rank :: self._shard.ranks]
            yield own if self._views == 1 else [key._replace(clean=clean) for key in own for clean in (False, True)]

    def _make_keys(self, rows: np.ndarray) -> list[SampleKey]:
        """Keys of the images of a batch; the real image of a pair gets the view of the fake before it."""
        if self._partner is None:
            return [SampleKey(self.epoch, row) for row in rows.tolist()]
        fakes = np.repeat(rows[::2], 2)
        views = np.where(rows == fakes, -1, fakes)
        return [
            SampleKey(self.epoch, row, False, view) for row, view in zip(rows.tolist(), views.tolist(), strict=True)
        ]

    def _order_rows(self, epoch: int) -> np.ndarray:
        """The rows of an epoch, shuffled."""
        rng = np.random.default_rng([self._seed, self._fold, epoch])
        if self._partner is not None:
            return self._order_pairs(rng)
        if sum(self._counts) == len(self._target):
            return rng.permutation(len(self._target))
        return rng.permutation(np.concatenate([self._pick_rows(label, epoch) for label in (0, 1)]))

    def _order_pairs(self, rng: np.random.Generator) -> np.ndarray:
        """Each fake, in random order, with its real image behind it; a random one where its own is unknown."""
        assert self._partner is not None
        fakes = rng.permutation(self._classes[1])
        reals = self._partner[fakes]
        unknown = reals < 0
        reals[unknown] = rng.choice(self._classes[0], int(unknown.sum()))
        return np.stack([fakes, reals], axis=1).ravel()

    def _pick_rows(self, label: int, epoch: int) -> np.ndarray:
        """The rows of a class in an epoch: each epoch continues after the last one, so that all rows are used alike."""
        rows, count = self._classes[label], self._counts[label]
        cycle, place = divmod(epoch * count, max(1, len(rows)))
        cycles = [self._shuffle_class(label, cycle), self._shuffle_class(label, cycle + 1)]
        return np.concatenate(cycles)[place : place + count]

    def _shuffle_class(self, label: int, cycle: int) -> np.ndarray:
        """All rows of a class, in the order of one cycle."""
        return np.random.default_rng([self._seed, self._fold, cycle, label, 1]).permutation(self._classes[label])

    def _pick_pseudo_fakes(self, batch: int, rows: np.ndarray) -> list[SampleKey]:
        """Keys of pseudo-fakes from the real images of a batch, each once; other real images fill up the rest."""
        if not self._pseudo_fakes:
            return []
        wanted = round(self._pseudo_fakes * len(rows) / self._images)
        real = rows[self._target[rows] == 0]
        if len(real) < wanted:
            rng = np.random.default_rng([self._seed, self._fold, self.epoch, batch, 2])
            others = np.setdiff1d(self._classes[0], real)
            missing = min(wanted - len(real), len(others))
            real = np.concatenate([real, rng.permutation(others)[:missing]])
        return [SampleKey(self.epoch, row, True) for row in real[:wanted].tolist()]

    def _pick_unlabelled(self, batch: int, rows: np.ndarray) -> list[SampleKey]:
        """Keys of images without labels; each batch continues after the last one, so that all are used alike."""
        if not self._extra:
            return []
        count = round(self._extra * len(rows) / self._images)
        cycle, place = divmod((self.epoch * len(self) + batch) * self._extra, self._unlabelled)
        cycles = [self._shuffle_unlabelled(cycle), self._shuffle_unlabelled(cycle + 1)]
        chosen = np.concatenate(cycles)[place : place + count] + len(self._target)
        return [SampleKey(self.epoch, row) for row in chosen.tolist()]

    def _shuffle_unlabelled(self, cycle: int) -> np.ndarray:
        """All images without labels, in the order of one cycle."""
        return np.random.default_rng([self._seed, self._fold, cycle, 3, 1]).permutation(self._unlabelled)


def _take_all(real: int, fake: int, _fake_fraction: float) -> tuple[int, int]:
    return real, fake


def _balance(real: int, fake: int, fake_fraction: float) -> tuple[int, int]:
    """As many real images as fakes, pseudo-fakes included; as many of both as possible."""
    share = (0.5 - fake_fraction) / 0.5  # fakes of the data set for each real image
    reals = real if share == 0 else min(real, int(fake / share))
    return reals, round(reals * share)


def _pair(_real: int, fake: int, _fake_fraction: float) -> tuple[int, int]:
    return fake, fake


SAMPLINGS: dict[str, Callable[[int, int, float], tuple[int, int]]] = {
    "all": _take_all,
    "balanced": _balance,
    "paired": _pair,
}
"""Number of images of each class in an epoch: (real, fake, fraction of pseudo-fakes) -> (real, fake)."""
