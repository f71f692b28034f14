"""Self-blended images: a face blended with itself, so that all that is fake about it is the blending.

Follows Shiohara and Yamasaki, Detecting Deepfakes with Self-Blended Images (CVPR 2022). Theirs takes the mask from
landmarks; ours, unless landmarks are given, is a soft oval or a random convex shape about where a crop has its face.
"""

from __future__ import annotations

from itertools import count

import cv2
import numpy as np

CENTRE = (0.50, 0.52)
"""Of the masks, in parts of the crop's width and height."""
WANDER = 0.05
"""How far a mask's centre may lie from there."""
HULLS = 4
"""So often landmarks are tried before an oval is taken in their place."""
AXES = ((0.16, 0.32), (0.20, 0.38))
"""Half the width and half the height of a mask, in the same parts."""
RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
"""How much of the changed face shows where the mask is 1."""
SHIFT, SCALE = (0.03, 0.015), 0.05
"""How far the changed face is moved, across and down, and by how much it is scaled: no alignment is perfect."""


def self_blend(
    real: np.ndarray, _partner: np.ndarray, rng: np.random.Generator, landmarks: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Blends a face with itself: one of the two with other colours and another sharpness, one moved a little.

    Args:
        real: uint8 RGB [S, S, 3].
        _partner: not looked at.
        rng: decides.
        landmarks: float [L, 2], points of the face in parts of width and height; without them any part of its middle.

    Returns:
        The fake, uint8 RGB [S, S, 3], and the mask, float32 [S, S]: where it is 0, the fake is the background.
    """
    size = len(real)
    changed, background = _restyled(real, rng), real
    if rng.random() < 0.5:
        changed, background = background, changed
    half = max(size // 2, 16)  # masks are smooth, and blurs of them dear
    mask = np.float32(rng.choice(RATIOS)) * _mask(half, landmarks, rng)
    weight = cv2.resize(mask, (size, size), interpolation=cv2.INTER_LINEAR)[..., None]
    blended = background + weight * (_moved(changed, rng).astype(np.float32) - background)
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8), weight[..., 0]


def _restyled(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other colours, light and contrast, and either blunter or sharper."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv += rng.uniform(-1, 1, 3).astype(np.float32) * (4, 20, 12)
    hsv[..., 0] %= 180
    coloured = cv2.cvtColor(_pixels(hsv), cv2.COLOR_HSV2RGB).astype(np.float32)
    contrast, light = rng.uniform(0.9, 1.1), rng.uniform(-12, 12) + rng.uniform(-8, 8, 3)
    lit = _pixels((coloured - 128) * contrast + 128 + light)
    return _blunted(lit, rng) if rng.random() < 0.5 else _sharpened(lit, rng)


def _blunted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through a smaller size and back, by any interpolation but blocks on the way back."""
    size = len(image)
    small = max(8, round(size * rng.uniform(0.35, 0.85)))
    ways = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_NEAREST)
    down, up = ways[rng.integers(4)], ways[rng.integers(2)]
    return cv2.resize(cv2.resize(image, (small, small), interpolation=down), (size, size), interpolation=up)


def _sharpened(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    amount = float(rng.uniform(0.3, 1.2))
    return cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), 1.5), -amount, 0)


def _moved(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = len(image)
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), 0, 1 + rng.uniform(-SCALE, SCALE))
    matrix[:, 2] = matrix[:, 2] + rng.uniform(-1, 1, 2) * SHIFT * size
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _mask(size: int, landmarks: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Float32 [size, size] from 0 to 1; never empty: small outlines vanish where they are softened."""
    for draw in count():
        points = landmarks if draw < HULLS else None
        outline = _shape(size, rng) if points is None else _hull(size, points, rng)
        mask = _softened(_bent(outline, rng), rng)
        if mask.any():
            return mask
    raise AssertionError("an oval of a third of the image is left by every draw but a few")


def _shape(size: int, rng: np.random.Generator) -> np.ndarray:
    """An oval, or the convex hull of a few points in one; float32 [size, size], 0 or 1."""
    centre = np.array(CENTRE) + rng.uniform(-WANDER, WANDER, 2)
    axes = np.array([rng.uniform(*range_) for range_ in AXES])
    radii: np.ndarray | float
    if rng.random() < 0.5:
        angles, radii = np.linspace(0, 2 * np.pi, 36, endpoint=False), 1.0
    else:
        count = rng.integers(5, 12)
        angles, radii = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.5, 1.0, count)[:, None]
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return _filled(size, centre + axes * radii * circle)


def _hull(size: int, landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The convex hull of the landmarks, or of two thirds of them."""
    if len(landmarks) > 4 and rng.random() < 0.5:
        landmarks = landmarks[rng.permutation(len(landmarks))[: max(4, 2 * len(landmarks) // 3)]]
    return _filled(size, landmarks)


def _filled(size: int, points: np.ndarray) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    hull = cv2.convexHull(np.round(points * size).astype(np.int32))
    cv2.fillConvexPoly(mask, hull, 1)
    return mask.astype(np.float32)


def _bent(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Its outline bent smoothly, by up to a few hundredths of the width."""
    size = len(mask)
    field = [cv2.resize(axis, (size, size), interpolation=cv2.INTER_CUBIC) for axis in _waves(size, rng)]
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    return cv2.remap(mask, columns + field[0], rows + field[1], cv2.INTER_LINEAR)


def _waves(size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 0.015 * size, (2, 5, 5)).astype(np.float32)


def _softened(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Drawn in by one blur, and its border spread by another."""
    size = len(mask)
    inner = (cv2.GaussianBlur(mask, (0, 0), size * rng.uniform(0.01, 0.05)) > rng.uniform(0.5, 0.9)).astype(np.float32)
    soft = cv2.GaussianBlur(inner, (0, 0), size * rng.uniform(0.005, 0.05))
    return np.where(soft < 0.02, 0, soft / max(float(soft.max()), 1e-6)).astype(np.float32)


def _pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
