"""One sample: from a row of a table to the pixels that a network is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ffdi.config.schema import Config
from ffdi.core.errors import DataError
from ffdi.data.images import cache, decode, distort
from ffdi.data.images.decode import ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.data.loading import augment
from ffdi.data.loading.augment import Key
from ffdi.data.loading.sampler import SampleKey
from ffdi.synthetic import fakes

FORGED = 2
"""Follows a key where a fake is made; the recipe's own draws have the key alone."""

SPREAD = 0.5
"""How far from the middle windows may lie where fakes are made, whose faces are there; elsewhere anywhere."""
Sample = tuple[np.ndarray, float, int]
"""uint8 [S, S, 3] RGB, the label (NaN where there is none), the row."""


class EvalDataset:
    """The images of a table as they are, or distorted before they are given the network's size."""

    def __init__(self, table: Table, framing: ResizePolicy, distortion: str | None = None) -> None:
        self.table, self._framing, self._distortion = table, framing, distortion

    def __getitem__(self, row: int) -> Sample | DataError:
        """One sample, or the error that explains why not: raised in a worker it would arrive as a traceback."""
        target = float("nan") if self.table.target is None else float(self.table.target[row])
        try:
            return self._shown(row), target, row
        except DataError as error:
            return error

    def _shown(self, row: int) -> np.ndarray:
        if self._distortion is None:
            return cache.read_framed(self.table, row, self._framing)
        return self._framing.frame(distort.apply(self._distortion, cache.read_pixels(self.table, row), seed=row))


class Forge:
    """Makes fakes of some kinds, keys of `fakes.KINDS`, from the real images of a table with labels."""

    def __init__(self, table: Table, kinds: Sequence[str], given: Callable[[int], np.ndarray]) -> None:
        assert table.target is not None
        self._table, self._kinds, self._given = table, kinds, given
        self._real = np.flatnonzero(table.target == 0)

    def __call__(self, image: np.ndarray, key: Key) -> np.ndarray:
        """A fake made from the image that is the key's row, uint8 [H, W, 3]; `key` alone decides how."""
        rng, row = np.random.default_rng((*key, FORGED)), key[-1]
        partner = int(self._real[rng.integers(len(self._real))])
        other = image if self._kinds == ["self_blend"] else self._given(partner)
        return fakes.make_fake(self._kinds, image, other, rng, self._points(row))

    def _points(self, row: int) -> np.ndarray | None:
        """Points of a face, where somebody has found them."""
        if self._table.landmarks is None or np.isnan(self._table.landmarks[row]).any():
            return None
        return self._table.landmarks[row]


class TrainDataset:
    """The images of a table with labels, changed as a config says; drawn by `Draw`, with the seed and the fold.

    A fake made from a real image is changed as the real image is, so that only what makes it a fake tells them apart.
    """

    def __init__(self, table: Table, config: Config, fold: int) -> None:
        self.table, self._seed, self._fold = table, config.seed, fold
        self._framing = ResizePolicy.of(config.model)
        self._augmentation = augment.recipe(config.augment.recipe)
        self._framed_first = config.cache.decoded
        self._forge, self._window = Forge(table, config.pseudo_fakes.methods, self._given), config.augment.crop_size
        self._spread = SPREAD if config.pseudo_fakes.fraction else 1.0

    def __getitem__(self, draw: SampleKey) -> Sample | DataError:
        """One sample, or the error that explains why not: raised in a worker it would arrive as a traceback."""
        key = (self._seed, self._fold, draw.epoch, draw.row)
        try:
            image = self._given(draw.row)
            if draw.forged:
                image = self._forge(image, key)
        except DataError as error:
            return error
        assert self.table.target is not None
        target = 1.0 if draw.forged else float(self.table.target[draw.row])
        # what happens to images on their way happens before a network's size is cut out of them
        return self._shown(self._augmentation(image, key), key), target, draw.row

    def _given(self, row: int) -> np.ndarray:
        """What recipes and fakes begin with: an image at its own size, or in the network's."""
        if self._framed_first:
            return cache.read_framed(self.table, row, self._framing)
        return cache.read_pixels(self.table, row)

    def _shown(self, image: np.ndarray, key: Key) -> np.ndarray:
        """The image in the network's size, or a window of that."""
        view = self._augmentation.view(key)
        framed = self._framing.frame(image, view)
        if not self._window:
            return framed
        x, y = (0.5 + self._spread * (place - 0.5) for place in (view.x, view.y))
        return decode.crop_box(framed, self._window, x, y)
