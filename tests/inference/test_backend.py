"""What every runtime has in common."""

from __future__ import annotations

import numpy as np
import pytest

from ffdi.inference.backend import Load, padded


def brightness(images: np.ndarray) -> np.ndarray:
    """float32 [B]; of a fixed batch."""
    assert len(images) == 4
    return images.mean((1, 2, 3)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 11])
def test_a_fixed_batch_is_filled_up_and_nothing_of_the_filling_is_seen(count: int) -> None:
    images = np.random.default_rng(count).integers(0, 256, (count, 2, 2, 3), np.uint8)
    y_pred = padded(brightness, 4)(images)
    assert np.array_equal(y_pred, images.mean((1, 2, 3)).astype(np.float32))


def test_many_images_are_asked_for_side_by_side_and_few_together() -> None:
    assert Load.of(1000, 4) == Load(1000, 4, 1)
    assert Load.of(20, 4) == Load(20, 1, 4)


def test_a_batch_is_never_larger_than_what_there_is() -> None:
    assert [Load(images, 1, 4).batch(8) for images in (1, 5, 100)] == [1, 5, 8]
    assert Load(20, 4, 1).batch(8) == 5
