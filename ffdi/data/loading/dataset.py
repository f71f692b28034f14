"""Samples: from a row of a table to the pixels of a network's input; fixed distortions for stress tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from ffdi.config.schema import Config, PseudoFakesConfig
from ffdi.core.errors import DataError
from ffdi.data.images import cache, decode, deferred, reconstructions, reencoding, resizing
from ffdi.data.images.deferred import MOST_PIXELS, Cut, Resize
from ffdi.data.images.resizing import CropBox, ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.data.loading import augment
from ffdi.data.loading.augment import ANY_FOLD, Key
from ffdi.data.loading.sampler import SampleKey
from ffdi.synthetic import operations, pseudo_fakes
from ffdi.synthetic.operations import Step

PSEUDO_FAKE, PARTNER = 2, 3
"""Appended to a key for the random streams of a pseudo-fake; the augmentation's stream has the key alone."""

SPREAD = 0.5
"""Largest distance of a training crop from the middle, in parts of the possible one, when pseudo-fakes are made: they
change faces, and faces are in the middle. Without pseudo-fakes a crop may be anywhere."""
NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


class EncodedImage(NamedTuple):
    """A JPEG for the device.

    Attributes:
        content: the bytes of the file.
        name: its path, for errors.
        cut: the pixels that are used.
    """

    content: bytes
    name: str
    cut: Cut


class Sample(NamedTuple):
    """An image for a network.

    Attributes:
        pixels: uint8 [S, S, 3] RGB; [H, W, 3] where a resize remains; [0, 0, 3] where the device decodes.
        target: the label, NaN without labels.
        row: of the table.
        soft_logit: the logit of other networks as a soft target; NaN where there is none.
        steps: what remains to be done to the image, on the device; None if nothing does.
        resize: what remains to be done before, also on the device.
        encoded: what the device decodes before that; None if the image is decoded.
    """

    pixels: np.ndarray
    target: float
    row: int
    soft_logit: float = math.nan
    steps: list[Step] | None = None
    resize: Resize | None = None
    encoded: EncodedImage | None = None


class EvalDataset:
    """The images of a table without augmentation, optionally distorted before they are resized."""

    def __init__(self, table: Table, resize_policy: ResizePolicy, distortion: str | None = None) -> None:
        self.table, self._resize_policy, self._distortion = table, resize_policy, distortion

    def __getitem__(self, row: int) -> Sample | DataError:
        """A sample or its error: an error that a worker raises would arrive as a traceback."""
        target = float("nan") if self.table.target is None else float(self.table.target[row])
        try:
            return Sample(self._load(row), target, row)
        except DataError as error:
            return error

    def _load(self, row: int) -> np.ndarray:
        if self._distortion is None:
            return cache.read_resized(self.table, row, self._resize_policy)
        pixels = cache.read_pixels(self.table, row)
        if self._distortion == REENCODED:
            return reencoding.reencode(pixels, self._resize_policy).pixels
        return self._resize_policy.apply(distort_image(self._distortion, pixels, seed=row))


