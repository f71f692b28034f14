"""Self-blended images: a face blended with itself, inside a mask and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from ffdi.demo import portraits
from ffdi.synthetic import pseudo_fakes

DRAWS = 40


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return portraits.draw_portrait(np.random.default_rng(0), 128)


def drawn(face: np.ndarray, **landmarks: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        pseudo_fakes.self_blend(face, face, np.random.default_rng([1, index]), **landmarks) for index in range(DRAWS)
    ]


def test_outside_of_the_mask_everything_is_one_of_two_images(face: np.ndarray) -> None:
    untouched = 0
    for fake, mask in drawn(face):
        assert (fake.shape, fake.dtype, mask.shape, mask.dtype) == (face.shape, np.uint8, face.shape[:2], np.float32)
        assert mask.min() == 0
        assert 0.2 < mask.max() <= 1
        assert (mask[:4] == 0).all()
        untouched += np.array_equal(fake[mask == 0], face[mask == 0])
        assert not np.array_equal(fake, face)
    assert DRAWS / 4 < untouched < 3 * DRAWS / 4  # else it is the inner face that was left as it was


def test_masks_are_of_many_kinds(face: np.ndarray) -> None:
    masks = [mask for _, mask in drawn(face)]
    areas = [(mask > 0.5 * mask.max()).mean() for mask in masks]
    assert min(areas) < 0.08
    assert max(areas) > 0.2
    strengths = [min(pseudo_fakes.RATIOS, key=lambda ratio: abs(ratio - mask.max())) for mask in masks]
    assert set(strengths) == set(pseudo_fakes.RATIOS)


def test_the_hull_of_landmarks_bounds_the_mask(face: np.ndarray) -> None:
    points = np.array([[0.6, 0.6], [0.9, 0.6], [0.9, 0.9], [0.6, 0.9], [0.75, 0.95]])
    for _, mask in drawn(face, landmarks=points):
        assert (mask[:50, :50] == 0).all()
        assert mask[70:, 70:].max() > 0.2


def test_a_reconstruction_is_mixed_by_frequencies() -> None:
    """A change of all pixels alike has the lowest frequency, and one from pixel to pixel the highest."""
    real = np.full((64, 64, 3), 100, np.uint8)
    checks = np.where(np.indices((64, 64)).sum(0) % 2, 40, -40)[..., None]
    low, high = (
        np.array([mix_weight(real, change, index) for index in range(DRAWS)]) for change in (np.array([40]), checks)
    )
    assert min(low.min(), high.min()) > pseudo_fakes.LEAST_SHARE - 0.02
    assert max(low.max(), high.max()) <= 1.02
    alike = np.abs(low - high) < 0.05
    assert 0.3 < alike.mean() < 0.8
    assert (low[~alike] < high[~alike]).any()
    assert (low[~alike] > high[~alike]).any()


def mix_weight(real: np.ndarray, change: np.ndarray, seed: int) -> float:
    """How much of a change remains."""
    made = (real.astype(int) + change).astype(np.uint8)
    fake = pseudo_fakes.mix_reconstruction(real, made, np.random.default_rng([4, seed]))
    return float(np.abs(fake.astype(int) - real)[8:-8, 8:-8].mean() / np.abs(change).mean())


def test_a_face_that_the_border_cuts_off_has_no_outline_there(face: np.ndarray) -> None:
    points = np.array([[-0.4, -0.4], [1.4, -0.4], [1.4, 1.4], [-0.4, 1.4]])
    for _, mask in drawn(face, landmarks=points):
        assert np.ptp(mask) < 1e-6
    points[:, 1] = [-0.4, -0.4, 0.5, 0.5]
    for _, mask in drawn(face, landmarks=points):
        assert np.ptp(mask[0]) < 1e-6


def test_no_mask_is_empty_however_small_an_outline_is(face: np.ndarray) -> None:
    point = np.full((3, 2), 0.5)
    for _, mask in drawn(face, landmarks=point):
        assert mask.max() > 0.2
    for index in range(1500):
        assert pseudo_fakes._make_mask(16, None, np.random.default_rng([2, index])).max() == 1


@pytest.mark.parametrize("kind", pseudo_fakes.METHODS)
@pytest.mark.parametrize("shape", [(1, 9000), (9000, 1), (5, 5000)])
def test_of_a_strip_the_middle_is_faked(kind: str, shape: tuple[int, int]) -> None:
    real = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    fake = pseudo_fakes.make_fake(kind, real, real, np.random.default_rng(2))
    changed = (fake != real).any(-1).any(0 if shape[1] > shape[0] else 1)
    assert fake.shape == real.shape
    assert not changed[:4480].any() and not changed[-4480:].any() if max(shape) == 9000 else changed.sum() <= 20


@pytest.mark.parametrize("kind", pseudo_fakes.METHODS)
@pytest.mark.parametrize("shape", [(64, 64), (60, 90), (97, 41)])
def test_fakes_are_made_of_images_of_any_shape(kind: str, shape: tuple[int, int], face: np.ndarray) -> None:
    real = face[: shape[0], : shape[1]]
    points = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]])
    fake = pseudo_fakes.make_fake(kind, real, face, np.random.default_rng(2), points)
    assert (fake.shape, fake.dtype, fake.flags.c_contiguous) == ((*shape, 3), np.uint8, True)
    assert not np.array_equal(fake, real)


def test_landmarks_stay_on_the_face_of_an_image_that_is_not_square(face: np.ndarray) -> None:
    real = np.ascontiguousarray(face[:40])
    points = np.array([[0.0, 0.0], [0.3, 0.0], [0.3, 0.9], [0.0, 0.9]])
    changed = np.zeros(real.shape[:2], bool)
    for index in range(DRAWS):
        fake = pseudo_fakes.make_fake("self_blend", real, real, np.random.default_rng([3, index]), points)
        if np.array_equal(fake[:, -8:], real[:, -8:]):  # where the inner face was changed, not all else
            changed |= (fake != real).any(-1)
    assert changed[:, :30].any()
    assert not changed[:, 70:].any()
