"""Whether two decoded images are the same picture: everywhere, not on the whole.

A fake made from a real frame is that frame but for a face, a mouth or a pair of eyes, so nothing averaged over the
picture can tell it from a copy. The two are laid over each other first, with the four unknowns that cropping and
resizing have (a shift and a scale along each axis) and the two of brightness and contrast, by the Gauss-Newton steps
of Lucas and Kanade (An Iterative Image Registration Technique, 1981) from coarse to fine. Then every block has to
agree, measured against the detail that stands in it: compression and resampling err where there is detail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

EDGE = 128
"""Both images are compared at this width and height."""
PYRAMID = ((32, 8), (64, 4), (EDGE, 3))
"""Edge lengths and the most steps at each."""
BORDER = 0.04
"""What the steps leave out on every side: a crop has nothing there."""
FURTHEST = 0.12
"""Largest shift, in half edges, and largest change of scale."""
BLUR = 1.0
"""Standard deviation in pixels: takes out most of what JPEG and resampling add."""
OWN_BLUR = 1.25
"""The least in pixels of the smaller image, where that has fewer than EDGE."""
BLOCK = 8
"""Edge of a block; an eye is two of them wide in an aligned face."""
GRAIN = 8.0
"""Grey levels that count as detail in a block without any, where the picture has contrast enough."""
CONTRAST = 0.4
"""The same in parts of the picture's own contrast: a dark scene differs in few levels."""
FLAT = 2.0
"""A picture with less grain than that has nothing by which two could be told apart."""
GAINS = (0.6, 1.7)
CLIPPED = (1, 250)
"""A channel down or up to there may have been cut off by a change of brightness: nothing is said about the place."""
COLOURFUL = 0.6
"""Weight of a difference in colour, of which JPEG loses more than of grey."""
LIMIT = 0.27
"""A block that differs by a larger part of its detail belongs to another picture. Of copies changed in two ways 95 %
lie below; of 2,997 face swaps and the frames they were made from the most alike, which no eye tells apart, lie at 0.28
(benchmarks/planted_duplicates.py)."""
DETAILED = 0.05
"""Share of the blocks that must have detail: a wall or a black frame proves nothing."""

GREY = np.array([0.299, 0.587, 0.114], np.float32)
Likeness = Literal["exact", "near"]


def compare(first: np.ndarray, second: np.ndarray) -> Likeness | None:
    """Whether two images are one picture; the order of the two does not matter.

    Args:
        first: RGB, uint8 [H, W, 3].
        second: RGB, uint8 [H', W', 3].

    Returns:
        'exact' where all pixels are equal; 'near' where one is the other after a crop of a few per cent, another
        size, JPEG compression, brightness, contrast, or several of them; None for different pictures, among them a
        real frame and the fake made from it. A mirror image is a different picture.
    """
    if first.shape == second.shape and np.array_equal(first, second):
        return "exact"
    return "near" if difference(first, second) <= LIMIT else None


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """How far the block that agrees least disagrees, in parts of its detail; inf where it cannot be said."""
    wide, narrow = sorted((first, second), key=lambda one: (one.size, one.shape, one.tobytes()), reverse=True)
    moved, fixed = _shrunk(wide), _shrunk(narrow)
    place = _aligned(moved.pixels @ GREY, fixed.pixels @ GREY)
    weight = ((_warped(moved.sound, place) > 0.98) & (fixed.sound > 0.98)).astype(np.float32)
    weight *= _covered(place)
    blur = max(BLUR, OWN_BLUR * EDGE / min(*first.shape[:2], *second.shape[:2]))
    one, other = (cv2.GaussianBlur(image, (0, 0), blur) for image in (_warped(moved.pixels, place), fixed.pixels))
    return _worst(one, other, weight)


@dataclass(frozen=True)
class _Small:
    """An image at the size of comparison: float32 [EDGE, EDGE, 3], and how much of each pixel is not cut off."""

    pixels: np.ndarray
    sound: np.ndarray


def _shrunk(pixels: np.ndarray) -> _Small:
    cut: np.ndarray = cv2.threshold(pixels, CLIPPED[1] - 1, 255, cv2.THRESH_BINARY)[1]
    cut |= cv2.threshold(pixels, CLIPPED[0], 255, cv2.THRESH_BINARY_INV)[1]
    return _Small(_resized(pixels, EDGE).astype(np.float32), 1 - _resized(cut, EDGE).max(2) / np.float32(255))


