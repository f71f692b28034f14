"""Fakes for training, made from real images while it goes on: the field's four families, and self-blending."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import cv2
import numpy as np

from ffdi.core.errors import ConfigError, nearest
from ffdi.synthetic.manipulations import MANIPULATIONS
from ffdi.synthetic.self_blend import self_blend

LONGEST = 4
"""Times the shorter side: faces are worked on in squares, and that of a strip would not fit into memory."""


def check_methods(kinds: Collection[str]) -> None:
    """Refuses kinds that are not there.

    Raises:
        ConfigError: names the nearest one.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(
                f"unknown fake '{kind}': {nearest(kind, KINDS)}", hint="correct pseudo_fakes.methods in config.toml"
            )


def make_fake(
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
        uint8 RGB [H, W, 3]; of an image that is LONGEST times as long as it is broad, the middle is faked.
    """
    height, width = real.shape[:2]
    edge = min(max(height, width), LONGEST * min(height, width))
    if edge < max(height, width):
        return _in_the_middle(kinds, real, partner, rng, edge)
    top, left = (edge - height) // 2, (edge - width) // 2
    whole = _square(real, edge)
    other = cv2.resize(partner, (edge, edge), interpolation=cv2.INTER_AREA)
    kind = kinds[int(rng.integers(len(kinds)))]
    if kind == "self_blend" and landmarks is not None:
        moved = (landmarks * (width, height) + (left, top)) / edge
        fake, _ = self_blend(whole, other, rng, moved)
    else:
        fake, _ = KINDS[kind](whole, other, rng)
    return np.ascontiguousarray(fake[top : top + height, left : left + width])


def _in_the_middle(
    kinds: Sequence[str], real: np.ndarray, partner: np.ndarray, rng: np.random.Generator, edge: int
) -> np.ndarray:
    """All but a strip's middle is left as it is."""
    rows, columns = (
        slice((length - min(length, edge)) // 2, (length + min(length, edge)) // 2) for length in real.shape[:2]
    )
    fake = real.copy()
    fake[rows, columns] = make_fake(kinds, real[rows, columns], partner, rng)
    return fake


def _square(pixels: np.ndarray, edge: int) -> np.ndarray:
    """As wide as high, with a mirrored border where something is missing."""
    height, width = pixels.shape[:2]
    if height == width:
        return pixels
    top, left = (edge - height) // 2, (edge - width) // 2
    return cv2.copyMakeBorder(pixels, top, edge - height - top, left, edge - width - left, cv2.BORDER_REFLECT_101)


KINDS = {"self_blend": self_blend, **MANIPULATIONS}
"""(real, partner, rng) -> (fake, mask), on square images."""
