"""The face of an image from the outputs of BlazeFace, MediaPipe's detector for short range.

Bazarevsky et al., BlazeFace (2019). The settings are those of MediaPipe's face_detection_short_range, in
SsdAnchorsCalculator, TensorsToDetectionsCalculator and NonMaxSuppressionCalculator, which averages overlapping boxes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SIZE = 128
"""Edge of the detector's input in pixels."""
GRIDS = ((16, 2), (8, 6))
"""Cells along an edge, and anchors in each cell."""
VALUES = 16
"""Values of an anchor: centre, width and height of the box, then x and y of six points, the eyes first."""
LEAST_SCORE = 0.5
"""Least score of a face."""
LEAST_OVERLAP = 0.3
"""Boxes of one face overlap by this part of their union, or more."""
LARGEST_LOGIT = 100.0


class Box(NamedTuple):
    """A face, in parts of the detector's input.

    Attributes:
        corners: the left upper and the right lower one, float64 [2, 2].
        eyes: the one on the left of the image first, float64 [2, 2].
        score: from 0 to 1.
    """

    corners: np.ndarray
    eyes: np.ndarray
    score: float


def make_anchors() -> np.ndarray:
    """float64 [896, 2]: the centres of all anchors, row by row, in parts of the input."""
    anchors = []
    for cells, count in GRIDS:
        rows, columns = np.mgrid[0:cells, 0:cells]
        centres = (np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5) / cells
        anchors.append(np.repeat(centres, count, axis=0))
    return np.concatenate(anchors)


ANCHORS = make_anchors()


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """float64, of logits that are cut off as MediaPipe does it."""
    return 1 / (1 + np.exp(-np.clip(np.asarray(logits, np.float64), -LARGEST_LOGIT, LARGEST_LOGIT)))


def find_best_box(values: np.ndarray, logits: np.ndarray) -> Box | None:
    """The face with the highest score: the mean of all boxes that overlap with it, weighted by their scores.

    Args:
        values: float32 [896, 16], in pixels of the input from the centre of each anchor.
        logits: float32 [896].

    Returns:
        None if no box has `LEAST_SCORE`.
    """
    scores = sigmoid(logits)
    likely = scores >= LEAST_SCORE
    if not likely.any():
        return None
    scores, anchors = scores[likely], ANCHORS[likely]
    pairs = values[likely].reshape(len(scores), -1, 2).astype(np.float64) / SIZE
    centres, edges = anchors + pairs[:, 0], pairs[:, 1]
    corners = np.stack([centres - edges / 2, centres + edges / 2], axis=1)
    eyes = anchors[:, None] + pairs[:, 2:4]
    best = int(scores.argmax())
    same = _measure_overlaps(corners, corners[best]) > LEAST_OVERLAP
    same[best] = True  # also where its box has no area
    weights = scores[same] / scores[same].sum()
    return Box(np.tensordot(weights, corners[same], 1), np.tensordot(weights, eyes[same], 1), float(scores[best]))


def _measure_overlaps(corners: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float64 [M]: the intersection of each box, float64 [M, 2, 2], with another one, in parts of their union."""
    low, high = np.maximum(corners[:, 0], other[0]), np.minimum(corners[:, 1], other[1])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = np.clip(corners[:, 1] - corners[:, 0], 0, None).prod(axis=1)
    union = areas + np.clip(other[1] - other[0], 0, None).prod() - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