class PseudoFakeMaker:
    """Makes fakes from the real images of a table, by some of `pseudo_fakes.NAMES`.

    Args:
        table: with reconstructions, if they are among the methods.
        config: has the methods.
        cache_policy: how images were resized before they were cached; None without such a cache.
        load: an image by its row, and its scale.
    """

    def __init__(
        self,
        table: Table,
        config: PseudoFakesConfig,
        cache_policy: ResizePolicy | None,
        load: Callable[[int], tuple[np.ndarray, float]],
    ) -> None:
        assert table.target is not None
        self._table, self._config, self._cache_policy, self._load = table, config, cache_policy, load
        self._real = np.flatnonzero(table.target == 0)

    def __call__(self, key: Key, row: int, shrink: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, float]:
        """A fake from the image of a row, and its scale; the same key gives the same fake.

        Args:
            key: of the fake.
            row: of the image.
            shrink: brings an image near the network's size, where a fake takes less work.

        Returns:
            uint8 [H, W, 3], and the square root of the number of its pixels in parts of the original's.
        """
        rng, methods = np.random.default_rng((*key, PSEUDO_FAKE)), self._config.methods
        # in a view, the number of real images, which differs between folds, must not decide what else is drawn
        choice = np.random.default_rng((*key, PARTNER)) if key[1] == ANY_FOLD else rng
        partner = int(self._real[choice.integers(len(self._real))])
        method = methods[int(rng.integers(len(methods)))]
        if method == pseudo_fakes.RECONSTRUCTION:
            return self._mix_reconstruction(row, rng)
        image, scale = self._load(row)
        whole = shrink(image)
        other = whole if methods == ["self_blend"] else self._load(partner)[0]
        fake = pseudo_fakes.make_fake(method, whole, other, rng, self._get_landmarks(row))
        return fake, scale * (math.prod(whole.shape) / math.prod(image.shape)) ** 0.5

    def _mix_reconstruction(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Mixes and encodes at the image's own size: JPEG's blocks are there."""
        real = cache.read_pixels(self._table, row)
        fake = pseudo_fakes.mix_reconstruction(real, reconstructions.read(self._table, row, real.shape), rng)
        if self._config.match_jpeg:
            fake = reconstructions.encode_like(self._table, row, fake)
        if self._cache_policy is None:
            return fake, 1.0
        return self._cache_policy.apply(fake), self._cache_policy.size / (fake.shape[0] * fake.shape[1]) ** 0.5

    def _get_landmarks(self, row: int) -> np.ndarray | None:
        if self._table.landmarks is None or np.isnan(self._table.landmarks[row]).any():
            return None
        return self._table.landmarks[row]


class TrainDataset:
    """The images of a table with labels, augmented; indexed by `SampleKey`.

    A pseudo-fake gets the same augmentation as its real image, and so do both images of a pair: only the manipulation
    differs.
    """

    def __init__(self, table: Table, config: Config, fold: int) -> None:
        self.table, self._seed, self._fold, self._views = table, config.seed, fold, config.augment.views
        self._resize_policy = ResizePolicy.from_config(config.model)
        self._augmentation = augment.Augmentation(config.augment.recipe)
        self._cache_policy = ResizePolicy.from_cache(config) if config.cache.decoded else None
        self._make_fake = PseudoFakeMaker(table, config.pseudo_fakes, self._cache_policy, self._load)
        self._crop_size, self._on_device = config.augment.crop_size, config.augment.device
        self._decode_there = config.augment.decode == "device"
        self._spread = SPREAD if config.pseudo_fakes.fraction else 1.0

    @property
    def changes_images(self) -> bool:
        """Whether an image differs between two epochs in a row."""
        return self._augmentation.changes_images and self._views != 1

    def __getitem__(self, sample: SampleKey) -> Sample | DataError:
        """A sample or its error: an error that a worker raises would arrive as a traceback."""
        try:
            if self._decode_there and not sample.pseudo_fake and (left := self._leave_decoding(sample)):
                return left
            pixels, steps, resize = self._make_pixels(sample)
        except DataError as error:
            return error
        return Sample(pixels, *self._get_labels(sample), steps, resize)

    def _get_labels(self, sample: SampleKey) -> tuple[float, int, float]:
        """The label, NaN if there is none; the row; and the soft target, which does not hold for a pseudo-fake."""
        target, soft = self.table.target, self.table.soft_logit
        assert target is not None
        if sample.pseudo_fake:
            return 1.0, sample.row, math.nan
        label = float(target[sample.row]) if target[sample.row] >= 0 else math.nan
        return label, sample.row, math.nan if soft is None else float(soft[sample.row])

    def _leave_decoding(self, sample: SampleKey) -> Sample | None:
        """A sample whose image the device decodes; None if it is better to decode it here."""
        (key, box), policy = self._choose_view(sample), self._resize_policy
        name, window = str(self.table.path(sample.row)), self._locate_window(policy.size, box)
        content = cache.read_file(self.table, sample.row)
        header = decode.read_header(content, name)
        edge = window[0].stop - window[0].start
        if len(content) > 3 * MOST_PIXELS * edge**2 or not decode.is_plain_jpeg(content, header):
            return None
        shape = header.height, header.width
        geometry = policy.locate(shape, box)
        if (left := deferred.defer_decoding(shape, geometry, policy.size, window)) is None:
            return None
        steps = operations.place_steps(self._draw_steps(sample, key), *_place(geometry, policy.size, window))
        cut, resize = left
        return Sample(NO_PIXELS, *self._get_labels(sample), steps, resize, EncodedImage(content, name, cut))

    def _draw_steps(self, sample: SampleKey, key: Key) -> list[Step]:
        """The steps of the recipe for a device; none for a clean view."""
        return [] if sample.clean else self._augmentation.draw_steps(key)

    def _augment(
        self, sample: SampleKey, pixels: np.ndarray, key: Key, scale: float, corner: tuple[float, float]
    ) -> np.ndarray:
        """Applies the recipe, but not to a clean view."""
        return pixels if sample.clean else self._augmentation(pixels, key, scale, corner)

    def _choose_view(self, sample: SampleKey) -> tuple[Key, CropBox]:
        key = self._make_key(sample)
        return key, self._augmentation.choose_crop(key)

    def _make_key(self, sample: SampleKey) -> Key:
        if not self._views:
            return self._seed, self._fold, sample.epoch, sample.view_row
        return augment.make_view_key(self._seed, sample.epoch % self._views, str(self.table.img_name[sample.view_row]))

    def _make_pixels(self, sample: SampleKey) -> tuple[np.ndarray, list[Step] | None, Resize | None]:
        """The image at the network's input size, or a crop of that; or what a device makes it from, and how.

        The operations of a recipe get the image where it has the fewest pixels, with the strength that they would have
        on the image at its own size: they come first in the life of an image, and shrinking it comes last. A device
        applies them to images of one size, so that small ones are enlarged before.
        """
        (key, box), policy = self._choose_view(sample), self._resize_policy
        if sample.pseudo_fake:
            image, shrunk = self._make_fake(key, sample.row, partial(policy.shrink_around, box=box))
        else:
            image, shrunk = self._load(sample.row)
        if not self._crop_size and not self._on_device:
            view = policy.crop(image, box)
            corner = view.scale * view.corner[0], view.scale * view.corner[1]
            return view.finish(self._augment(sample, view.pixels, key, shrunk * view.scale, corner)), None, None
        geometry = policy.locate(image.shape, box)
        window = self._locate_window(policy.size, box)
        scale, corner = _place(geometry, policy.size, window)
        scale *= shrunk
        if self._on_device:
            steps = operations.place_steps(self._draw_steps(sample, key), scale, corner)
            left = deferred.defer_resize(image, geometry, policy.size, window)
            pixels, resize = left or deferred.keep_size(_resize_window(policy, image, box, window))
            return pixels, steps, resize
        return self._augment(sample, _resize_window(policy, image, box, window), key, scale, corner), None, None

    def _locate_window(self, size: int, box: CropBox) -> tuple[slice, slice]:
        """The part of a resized image that is trained on."""
        if not self._crop_size:
            return slice(0, size), slice(0, size)
        x, y = (0.5 + self._spread * (place - 0.5) for place in (box.x, box.y))
        return resizing.locate_window(size, self._crop_size, x, y)

    def _load(self, row: int) -> tuple[np.ndarray, float]:
        """An image, and its scale: 1 at its own size, another one where the cache has resized images."""
        if self._cache_policy is None:
            return cache.read_pixels(self.table, row), 1.0
        return cache.read_resized_and_scale(self.table, row, self._cache_policy)


def _place(geometry: resizing.Geometry, size: int, window: tuple[slice, slice]) -> tuple[float, tuple[float, float]]:
    """The scale of a window of the network's input, and column and row of its first pixel at this scale."""
    zoom = geometry.scale * geometry.compute_growth(size)
    left, top = geometry.corner
    return zoom, (zoom * left + window[1].start, zoom * top + window[0].start)


def _resize_window(policy: ResizePolicy, image: np.ndarray, box: CropBox, window: tuple[slice, slice]) -> np.ndarray:
    """A part of a resized image: uint8 [edge, edge, 3]."""
    view = policy.crop(image, box)
    return np.ascontiguousarray(view.finish(view.pixels)[window])


REENCODED = "re-encoded"
"""The name of `reencoding.reencode` at the network's size, which comes after the resizing and not before it."""
Distortion = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""RGB uint8 [H, W, 3] and a random generator -> the same shape."""


def distort_image(name: str, pixels: np.ndarray, seed: int) -> np.ndarray:
    """Applies one of DISTORTIONS; the same name, pixels and seed give the same result."""
    return DISTORTIONS[name](pixels, np.random.default_rng(seed))


def _compress(pixels: np.ndarray, _rng: np.random.Generator, *, quality: int) -> np.ndarray:
    return operations.compress(pixels, quality, 0, 0)


def _blur(pixels: np.ndarray, _rng: np.random.Generator, *, share: float) -> np.ndarray:
    """Gaussian blur; `share` is the standard deviation in parts of the image's width."""
    return cv2.GaussianBlur(pixels, (0, 0), share * pixels.shape[1])


def _downscale(pixels: np.ndarray, _rng: np.random.Generator, *, scale: float) -> np.ndarray:
    """Shrinks by area, then enlarges to the old size by cubic interpolation."""
    down, up = map(operations.INTERPOLATIONS.index, (cv2.INTER_AREA, cv2.INTER_CUBIC))
    return operations.resample(pixels, scale, down, up)


def _add_noise(pixels: np.ndarray, rng: np.random.Generator, *, deviation: float) -> np.ndarray:
    """Adds independent Gaussian noise to every value; the deviation is in grey levels."""
    noisy = pixels + deviation * rng.standard_normal(pixels.shape, np.float32)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


DISTORTIONS: dict[str, Distortion] = {
    **{f"JPEG quality {quality}": partial(_compress, quality=quality) for quality in (90, 70, 50, 30)},
    "blur of 0.4 % of the edge": partial(_blur, share=0.004),
    "blur of 0.8 % of the edge": partial(_blur, share=0.008),
    "half size": partial(_downscale, scale=0.5),
    "quarter size": partial(_downscale, scale=0.25),
    "noise of 4 grey levels": partial(_add_noise, deviation=4),
    "noise of 10 grey levels": partial(_add_noise, deviation=10),
}
"""What happens to images between camera and detector, in fixed strengths."""
