"""Pseudo-fakes: fakes made from real images during the training, by self-blending or one of the field's four families.

Self-blending blends a face with a changed copy of itself: only the blending is fake. It follows Shiohara and Yamasaki,
Detecting Deepfakes with Self-Blended Images (CVPR 2022). They take the mask from landmarks. Here, without landmarks,
the mask is a soft oval or a random convex shape in the middle of the crop, where the face is.
"""

from __future__ import annotations

from itertools import count

import cv2
import numpy as np

from ffdi.synthetic.manipulations import MANIPULATIONS
from ffdi.synthetic.operations import blur, make_colour_matrix, shrink_in_steps

CENTRE = (0.50, 0.52)
"""Centre of the masks, in parts of the crop's width and height."""
WANDER = 0.05
"""Largest random shift of a mask's centre."""
HULLS = 4
"""Attempts with landmarks before an oval is used instead."""
AXES = ((0.16, 0.32), (0.20, 0.38))
"""Half the width and half the height of a mask, each as a range."""
RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
"""Weights of the changed face where the mask is 1."""
SHIFT, SCALE = (0.03, 0.015), 0.05
"""Largest shift (across, down) and change of scale of the changed face, as with an imperfect alignment."""


def self_blend(
    real: np.ndarray, _partner: np.ndarray, rng: np.random.Generator, landmarks: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Blends a face with itself: one of both copies has other colours and another sharpness, one is moved a little.

    Args:
        real: uint8 RGB [S, S, 3].
        _partner: not used.
        rng: random generator.
        landmarks: float [L, 2], points of the face in parts of width and height.

    Returns:
        The fake, uint8 RGB [S, S, 3], and the mask, float32 [S, S]: where the mask is 0, the fake is the background.
    """
    size = len(real)
    changed, background = _restyle(real, rng), real
    if rng.random() < 0.5:
        changed, background = background, changed
    half = max(size // 2, 16)  # masks are smooth, and their blurs expensive
    mask = np.float32(rng.choice(RATIOS)) * _make_mask(half, landmarks, rng)
    weight = cv2.resize(mask, (size, size), interpolation=cv2.INTER_LINEAR)
    part, fake = _bound(weight), background.copy()
    inside = np.ascontiguousarray(weight[part])
    moved = _move(changed, part, rng)
    fake[part] = cv2.blendLinear(moved, np.ascontiguousarray(background[part]), inside, 1 - inside)
    return fake, weight


def _bound(weight: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns where a mask is not 0."""
    left, top, width, height = cv2.boundingRect((weight > 0).astype(np.uint8))
    return slice(top, top + height), slice(left, left + width)


def _restyle(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Changes colours, brightness and contrast, and either blurs or sharpens."""
    contrast, light = rng.uniform(0.9, 1.1), rng.uniform(-12, 12) + rng.uniform(-8, 8, 3)
    hue, saturation, gain = rng.uniform(-1, 1, 3) * (8, 0.2, 0.08) + (0, 1, 1)
    colours = make_colour_matrix(contrast=contrast, hue=hue, saturation=saturation, gain=gain)
    colours[:, 3] = 128 * (1 - contrast) + light
    lit = cv2.transform(image, colours)
    return _blur_by_resizing(lit, rng) if rng.random() < 0.5 else _sharpen(lit, rng)


def _blur_by_resizing(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shrinks and enlarges, with random interpolations."""
    size = len(image)
    small = max(8, round(size * rng.uniform(0.35, 0.85)))
    ways = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_NEAREST)
    down, up = ways[rng.integers(4)], ways[rng.integers(2)]
    return cv2.resize(cv2.resize(image, (small, small), interpolation=down), (size, size), interpolation=up)


def _sharpen(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    amount = float(rng.uniform(0.3, 1.2))
    return cv2.addWeighted(image, 1 + amount, blur(image, 1.5), -amount, 0)


def _move(image: np.ndarray, part: tuple[slice, slice], rng: np.random.Generator) -> np.ndarray:
    """Shifts and scales an image; only a part of the result is made, some rows and columns."""
    size, (rows, columns) = len(image), part
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), 0, 1 + rng.uniform(-SCALE, SCALE))
    matrix[:, 2] = matrix[:, 2] + rng.uniform(-1, 1, 2) * SHIFT * size
    matrix[:, 2] -= (columns.start, rows.start)
    part_size = columns.stop - columns.start, rows.stop - rows.start
    return cv2.warpAffine(image, matrix, part_size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _make_mask(size: int, landmarks: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """float32 [size, size] from 0 to 1, never empty: a small outline may vanish when it is softened."""
    for draw in count():
        points = landmarks if draw < HULLS else None
        outline = _draw_shape(size, rng) if points is None else _draw_hull(size, points, rng)
        mask = _soften(_bend(outline, rng), rng)
        if mask.any():
            return mask
    raise AssertionError("nearly every attempt gives an oval of a third of the image")


def _draw_shape(size: int, rng: np.random.Generator) -> np.ndarray:
    """An oval, or the convex hull of a few points in an oval; float32 [size, size], 0 or 1."""
    centre = np.array(CENTRE) + rng.uniform(-WANDER, WANDER, 2)
    axes = np.array([rng.uniform(*range_) for range_ in AXES])
    radii: np.ndarray | float
    if rng.random() < 0.5:
        angles, radii = np.linspace(0, 2 * np.pi, 36, endpoint=False), 1.0
    else:
        count = rng.integers(5, 12)
        angles, radii = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.5, 1.0, count)[:, None]
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return _fill_hull(size, centre + axes * radii * circle)


def _draw_hull(size: int, landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The convex hull of the landmarks, or of two thirds of them."""
    if len(landmarks) > 4 and rng.random() < 0.5:
        landmarks = landmarks[rng.permutation(len(landmarks))[: max(4, 2 * len(landmarks) // 3)]]
    return _fill_hull(size, landmarks)


def _fill_hull(size: int, points: np.ndarray) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    hull = cv2.convexHull(np.round(points * size).astype(np.int32))
    cv2.fillConvexPoly(mask, hull, 1)
    return mask.astype(np.float32)


def _bend(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bends a mask's outline smoothly, by up to a few hundredths of the width."""
    size = len(mask)
    field = [cv2.resize(axis, (size, size), interpolation=cv2.INTER_CUBIC) for axis in _draw_waves(size, rng)]
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    # beyond the image is what is at its border: a face may be cut off there
    return cv2.remap(mask, columns + field[0], rows + field[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _draw_waves(size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 0.015 * size, (2, 5, 5)).astype(np.float32)


def _soften(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shrinks a mask with one blur, and softens its border with another."""
    size = len(mask)
    inner = (cv2.GaussianBlur(mask, (0, 0), size * rng.uniform(0.01, 0.05)) > rng.uniform(0.5, 0.9)).astype(np.float32)
    soft = cv2.GaussianBlur(inner, (0, 0), size * rng.uniform(0.005, 0.05))
    return np.where(soft < 0.02, 0, soft / max(float(soft.max()), 1e-6)).astype(np.float32)


MAX_ASPECT_RATIO = 4
"""Limit of the aspect ratio: images are processed as squares, and the square of a strip would not fit into memory."""


def make_fake(
    method: str,
    real: np.ndarray,
    partner: np.ndarray,
    rng: np.random.Generator,
    landmarks: np.ndarray | None = None,
) -> np.ndarray:
    """Makes a fake by a method.

    Args:
        method: a key of METHODS.
        real: uint8 RGB [H, W, 3].
        partner: another real image, of any size.
        rng: random generator.
        landmarks: float [L, 2], points of the real face in parts of width and height; only self-blending uses them.

    Returns:
        uint8 RGB [H, W, 3]; of a strip beyond MAX_ASPECT_RATIO only the middle is changed.
    """
    height, width = real.shape[:2]
    edge = min(max(height, width), MAX_ASPECT_RATIO * min(height, width))
    if edge < max(height, width):
        return _change_middle(method, real, partner, rng, edge)
    top, left = (edge - height) // 2, (edge - width) // 2
    whole = _pad_to_square(real, edge)
    other = _resize(partner, edge)
    if method == "self_blend" and landmarks is not None:
        moved = (landmarks * (width, height) + (left, top)) / edge
        fake, _ = self_blend(whole, other, rng, moved)
    else:
        fake, _ = METHODS[method](whole, other, rng)
    return np.ascontiguousarray(fake[top : top + height, left : left + width])


def _resize(image: np.ndarray, edge: int) -> np.ndarray:
    """A square: uint8 [edge, edge, 3]."""
    if min(image.shape[:2]) >= edge:
        return shrink_in_steps(image, edge, edge)
    return cv2.resize(image, (edge, edge), interpolation=cv2.INTER_LINEAR)


def _change_middle(
    method: str, real: np.ndarray, partner: np.ndarray, rng: np.random.Generator, edge: int
) -> np.ndarray:
    """Changes only the middle of a strip."""
    rows, columns = (
        slice((length - min(length, edge)) // 2, (length + min(length, edge)) // 2) for length in real.shape[:2]
    )
    fake = real.copy()
    fake[rows, columns] = make_fake(method, real[rows, columns], partner, rng)
    return fake


def _pad_to_square(pixels: np.ndarray, edge: int) -> np.ndarray:
    """Extends an image to a square by mirroring its border."""
    height, width = pixels.shape[:2]
    if height == width:
        return pixels
    top, left = (edge - height) // 2, (edge - width) // 2
    return cv2.copyMakeBorder(pixels, top, edge - height - top, left, edge - width - left, cv2.BORDER_REFLECT_101)


RECONSTRUCTION = "reconstruction"
"""The method that mixes an image with its reconstruction by an autoencoder, which is made before the training."""
LEAST_SHARE = 0.3
"""The smallest weight of a reconstruction."""
CUTOFF = (0.5, 4.0)
"""Standard deviation in pixels of the blur that parts low from high frequencies; drawn on a logarithmic scale."""


def mix_reconstruction(real: np.ndarray, reconstruction: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A fake between a real image and its reconstruction, with weights of its own for low and high frequencies.

    So neither all of the decoder's traces nor the missing detail tells each fake (Chen et al., Dual Data Alignment,
    NeurIPS 2025, who mix pixels only and keep the high frequencies by JPEG).

    Args:
        real, reconstruction: uint8 RGB [H, W, 3].
        rng: random generator.

    Returns:
        uint8 RGB [H, W, 3].
    """
    low, high = rng.uniform(LEAST_SHARE, 1, 2)
    if rng.random() < 0.5:
        low = high
    deviation = float(np.exp(rng.uniform(*np.log(CUTOFF))))
    change = reconstruction.astype(np.float32) - real
    mixed = real + high * change
    if low != high:
        mixed += (low - high) * cv2.GaussianBlur(change, (0, 0), deviation)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


METHODS = {"self_blend": self_blend, **MANIPULATIONS}
"""(real, partner, rng) -> (fake, mask), on square images."""
NAMES = (*METHODS, RECONSTRUCTION)
"""The values of `pseudo_fakes.methods`."""
