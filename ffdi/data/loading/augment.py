"""Augmentation recipes for training images; the only module that imports albumentations.

albumentations 2.0.8 repeats its random stream in loader workers. Therefore every sample has its own seed: the same
(seed, fold, epoch, row) gives the same pixels with any number of workers.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import albumentations as A
import cv2
import numpy as np

from ffdi.data.images.decode import CropBox

Key = tuple[int, int, int, int]
"""seed, fold, epoch, row."""
Transforms = list[A.BaseCompose | A.BasicTransform]
CROP = 1
"""Appended to a key for the random stream of the crop; the stream of the transforms has the key alone."""


@dataclass(frozen=True)
class Recipe:
    """An augmentation recipe.

    Attributes:
        transforms: makes the albumentations transforms, in order.
        zoom: smallest edge of the random crop, in parts of the whole image.
        stretch: largest aspect ratio of the random crop, in either direction.
    """

    transforms: Callable[[], Transforms]
    zoom: float = 1.0
    stretch: float = 1.0


class Augmentation:
    """Applies a recipe to one image at a time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._composed: dict[int, A.Compose] = {}

    @property
    def changes_images(self) -> bool:
        """Whether the recipe has any transform."""
        return bool(RECIPES[self.name].transforms())

    def choose_crop(self, key: Key) -> CropBox:
        """A random crop; the same key gives the same crop."""
        recipe = RECIPES[self.name]
        zoom, stretch, x, y = np.random.default_rng((*key, CROP)).random(4).tolist()
        return CropBox(recipe.zoom + (1 - recipe.zoom) * zoom, recipe.stretch ** (2 * stretch - 1), x, y)

    def __call__(self, image: np.ndarray, key: Key) -> np.ndarray:
        """Augments uint8 [H, W, 3], result of the same shape; the same key gives the same result.

        An image of one row or column stays as it is: OpenCV cannot shrink it, and takes it for another shape.
        """
        if min(image.shape[:2]) == 1:
            return image
        thread = threading.get_ident()  # one pipeline for each thread: it holds the parameters that it has drawn
        if (compose := self._composed.get(thread)) is None:
            compose = self._composed[thread] = A.Compose(RECIPES[self.name].transforms())
        if not compose.transforms:
            return image
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        # one stream for all transforms: set_random_seed would give each transform the same stream
        compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        changed = compose(image=image)["image"]
        return np.ascontiguousarray(changed)


def _make_none() -> Transforms:
    return []


def _make_flips() -> Transforms:
    """Horizontal and vertical flips, as in the baseline notebook."""
    return [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]


def _make_light() -> Transforms:
    """Horizontal flips and small changes of brightness and contrast."""
    return [
        A.HorizontalFlip(p=0.5),
        A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.1, p=0.3),
    ]


def _make_postprocess() -> Transforms:
    """What happens to published images: resampling, blur or sharpening, noise, colour, and compression at the end.

    The competition's winners name JPEG compression and resampling with random interpolation first.
    """
    return [A.HorizontalFlip(p=0.5), *_make_postprocessing(0.25)]


def _make_strong() -> Transforms:
    """`postprocess` with higher probabilities, and rotation, shifts, tones and erased patches."""
    tones = [
        A.RandomGamma(gamma_limit=(70, 140)),
        A.CLAHE(clip_limit=2.0),
        A.Posterize(num_bits=(5, 7)),
        A.AutoContrast(),
        A.ToGray(),
    ]
    return [
        A.HorizontalFlip(p=0.5),
        A.Affine(translate_percent=(-0.05, 0.05), rotate=(-12, 12), border_mode=cv2.BORDER_REFLECT_101, p=0.4),
        A.OneOf(tones, p=0.2),
        *_make_postprocessing(0.35),
        A.CoarseDropout(num_holes_range=(1, 3), hole_height_range=(0.1, 0.3), hole_width_range=(0.1, 0.3), p=0.25),
    ]


class Grain(A.ImageOnlyTransform):  # type: ignore[misc]  # a class of a library without types
    """Gaussian noise of 1 to 12 grey levels, the same in all channels or independent.

    It takes 1 ms for an image of 224 px; albumentations' own noises take 3 and 7 ms.
    """

    def get_params(self) -> dict[str, Any]:
        """Random arguments of `apply`, for each image."""
        return {
            "deviation": self.py_random.uniform(1, 12),
            "channels": self.py_random.choice((1, 3)),
            "seed": self.py_random.getrandbits(32),
        }

    def apply(self, img: np.ndarray, deviation: float, channels: int, seed: int, **_: Any) -> np.ndarray:
        stream = np.random.Generator(np.random.SFC64(seed))
        noise = stream.standard_normal((*img.shape[:2], channels), np.float32) * np.float32(deviation)
        return np.clip(np.rint(img + noise), 0, 255).astype(np.uint8)


def _make_postprocessing(p: float) -> Transforms:
    """Each transform with probability `p`; compression, which is the most frequent in practice, with `2 * p`."""
    interpolations = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA)
    resampling = [
        A.Downscale(scale_range=(0.4, 0.9), interpolation_pair={"downscale": down, "upscale": up})
        for down in interpolations
        for up in interpolations[1:3]
    ]
    focus = [
        A.GaussianBlur(sigma_limit=(0.3, 1.8), blur_limit=0),
        A.MotionBlur(blur_limit=(3, 5)),
        A.Sharpen(alpha=(0.1, 0.4), lightness=(1.0, 1.0)),
    ]
    return [
        A.OneOf(resampling, p=p),
        A.OneOf(focus, p=p),
        A.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.15, p=p),
        A.HueSaturationValue(hue_shift_limit=5, sat_shift_limit=15, val_shift_limit=10, p=p),
        Grain(p=p),
        A.ImageCompression(quality_range=(30, 95), p=2 * p),
    ]


RECIPES = {
    "none": Recipe(_make_none),
    "flips": Recipe(_make_flips),
    "light": Recipe(_make_light),
    "postprocess": Recipe(_make_postprocess),
    "strong": Recipe(_make_strong, zoom=0.75, stretch=1.1),
}
