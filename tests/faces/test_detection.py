"""The decoding of BlazeFace's outputs."""

from __future__ import annotations

import numpy as np
import pytest

from ffdi.faces import detection
from ffdi.faces.detection import ANCHORS, SIZE

EYES = [[0.4, 0.4], [0.6, 0.42]]


def encode(faces: dict[int, tuple[list[list[float]], float]]) -> tuple[np.ndarray, np.ndarray]:
    """Outputs that have a box, as left, top, right and bottom corner, and a logit at some anchors."""
    values, logits = np.zeros((896, 16), np.float32), np.full(896, -9, np.float32)
    for anchor, (corners, logit) in faces.items():
        (left, top), (right, bottom) = corners
        centre, edges = np.array([(left + right) / 2, (top + bottom) / 2]), np.array([right - left, bottom - top])
        pairs = np.stack([centre - ANCHORS[anchor], edges, *(np.array(EYES) - ANCHORS[anchor])])
        values[anchor, :8], logits[anchor] = SIZE * pairs.ravel(), logit
    return values, logits


def test_anchors_are_those_of_two_grids() -> None:
    assert ANCHORS.shape == (16 * 16 * 2 + 8 * 8 * 6, 2)
    assert ANCHORS[:3].tolist() == [[1 / 32, 1 / 32], [1 / 32, 1 / 32], [3 / 32, 1 / 32]]
    assert ANCHORS[32].tolist() == [1 / 32, 3 / 32]
    assert ANCHORS[512:519].tolist() == [[1 / 16, 1 / 16]] * 6 + [[3 / 16, 1 / 16]]
    assert ANCHORS[-1].tolist() == [15 / 16, 15 / 16]


@pytest.mark.parametrize("anchor", [0, 273, 600, 895])
def test_a_box_is_decoded_from_its_anchor(anchor: int) -> None:
    box = detection.find_best_box(*encode({anchor: ([[0.3, 0.2], [0.7, 0.8]], 3.0)}))
    assert box is not None
    assert np.allclose(box.corners, [[0.3, 0.2], [0.7, 0.8]], atol=1e-6)
    assert np.allclose(box.eyes, EYES, atol=1e-6)
    assert box.score == pytest.approx(1 / (1 + np.exp(-3)))


def test_boxes_of_the_best_face_are_averaged_by_their_scores() -> None:
    first, second, other = [[0.3, 0.2], [0.7, 0.8]], [[0.34, 0.2], [0.74, 0.8]], [[0.0, 0.0], [0.2, 0.2]]
    unlikely = [[0.4, 0.2], [0.8, 0.8]]
    faces = {10: (first, 2.0), 300: (second, 0.5), 700: (other, 1.0), 20: (unlikely, -0.1)}
    box = detection.find_best_box(*encode(faces))
    assert box is not None
    weights = 1 / (1 + np.exp(-np.array([2.0, 0.5])))
    expected = np.average([first, second], axis=0, weights=weights)
    assert np.allclose(box.corners, expected, atol=1e-6)
    assert box.score == pytest.approx(weights[0])


def test_without_a_likely_box_there_is_no_face() -> None:
    assert detection.find_best_box(*encode({})) is None
    assert detection.find_best_box(*encode({5: ([[0.3, 0.2], [0.7, 0.8]], -0.01)})) is None


def test_a_box_without_an_area_is_its_own_face() -> None:
    box = detection.find_best_box(*encode({5: ([[0.3, 0.2], [0.3, 0.2]], 400.0)}))
    assert box is not None
    assert np.allclose(box.corners, [[0.3, 0.2], [0.3, 0.2]], atol=1e-6)
    assert box.score == pytest.approx(1.0)
