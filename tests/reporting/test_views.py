"""What is shown of an image beside itself."""

from __future__ import annotations

import numpy as np
import pytest

from ffdi.reporting import face_parts, views
from ffdi.reporting.face_parts import FaceParts
from ffdi.reporting.views import EDGE, MID_GREY, show_background, show_light, show_noise

PARTS = FaceParts(
    (0.3, 0.5, 0.2, 0.8), (0.6, 0.8, 0.3, 0.7), np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]], np.float32)
)


@pytest.mark.parametrize("shape", [(256, 256), (40, 40), (300, 20), (1, 1), (33, 500)])
@pytest.mark.parametrize("parts", [None, PARTS])
def test_images_of_any_shape_have_all_views(parts: FaceParts | None, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for show in views.list_views(parts).values():
        shown = show(pixels)
        assert (shown.dtype, max(shown.shape[:2]), shown.shape[2]) == (np.uint8, EDGE, 3)


def test_only_known_parts_of_a_face_are_named() -> None:
    assert list(views.list_views(None)) == ["upper half", "lower half", "light and shadow", "noise of the pixels"]
    assert list(views.list_views(PARTS)) == ["eyes", "mouth", "light and shadow", "noise of the pixels", "background"]


def test_a_box_is_cut_out_of_the_image() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[30:50, 20:80] = 255
    assert views.list_views(PARTS)["eyes"](pixels).min() == 255
    assert views.list_views(PARTS)["mouth"](pixels).max() == 0


def test_the_noise_view_is_grey_without_noise_and_shows_a_change() -> None:
    pixels = np.full((64, 64, 3), 90, np.uint8)
    pixels[:, 32:] += np.random.default_rng(0).integers(0, 8, (64, 32, 3), np.uint8)
    shown = show_noise(pixels).astype(int)
    assert np.abs(shown[:, : EDGE // 3] - MID_GREY).max() == 0
    assert shown[:, -EDGE // 3 :].std() > 10


def test_the_light_view_is_brighter_at_the_light() -> None:
    pixels = np.repeat(np.linspace(20, 220, 64).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    shown = show_light(pixels)
    assert shown[:, -10:].mean() > 1.5 * shown[:, :10].mean()


def test_the_background_view_masks_the_face() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (EDGE, EDGE, 3), np.uint8)
    shown = show_background(pixels, PARTS)
    assert (shown[EDGE // 2, EDGE // 2] == MID_GREY).all()
    assert (shown[:8, :8] == pixels[:8, :8]).all()


def mesh(points: int) -> np.ndarray:
    """Landmarks of a face: an oval, with eyes and mouth at the numbers of the scheme."""
    turn = np.linspace(0, 2 * np.pi, points, endpoint=False)
    found = np.stack([0.5 + 0.3 * np.cos(turn), 0.5 + 0.4 * np.sin(turn)], 1)
    scheme = face_parts.SCHEMES[face_parts.SAME.get(points, points)]
    found[list(scheme.eyes)] = np.linspace([0.3, 0.35], [0.7, 0.45], len(scheme.eyes))
    found[list(scheme.mouth)] = np.linspace([0.4, 0.7], [0.6, 0.75], len(scheme.mouth))
    return found


@pytest.mark.parametrize("points", [68, 468, 478])
def test_parts_come_from_the_landmarks(points: int) -> None:
    parts = face_parts.locate_parts(mesh(points))
    assert parts
    assert parts.eyes == pytest.approx((0.30, 0.50, 0.25, 0.75))
    assert parts.mouth == pytest.approx((0.675, 0.775, 0.375, 0.625))
    masks = parts.mask_parts(90, 64)
    assert list(masks) == ["eyes", "mouth", "rest of the face", "background"]
    assert (np.sum(list(masks.values()), axis=0) == 1).all()
    assert masks["background"][0].all()
    assert masks["rest of the face"][45, 32]
    heat = np.zeros((90, 64), np.float32)
    heat[masks["mouth"]] = 0.5
    shares = {one.part: one for one in face_parts.share_heat(heat, parts)}
    assert shares["mouth"].heat == pytest.approx(1)
    assert shares["mouth"].area == pytest.approx(masks["mouth"].mean())
    assert shares["eyes"].heat == 0
    assert face_parts.share_heat(0 * heat, parts) == []


def test_no_parts_are_claimed_without_landmarks_of_a_known_kind() -> None:
    unknown = mesh(468)
    unknown[0] = np.nan
    assert face_parts.locate_parts(None) is None
    assert face_parts.locate_parts(unknown) is None
    assert face_parts.locate_parts(mesh(468)[:5]) is None
