"""How well a score or a file property predicts the labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffdi.data.labels.table import Table
from ffdi.evaluation import intervals, metrics

LEAK = 0.75
"""A property is a shortcut if the interval of its AUC is above this; natural differences of sources stay below. Where
groups are too few for an interval, the interval of independent images decides."""


def measure_score(table: Table, score: np.ndarray) -> dict[str, Any]:
    """Measures a score, float [N], of a table with both classes.

    Returns:
        The AUC; its 95 % interval, or None; and whether it is a shortcut.
    """
    assert table.target is not None
    auc = float(metrics.auc(metrics.count_scores(table.target, score)))
    ends = intervals.compute_auc_interval(table.target, score, table.group)
    judged = ends or intervals.compute_auc_interval(table.target, score, None)
    return {"auc": auc, "interval": ends and list(ends), "shortcut": bool(judged and judged[0] > LEAK)}


def measure_property(table: Table, value: np.ndarray) -> dict[str, Any]:
    """Measures a file property as a score, in the better of both directions."""
    assert table.target is not None
    turned = float(metrics.auc(metrics.count_scores(table.target, value))) < 0.5
    return measure_score(table, -value if turned else value)


def format_interval(interval: list[float] | None) -> str:
    return "too few groups for an interval" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
