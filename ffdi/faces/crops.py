"""Square crops of faces: from an image to a network's input, and from points in the crop back to the image.

Places in an image are pixels from its left upper corner: the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from ffdi.synthetic.operations import shrink_in_steps

GROWTH = 1.5
"""Edge of a face's crop, in parts of the longer edge of its box; the face mesh was trained on such crops."""
MAX_EDGE = 8
"""Largest edge of a crop, in parts of the image's longer edge."""


class Crop(NamedTuple):
    """A square, which may be turned and may reach beyond the image.

    Attributes:
        x, y: its centre.
        edge: in pixels.
        angle: of its upper edge in radians; positive if its right end is lower.
    """

    x: float
    y: float
    edge: float
    angle: float = 0.0

    @property
    def axes(self) -> np.ndarray:
        """float64 [2, 2]: the columns are the crop's upper and left edge."""
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        return self.edge * np.array([[cosine, -sine], [sine, cosine]])

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Places in the image, float64 [L, 2], of points in parts of the crop, float [L, 2]."""
        return (points - 0.5) @ self.axes.T + (self.x, self.y)

    def cut(self, pixels: np.ndarray, size: int, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
        """Cuts the crop out of an image; shrinks by area, and enlarges and turns by linear interpolation.

        Args:
            pixels: uint8 RGB [H, W, 3].
            size: edge of the result.
            border: OpenCV's name of what is beyond the image.

        Returns:
            uint8 RGB [size, size, 3].
        """
        height, width = pixels.shape[:2]
        scale = min(1.0, size / self.edge)
        small = max(1, round(height * scale)), max(1, round(width * scale))
        source = shrink_in_steps(pixels, *small) if small != (height, width) else pixels
        scales = np.array([small[1] / width, small[0] / height])
        matrix = scales[:, None] * np.column_stack([self.axes / size, self.locate(np.zeros((1, 2)))[0]])
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from the centres of the first pixels
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(source, matrix, (size, size), flags=flags, borderMode=border)


def surround_image(shape: tuple[int, ...], margin: float = 1.0) -> Crop:
    """A square around the middle of an image.

    Args:
        shape: of the image, [H, W, ...].
        margin: its edge, in parts of the image's longer edge.
    """
    return Crop(shape[1] / 2, shape[0] / 2, margin * max(shape[:2]))


def surround_face(shape: tuple[int, ...], corners: np.ndarray, eyes: np.ndarray) -> Crop | None:
    """The crop in which a face mesh takes a face: larger than the face, and turned so that the eyes are level.

    This is MediaPipe's: DetectionsToRectsCalculator, then RectTransformationCalculator with scales of 1.5.

    Args:
        shape: of the image, [H, W, ...].
        corners: the left upper and the right lower corner of the face's box, float [2, 2].
        eyes: the eye on the left of an upright image, and the other one, float [2, 2].

    Returns:
        None for a box without an area, or one far beyond the image.
    """
    (x, y), (width, height) = corners.mean(axis=0).tolist(), (corners[1] - corners[0]).tolist()
    across, down = (eyes[1] - eyes[0]).tolist()
    edge = GROWTH * max(width, height)
    reach = MAX_EDGE * max(shape[:2])
    if not (1 <= edge <= reach and abs(x) <= reach and abs(y) <= reach):
        return None
    return Crop(x, y, edge, math.atan2(down, across))
