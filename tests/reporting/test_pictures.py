"""Pictures of a page."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from ffdi.reporting import gallery, pairs, pictures, views


def decoded(address: str) -> np.ndarray:
    head, _, content = address.partition(",")
    assert head == "data:image/webp;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_UNCHANGED)


def test_a_large_image_is_shrunk_and_a_small_one_is_not() -> None:
    for edge, shown in ((600, 256), (80, 80)):
        pixels = np.full((edge, edge, 3), (200, 40, 10), np.uint8)
        picture = decoded(pictures.encode_picture(pixels))
        assert picture.shape == (shown, shown, 3)
        assert np.abs(picture[5, 5].astype(int) - (10, 40, 200)).max() < 6


def test_strong_heat_is_opaque_and_more_than_full_heat_no_more() -> None:
    heat = np.zeros((56, 56), np.float32)
    heat[:, 20:] = 1
    heat[:, 40:] = 5
    alpha = decoded(pictures.encode_overlay(heat))[..., 3]
    assert alpha[:, :18].max() == 0
    assert alpha[:, 22:].min() == 255


def test_the_middle_square_is_cut_out() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    assert pictures.crop_square(pixels, 5).tolist() == np.full((5, 5, 3), 255).tolist()


def test_images_of_pure_noise_stay_within_a_reports_limit() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    one = len(pictures.encode_picture(pixels)) + sum(map(len, views.render_views(pixels, None).values()))
    heat = len(pictures.encode_overlay(np.random.default_rng(0).random((56, 56))))
    images = len(gallery.KINDS) * gallery.MAX_IMAGES + 2 * pairs.MAX_PAIRS * pairs.MAX_IMAGES
    assert images * (one + heat) < 19e6
