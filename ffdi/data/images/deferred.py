"""Resizing that a loader worker leaves to the device: which old pixels it hands over, and what remains to be done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ffdi.data.images import decode
from ffdi.data.images.decode import Geometry, measure

MOST_PIXELS = 4
"""Limit of what is handed over, in parts of the pixels of the result; a worker shrinks larger images itself.

Above it, an image takes more time on its way through shared memory than a worker needs to shrink it, if its size and
the network's have a large common divisor. It also limits the memory of a batch.
"""


class Axis(NamedTuple):
    """A resize along rows or along columns.

    Attributes:
        held: old pixels that were handed over.
        first_held: the first of them.
        old, new: the length of the whole before and after the resize.
        first, wanted: the first new pixel that is wanted, and how many are.
        cubic: by cubic interpolation, else by area.
    """

    held: int
    first_held: int
    old: int
    new: int
    first: int
    wanted: int
    cubic: bool


class Resize(NamedTuple):
    """What remains to be done to the pixels of an image, along both axes."""

    rows: Axis
    columns: Axis


def defer_resize(
    image: np.ndarray, geometry: Geometry, size: int, window: tuple[slice, slice]
) -> tuple[np.ndarray, Resize] | None:
    """Leaves the resize of a part of an image to the device, without a copy.

    Args:
        image: uint8 [H, W, 3].
        geometry: of `ResizePolicy.locate`, without black around the part.
        size: the network's size.
        window: rows and columns of the network's input to make; a square.

    Returns:
        The old pixels that the window needs, uint8 [h, w, 3], and what remains to be done; None if it is better to
        resize them here: they are many, or they are shrunk by whole numbers, which OpenCV does in less time than
        the pixels take through shared memory.
    """
    assert not geometry.padded
    part, new, start = image[geometry.part], (geometry.height, geometry.width), [one.start for one in geometry.window]
    if measure(geometry.window) != (size, size):  # enlarged twice, the first time here
        part, new, start = decode.enlarge(part, *new)[geometry.window], (size, size), [0, 0]
    old, cubic = part.shape[:2], part.shape[0] < new[0] or part.shape[1] < new[1]
    if not cubic and old != new and old[0] % new[0] == 0 and old[1] % new[1] == 0:
        return None
    rows, columns = (
        _hold(old[axis], new[axis], start[axis] + window[axis].start, count, cubic)
        for axis, count in enumerate(measure(window))
    )
    pixels = rows.wanted * columns.wanted
    if rows.held * columns.held > MOST_PIXELS * pixels or max(rows.held, columns.held) ** 2 > MOST_PIXELS**2 * pixels:
        return None
    held = (slice(axis.first_held, axis.first_held + axis.held) for axis in (rows, columns))
    return part[tuple(held)], Resize(rows, columns)


def keep_size(pixels: np.ndarray) -> tuple[np.ndarray, Resize]:
    """Pixels to which nothing remains to be done: uint8 [S, S, 3]."""
    rows, columns = (Axis(length, 0, length, length, 0, length, cubic=False) for length in pixels.shape[:2])
    return pixels, Resize(rows, columns)


def _hold(old: int, new: int, first: int, wanted: int, cubic: bool) -> Axis:
    """The old pixels that `wanted` new ones are made of, from new pixel `first` on."""
    last = first + wanted - 1
    if cubic:
        start, stop = (((2 * place + 1) * old - new) // (2 * new) for place in (first, last))
        start, stop = start - 1, stop + 3
    else:
        start, stop = first * old // new, -(-(last + 1) * old // new)
    start, stop = max(0, start), min(old, stop)
    return Axis(stop - start, start, old, new, first, wanted, cubic)


def pack_resizes(resizes: Sequence[Resize]) -> np.ndarray:
    """The resizes of a batch in one array: int64 [B, 2, 7], the numbers of an `Axis` for rows and for columns."""
    return np.array(resizes, np.int64)
