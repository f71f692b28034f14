"""Where a picture has detail, and what stands there: it stays when a picture is cropped, turned, recoloured or covered.

Blobs are found as extrema of a difference of Gaussians (Lowe, Distinctive Image Features from Scale-Invariant
Keypoints, 2004), in greys whose local mean and contrast are taken out, so that brightness, contrast, gamma and colour
change little. The patch around each is described by the signs of its lowest cosine waves, after it was brought to one
of its eight mirrored and turned forms by its own slopes: a mirrored copy has the same codes. Letterbox bars are cut
off first. OpenCV's SIFT would take three times as long and does not know mirror images.
"""

from __future__ import annotations

import cv2
import numpy as np

COUNT = 40
"""Keypoints of an image."""
BYTES = 8 * COUNT
EDGE = 96
"""Width and height in which they are looked for."""
SCALES = ((1.6, 28), (2.8, 12))
"""Standard deviation of the finer Gaussian, and how many keypoints are taken there."""
WIDER = 1.6
"""Ratio of both Gaussians of a difference."""
MARGIN = 5
"""Pixels at the edge where no keypoint lies."""
AROUND, LEAST = 27, 0.08
"""Edge of the window of the local mean and contrast, and the least contrast in parts of the whole picture's."""
FAINT = 1e-3
"""Height of a blob that a wall has of rounding alone."""
RADIUS, SAMPLES, WAVES = 8.0, 12, 7
"""Half the edge of a patch in parts of its scale, samples and cosine waves along each axis of it."""
FLAT, SAME, MOST = 2.0, 4.0, 0.45
"""A bar has rows that deviate by less than FLAT, of means within SAME, and takes at most MOST of the picture."""

BRIGHT, LARGE, TURN, ACROSS, DOWN = 31, 32, 33, 36, 43
"""First bits of a keypoint's fields behind its code: whether it is bright, its scale, form, x and y."""
CODE_BITS = 33
"""Code, polarity and scale: what two keypoints are compared by."""
MEDIANS = np.array(
    [
        *(0.337, 0.11, -0.175, 0.005, -0.141, -0.203, -0.091, -0.204, -0.062, 0.171, 0.005),
        *(0.2, 0.002, 0.114, 0.005, 0.017, 0.119, 0.046, 0.004, -0.004, -0.074, -0.007),
        *(-0.161, -0.008, -0.122, -0.002, -0.041, -0.003, -0.003, -0.01, -0.002, 0.003, -0.003),
    ],
    np.float32,
)
"""Of each wave's strength among 208,000 keypoints of photographs of faces: above in one half, below in the other."""
HAMMING = 6
"""Bits in which two codes of one place may differ."""
MOVED = 11
"""Pixels by which a crop of 10 % on two sides moves a keypoint at most."""


def compute_keypoints(grey: np.ndarray) -> np.ndarray:
    """The keypoints of a picture.

    Args:
        grey: uint8 [H, W], the picture's greys.

    Returns:
        uint64 [40], the strongest first at each scale; 0 where a picture has less detail.
    """
    small = _reduced(grey)
    even = normalize_contrast(_squared(np.ascontiguousarray(small[_inner(small)])))
    found = [_at(even, scale) for scale in range(len(SCALES))]
    x, y, height, waves = (np.concatenate(part) for part in zip(*found, strict=True))
    waves, turn = _turned(waves * np.sign(height)[:, None])
    packed = (waves > MEDIANS)[:, TOLD] @ POWERS
    large = np.repeat(np.arange(len(found)), [len(part[0]) for part in found])
    for value, first in ((height > 0, BRIGHT), (large, LARGE), (turn, TURN), (x, ACROSS), (y, DOWN)):
        packed |= value.astype(np.uint64) << np.uint64(first)
    return np.pad(packed, (0, COUNT - len(packed)))


