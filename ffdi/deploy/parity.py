"""The gate of an export: the graph must give the network's answers on real images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ffdi.data import images
from ffdi.data.table import Table
from ffdi.errors import ParityError

BATCHES = (1, 7, 32)
TOLERANCE = 1e-4

Score = Callable[[np.ndarray], np.ndarray]
"""uint8 [B, S, S, 3] -> y_pred [B]."""


def real_images(table: Table, size: int) -> np.ndarray:
    """uint8 [sum(BATCHES), size, size, 3]: images spread over a table; a small one is gone through again."""
    count = sum(BATCHES)
    spread = np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int)
    return np.stack([images.load(table.path(int(index)), size) for index in np.resize(spread, count)])


def measure(reference: Score, served: Score, real: np.ndarray) -> dict[int, float]:
    """The largest |difference of y_pred| for each batch size of `BATCHES`.

    Args:
        reference: the network.
        served: the exported graph.
        real: real images, uint8 [sum(BATCHES), S, S, 3].
    """
    differences, start = {}, 0
    for batch in BATCHES:
        part = real[start : start + batch]
        differences[batch] = float(np.abs(reference(part).astype(np.float64) - served(part)).max())
        start += batch
    return differences


def check(differences: dict[int, float]) -> None:
    """Refuses a graph that differs by more than the tolerance, or gives no number.

    Raises:
        ParityError: names every batch size with its difference.
    """
    if all(difference <= TOLERANCE for difference in differences.values()):  # false for NaN as well
        return
    raise ParityError(
        f"the exported graph differs from the network by more than {TOLERANCE:g}; it was not written",
        problems=[f"batch {batch}: largest difference {value:.3g}" for batch, value in differences.items()],
        hint="report this with the config.toml and the versions of torch, onnxscript and onnxruntime",
    )
