"""Fakes for training, made from real images while it goes on: the field's four families, and self-blending."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import cv2
import numpy as np

from ffdi.errors import ConfigError, nearest
from ffdi.forge.blending import self_blend
from ffdi.forge.manipulations import MANIPULATIONS


def check(kinds: Collection[str]) -> None:
    """Refuses kinds that are not there.

    Raises:
        ConfigError: names the nearest one.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(
                f"unknown fake '{kind}': {nearest(kind, KINDS)}", hint="correct forge.kinds in config.toml"
            )


def make(
    kinds: Sequence[str],
    real: np.ndarray,
    partner: np.ndarray,
    rng: np.random.Generator,
    landmarks: np.ndarray | None = None,
) -> np.ndarray:
    """A fake of one of the kinds.

    Args:
        kinds: keys of KINDS, each as likely as the others.
        real: uint8 RGB [H, W, 3].
        partner: another real image, of any size.
        rng: decides.
        landmarks: float [L, 2], points of the real face in parts of width and height, for kinds that use them.

    Returns:
        uint8 RGB [H, W, 3].
    """
    height, width = real.shape[:2]
    edge = max(height, width)
    top, left = (edge - height) // 2, (edge - width) // 2
    whole = _square(real, edge)
    other = cv2.resize(partner, (edge, edge), interpolation=cv2.INTER_AREA)
    kind = kinds[rng.integers(len(kinds))]
    if kind == "self_blend" and landmarks is not None:
        moved = (landmarks * (width, height) + (left, top)) / edge
        fake, _ = self_blend(whole, other, rng, moved)
    else:
        fake, _ = KINDS[kind](whole, other, rng)
    return np.ascontiguousarray(fake[top : top + height, left : left + width])


def _square(pixels: np.ndarray, edge: int) -> np.ndarray:
    """As wide as high, with a mirrored border where something is missing."""
    height, width = pixels.shape[:2]
    if height == width:
        return pixels
    top, left = (edge - height) // 2, (edge - width) // 2
    return cv2.copyMakeBorder(pixels, top, edge - height - top, left, edge - width - left, cv2.BORDER_REFLECT_101)


KINDS = {"self_blend": self_blend, **MANIPULATIONS}
"""(real, partner, rng) -> (fake, mask), on square images."""
