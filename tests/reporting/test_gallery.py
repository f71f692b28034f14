"""Which images a report shows."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from ffdi.reporting import gallery


def decoded(address: str) -> np.ndarray:
    head, _, content = address.partition(",")
    assert head == "data:image/webp;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_UNCHANGED)


def test_errors_uncertain_images_and_label_errors_are_picked() -> None:
    target = np.arange(1000) % 2
    y_pred = np.where(target == 1, 0.9, 0.1) + np.linspace(0, 0.05, 1000) * np.where(target == 1, -1, 1)
    y_pred[[10, 11]], y_pred[[20, 21]], y_pred[30] = [0.99, 0.02], [0.501, 0.498], 0.7
    picked = gallery.pick_images(target, y_pred)
    assert list(picked)[:5] == [11, 21, 10, 30, 20]
    assert picked[11] == ["missed", "suspect"]
    assert picked[10] == ["alarm", "suspect"]
    assert "uncertain" in picked[20]
    assert "uncertain" in picked[21]
    assert gallery.count_kinds(picked) == {"missed": 2, "alarm": 3, "uncertain": gallery.MAX_IMAGES, "suspect": 2}


def test_a_large_image_is_shrunk_and_a_small_one_is_not() -> None:
    for edge, shown in ((600, 256), (80, 80)):
        pixels = np.full((edge, edge, 3), (200, 40, 10), np.uint8)
        picture = decoded(gallery.encode_picture(pixels))
        assert picture.shape == (shown, shown, 3)
        assert np.abs(picture[5, 5].astype(int) - (10, 40, 200)).max() < 6


def test_strong_heat_is_opaque() -> None:
    heat = np.zeros((56, 56), np.float32)
    heat[:, 28:] = 1
    alpha = decoded(gallery.encode_overlay(heat))[..., 3]
    assert alpha[:, :26].max() == 0
    assert alpha[:, 30:].min() == 255


def test_images_of_pure_noise_stay_within_a_reports_limit() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    one = len(gallery.encode_picture(pixels)) + sum(map(len, gallery.render_views(pixels).values()))
    heat = len(gallery.encode_overlay(np.random.default_rng(0).random((56, 56))))
    assert len(gallery.KINDS) * gallery.MAX_IMAGES * (one + heat) < 19e6
