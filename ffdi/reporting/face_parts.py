"""The parts of a face, from its landmarks, and how much of a heat map lies on each."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

MARGIN = 0.25
"""Added on each side of a part, in parts of its longer side: landmarks lie on lids and lips."""
Box = tuple[float, float, float, float]
"""Top, bottom, left and right, in parts of the image's height and width."""


class Scheme(NamedTuple):
    """The numbers of the landmarks of the eyes, with their brows, and of the mouth."""

    eyes: tuple[int, ...]
    mouth: tuple[int, ...]


SCHEMES = {
    468: Scheme((33, 133, 145, 159, 263, 362, 374, 386, 105, 334), (61, 291, 0, 17)),
    68: Scheme((*range(17, 27), *range(36, 48)), tuple(range(48, 68))),
}
"""Numbered landmarks by their count: MediaPipe's face mesh, and the 68 points of iBUG 300-W, which dlib finds."""
SAME = {478: 468}
"""The mesh with ten more points of the irises."""


class FaceParts(NamedTuple):
    """Where the parts of a face are.

    Attributes:
        outline: float32 [P, 2], the convex hull of the face: x and y in parts of the image's width and height.
    """

    eyes: Box
    mouth: Box
    outline: np.ndarray

    def mask_face(self, height: int, width: int) -> np.ndarray:
        """bool [height, width]: the inside of the outline."""
        corners = np.rint(self.outline * (width, height)).astype(np.int32)
        return cv2.fillConvexPoly(np.zeros((height, width), np.uint8), corners, 1) > 0

    def mask_parts(self, height: int, width: int) -> dict[str, np.ndarray]:
        """Masks bool [height, width] of the parts, by name; each pixel is in one mask."""
        eyes, mouth = (_mask_box(box, height, width) for box in (self.eyes, self.mouth))
        face = self.mask_face(height, width)
        return {
            "eyes": eyes,
            "mouth": mouth & ~eyes,
            "rest of the face": face & ~eyes & ~mouth,
            "background": ~face & ~eyes & ~mouth,
        }


class Share(NamedTuple):
    """How much of a heat map, and of the image, a part of the face has; both from 0 to 1."""

    part: str
    heat: float
    area: float


def locate_parts(landmarks: np.ndarray | None) -> FaceParts | None:
    """The parts of a face from its landmarks.

    Args:
        landmarks: float [L, 2], x and y in parts of the image's width and height; NaN or None if they are unknown.

    Returns:
        None without landmarks, or if their count does not say which of them are eyes and mouth.
    """
    if landmarks is None or np.isnan(landmarks).any():
        return None
    scheme = SCHEMES.get(SAME.get(len(landmarks), len(landmarks)))
    if scheme is None:
        return None
    outline = cv2.convexHull(landmarks.astype(np.float32)).reshape(-1, 2)
    return FaceParts(_surround(landmarks[list(scheme.eyes)]), _surround(landmarks[list(scheme.mouth)]), outline)


def share_heat(heat: np.ndarray, parts: FaceParts) -> list[Share]:
    """The share of each part in a heat map of the whole image, float [H, W], and in its area; [] without any heat."""
    total = float(heat.sum())
    if total <= 0:
        return []
    masks = parts.mask_parts(*heat.shape)
    return [Share(name, float(heat[mask].sum()) / total, float(mask.mean())) for name, mask in masks.items()]


def _surround(points: np.ndarray) -> Box:
    """The box of points with a margin, cut off at the border of the image."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    margin = MARGIN * max(right - left, bottom - top) / 2
    top, bottom, left, right = (
        float(np.clip(end, 0, 1)) for end in (top - margin, bottom + margin, left - margin, right + margin)
    )
    return top, bottom, left, right


def _mask_box(box: Box, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[int(box[0] * height) : round(box[1] * height), int(box[2] * width) : round(box[3] * width)] = True
    return mask
