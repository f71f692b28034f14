"""Which pixels a loader worker leaves to the device."""

from __future__ import annotations

import numpy as np
import pytest

from ffdi.data.images import deferred, resizing
from ffdi.data.images.deferred import MOST_PIXELS, Axis, Resize
from ffdi.data.images.resizing import WHOLE_IMAGE, CropBox, ResizePolicy

WHOLE = slice(0, 32), slice(0, 32)


def deferring(
    shape: tuple[int, int], box: CropBox = WHOLE_IMAGE, window: tuple[slice, slice] = WHOLE, resize: str = "squash"
) -> tuple[np.ndarray, Resize] | None:
    image = np.arange(shape[0] * shape[1] * 3).reshape(*shape, 3).astype(np.uint8)
    policy = ResizePolicy(32, resize)
    return deferred.defer_resize(image, policy.locate(image.shape, box), policy.size, window)


def test_pixels_are_handed_over_without_a_copy() -> None:
    image = np.zeros((50, 60, 3), np.uint8)
    geometry = ResizePolicy(32).locate(image.shape, CropBox(0.5, 1.0, 1.0, 0.0))
    left = deferred.defer_resize(image, geometry, 32, WHOLE)
    assert left is not None
    pixels, resize = left
    assert np.shares_memory(pixels, image)
    assert (pixels.shape, pixels.base is image) == ((25, 30, 3), True)
    assert resize == Resize(Axis(25, 0, 25, 32, 0, 32, cubic=True), Axis(30, 0, 30, 32, 0, 32, cubic=True))


@pytest.mark.parametrize("shape", [(32, 32), (64, 63), (48, 33), (64, 64 - 1), (20, 90), (32, 64 - 1)])
def test_a_few_pixels_are_left_to_the_device(shape: tuple[int, int]) -> None:
    left = deferring(shape)
    assert left is not None
    assert left[0].shape == (*shape, 3)


@pytest.mark.parametrize(
    "shape", [(64, 64), (96, 32), (65, 65), (1000, 700), (3, 4 * 32 + 1)], ids=lambda shape: "x".join(map(str, shape))
)
def test_a_worker_shrinks_many_pixels_and_by_whole_numbers(shape: tuple[int, int]) -> None:
    assert deferring(shape) is None


def test_a_batch_has_no_more_pixels_than_the_limit() -> None:
    rng = np.random.default_rng(0)
    largest = 0
    for _ in range(3000):
        box = CropBox(rng.uniform(0.1, 1), rng.uniform(0.7, 1.4), rng.random(), rng.random())
        edge = int(rng.integers(20, 33))
        window = resizing.locate_window(32, edge, rng.random(), rng.random())
        left = deferring(tuple(rng.integers(1, 100, 2).tolist()), box, window, ("squash", "crop")[rng.integers(2)])
        if left is not None:
            largest = max(largest, left[0].shape[0] * left[0].shape[1] / edge**2)
            assert max(left[0].shape) <= MOST_PIXELS * edge
            assert left[0].shape[:2] == tuple(axis.held for axis in left[1])
    assert MOST_PIXELS - 0.3 < largest <= MOST_PIXELS


@pytest.mark.parametrize("old", [33, 50, 60])
def test_a_crop_needs_the_old_pixels_of_its_window_only(old: int) -> None:
    left = deferring((old, old), window=(slice(8, 24), slice(16, 32)))
    assert left is not None
    pixels, (rows, columns) = left
    assert (rows.first_held, rows.held) == (8 * old // 32, -(-24 * old // 32) - 8 * old // 32)
    assert columns.first_held + columns.held == old
    assert pixels[0, 0, 0] == 3 * (rows.first_held * old + columns.first_held) % 256
    assert (rows.first, rows.wanted, columns.first, columns.wanted) == (8, 16, 16, 16)


def test_an_image_that_is_enlarged_twice_is_enlarged_once_here() -> None:
    left = deferring((20, 24), CropBox(0.75, 1.0, 0.5, 0.5), resize="crop")
    assert left is not None
    assert left[0].shape == (24, 24, 3)
    assert left[1].rows == Axis(24, 0, 24, 32, 0, 32, cubic=True)


def test_the_resizes_of_a_batch_are_one_array() -> None:
    one, other = deferring((50, 40)), deferring((20, 90))
    assert one is not None
    assert other is not None
    packed = deferred.pack_resizes([one[1], other[1]])
    assert (packed.dtype, packed.shape) == (np.int64, (2, 2, 7))
    assert packed[1].tolist() == [[20, 0, 20, 32, 0, 32, 1], [90, 0, 90, 32, 0, 32, 1]]


def test_pixels_of_the_right_size_stay() -> None:
    pixels, resize = deferred.keep_size(np.zeros((32, 32, 3), np.uint8))
    assert pixels.shape == (32, 32, 3)
    assert resize == Resize(*[Axis(32, 0, 32, 32, 0, 32, cubic=False)] * 2)
