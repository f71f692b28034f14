"""Crops of faces: the way to a network's input and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ffdi.faces import crops
from ffdi.faces.crops import Crop
from tests.face_networks import draw_disc


@pytest.mark.parametrize(
    "crop",
    [
        Crop(60, 40, 100),
        Crop(60, 40, 50, 0.4),
        Crop(75, 30, 300, -1.2),
        Crop(10, 70, 160, 3.0),
        Crop(80, 45, 64, np.pi / 2),
    ],
)
def test_a_place_in_a_crop_is_found_again_in_the_image(crop: Crop) -> None:
    image = draw_disc((90, 130), (70.3, 44.8), 6)
    seen = crop.cut(image, 128)
    assert (seen.shape, seen.dtype) == ((128, 128, 3), np.uint8)
    rows, columns = np.nonzero(seen[..., 0] > 150)
    middle = np.array([[columns.mean() + 0.5, rows.mean() + 0.5]]) / 128
    assert crop.locate(middle) == pytest.approx(np.array([[70.3, 44.8]]), abs=0.3)


def test_corners_run_clockwise_and_turn_with_the_crop() -> None:
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    assert np.allclose(Crop(5, 7, 4).locate(corners), [[3, 5], [7, 5], [7, 9], [3, 9]])
    assert np.allclose(Crop(5, 7, 4, np.pi / 2).locate(corners), [[7, 5], [7, 9], [3, 9], [3, 5]])


def test_the_whole_image_at_its_own_size_is_unchanged() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.array_equal(crops.surround_image(image.shape).cut(image, 64), image)
    halved = crops.surround_image(image.shape).cut(image, 32)
    assert np.array_equal(halved, cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA))


def test_beyond_the_image_is_its_border_or_black() -> None:
    image = np.full((10, 20, 3), 200, np.uint8)
    whole = crops.surround_image(image.shape, 1.5)
    assert whole == Crop(10, 5, 30)
    assert (whole.cut(image, 30) == 200).all()
    black = whole.cut(image, 30, cv2.BORDER_CONSTANT)
    assert (black[10:20, 5:25] == 200).all()
    assert black.astype(int).sum() == 200 * 3 * image.shape[0] * image.shape[1]


def test_a_face_is_in_the_middle_of_a_larger_crop_with_level_eyes() -> None:
    corners = np.array([[20.0, 30.0], [60.0, 80.0]])
    level = crops.surround_face((100, 100), corners, np.array([[30.0, 50.0], [50.0, 50.0]]))
    assert level == Crop(40, 55, 75)
    eyes = np.array([[30.0, 50.0], [50.0, 60.0]])
    turned = crops.surround_face((100, 100), corners, eyes)
    assert turned is not None
    across = turned.locate(np.array([[0.0, 0.5], [1.0, 0.5]]))
    slope = (across[1] - across[0]) / np.linalg.norm(across[1] - across[0])
    assert np.allclose(slope, [2 / 5**0.5, 1 / 5**0.5])


@pytest.mark.parametrize(
    "corners",
    [
        [[20, 30], [20, 30]],
        [[60, 80], [20, 30]],
        [[0, 0], [900, 900]],
        [[5000, 0], [5050, 50]],
        [[np.nan, 0], [40, 40]],
    ],
)
def test_a_box_that_is_no_face_has_no_crop(corners: list[list[float]]) -> None:
    eyes = np.array([[30.0, 50.0], [50.0, 50.0]])
    assert crops.surround_face((100, 100), np.array(corners, float), eyes) is None
