"""Fakes: changed where the mask says and nowhere else, by the four families, on any square crop."""

from __future__ import annotations

import numpy as np
import pytest

from ffdi.demo import portraits
from ffdi.synthetic.manipulations import MANIPULATIONS

FAMILIES = sorted(MANIPULATIONS)
DRAWS = 12
"""Random states tried for each family; attribute editing has several edits."""


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return portraits.draw_portrait(rng, 96), portraits.draw_portrait(rng, 96)


def _fakes(family: str, pair: tuple[np.ndarray, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [MANIPULATIONS[family](*pair, np.random.default_rng([1, index])) for index in range(DRAWS)]


def test_the_families_are_those_of_the_field() -> None:
    assert set(MANIPULATIONS) == {"face_swap", "face_reenactment", "talking_face", "attribute_editing"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [64, 96, 131])
def test_shapes_and_types(family: str, size: int) -> None:
    rng = np.random.default_rng(2)
    fake, mask = MANIPULATIONS[family](portraits.draw_portrait(rng, size), portraits.draw_portrait(rng, size), rng)
    assert fake.shape == (size, size, 3)
    assert fake.dtype == np.uint8
    assert mask.shape == (size, size)
    assert mask.dtype == np.float32


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mask_covers_all_changes(family: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    for fake, mask in _fakes(family, pair):
        assert mask.min() >= 0
        assert 0.5 < mask.max() <= 1
        assert np.array_equal(fake[mask == 0], pair[0][mask == 0])
        changed = np.abs(fake[mask > 0.5].astype(int) - pair[0][mask > 0.5])
        assert changed.mean() > 1
        assert (changed.max(-1) > 0).mean() > 0.7


@pytest.mark.parametrize("family", FAMILIES)
def test_the_change_is_local(family: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    low, high = {"talking_face": (0.015, 0.12), "attribute_editing": (0.015, 0.25)}.get(family, (0.06, 0.30))
    for _, mask in _fakes(family, pair):
        assert low < (mask > 0.5).mean() < high
        assert (mask == 0).mean() > 0.5


def test_the_talking_face_leaves_the_eyes(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for fake, _ in _fakes("talking_face", pair):
        assert np.array_equal(fake[:46], pair[0][:46])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_random_state_decides(family: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    one, same, other = (MANIPULATIONS[family](*pair, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(one[0], same[0])
    assert np.array_equal(one[1], same[1])
    assert not np.array_equal(one[0], other[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_neither_image_is_written_to(family: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    real, partner = pair[0].copy(), pair[1].copy()
    real.flags.writeable = partner.flags.writeable = False
    MANIPULATIONS[family](real, partner, np.random.default_rng(5))
    assert np.array_equal(real, pair[0])
    assert np.array_equal(partner, pair[1])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_images_do_not_break_them(family: str, level: int) -> None:
    flat = np.full((80, 80, 3), level, np.uint8)
    for index in range(DRAWS):
        fake, mask = MANIPULATIONS[family](flat, 255 - flat, np.random.default_rng([6, index]))
        assert fake.dtype == np.uint8
        assert np.isfinite(mask).all()


def test_a_swap_shows_the_partner(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """The same random state with two partners gives two faces."""
    real, partner = pair
    other = portraits.draw_portrait(np.random.default_rng(7), 96)
    one, two = (MANIPULATIONS["face_swap"](real, someone, np.random.default_rng(8))[0] for someone in (partner, other))
    assert not np.array_equal(one, two)


def test_the_own_face_is_enough_for_reenactment_and_editing(pair: tuple[np.ndarray, np.ndarray]) -> None:
    real, partner = pair
    for family in ("face_reenactment", "attribute_editing"):
        one, two = (MANIPULATIONS[family](real, someone, np.random.default_rng(9))[0] for someone in (partner, real))
        assert np.array_equal(one, two)
