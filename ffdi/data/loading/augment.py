"""Augmentation recipes for training images; the only module that imports albumentations.

A recipe is an albumentations pipeline that draws the steps of `operations`. albumentations 2.0.8 repeats its random
stream in loader workers. Therefore every sample has its own seed: the same (seed, fold, epoch, row) gives the same
steps with any number of workers.
"""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import albumentations as A
import numpy as np

from ffdi.data.images.resizing import CropBox
from ffdi.synthetic import operations
from ffdi.synthetic.operations import INTERPOLATIONS, NOISE_VALUES, Step

Key = tuple[int, int, int, int]
"""seed, fold, epoch, row; with `augment.views`: seed, ANY_FOLD, view, number of the image."""
ANY_FOLD = 2**31
"""Takes the place of the fold in the key of a view, which is the same in all folds."""
Draw = Callable[[random.Random], Step]
Transforms = list[A.BaseCompose | A.BasicTransform]
Record = Callable[[Step], None]
CROP = 1
"""Appended to a key for the random stream of the crop; the stream of the steps has the key alone."""
BLANK = np.zeros((1, 1, 3), np.uint8)
UNUSED = np.random.default_rng(0)
"""albumentations wants a generator of NumPy; no transform here asks for its numbers."""


@dataclass(frozen=True)
class Recipe:
    """An augmentation recipe.

    Attributes:
        transforms: makes the albumentations transforms, in order; they call the argument with each step.
        zoom: smallest edge of the random crop, in parts of the whole image.
        stretch: largest aspect ratio of the random crop, in either direction.
    """

    transforms: Callable[[Record], Transforms]
    zoom: float = 1.0
    stretch: float = 1.0


class Augmentation:
    """Draws and applies the steps of a recipe, for one image at a time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._pipelines: dict[int, _Pipeline] = {}

    @property
    def changes_images(self) -> bool:
        """Whether the recipe has any transform."""
        return bool(RECIPES[self.name].transforms(_ignore))

    def choose_crop(self, key: Key) -> CropBox:
        """A random crop; the same key gives the same crop."""
        recipe = RECIPES[self.name]
        stream = _make_stream(*key, CROP)
        zoom, stretch, x, y = (stream.random() for _ in range(4))
        return CropBox(recipe.zoom + (1 - recipe.zoom) * zoom, recipe.stretch ** (2 * stretch - 1), x, y)

    def draw_steps(self, key: Key) -> list[Step]:
        """Random steps for an image at its own size; the same key gives the same steps."""
        thread = threading.get_ident()  # one pipeline for each thread: it holds the parameters that it has drawn
        if (pipeline := self._pipelines.get(thread)) is None:
            pipeline = self._pipelines[thread] = _Pipeline(RECIPES[self.name])
        return pipeline.draw(_make_stream(*key))

    def __call__(
        self, image: np.ndarray, key: Key, scale: float = 1, corner: tuple[float, float] = (0, 0)
    ) -> np.ndarray:
        """Augments uint8 [H, W, 3], result of the same shape; the same key gives the same result.

        Args:
            image: at the scale of the network's input, or smaller.
            key: determines the steps.
            scale: the image's edge in parts of the original one's.
            corner: column and row of the first pixel in the whole image at this scale.
        """
        return operations.apply_steps(image, operations.place_steps(self.draw_steps(key), scale, corner))


def make_view_key(seed: int, view: int, img_name: str) -> Key:
    """The key of a view of an image: its name decides, because its row differs between folds."""
    number = int.from_bytes(blake2b(img_name.encode(), digest_size=8).digest()) >> 1  # a stream packs signed numbers
    return seed, ANY_FOLD, view, number


def _make_stream(*key: int) -> random.Random:
    """Random numbers from a key; NumPy takes ten times as long to start a generator."""
    return random.Random(int.from_bytes(blake2b(struct.pack(f"<{len(key)}q", *key), digest_size=8).digest()))


class _Pipeline:
    """A recipe's transforms, and the steps that they draw."""

    def __init__(self, recipe: Recipe) -> None:
        self._steps: list[Step] = []
        self._compose = A.Compose(recipe.transforms(self._steps.append))

    def draw(self, stream: random.Random) -> list[Step]:
        if not self._compose.transforms:
            return []
        self._steps.clear()
        # one stream for all transforms: set_random_seed would give each transform the same stream
        self._compose.set_random_state(UNUSED, stream)
        self._compose(image=BLANK)
        return _merge_colours(self._steps)


def _merge_colours(steps: list[Step]) -> list[Step]:
    """Makes one step of changes of colour that follow each other."""
    merged: list[Step] = []
    for step in steps:
        if step.name == "colours" and merged and merged[-1].name == "colours":
            step = Step("colours", operations.chain_colours(merged.pop().numbers, step.numbers))
        merged.append(step)
    return merged


class Operation(A.ImageOnlyTransform):  # type: ignore[misc]  # a class of a library without types
    """Draws a step, and leaves the image to `operations`."""

    def __init__(self, record: Record, draw: Draw, p: float = 1) -> None:
        super().__init__(p=p)
        self._record, self._draw = record, draw

    def get_params(self) -> dict[str, Any]:
        self._record(self._draw(self.py_random))
        return {}

    def apply(self, img: np.ndarray, **_: Any) -> np.ndarray:
        return img


