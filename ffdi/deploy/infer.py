"""From images to scores with an exported graph; does not know torch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ffdi.data import images
from ffdi.data.table import Table
from ffdi.deploy.runtime import Runtime
from ffdi.errors import DataError

BATCH_SIZE = 32
DECODERS = 2
"""Threads that decode the next batch while the graph runs this one."""


def scores(table: Table, size: int, runtime: Runtime) -> Iterator[np.ndarray]:
    """Scores a table's images in order; the next batch is decoded while the graph runs.

    Args:
        table: which images.
        size: edge length that the graph takes.
        runtime: the open graph.

    Yields:
        y_pred float32 [B].

    Raises:
        DataError: images that cannot be used, all of them by name; raised at the end.
    """
    starts = range(0, len(table), BATCH_SIZE)
    faults: list[str] = []
    with ThreadPoolExecutor(DECODERS) as pool:
        coming = _decode(pool, table, size, starts[0]) if len(starts) else []
        for start in starts:
            batch = [one.result() for one in coming]
            coming = _decode(pool, table, size, start + BATCH_SIZE)
            faults += [one.what for one in batch if isinstance(one, DataError)]
            if not faults:  # one unreadable image spoils the result, and the others are only checked
                yield runtime.run(np.stack(batch))
    if faults:
        raise DataError(
            f"{len(faults)} of {len(table)} images cannot be used; no score was written",
            problems=faults,
            hint=f"replace these files or take them out of {table.source}",
        )


def _decode(pool: ThreadPoolExecutor, table: Table, size: int, start: int) -> list[Any]:
    return [pool.submit(_load, table.path(index), size) for index in range(start, min(start + BATCH_SIZE, len(table)))]


def _load(path: Path, size: int) -> np.ndarray | DataError:
    try:
        return images.load(path, size)
    except DataError as error:
        return error
