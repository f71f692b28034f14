"""A table of scores as people exchange it: a name and a probability. Scoring needs it, so it imports no pandas."""

from __future__ import annotations

import numpy as np

from ffdi.core import csvs

FLOAT = "%.9g"
"""Nine digits bring a float32 back bit for bit."""
COLUMNS = ("img_name", "y_pred")


def to_csv(img_name: np.ndarray, y_pred: np.ndarray, *, header: bool = True) -> str:
    """img_name,y_pred: what a submission and every other table of scores look like.

    Args:
        img_name: str [N].
        y_pred: float [N].
        header: whether the names of the columns stand in the first line.
    """
    rows = [(name, FLOAT % score) for name, score in zip(img_name.tolist(), y_pred.tolist(), strict=True)]
    return csvs.format_csv([COLUMNS, *rows] if header else rows)
