"""What is shown of an image beside itself."""

from __future__ import annotations

import numpy as np
import pytest

from ffdi.reporting.gallery import MID_GREY, VIEW_EDGE, VIEWS, show_background, show_light, show_noise


@pytest.mark.parametrize("shape", [(256, 256), (40, 40), (300, 20), (1, 1), (33, 500)])
@pytest.mark.parametrize("name", VIEWS)
def test_images_of_any_shape_have_all_views(name: str, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    shown = VIEWS[name](pixels)
    assert (shown.dtype, max(shown.shape[:2]), shown.shape[2]) == (np.uint8, VIEW_EDGE, 3)


def test_the_noise_view_is_grey_without_noise_and_shows_a_change() -> None:
    pixels = np.full((64, 64, 3), 90, np.uint8)
    pixels[:, 32:] += np.random.default_rng(0).integers(0, 8, (64, 32, 3), np.uint8)
    shown = show_noise(pixels).astype(int)
    assert np.abs(shown[:, : VIEW_EDGE // 3] - MID_GREY).max() == 0
    assert shown[:, -VIEW_EDGE // 3 :].std() > 10


def test_the_light_view_is_brighter_at_the_light() -> None:
    pixels = np.repeat(np.linspace(20, 220, 64).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    shown = show_light(pixels)
    assert shown[:, -10:].mean() > 1.5 * shown[:, :10].mean()


def test_the_background_view_masks_the_face() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (VIEW_EDGE, VIEW_EDGE, 3), np.uint8)
    shown = show_background(pixels)
    assert (shown[VIEW_EDGE // 2, VIEW_EDGE // 2] == MID_GREY).all()
    assert (shown[:8, :8] == pixels[:8, :8]).all()