def _ignore(_step: Step) -> None:
    pass


def _make_none(_record: Record) -> Transforms:
    return []


def _make_mirror(record: Record) -> Operation:
    return Operation(record, lambda _: Step("mirror", (1, 0)), p=0.5)


def _make_flips(record: Record) -> Transforms:
    """Horizontal and vertical flips, as in the baseline notebook."""
    return [_make_mirror(record), Operation(record, lambda _: Step("mirror", (0, 1)), p=0.5)]


def _make_light(record: Record) -> Transforms:
    """Horizontal flips and small changes of brightness and contrast."""
    return [_make_mirror(record), Operation(record, _draw_tone(0.1), p=0.3)]


def _make_postprocess(record: Record) -> Transforms:
    """What happens to published images: resampling, blur or sharpening, noise, colour, and compression at the end.

    The competition's winners name JPEG compression and resampling with random interpolation first.
    """
    return [_make_mirror(record), *_make_postprocessing(record, 0.25)]


def _make_strong(record: Record) -> Transforms:
    """`postprocess` with higher probabilities, and rotation, shifts, tones and erased patches."""
    tones: list[Draw] = [
        lambda stream: Step("gamma", (stream.uniform(0.7, 1.4),)),
        lambda stream: Step("equalize", (stream.uniform(1, 2),)),
        lambda stream: Step("posterize", (stream.choice((5, 6, 7)),)),
        lambda _: Step("contrast", ()),
        lambda _: _make_colours(saturation=0),
    ]
    return [
        _make_mirror(record),
        Operation(record, _draw_move, p=0.4),
        Operation(record, _draw_one(tones), p=0.2),
        *_make_postprocessing(record, 0.35),
        Operation(record, _draw_patches, p=0.25),
    ]


def _make_postprocessing(record: Record, p: float) -> Transforms:
    """Each transform with probability `p`; compression, which is the most frequent in practice, with `2 * p`."""
    focus: list[Draw] = [
        lambda stream: Step("blur", (stream.uniform(0.3, 1.8),)),
        lambda stream: Step("motion", (stream.choice((3, 5)), stream.uniform(0, 180))),
        lambda stream: Step("sharpen", (stream.uniform(0.1, 0.4),)),
    ]
    return [
        Operation(record, _draw_resampling, p=p),
        Operation(record, _draw_one(focus), p=p),
        Operation(record, _draw_tone(0.15), p=p),
        Operation(record, _draw_tint, p=p),
        Operation(record, _draw_noise, p=p),
        Operation(record, lambda stream: Step("compress", (stream.randint(30, 95), 0, 0)), p=2 * p),
    ]


def _draw_one(draws: list[Draw]) -> Draw:
    return lambda stream: stream.choice(draws)(stream)


def _make_colours(**changes: float) -> Step:
    return Step("colours", tuple(operations.make_colour_matrix(**changes).ravel().tolist()))


def _draw_tone(limit: float) -> Draw:
    """Brightness, in parts of white, and contrast, each changed by up to `limit`."""

    def draw_step(stream: random.Random) -> Step:
        return _make_colours(brightness=255 * stream.uniform(-limit, limit), contrast=1 + stream.uniform(-limit, limit))

    return draw_step


def _draw_tint(stream: random.Random) -> Step:
    return _make_colours(
        hue=stream.uniform(-10, 10), saturation=stream.uniform(0.85, 1.15), gain=stream.uniform(0.93, 1.07)
    )


def _draw_move(stream: random.Random) -> Step:
    return Step("move", (stream.uniform(-12, 12), stream.uniform(-0.05, 0.05), stream.uniform(-0.05, 0.05)))


def _draw_resampling(stream: random.Random) -> Step:
    """Any interpolation to shrink; to enlarge, linear or cubic."""
    return Step("resample", (stream.uniform(0.4, 0.9), stream.randrange(len(INTERPOLATIONS)), stream.choice((1, 2))))


def _draw_noise(stream: random.Random) -> Step:
    deviation = stream.uniform(1, 12) * stream.choice((-1, 1))
    return Step("noise", (deviation, stream.choice((1, 3)), stream.randrange(NOISE_VALUES)))


def _draw_patches(stream: random.Random) -> Step:
    """One to three rectangles."""
    borders: list[float] = []
    for _ in range(stream.randint(1, 3)):
        height, width = stream.uniform(0.1, 0.3), stream.uniform(0.1, 0.3)
        left, top = stream.uniform(0, 1 - width), stream.uniform(0, 1 - height)
        borders += (left, top, left + width, top + height)
    return Step("erase", tuple(borders))


RECIPES = {
    "none": Recipe(_make_none),
    "flips": Recipe(_make_flips),
    "light": Recipe(_make_light),
    "postprocess": Recipe(_make_postprocess),
    "strong": Recipe(_make_strong, zoom=0.75, stretch=1.1),
}