def _resized(pixels: np.ndarray, edge: int) -> np.ndarray:
    shrinks = min(pixels.shape[:2]) >= edge
    return cv2.resize(pixels, (edge, edge), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _aligned(moved: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Where in `moved` the pixels of `fixed` lie: float64 [4], shift x, y and growth x, y (see `_warped`)."""
    place = np.zeros(4)
    for edge, steps in PYRAMID:
        one, other = (cv2.GaussianBlur(_resized(image, edge), (0, 0), BLUR) for image in (moved, fixed))
        for _ in range(steps):
            step = _step(_warped(one, place), other)
            place = np.clip(place + step, -FURTHEST, FURTHEST)
            if np.abs(step).max() < 0.1 / edge:
                break
    return place


def _step(moved: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """One Gauss-Newton step of shift and growth, with brightness and contrast solved for beside them."""
    edge = len(moved)
    inner = slice(round(BORDER * edge), edge - round(BORDER * edge))
    axis = _axis(edge)
    across, down = (cv2.Sobel(moved, cv2.CV_32F, dx, 1 - dx, ksize=1, scale=edge / 4) for dx in (1, 0))
    columns = [across, down, across * axis, down * axis[:, None], moved, np.ones_like(moved)]
    matrix = np.stack([column[inner, inner].ravel() for column in columns])
    square = (matrix @ matrix.T).astype(np.float64)
    square += np.diag(1e-6 * np.diag(square) + 1e-3)  # an image without detail has no one answer
    answer = np.linalg.solve(square, matrix @ fixed[inner, inner].ravel())
    return answer[:4] / max(answer[4], GAINS[0])


def _axis(edge: int) -> np.ndarray:
    """Pixel centres in half edges: float32 [edge] from -1 to 1."""
    return ((np.arange(edge, dtype=np.float32) + 0.5) * 2 / edge) - 1


def _warped(image: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Samples `image` at shift + (1 + growth) * u, where u runs from -1 to 1."""
    edge = len(image)
    middle = (edge - 1) / 2
    shift, growth = place[:2] * edge / 2, place[2:]
    offset = shift - growth * middle
    matrix = np.array([[1 + growth[0], 0, offset[0]], [0, 1 + growth[1], offset[1]]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, (edge, edge), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _covered(place: np.ndarray) -> np.ndarray:
    """Which pixels lie inside both images: bool [EDGE, EDGE]."""
    axis = _axis(EDGE)
    inside = [np.abs(place[way] + (1 + place[way + 2]) * axis) < 1 - 6 / EDGE for way in (0, 1)]
    return inside[1][:, None] & inside[0][None, :]


def _worst(moved: np.ndarray, fixed: np.ndarray, weight: np.ndarray) -> float:
    """The largest difference of any block in parts of its detail, after brightness and contrast are made alike."""
    if weight.mean() < DETAILED:
        return np.inf
    fits = [_fitted(moved[..., band], fixed[..., band], weight) for band in range(3)]
    if any(not GAINS[0] <= gain <= GAINS[1] for _, gain in fits):
        return np.inf
    rest = np.stack([predicted for predicted, _ in fits], 2) - fixed
    light, seen = fixed @ GREY, _blocks(weight)
    grain = min(GRAIN, CONTRAST * float(light[weight > 0].std()))
    detail = np.maximum(_mean(light**2, weight) - _mean(light, weight) ** 2, 0)
    judged = seen > 0.5
    if grain < FLAT or (detail[judged] > (grain / 2) ** 2).mean() < DETAILED:
        return np.inf
    return float(np.sqrt(_energy(rest, weight) / (detail + grain**2))[judged].max())


def _energy(rest: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean square of each block's difference in grey, and of the mean difference in colour of it and its neighbours."""
    grey = rest @ GREY
    seen = np.maximum(_around(_blocks(weight)), 1e-6)
    colour = [_around(_blocks((rest[..., band] - grey) * weight)) / seen for band in (0, 2)]
    return _mean(grey**2, weight) + COLOURFUL**2 * (colour[0] ** 2 + colour[1] ** 2)


def _around(blocks: np.ndarray) -> np.ndarray:
    return cv2.blur(blocks, (3, 3))


def _fitted(moved: np.ndarray, fixed: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """`moved` with the brightness and contrast of `fixed`, and the contrast's change; one channel."""
    total = weight.sum()
    means = (moved * weight).sum() / total, (fixed * weight).sum() / total
    one, other = (moved - means[0]) * weight, (fixed - means[1]) * weight
    gain = float((one * other).sum() / max((one * one).sum(), 1e-6))
    return np.clip(means[1] + gain * (moved - means[0]), 0, 255), gain


def _blocks(values: np.ndarray) -> np.ndarray:
    """Means of blocks: float32 [EDGE / BLOCK, EDGE / BLOCK]."""
    count = EDGE // BLOCK
    return values.reshape(count, BLOCK, count, BLOCK).mean((1, 3))


def _mean(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return _blocks(values * weight) / np.maximum(_blocks(weight), 1e-6)
