"""Descriptors of images for the search for duplicates: a fingerprint of the whole picture, and keypoints.

Keypoints survive cropping, mirroring, recolouring and partial covering. They are extrema of a difference of Gaussians
(Lowe, Distinctive Image Features from Scale-Invariant Keypoints, 2004), in greys with normalised local mean and
contrast, so that brightness, contrast, gamma and colour change little. The code of a keypoint has the signs of the
lowest cosine waves of its patch. Before that, the patch is brought to one of its eight mirrored and rotated forms by
its own slopes, so that a mirrored copy has the same codes. Letterbox bars are cut off first. OpenCV's SIFT takes three
times as long and does not support mirror images.
"""

from __future__ import annotations

import cv2
import numpy as np

COUNT = 40
"""Keypoints of an image."""
EDGE = 96
"""Width and height of the picture for the detection."""
SCALES = ((1.6, 28), (2.8, 12))
"""Standard deviation of the finer Gaussian and number of keypoints of each scale."""
WIDER = 1.6
"""Ratio of the two standard deviations of a difference of Gaussians."""
MARGIN = 5
"""Width of the border without keypoints, in pixels."""
AROUND, LEAST = 27, 0.08
"""Edge of the window of the local mean and contrast; least contrast in parts of the whole picture's contrast."""
FAINT = 1e-3
"""Least height of a blob: a plain wall has lower ones, from rounding."""
RADIUS, SAMPLES, WAVES = 8.0, 12, 7
"""Half the edge of a patch in parts of its scale; samples and cosine waves along each axis of a patch."""
FLAT, SAME, MOST = 2.0, 4.0, 0.45
"""A bar has rows with deviations below FLAT and means within SAME, and covers at most MOST of the picture."""

BRIGHT, LARGE, TURN, ACROSS, DOWN = 31, 32, 33, 36, 43
"""First bits of a keypoint's fields behind its code: bright or dark, scale, form, x and y."""
CODE_BITS = 33
"""Bits of code, polarity and scale together, by which two keypoints are compared."""
MEDIANS = np.array(
    [
        *(0.337, 0.11, -0.175, 0.005, -0.141, -0.203, -0.091, -0.204, -0.062, 0.171, 0.005),
        *(0.2, 0.002, 0.114, 0.005, 0.017, 0.119, 0.046, 0.004, -0.004, -0.074, -0.007),
        *(-0.161, -0.008, -0.122, -0.002, -0.041, -0.003, -0.003, -0.01, -0.002, 0.003, -0.003),
    ],
    np.float32,
)
"""Median strength of each wave among 208,000 keypoints of photographs of faces: each bit is 1 for half of them."""
HAMMING = 6
"""Largest number of different bits of two codes at one place."""
MOVED = 11
"""Largest shift of a keypoint, in pixels, by a crop of 10 % on two sides."""


def compute_keypoints(grey: np.ndarray) -> np.ndarray:
    """Computes the keypoints of a grey picture, uint8 [H, W].

    Returns:
        uint64 [40], the strongest first at each scale; the last ones are 0 if the picture has too little detail.
    """
    small = _shrink_by_power_of_two(grey)
    even = normalize_contrast(_resize_to_square(np.ascontiguousarray(small[_find_content(small)])))
    found = [_detect_keypoints(even, scale) for scale in range(len(SCALES))]
    x, y, height, waves = (np.concatenate(part) for part in zip(*found, strict=True))
    waves, turn = _normalize_form(waves * np.sign(height)[:, None])
    packed = (waves > MEDIANS)[:, CODED] @ POWERS
    large = np.repeat(np.arange(len(found)), [len(part[0]) for part in found])
    for value, first in ((height > 0, BRIGHT), (large, LARGE), (turn, TURN), (x, ACROSS), (y, DOWN)):
        packed |= value.astype(np.uint64) << np.uint64(first)
    return np.pad(packed, (0, COUNT - len(packed)))


