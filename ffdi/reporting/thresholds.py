"""The errors of a score at each threshold, for the slider of a report."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MOST = 1000
"""Thresholds that the slider has; of more scores it has quantiles."""
USUAL = 0.5
"""A score at or above it calls an image fake, if nothing else is chosen."""


class Thresholds(NamedTuple):
    """Errors by threshold; a score at or above it is called fake.

    Attributes:
        real, fake: the number of images of each class.
        threshold: increasing; the first calls all images fake, the last none.
        missed: fakes that are called real.
        alarms: real images that are called fake.
        start: the place of the threshold 0.5.
    """

    real: int
    fake: int
    threshold: list[float]
    missed: list[int]
    alarms: list[int]
    start: int


def count_errors(target: np.ndarray, y_pred: np.ndarray) -> Thresholds:
    """Counts the errors at `MOST` thresholds at most, and at 0.5.

    Args:
        target: int [N], 1 = fake.
        y_pred: float [N] in [0, 1].
    """
    fake, real = (np.sort(y_pred[target == label]) for label in (1, 0))
    distinct = np.unique(y_pred)
    if len(distinct) > MOST:
        distinct = np.unique(np.quantile(y_pred, np.linspace(0, 1, MOST), method="nearest"))
    threshold = np.unique([*distinct, USUAL, np.nextafter(distinct[-1], np.inf)])
    missed = np.searchsorted(fake, threshold)
    alarms = len(real) - np.searchsorted(real, threshold)
    start = int(np.searchsorted(threshold, USUAL))
    return Thresholds(len(real), len(fake), threshold.tolist(), missed.tolist(), alarms.tolist(), start)
