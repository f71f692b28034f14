"""Which rows make which batches: shuffled, balanced and forged, all as functions of (seed, fold, epoch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ffdi.core.errors import ConfigError, nearest


class SampleKey(NamedTuple):
    """All that decides a training sample, with seed and fold; `forged` asks for a fake made from that real image."""

    epoch: int
    row: int
    forged: bool = False


class RankShard(NamedTuple):
    """What of each batch one of several processes makes: its number, from 0, and how many there are."""

    rank: int = 0
    ranks: int = 1


WHOLE = RankShard()


class BatchSampler:
    """Batches of draws, shuffled anew for each epoch.

    Args:
        target: int64 [N], 1 = fake.
        batch_size: draws in a batch.
        seed, fold: decide.
        sampling: a key of SAMPLINGS.
        forged: the share of a batch that are fakes made from its real images.
        share: of each batch that is to be made here; a last batch that has not one draw for each process is left out.
    """

    def __init__(
        self,
        target: np.ndarray,
        batch_size: int,
        seed: int,
        fold: int,
        sampling: str = "all",
        forged: float = 0.0,
        share: RankShard = WHOLE,
    ) -> None:
        self.epoch, self.start = 0, 0
        self.planned: list[list[SampleKey]] | None = None
        self._target, self._seed, self._fold, self._share = target, seed, fold, share
        self._classes = [np.flatnonzero(target == label) for label in (0, 1)]
        self._forged = max(round(forged * batch_size), 1) if forged else 0
        self._given = batch_size - self._forged
        real, fake = map(len, self._classes)
        self._counts = SAMPLINGS[sampling](real, fake, self._forged / batch_size)

    def __len__(self) -> int:
        whole, rest = divmod(sum(self._counts), self._given)
        return whole + (rest >= max(2, self._share.ranks) or (rest > 0 and whole == 0))

    @property
    def fakes(self) -> float:
        """The share of fakes among an epoch's draws, those made from real images included."""
        real, fake = self._counts
        made = (real + fake) * self._forged / self._given
        return (fake + made) / (real + fake + made)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        if self.planned is not None:
            yield from self.planned
            return
        rows = self._rows(self.epoch)
        for batch in range(self.start, len(self)):
            given = rows[batch * self._given : (batch + 1) * self._given]
            draws = [*(SampleKey(self.epoch, row) for row in given.tolist()), *self._made(batch, given)]
            yield draws[self._share.rank :: self._share.ranks]

    def _rows(self, epoch: int) -> np.ndarray:
        """An epoch's rows, in its order."""
        stream = np.random.default_rng([self._seed, self._fold, epoch])
        if sum(self._counts) == len(self._target):
            return stream.permutation(len(self._target))
        return stream.permutation(np.concatenate([self._part(label, epoch) for label in (0, 1)]))

    def _part(self, label: int, epoch: int) -> np.ndarray:
        """An epoch's rows of a class: it goes on where the epoch before has stopped, so that each has its turn."""
        rows, count = self._classes[label], self._counts[label]
        turn, place = divmod(epoch * count, max(1, len(rows)))
        turns = [self._turn(label, turn), self._turn(label, turn + 1)]
        return np.concatenate(turns)[place : place + count]

    def _turn(self, label: int, turn: int) -> np.ndarray:
        """All rows of a class, in the order of one turn."""
        return np.random.default_rng([self._seed, self._fold, turn, label, 1]).permutation(self._classes[label])

    def _made(self, batch: int, given: np.ndarray) -> list[SampleKey]:
        """Fakes made from the real images of a batch, each once; from others where it has too few."""
        if not self._forged:
            return []
        wanted = round(self._forged * len(given) / self._given)
        real = given[self._target[given] == 0]
        if len(real) < wanted:
            stream = np.random.default_rng([self._seed, self._fold, self.epoch, batch, 2])
            others = np.setdiff1d(self._classes[0], real)
            missing = min(wanted - len(real), len(others))
            real = np.concatenate([real, stream.permutation(others)[:missing]])
        return [SampleKey(self.epoch, row, True) for row in real[:wanted].tolist()]


def check_sampling(sampling: str) -> None:
    """Refuses a sampling that is not there.

    Raises:
        ConfigError: names the nearest one.
    """
    if sampling not in SAMPLINGS:
        raise ConfigError(
            f"unknown sampling '{sampling}': {nearest(sampling, SAMPLINGS)}",
            hint="correct train.sampling in config.toml",
        )


def _all(real: int, fake: int, _forged: float) -> tuple[int, int]:
    return real, fake


def _balanced(real: int, fake: int, forged: float) -> tuple[int, int]:
    """As many real images as fakes, the forged ones included; as many of both as there are."""
    share = (0.5 - forged) / 0.5  # given fakes for each real image
    reals = real if share == 0 else min(real, int(fake / share))
    return reals, round(reals * share)


SAMPLINGS: dict[str, Callable[[int, int, float], tuple[int, int]]] = {"all": _all, "balanced": _balanced}
"""How many images of each class make an epoch: (real, fake, forged share) -> (real, fake)."""
