"""Encodes images alike: one size, one JPEG quality, one chroma subsampling.

Detectors of fakes easily learn how files were made: another JPEG quality for one class, another size. Images that are
encoded alike no longer differ in this. The same size comes first: pixels of another scale keep a trace of it in any
encoding. Where an image has the size already, its old JPEG blocks stay where they were, so the new blocks are moved.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ffdi.data.images.resizing import ResizePolicy
from ffdi.synthetic import operations

QUALITY = 75
"""JPEG quality; chroma has half the size."""
MOVED = 4
"""Columns and rows between the new blocks of 8 x 8 pixels and those of a file that has the size already."""


class Reencoded(NamedTuple):
    """An image that was encoded like all others.

    Attributes:
        pixels: uint8 [size, size, 3] RGB.
        size: of the file, in bytes.
    """

    pixels: np.ndarray
    size: int


def reencode(pixels: np.ndarray, resize_policy: ResizePolicy) -> Reencoded:
    """Resizes an image, uint8 [H, W, 3] RGB, and saves it as a JPEG of `QUALITY`."""
    content = operations.encode_jpeg(resize_policy.apply(pixels), QUALITY, MOVED, MOVED)
    return Reencoded(operations.decode_jpeg(content, MOVED, MOVED), len(content))
