"""Where the pixels of a table's rows come from: its cache, or else the files."""

from __future__ import annotations

import numpy as np

from ffdi.data.images import cache, decode
from ffdi.data.images.decode import Framing
from ffdi.data.labels.table import Table


def whole(table: Table, row: int) -> np.ndarray:
    """An image at its own size: RGB, uint8 [H, W, 3].

    Raises:
        DataError: names the file and says why it cannot be used.
    """
    cached = cache.rows_of(table)
    if cached is not None and cached.store.framing is None and cached.has(row):
        return decode.pixels(cached.content(row), str(table.path(row)))  # its header was looked at when it was packed
    return decode.read(table.path(row))


def framed(table: Table, row: int, framing: Framing) -> np.ndarray:
    """An image as a network takes it: RGB, uint8 [size, size, 3], not to be written to.

    Raises:
        DataError: names the file and says why it cannot be used.
    """
    cached = cache.rows_of(table)
    if cached is not None and cached.store.framing == framing and cached.has(row):
        return cached.pixels(row)
    return framing.frame(whole(table, row))