def trim_bars(grey: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a picture (uint8 [H, W]) without the bars of one grey around it.

    `compute_keypoints` sees the picture within them.
    """
    small = _reduced(grey)
    down, across = (
        slice(round(part.start * whole / few), round(part.stop * whole / few))
        for part, whole, few in zip(_inner(small), grey.shape, small.shape, strict=True)
    )
    return down, across


def codes(packed: np.ndarray) -> np.ndarray:
    """What keypoints are compared by: uint64 of `CODE_BITS` bits."""
    return packed & _ones(CODE_BITS)


def places(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y in pixels of `EDGE`, uint8 each, as they are in the picture."""
    return _field(packed, ACROSS, 7), _field(packed, DOWN, 7)


def upright(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y of each keypoint in its own form, in which those of a mirrored copy are the same: uint8 each."""
    x, y = places(packed)
    turn = forms(packed)
    x, y = np.where(turn & 1, EDGE - 1 - x, x), np.where(turn & 2, EDGE - 1 - y, y)
    swapped = (turn & 4) > 0
    return np.where(swapped, y, x), np.where(swapped, x, y)


def forms(packed: np.ndarray) -> np.ndarray:
    """The form that each keypoint was brought to: uint8; 1 left for right, 2 upside down, then 4 transposed."""
    return _field(packed, TURN, 3)


def match(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places that two pictures may have in common, in the one of the eight symmetries that most speak for.

    Args:
        first, second: uint64 [40], their keypoints.

    Returns:
        Their places in the first and in the second picture, from -1 to 1 across and down: float32 [M, 2] each.
    """
    first, second = first[first > 0], second[second > 0]
    if not (len(first) and len(second)):
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    apart = np.bitwise_count(codes(first)[:, None] ^ codes(second)).astype(np.int16)
    symmetry = SYMMETRY[forms(first)[:, None], forms(second)]
    here, there = (np.stack(upright(packed)).astype(np.int16) for packed in (first, second))
    alike = (apart <= HAMMING + 2) & (np.abs(here[:, :, None] - there[:, None]) <= 2 * MOVED).all(0)
    votes = np.bincount(symmetry[alike], minlength=len(FORMS))
    apart[~alike | (symmetry != votes.argmax())] = 99
    best = apart.argmin(1)
    kept = np.flatnonzero((apart.min(1) < 99) & (apart.argmin(0)[best] == np.arange(len(best))))
    return _centred(first[kept]), _centred(second[best[kept]])


def _centred(packed: np.ndarray) -> np.ndarray:
    return (np.stack(places(packed), 1).astype(np.float32) + 0.5) * 2 / EDGE - 1


def _reduced(grey: np.ndarray) -> np.ndarray:
    """Of about two edges, by a power of two: OpenCV averages two or four pixels at several times the speed of five."""
    factor = 1
    while min(grey.shape) >= 2 * factor * EDGE:
        factor *= 2
    size = max(grey.shape[1] // factor, 1), max(grey.shape[0] // factor, 1)
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if factor > 1 else grey


def _squared(grey: np.ndarray) -> np.ndarray:
    return cv2.resize(grey, (EDGE, EDGE), interpolation=cv2.INTER_LINEAR).astype(np.float32)


def _inner(grey: np.ndarray) -> tuple[slice, slice]:
    down = _without_bars(grey)
    return down, _without_bars(cv2.transpose(grey[down]))


def _without_bars(grey: np.ndarray) -> slice:
    """The rows between a bar at the top and one at the bottom."""
    most = int(MOST * len(grey))
    start = _bar(grey[:most])
    return slice(start, len(grey) - _bar(grey[::-1][:most]))


def _bar(rows: np.ndarray) -> int:
    """How many of the first rows are of the first one's grey."""
    shade: float | None = None
    for count, row in enumerate(rows):
        mean, deviation = (float(part[0, 0]) for part in cv2.meanStdDev(row))
        shade = mean if shade is None else shade
        if abs(mean - shade) > SAME or deviation > FLAT:
            return count
    return len(rows)


def normalize_contrast(grey: np.ndarray) -> np.ndarray:
    """Greys without their local mean, in parts of their local contrast: float32 as `grey`, a square."""
    window = (AROUND * len(grey) // EDGE | 1,) * 2
    own = grey - cv2.blur(grey, window)
    least = max(1.0, LEAST * float(cv2.meanStdDev(grey)[1][0, 0]))
    return own / np.sqrt(cv2.blur(own * own, window) + least**2)


def _at(even: np.ndarray, scale: int) -> tuple[np.ndarray, ...]:
    """Of the keypoints of one scale x and y, int64 [M], their heights, float32 [M], and waves, float32 [M, B]."""
    sigma, most = SCALES[scale]
    fine = cv2.GaussianBlur(even, (0, 0), sigma)
    blobs = fine - cv2.GaussianBlur(even, (0, 0), sigma * WIDER)
    extreme = (cv2.dilate(blobs, NEIGHBOURS) == blobs) | (cv2.erode(blobs, NEIGHBOURS) == blobs)
    places = np.flatnonzero(extreme & INSIDE & (np.abs(blobs) > FAINT))
    height = blobs.ravel()[places]
    order = np.argsort(-np.abs(height), kind="stable")[:most]
    (y, x), height = np.divmod(places[order], EDGE), height[order]
    return x, y, height, _patches(fine, x, y, sigma) @ BASIS


def _patches(fine: np.ndarray, x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """Samples around places: float32 [M, SAMPLES^2]."""
    radius = RADIUS * sigma
    offsets = (np.arange(SAMPLES) - (SAMPLES - 1) / 2) * 2 * radius / SAMPLES
    pad = int(np.ceil(radius))
    padded = cv2.copyMakeBorder(fine, pad, pad, pad, pad, cv2.BORDER_REFLECT_101)
    rows, columns = (at[:, None] + (np.rint(offsets).astype(np.int64) + pad) for at in (y, x))
    return padded[rows[:, :, None], columns[:, None, :]].reshape(len(x), SAMPLES**2)


def _turned(waves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Waves of patches, float32 [M, B], each brought to its form and to unit length; and which one, int64 [M]."""
    waves = waves / np.maximum(np.linalg.norm(waves, axis=1, keepdims=True), 1e-6)
    turn = (waves[:, SLOPE_ACROSS] < 0) + 2 * (waves[:, SLOPE_DOWN] < 0)
    waves *= SIGNS[turn]
    steep = waves[:, SLOPE_ACROSS] < waves[:, SLOPE_DOWN]
    waves[steep] = waves[steep][:, TRANSPOSED]
    return waves, turn + 4 * steep


def _field(packed: np.ndarray, first: int, bits: int) -> np.ndarray:
    return ((packed >> np.uint64(first)) & _ones(bits)).astype(np.uint8)


def _ones(bits: int) -> np.uint64:
    return np.uint64((1 << bits) - 1)


def _basis() -> tuple[list[tuple[int, int]], np.ndarray]:
    """Numbers of the waves down and across, low ones first; the waves under a window, float32 [SAMPLES^2, B]."""
    axis = (np.arange(SAMPLES) + 0.5) / SAMPLES
    waves = [np.cos(np.pi * wave * axis) * np.exp(-(((axis - 0.5) / 0.28) ** 2) / 2) for wave in range(WAVES)]
    numbers = [(down, total - down) for total in range(1, WAVES + 1) for down in range(total + 1)]
    numbers = [pair for pair in numbers if max(pair) < WAVES]
    basis = np.stack([np.outer(waves[down], waves[across]).ravel() for down, across in numbers], 1)
    basis -= basis.mean(0)
    return numbers, (basis / np.linalg.norm(basis, axis=0)).astype(np.float32)


NUMBERS, BASIS = _basis()
SIGNS = np.array(
    [[(-1) ** ((turn & 1) * across + (turn >> 1) * down) for down, across in NUMBERS] for turn in range(4)]
)
SIGNS = SIGNS.astype(np.float32)
"""What mirroring left and right, upside down or both does to the waves: float32 [4, B]."""
TRANSPOSED = np.array([NUMBERS.index((across, down)) for down, across in NUMBERS])
SLOPE_ACROSS, SLOPE_DOWN = NUMBERS.index((0, 1)), NUMBERS.index((1, 0))
TOLD = np.array([number for number in range(len(NUMBERS)) if number not in (SLOPE_ACROSS, SLOPE_DOWN)])
"""Waves whose signs make a code: all but those that the form has made positive."""
POWERS = np.uint64(1) << np.arange(len(TOLD) - 1, -1, -1).astype(np.uint64)
NEIGHBOURS = np.ones((5, 5), np.uint8)
INSIDE = np.pad(np.ones((EDGE - 2 * MARGIN,) * 2, bool), MARGIN)
FORMS = tuple(
    np.linalg.matrix_power([[0, 1], [1, 0]], turn >> 2) @ np.diag([1 - 2 * (turn & 1), 1 - (turn & 2)])
    for turn in range(8)
)
"""What brings a place from the middle of the picture to its form."""
SYMMETRY = np.array(
    [
        [next(at for at in range(8) if (FORMS[there] @ FORMS[at] == FORMS[here]).all()) for there in range(8)]
        for here in range(8)
    ],
    np.uint8,
)
"""uint8 [8, 8]: the symmetry from one picture to another, by the forms of one keypoint in both."""
