"""Named recipes that change training images: the only room that knows albumentations.

albumentations 2.0.8 repeats its random stream in loader workers, so every sample is drawn from a seed of its
own: the same (seed, fold, epoch, index) gives the same pixels whatever the number of workers.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import cv2
import numpy as np

from ffdi.errors import ConfigError, nearest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # before the import: it would ask the network

import albumentations as A

Key = tuple[int, int, int, int]
"""seed, fold, epoch, index."""


class Augmentation:
    """A recipe, ready to be applied to one image at a time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._compose: A.Compose | None = None

    @property
    def draws(self) -> bool:
        """Whether the recipe changes anything."""
        return bool(RECIPES[self.name]())

    def __call__(self, image: np.ndarray, key: Key) -> np.ndarray:
        """Changes uint8 [H, W, 3] to uint8 of the same shape; `key` alone decides how."""
        if self._compose is None:  # made in the worker that uses it
            self._compose = A.Compose(RECIPES[self.name]())
        if not self._compose.transforms:
            return image
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        # one stream for all transforms: set_random_seed gives each its own from the same seed, and all draw alike
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        changed = self._compose(image=image)["image"]
        return np.ascontiguousarray(changed)


def recipe(name: str) -> Augmentation:
    """The recipe of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in RECIPES:
        raise ConfigError(
            f"unknown recipe '{name}': {nearest(name, RECIPES)}", hint="correct augment.recipe in config.toml"
        )
    return Augmentation(name)


def _none() -> list[A.BasicTransform]:
    return []


def _flips() -> list[A.BasicTransform]:
    """The baseline notebook's: horizontal and vertical flips."""
    return [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]


def _light() -> list[A.BasicTransform]:
    """Mirror images and a little of what cameras vary."""
    return [
        A.HorizontalFlip(p=0.5),
        A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.1, p=0.3),
    ]


def _strong() -> list[A.BaseCompose | A.BasicTransform]:
    """What happens to images on their way: compression, resampling, blur, noise, colour, small moves.

    JPEG re-compression and resampling with random interpolation are what the competition's winners name first.
    """
    interpolations = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA)
    resampling = [
        A.Downscale(scale_range=(0.5, 0.9), interpolation_pair={"downscale": way, "upscale": way})
        for way in interpolations
    ]
    return [
        A.HorizontalFlip(p=0.5),
        A.Affine(scale=(0.9, 1.1), translate_percent=(-0.05, 0.05), rotate=(-10, 10), p=0.4),
        A.OneOf(resampling, p=0.2),
        A.OneOf([A.GaussianBlur(sigma_limit=(0.3, 1.5), blur_limit=0), A.MotionBlur(blur_limit=(3, 5))], p=0.15),
        A.OneOf([A.GaussNoise(std_range=(0.01, 0.06)), A.ISONoise()], p=0.2),
        A.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.15, p=0.3),
        A.HueSaturationValue(hue_shift_limit=5, sat_shift_limit=15, val_shift_limit=10, p=0.2),
        A.ToGray(p=0.03),
        A.ImageCompression(quality_range=(30, 95), p=0.5),
        A.CoarseDropout(num_holes_range=(1, 2), hole_height_range=(0.1, 0.25), hole_width_range=(0.1, 0.25), p=0.15),
    ]


RECIPES: dict[str, Callable[[], list[A.BaseCompose | A.BasicTransform]]] = {
    "none": _none,
    "flips": _flips,
    "light": _light,
    "strong": _strong,
}
