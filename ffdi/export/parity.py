"""The gate of an export: a graph must give torch's answers on real images, or be worth as much."""

from __future__ import annotations

import numpy as np

from ffdi.core.errors import ParityError
from ffdi.inference.backend import OpenGraph

BATCHES = (1, 7, 32)
"""Images at a time; beside these a graph is asked for a full batch of its own and a part of one."""
TOLERANCE = 1e-5
"""Largest difference of y_pred in fp32."""


def measure(graph: OpenGraph, real: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """The largest |difference of y_pred| for each size of batch.

    Args:
        graph: the exported one, opened.
        real: real images, uint8 [N, S, S, 3]; a batch may show one twice.
        expected: y_pred of them by torch in fp32, float [N].
    """
    asked = {str(count): count for count in BATCHES}
    asked["last, partial"] = graph.batch + max(1, graph.batch // 2)
    rows = {name: np.resize(np.arange(len(real)), count) for name, count in asked.items()}
    return {
        name: float(np.abs(expected[some].astype(np.float64) - graph.run(real[some])).max())
        for name, some in rows.items()
    }


def check(runtime: str, differences: dict[str, float]) -> None:
    """Refuses a graph that differs by more than the tolerance, or gives no number.

    Raises:
        ParityError: names every batch size with its difference.
    """
    if all(difference <= TOLERANCE for difference in differences.values()):  # false for NaN as well
        return
    raise ParityError(
        f"the exported graph on {runtime} differs from the networks by more than {TOLERANCE:g}",
        problems=[f"batch {batch}: largest difference {value:.3g}" for batch, value in differences.items()],
        hint="report this with the config.toml and the versions of torch, onnxscript and onnxruntime",
    )
