"""Paired confidence intervals of the difference in AUC between two sets of scores on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from ffdi.evaluation import intervals
from ffdi.evaluation.intervals import Interval, Units

MIN_UNITS = 10
"""The smallest number of independent images, or groups, that contribute to a difference with an interval."""
RULES = {
    "images": "paired DeLong within each fold, folds independent, Student's t",
    "groups": "the same by whole groups",
}


class Difference(NamedTuple):
    """A mean AUC, and its difference to the reference.

    Attributes:
        auc: the mean of the AUCs within the folds.
        interval: of the difference; None if there are too few images.
        p_value: of the test that the difference is 0, two-sided; None if there are too few images.
    """

    auc: float
    difference: float
    interval: Interval | None
    p_value: float | None


def compare_with_first(
    y_pred: np.ndarray, target: np.ndarray, fold: np.ndarray, group: np.ndarray | None, level: float
) -> list[Difference]:
    """Compares several sets of scores with the first set.

    The AUC is the mean of the AUCs within the folds, because networks of different folds have different offsets, which
    must not affect the comparison of ensemble methods. The variance of a difference is DeLong's (DeLong, DeLong and
    Clarke-Pearson 1988), for groups Obuchowski's (Biometrics 1997), that of the mean the sum over the folds / k^2; the
    quantile is Student's t with Satterthwaite's degrees of freedom.

    There is no interval if a fold has too few images or groups of a class, or if fewer than `MIN_UNITS` of them
    contribute to the difference, as between scores that rank nearly all images in the same order.

    Args:
        y_pred: float [C, N].
        target: int [N], 1 = fake; both classes occur in each fold.
        fold: int [N].
        group: str [N], of images that are not independent of each other, each in one fold; None if all are independent.
        level: the coverage of one interval, such as 0.95.

    Returns:
        C differences; the first one is 0 with the interval (0, 0) and the p-value 1.
    """
    return compare_parts(
        [
            Part(
                Units(target[rows], None if group is None else group[rows]),
                np.stack([intervals.compute_misranked(target[rows], row[rows]) for row in y_pred]),
            )
            for rows in (fold == number for number in np.unique(fold))
        ],
        level,
    )


@dataclass(frozen=True)
class Part:
    """The misranked fractions of images that are independent of the images of other parts, such as a fold.

    Attributes:
        units: of N images.
        wrong: float [C, N], of `intervals.compute_misranked`, or its mean over several networks.
    """

    units: Units
    wrong: np.ndarray

    def compute_influence(self, row: int) -> np.ndarray:
        """The contribution of each image to the error of the difference to the first set, float [N]."""
        return self.units.center(self.wrong[0] - self.wrong[row]) / self.units.expand(self.units.images)


def compare_parts(parts: Sequence[Part], level: float) -> list[Difference]:
    """Does the work of `compare_with_first`."""
    auc = 1 - np.mean([part.wrong[:, part.units.fake].mean(1) for part in parts], axis=0)
    others = (_estimate_difference(parts, row, auc, level) for row in range(1, len(auc)))
    return [Difference(float(auc[0]), 0.0, (0.0, 0.0), 1.0), *others]


def _estimate_difference(parts: Sequence[Part], row: int, auc: np.ndarray, level: float) -> Difference:
    """The difference of a set of scores to the first one, where `auc` has the mean AUC of each set."""
    difference = float(auc[row] - auc[0])
    unknown = Difference(float(auc[row]), difference, None, None)
    if any(part.units.lacking for part in parts):
        return unknown
    influence = [part.compute_influence(row) for part in parts]
    spreads = [part.units.estimate_spread(values) for part, values in zip(parts, influence, strict=True)]
    variance = np.array([spread.variance for spread in spreads])
    if sum(part.units.count_effective(abs(values)) for part, values in zip(parts, influence, strict=True)) < MIN_UNITS:
        return unknown
    freedom = variance.sum() ** 2 / sum(spread.variance**2 / spread.freedom for spread in spreads)
    deviation = np.sqrt(variance.sum()) / len(parts)
    half = float(stdtrit(freedom, (1 + level) / 2) * deviation)
    p_value = float(2 * stdtr(freedom, -abs(difference) / deviation))
    return Difference(float(auc[row]), difference, (difference - half, difference + half), p_value)
