"""Portraits: the same person from the same random state, another from another, and a face in the middle."""

from __future__ import annotations

import numpy as np
import pytest

from ffdi.demo import head, portraits
from ffdi.demo.canvas import Frame, Light
from ffdi.demo.person import LENGTHS, STYLES, make_outline, sample_person
from ffdi.demo.portraits import apply_camera


def _portrait(*seed: int, size: int = 96) -> np.ndarray:
    return portraits.draw_portrait(np.random.default_rng(seed), size)


@pytest.mark.parametrize("size", [48, 96, 130, 224])
def test_a_portrait_is_an_rgb_image_of_the_requested_size(size: int) -> None:
    image = _portrait(1, size=size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8


def test_the_random_state_decides_every_pixel() -> None:
    assert np.array_equal(_portrait(2), _portrait(2))
    assert not np.array_equal(_portrait(2), _portrait(3))


def test_the_next_draw_gives_another_person() -> None:
    rng = np.random.default_rng(4)
    first, second = portraits.draw_portrait(rng, 96), portraits.draw_portrait(rng, 96)
    assert np.abs(first.astype(int) - second).mean() > 10


def test_every_kind_of_sitter_can_be_drawn() -> None:
    people = [sample_person(np.random.default_rng([5, index])) for index in range(400)]
    assert {one.style for one in people} == set(STYLES)
    assert {one.length for one in people} == set(LENGTHS)
    assert 0.1 < np.mean([one.glasses for one in people]) < 0.3
    assert 0.1 < np.mean([one.beard > 0 for one in people]) < 0.4
    assert {one.opening > 0 for one in people} == {True, False}


def test_faces_differ_from_one_another_in_tone_and_light() -> None:
    means = np.array([_portrait(6, index).mean() for index in range(40)])
    cheeks = np.array([_portrait(6, index)[50:56, 36:60].mean() for index in range(40)])
    assert 60 < means.mean() < 180
    assert means.std() > 12
    assert cheeks.std() > 20


def test_the_face_covers_a_sane_part_of_the_picture() -> None:
    frame = Frame(144)
    for index in range(60):
        person = sample_person(np.random.default_rng([7, index]))
        area = float(frame.make_mask(make_outline(person)).mean())
        assert 0.2 < area < 0.4, person


def test_features_are_at_their_places_in_face_crops() -> None:
    """Eyes and mouth are darker and redder than the skin between them, on average over many people."""
    mean = np.mean([_portrait(8, index).astype(float) for index in range(80)], axis=0)
    grey = mean.mean(2)
    eye = grey[39:43, [37, 38, 58, 59]].mean()
    bridge, cheek = grey[39:43, 46:50].mean(), grey[50:54, [34, 35, 60, 61]].mean()
    assert eye < min(bridge, cheek) - 5
    redness = mean[..., 0] - mean[..., 1]
    assert redness[64:67, 44:52].mean() > redness[56:60, 33:37].mean() + 5


def test_light_falls_on_the_side_it_comes_from() -> None:
    person = sample_person(np.random.default_rng(9))
    frame = Frame(144)
    relief = head._compute_relief(frame, person)
    left, right = (
        Light(np.float32([x, -0.4, 0.8]), np.float32([1, 1, 1]), np.float32([0.5, 0.5, 0.5]), 1.0)
        for x in (-0.45, 0.45)
    )
    rows, near, far = np.s_[60:90], np.s_[40:60], np.s_[84:104]
    from_left, from_right = frame.compute_facing(relief, left), frame.compute_facing(relief, right)
    assert from_left[rows, near].mean() > from_left[rows, far].mean() + 0.1
    assert from_right[rows, far].mean() > from_right[rows, near].mean() + 0.1


def test_the_sensor_leaves_grain_that_grows_with_the_light() -> None:
    dark, bright = (np.full((96, 96, 3), level, np.float32) for level in (30, 180))
    spread = [apply_camera(np.random.default_rng(10), flat).std((0, 1)).mean() for flat in (dark, bright)]
    assert 2 < spread[0] < spread[1] < 10
