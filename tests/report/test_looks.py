"""What is shown of an image beside itself."""

from __future__ import annotations

import numpy as np
import pytest

from ffdi.report.looks import EDGE, LOOKS, MID, ground, light, noise


@pytest.mark.parametrize("shape", [(256, 256), (40, 40), (300, 20), (1, 1), (33, 500)])
@pytest.mark.parametrize("name", LOOKS)
def test_images_of_any_shape_have_every_look(name: str, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    shown = LOOKS[name](pixels)
    assert (shown.dtype, max(shown.shape[:2]), shown.shape[2]) == (np.uint8, EDGE, 3)


def test_noise_is_grey_where_there_is_none_and_tells_where_it_changes() -> None:
    pixels = np.full((64, 64, 3), 90, np.uint8)
    pixels[:, 32:] += np.random.default_rng(0).integers(0, 8, (64, 32, 3), np.uint8)
    shown = noise(pixels).astype(int)
    assert np.abs(shown[:, : EDGE // 3] - MID).max() == 0
    assert shown[:, -EDGE // 3 :].std() > 10


def test_light_is_brighter_where_it_falls() -> None:
    pixels = np.repeat(np.linspace(20, 220, 64).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    shown = light(pixels)
    assert shown[:, -10:].mean() > 1.5 * shown[:, :10].mean()


def test_the_background_is_left_and_the_face_is_not() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (EDGE, EDGE, 3), np.uint8)
    shown = ground(pixels)
    assert (shown[EDGE // 2, EDGE // 2] == MID).all()
    assert (shown[:8, :8] == pixels[:8, :8]).all()
