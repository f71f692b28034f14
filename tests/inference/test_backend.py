"""What every runtime has in common."""

from __future__ import annotations

import numpy as np
import pytest

from ffdi.inference.backend import Load, pad_batches


def brightness(images: np.ndarray) -> np.ndarray:
    """float32 [B]; of a fixed batch."""
    assert len(images) == 4
    return images.mean((1, 2, 3)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 11])
def test_padding_of_a_fixed_batch_gives_no_scores(count: int) -> None:
    images = np.random.default_rng(count).integers(0, 256, (count, 2, 2, 3), np.uint8)
    y_pred = pad_batches(brightness, 4)(images)
    assert np.array_equal(y_pred, images.mean((1, 2, 3)).astype(np.float32))


def test_many_images_run_in_parallel_and_few_together() -> None:
    assert Load.plan(1000, 4) == Load(1000, 4, 1)
    assert Load.plan(20, 4) == Load(20, 1, 4)


def test_a_batch_is_never_larger_than_the_images() -> None:
    assert [Load(images, 1, 4).choose_batch(8) for images in (1, 5, 100)] == [1, 5, 8]
    assert Load(20, 4, 1).choose_batch(8) == 5
