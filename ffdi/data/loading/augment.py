"""Named recipes that change training images: the only room that knows albumentations.

albumentations 2.0.8 repeats its random stream in loader workers, so every sample is drawn from a seed of its
own: the same (seed, fold, epoch, index) gives the same pixels whatever the number of workers.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ffdi.core.errors import ConfigError, nearest
from ffdi.data.images.decode import CropBox

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # before the import: it would ask the network

import albumentations as A

Key = tuple[int, int, int, int]
"""seed, fold, epoch, index."""
Transforms = list[A.BaseCompose | A.BasicTransform]
PLACE = 1
"""Follows a key where the part of an image that is shown is drawn; the recipe's own draws have the key alone."""


@dataclass(frozen=True)
class Recipe:
    """How training images are changed.

    Attributes:
        transforms: albumentations, in order; made where they are used.
        zoom: least edge of the part that is shown, in parts of the whole.
        stretch: largest ratio of that part's width to its height, or of its height to its width.
    """

    transforms: Callable[[], Transforms]
    zoom: float = 1.0
    stretch: float = 1.0


class Augmentation:
    """A recipe, ready to be applied to one image at a time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._composed: dict[int, A.Compose] = {}

    @property
    def draws(self) -> bool:
        """Whether the recipe changes anything."""
        return bool(RECIPES[self.name].transforms())

    def view(self, key: Key) -> CropBox:
        """The part of an image to show; `key` alone decides."""
        recipe = RECIPES[self.name]
        zoom, stretch, x, y = np.random.default_rng((*key, PLACE)).random(4).tolist()
        return CropBox(recipe.zoom + (1 - recipe.zoom) * zoom, recipe.stretch ** (2 * stretch - 1), x, y)

    def __call__(self, image: np.ndarray, key: Key) -> np.ndarray:
        """Changes uint8 [H, W, 3] to uint8 of the same shape; `key` alone decides how."""
        thread = threading.get_ident()  # one each, for what is drawn is kept in it
        if (compose := self._composed.get(thread)) is None:
            compose = self._composed[thread] = A.Compose(RECIPES[self.name].transforms())
        if not compose.transforms:
            return image
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        # one stream for all transforms: set_random_seed gives each its own from the same seed, and all draw alike
        compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        changed = compose(image=image)["image"]
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


def _none() -> Transforms:
    return []


def _flips() -> Transforms:
    """The baseline notebook's: horizontal and vertical flips."""
    return [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]


def _light() -> Transforms:
    """Mirror images and a little of what cameras vary."""
    return [
        A.HorizontalFlip(p=0.5),
        A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.1, p=0.3),
    ]


def _postprocess() -> Transforms:
    """What happens to images on their way: resampling, blur or sharpening, noise, colour, and compression at the end.

    JPEG re-compression and resampling with random interpolation are what the competition's winners name first.
    """
    return [A.HorizontalFlip(p=0.5), *_on_their_way(0.25)]


def _strong() -> Transforms:
    """The same more often, with what else moves or hides parts of a face: turns, shifts, tones, erased patches."""
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
        *_on_their_way(0.35),
        A.CoarseDropout(num_holes_range=(1, 3), hole_height_range=(0.1, 0.3), hole_width_range=(0.1, 0.3), p=0.25),
    ]


class Grain(A.ImageOnlyTransform):  # type: ignore[misc]  # a class of a library without types
    """A sensor's noise, of 1 to 12 grey levels, alike or different in the three colours.

    albumentations' own take 3 and 7 ms for an image of 224 px, this one 1 ms.
    """

    def get_params(self) -> dict[str, Any]:
        """What is drawn anew for each image, from the recipe's stream: the arguments of `apply`."""
        return {
            "deviation": self.py_random.uniform(1, 12),
            "channels": self.py_random.choice((1, 3)),
            "seed": self.py_random.getrandbits(32),
        }

    def apply(self, img: np.ndarray, deviation: float, channels: int, seed: int, **_: Any) -> np.ndarray:
        """Adds the noise to uint8 [H, W, 3], which gives uint8 of the same shape."""
        stream = np.random.Generator(np.random.SFC64(seed))
        noise = stream.standard_normal((*img.shape[:2], channels), np.float32) * np.float32(deviation)
        return np.clip(np.rint(img + noise), 0, 255).astype(np.uint8)


def _on_their_way(p: float) -> Transforms:
    """Each kind of damage with that probability; compression, which nearly every image has met, with twice that."""
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
    "none": Recipe(_none),
    "flips": Recipe(_flips),
    "light": Recipe(_light),
    "postprocess": Recipe(_postprocess),
    "strong": Recipe(_strong, zoom=0.75, stretch=1.1),
}
