from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ffdi.data.images import reencoding
from ffdi.data.images.resizing import ResizePolicy
from ffdi.synthetic import operations


def draw(height: int, width: int) -> np.ndarray:
    down, across = np.mgrid[:height, :width]
    grain = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return np.clip(np.stack([down, across, down + across], 2) * 255 / (height + width) + grain, 0, 255).astype(np.uint8)


def test_the_size_comes_first_and_then_the_same_encoding() -> None:
    pixels, policy = draw(90, 70), ResizePolicy(48)
    found = reencoding.reencode(pixels, policy)
    assert found.pixels.shape == (48, 48, 3)
    assert np.array_equal(found.pixels, operations.compress(policy.apply(pixels), 75, 4, 4))
    content = operations.encode_jpeg(policy.apply(pixels), 75, 4, 4).tobytes()
    assert found.size == len(content)
    chroma = Image.open(io.BytesIO(content)).layer[1:]  # type: ignore[attr-defined]
    assert [layer[1:3] for layer in chroma] == [(1, 1), (1, 1)]


def test_the_new_blocks_are_not_the_old_ones() -> None:
    """Saving at the same quality changes nothing in blocks that were saved so before."""
    policy = ResizePolicy(64)
    old = operations.compress(draw(64, 64), reencoding.QUALITY, 0, 0)
    kept = operations.compress(old, reencoding.QUALITY, 0, 0)
    moved = reencoding.reencode(old, policy).pixels
    difference = [float(np.abs(one.astype(int) - old).mean()) for one in (kept, moved)]
    assert difference[1] > 2 * difference[0]
