"""CSV files with a name and a probability for each image. Imports no pandas, so that scoring needs none."""

from __future__ import annotations

import numpy as np

from ffdi.core import csvs

FLOAT = "%.9g"
"""Nine digits restore each float32 exactly."""
COLUMNS = ("img_name", "y_pred")


def format_scores(img_name: np.ndarray, y_pred: np.ndarray, *, header: bool = True) -> str:
    """Formats a table of scores, such as a submission.

    Args:
        img_name: str [N].
        y_pred: float [N].
        header: whether to start with a line of column names.
    """
    rows = [(name, FLOAT % score) for name, score in zip(img_name.tolist(), y_pred.tolist(), strict=True)]
    return csvs.format_csv([COLUMNS, *rows] if header else rows)
