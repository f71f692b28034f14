"""What happens to images on their way to a detector, in fixed strengths: how a score holds under it is measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

Distortion = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""RGB uint8 [H, W, 3] at its own size, and a stream -> the same shape."""


def apply(name: str, pixels: np.ndarray, seed: int) -> np.ndarray:
    """Distorts an image; the same name, pixels and seed give the same result."""
    return DISTORTIONS[name](pixels, np.random.default_rng(seed))


def _jpeg(pixels: np.ndarray, _rng: np.random.Generator, *, quality: int) -> np.ndarray:
    """Compressed again, as messengers and sites do, with chroma at half size."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    return decoded


def _blur(pixels: np.ndarray, _rng: np.random.Generator, *, share: float) -> np.ndarray:
    """Gaussian blur with a deviation of that share of the image's width."""
    return cv2.GaussianBlur(pixels, (0, 0), share * pixels.shape[1])


def _smaller(pixels: np.ndarray, _rng: np.random.Generator, *, scale: float) -> np.ndarray:
    """Shrunk by area and brought back to its size by cubic interpolation."""
    height, width = pixels.shape[:2]
    small = max(1, round(width * scale)), max(1, round(height * scale))
    shrunk = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_CUBIC)


def _noise(pixels: np.ndarray, rng: np.random.Generator, *, deviation: float) -> np.ndarray:
    """Independent Gaussian noise on every value, in grey levels."""
    noisy = pixels + deviation * rng.standard_normal(pixels.shape, np.float32)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


DISTORTIONS: dict[str, Distortion] = {
    **{f"JPEG {quality}": partial(_jpeg, quality=quality) for quality in (90, 70, 50, 30)},
    "blur 0.4 %": partial(_blur, share=0.004),
    "blur 0.8 %": partial(_blur, share=0.008),
    "half size": partial(_smaller, scale=0.5),
    "quarter size": partial(_smaller, scale=0.25),
    "noise 4": partial(_noise, deviation=4),
    "noise 10": partial(_noise, deviation=10),
}