def trim_bars(grey: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a picture, uint8 [H, W], without letterbox bars, as in `compute_keypoints`."""
    small = _shrink_by_power_of_two(grey)
    down, across = (
        slice(round(part.start * whole / few), round(part.stop * whole / few))
        for part, whole, few in zip(_find_content(small), grey.shape, small.shape, strict=True)
    )
    return down, across


def get_codes(packed: np.ndarray) -> np.ndarray:
    """Code, polarity and scale of keypoints: uint64 of `CODE_BITS` bits."""
    return packed & _mask_bits(CODE_BITS)


def get_positions(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y in the picture, in pixels of `EDGE`: uint8 each."""
    return _extract_field(packed, ACROSS, 7), _extract_field(packed, DOWN, 7)


def get_normalized_positions(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y of each keypoint in its form; the same for a mirrored copy: uint8 each."""
    x, y = get_positions(packed)
    turn = get_forms(packed)
    x, y = np.where(turn & 1, EDGE - 1 - x, x), np.where(turn & 2, EDGE - 1 - y, y)
    swapped = (turn & 4) > 0
    return np.where(swapped, y, x), np.where(swapped, x, y)


def get_forms(packed: np.ndarray) -> np.ndarray:
    """The form of each keypoint, uint8: 1 mirrored horizontally, 2 vertically, then 4 transposed."""
    return _extract_field(packed, TURN, 3)


def match_keypoints(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matches the keypoints of two pictures, in the most frequent of the eight symmetries.

    Args:
        first, second: uint64 [40], their keypoints.

    Returns:
        The places of the matches in the first and in the second picture, from -1 to 1 across and down: float32 [M, 2]
        each.
    """
    first, second = first[first > 0], second[second > 0]
    if not (len(first) and len(second)):
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    apart = np.bitwise_count(get_codes(first)[:, None] ^ get_codes(second)).astype(np.int16)
    symmetry = SYMMETRY[get_forms(first)[:, None], get_forms(second)]
    here, there = (np.stack(get_normalized_positions(packed)).astype(np.int16) for packed in (first, second))
    alike = (apart <= HAMMING + 2) & (np.abs(here[:, :, None] - there[:, None]) <= 2 * MOVED).all(0)
    votes = np.bincount(symmetry[alike], minlength=len(FORMS))
    apart[~alike | (symmetry != votes.argmax())] = 99
    best = apart.argmin(1)
    mutual = np.flatnonzero((apart.min(1) < 99) & (apart.argmin(0)[best] == np.arange(len(best))))
    return _centre_positions(first[mutual]), _centre_positions(second[best[mutual]])


def _centre_positions(packed: np.ndarray) -> np.ndarray:
    return (np.stack(get_positions(packed), 1).astype(np.float32) + 0.5) * 2 / EDGE - 1


def _shrink_by_power_of_two(grey: np.ndarray) -> np.ndarray:
    """Shrinks to one to two `EDGE`s, by a power of two: OpenCV averages 2 or 4 pixels several times faster than 5."""
    factor = 1
    while min(grey.shape) >= 2 * factor * EDGE:
        factor *= 2
    size = max(grey.shape[1] // factor, 1), max(grey.shape[0] // factor, 1)
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if factor > 1 else grey


def _resize_to_square(grey: np.ndarray) -> np.ndarray:
    return cv2.resize(grey, (EDGE, EDGE), interpolation=cv2.INTER_LINEAR).astype(np.float32)


def _find_content(grey: np.ndarray) -> tuple[slice, slice]:
    down = _find_rows_without_bars(grey)
    return down, _find_rows_without_bars(cv2.transpose(grey[down]))


def _find_rows_without_bars(grey: np.ndarray) -> slice:
    """The rows without bars at the top and at the bottom."""
    most = int(MOST * len(grey))
    start = _count_bar_rows(grey[:most])
    return slice(start, len(grey) - _count_bar_rows(grey[::-1][:most]))


def _count_bar_rows(rows: np.ndarray) -> int:
    """Counts the first rows with the grey of the first row."""
    shade: float | None = None
    for count, row in enumerate(rows):
        mean, deviation = (float(part[0, 0]) for part in cv2.meanStdDev(row))
        shade = mean if shade is None else shade
        if abs(mean - shade) > SAME or deviation > FLAT:
            return count
    return len(rows)


def normalize_contrast(grey: np.ndarray) -> np.ndarray:
    """Subtracts the local mean and divides by the local contrast; float32, the shape of `grey`, a square."""
    window = (AROUND * len(grey) // EDGE | 1,) * 2
    own = grey - cv2.blur(grey, window)
    least = max(1.0, LEAST * float(cv2.meanStdDev(grey)[1][0, 0]))
    return own / np.sqrt(cv2.blur(own * own, window) + least**2)


def _detect_keypoints(even: np.ndarray, scale: int) -> tuple[np.ndarray, ...]:
    """Detects the keypoints of one scale: x and y, int64 [M], heights, float32 [M], and waves, float32 [M, B]."""
    sigma, most = SCALES[scale]
    fine = cv2.GaussianBlur(even, (0, 0), sigma)
    blobs = fine - cv2.GaussianBlur(even, (0, 0), sigma * WIDER)
    extreme = (cv2.dilate(blobs, NEIGHBOURS) == blobs) | (cv2.erode(blobs, NEIGHBOURS) == blobs)
    places = np.flatnonzero(extreme & INSIDE & (np.abs(blobs) > FAINT))
    height = blobs.ravel()[places]
    order = np.argsort(-np.abs(height), kind="stable")[:most]
    (y, x), height = np.divmod(places[order], EDGE), height[order]
    return x, y, height, _sample_patches(fine, x, y, sigma) @ BASIS


def _sample_patches(fine: np.ndarray, x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """Samples the patches around keypoints: float32 [M, SAMPLES^2]."""
    radius = RADIUS * sigma
    offsets = (np.arange(SAMPLES) - (SAMPLES - 1) / 2) * 2 * radius / SAMPLES
    pad = int(np.ceil(radius))
    padded = cv2.copyMakeBorder(fine, pad, pad, pad, pad, cv2.BORDER_REFLECT_101)
    rows, columns = (at[:, None] + (np.rint(offsets).astype(np.int64) + pad) for at in (y, x))
    return padded[rows[:, :, None], columns[:, None, :]].reshape(len(x), SAMPLES**2)


def _normalize_form(waves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brings the waves of patches to their forms and to unit length: float32 [M, B], and the forms, int64 [M]."""
    waves = waves / np.maximum(np.linalg.norm(waves, axis=1, keepdims=True), 1e-6)
    turn = (waves[:, SLOPE_ACROSS] < 0) + 2 * (waves[:, SLOPE_DOWN] < 0)
    waves *= SIGNS[turn]
    steep = waves[:, SLOPE_ACROSS] < waves[:, SLOPE_DOWN]
    waves[steep] = waves[steep][:, TRANSPOSED]
    return waves, turn + 4 * steep


def _extract_field(packed: np.ndarray, first: int, bits: int) -> np.ndarray:
    return ((packed >> np.uint64(first)) & _mask_bits(bits)).astype(np.uint8)


def _mask_bits(bits: int) -> np.uint64:
    return np.uint64((1 << bits) - 1)


def _make_basis() -> tuple[list[tuple[int, int]], np.ndarray]:
    """The wave numbers (down, across), low ones first, and the windowed waves, float32 [SAMPLES^2, B]."""
    axis = (np.arange(SAMPLES) + 0.5) / SAMPLES
    waves = [np.cos(np.pi * wave * axis) * np.exp(-(((axis - 0.5) / 0.28) ** 2) / 2) for wave in range(WAVES)]
    numbers = [(down, total - down) for total in range(1, WAVES + 1) for down in range(total + 1)]
    numbers = [pair for pair in numbers if max(pair) < WAVES]
    basis = np.stack([np.outer(waves[down], waves[across]).ravel() for down, across in numbers], 1)
    basis -= basis.mean(0)
    return numbers, (basis / np.linalg.norm(basis, axis=0)).astype(np.float32)


NUMBERS, BASIS = _make_basis()
SIGNS = np.array(
    [[(-1) ** ((turn & 1) * across + (turn >> 1) * down) for down, across in NUMBERS] for turn in range(4)]
)
SIGNS = SIGNS.astype(np.float32)
"""Signs of the waves after mirroring horizontally, vertically or both: float32 [4, B]."""
TRANSPOSED = np.array([NUMBERS.index((across, down)) for down, across in NUMBERS])
SLOPE_ACROSS, SLOPE_DOWN = NUMBERS.index((0, 1)), NUMBERS.index((1, 0))
CODED = np.array([number for number in range(len(NUMBERS)) if number not in (SLOPE_ACROSS, SLOPE_DOWN)])
"""Waves in the code: all but the two slopes, which are positive in every form."""
POWERS = np.uint64(1) << np.arange(len(CODED) - 1, -1, -1).astype(np.uint64)
NEIGHBOURS = np.ones((5, 5), np.uint8)
INSIDE = np.pad(np.ones((EDGE - 2 * MARGIN,) * 2, bool), MARGIN)
FORMS = tuple(
    np.linalg.matrix_power([[0, 1], [1, 0]], turn >> 2) @ np.diag([1 - 2 * (turn & 1), 1 - (turn & 2)])
    for turn in range(8)
)
"""Matrices from a place, relative to the middle of the picture, to its form."""
SYMMETRY = np.array(
    [
        [next(at for at in range(8) if (FORMS[there] @ FORMS[at] == FORMS[here]).all()) for there in range(8)]
        for here in range(8)
    ],
    np.uint8,
)
"""uint8 [8, 8]: the symmetry between two pictures, by the forms of one keypoint in both."""


FINGERPRINT_EDGE = 16
"""Width and height of a fingerprint in grey pixels."""
FINGERPRINT_BYTES = FINGERPRINT_EDGE * FINGERPRINT_EDGE
SAMPLED = 64
"""Pixels that are sampled along each axis: a fingerprint takes a twentieth of the time to decode an image of 512 px."""


def _make_shrink_matrix() -> np.ndarray:
    """float32 [FINGERPRINT_EDGE, SAMPLED], rows of sum 1: the mean of each cell, blurred by half a cell.

    The blur makes a small shift change the fingerprint little. Three calls of OpenCV would take three times as long.
    """
    double = 2 * FINGERPRINT_EDGE
    halve = np.repeat(np.eye(double), SAMPLED // double, axis=1) * double / SAMPLED
    blur = cv2.GaussianBlur(np.eye(double), (1, 0), sigmaX=1e-6, sigmaY=1.0)
    return (np.repeat(np.eye(FINGERPRINT_EDGE), 2, axis=1) / 2 @ blur @ halve).astype(np.float32)


SHRINK = _make_shrink_matrix()


def compute_fingerprint(grey: np.ndarray) -> np.ndarray:
    """Shrinks a grey picture, uint8 [H, W], to 16 x 16: uint8 [256]. Equal pictures have equal fingerprints."""
    sparse = cv2.resize(grey, (SAMPLED, SAMPLED), interpolation=cv2.INTER_NEAREST)
    return np.rint(SHRINK @ sparse @ SHRINK.T).astype(np.uint8).ravel()
