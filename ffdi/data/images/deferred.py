"""Resizing that a loader worker leaves to the device: which old pixels it hands over, and what remains to be done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ffdi.data.images import resizing
from ffdi.data.images.resizing import Geometry, measure

MOST_PIXELS = 4
"""Limit of what is handed over, in parts of the pixels of the result; a worker shrinks larger images itself.

Above it, an image takes more time on its way through shared memory than a worker needs to shrink it, if its size and
the network's have a large common divisor. It also limits the memory of a batch.
"""

MOST_DECODED = 2**22
"""Limit of the pixels of an image that the device decodes, 12 MB in its memory."""


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

    @property
    def held(self) -> tuple[slice, slice]:
        """The rows and columns that are handed over."""
        rows, columns = (slice(axis.first_held, axis.first_held + axis.held) for axis in self)
        return rows, columns

    def fits(self, most: float) -> bool:
        """Whether there are at most so many old pixels for each new one, and no edge is very long."""
        wanted = self.rows.wanted * self.columns.wanted
        longest = max(self.rows.held, self.columns.held)
        return self.rows.held * self.columns.held <= most * wanted and longest**2 <= most**2 * wanted


class Cut(NamedTuple):
    """Where the pixels that a resize needs are in an image that the device decodes.

    Attributes:
        height, width: of the image.
        top, left: the first pixel.
    """

    height: int
    width: int
    top: int
    left: int


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
        part, new, start = resizing.enlarge(part, *new)[geometry.window], (size, size), [0, 0]
    old = part.shape[0], part.shape[1]
    if old != new and old[0] % new[0] == 0 and old[1] % new[1] == 0:
        return None
    resize = _plan_resize(old, new, start, window)
    if not resize.fits(MOST_PIXELS):
        return None
    return part[resize.held], resize


def defer_decoding(
    shape: tuple[int, int], geometry: Geometry, size: int, window: tuple[slice, slice]
) -> tuple[Cut, Resize] | None:
    """The same for an image that the device decodes: what is cut out of it, and what remains to be done then.

    Args:
        shape: rows and columns of the image.
        geometry, size, window: as in `defer_resize`.

    Returns:
        None if it is better to decode the image here: it has very many pixels, or is enlarged twice.
    """
    if measure(geometry.window) != (size, size) or shape[0] * shape[1] > MOST_DECODED:
        return None
    start = [one.start for one in geometry.window]
    resize = _plan_resize(measure(geometry.part), (geometry.height, geometry.width), start, window)
    if not resize.fits(MOST_DECODED / size**2):
        return None
    left, top = geometry.corner
    return Cut(*shape, top + resize.rows.first_held, left + resize.columns.first_held), resize


def _plan_resize(
    old: tuple[int, int], new: tuple[int, int], start: Sequence[int], window: tuple[slice, slice]
) -> Resize:
    """From an old size to a new one, of which the window, behind `start`, is wanted."""
    cubic = old[0] < new[0] or old[1] < new[1]
    rows, columns = (
        _hold(old[axis], new[axis], start[axis] + window[axis].start, wanted, cubic)
        for axis, wanted in enumerate(measure(window))
    )
    return Resize(rows, columns)


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
