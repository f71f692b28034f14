"""Whether one set of scores is better than another on the same images: paired intervals of the difference in AUC."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ffdi.scoring import intervals, metrics, tally

ENOUGH = 10
"""Images (or groups with some) of each class in each fold; below, an interval promises nothing: -1 to 1."""
RULES = {
    "images": "paired DeLong within each fold, folds independent",
    "groups": "paired bootstrap of whole groups within each fold, percentiles",
}


class Difference(NamedTuple):
    """AUC within each fold, averaged; less that of the reference, with the interval of this difference."""

    auc: float
    difference: float
    low: float
    high: float


def against_first(
    y_pred: np.ndarray, target: np.ndarray, fold: np.ndarray, group: np.ndarray | None, level: float
) -> list[Difference]:
    """Compares several sets of scores with the first of them.

    The AUC is taken within each fold and averaged: networks of different folds are offset against each other, which is
    no fault of a way to combine experiments. Without groups the variance of a fold's difference is DeLong's (DeLong,
    DeLong and Clarke-Pearson 1988), that of the mean the sum over the folds / k^2; with groups every set is scored on
    the same resamples.

    Args:
        y_pred: float [C, N].
        target: int [N], 1 = fake; both classes occur in every fold.
        fold: int [N].
        group: str [N], whose images are not independent of each other, none in two folds; None where all are.
        level: how often one interval is to hold, such as 0.95.

    Returns:
        C of them; the first is 0 from 0 to 0.
    """
    folds = [fold == number for number in np.unique(fold)]
    auc = np.array([np.mean([metrics.auc(tally.count(target[rows], row[rows])) for rows in folds]) for row in y_pred])
    if min(_units(target[rows], None if group is None else group[rows]) for rows in folds) < ENOUGH:
        low, high = np.full(len(auc), -1.0), np.full(len(auc), 1.0)
        low[0] = high[0] = 0
    elif group is None:
        half = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(_variance(y_pred, target, folds))
        low, high = auc - auc[0] - half, auc - auc[0] + half
    else:
        low, high = _bootstrap(y_pred, target, folds, group, level)
    return [Difference(*map(float, row)) for row in zip(auc, auc - auc[0], low, high, strict=True)]


def _units(target: np.ndarray, group: np.ndarray | None) -> int:
    """How many independent units the rarer class has."""
    return min((target == label).sum() if group is None else len(np.unique(group[target == label])) for label in (0, 1))


def _variance(y_pred: np.ndarray, target: np.ndarray, folds: list[np.ndarray]) -> np.ndarray:
    """DeLong's variance of each difference to the first, float64 [C]."""
    total = np.zeros(len(y_pred))
    for rows in folds:
        value = np.stack([_placements(target[rows], row[rows]) for row in y_pred])
        value -= value[0].copy()
        for label in (0, 1):
            of_class = value[:, target[rows] == label]
            total += of_class.var(axis=1, ddof=1) / of_class.shape[1]
    return total / len(folds) ** 2


def _placements(target: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """What each image adds to the AUC, float64 [N]."""
    _, place = tally.index(y_pred)
    won, lost = intervals.placements(tally.count(target, y_pred))
    return np.where(target == 1, won[place], lost[place])


def _bootstrap(
    y_pred: np.ndarray, target: np.ndarray, folds: list[np.ndarray], group: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of each interval, float64 [C] twice; each fold has draws of its own."""
    total = np.zeros((len(y_pred), intervals.RESAMPLES))
    for seed, rows in enumerate(folds):
        for row, values in zip(y_pred, total, strict=True):
            values += intervals.resampled_auc(target[rows], row[rows], group[rows], seed)
    tail = 100 * (1 - level) / 2
    low, high = np.nanpercentile((total - total[0]) / len(folds), [tail, 100 - tail], axis=1)
    return low, high
