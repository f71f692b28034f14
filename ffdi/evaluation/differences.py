"""Whether one set of scores is better than another on the same images: paired intervals of the difference in AUC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from ffdi.evaluation import intervals
from ffdi.evaluation.intervals import Interval, Units

FEWEST = 10
"""Independent images, or groups, that a difference must rest on to have an interval."""
RULES = {
    "images": "paired DeLong within each fold, folds independent, Student's t",
    "groups": "the same by whole groups",
}


class Difference(NamedTuple):
    """AUC within each fold, averaged; less that of the reference, with the interval of this difference.

    Without an interval, None, it cannot be told whether there is a difference.
    """

    auc: float
    difference: float
    interval: Interval | None


def against_first(
    y_pred: np.ndarray, target: np.ndarray, fold: np.ndarray, group: np.ndarray | None, level: float
) -> list[Difference]:
    """Compares several sets of scores with the first of them.

    The AUC is taken within each fold and averaged: networks of different folds are offset against each other, which is
    no fault of a way to combine experiments. The variance of a difference is DeLong's (DeLong, DeLong and
    Clarke-Pearson 1988), for groups Obuchowski's (Biometrics 1997), that of the mean the sum over the folds / k^2; the
    quantile is Student's t with Satterthwaite's degrees of freedom.

    There is no interval where a fold has too few images or groups of a class, or where the difference rests on fewer
    than `FEWEST` of them, as between scores that rank nearly all images alike.

    Args:
        y_pred: float [C, N].
        target: int [N], 1 = fake; both classes occur in every fold.
        fold: int [N].
        group: str [N], whose images are not independent of each other, none in two folds; None where all are.
        level: how often one interval is to hold, such as 0.95.

    Returns:
        C of them; the first is 0 from 0 to 0.
    """
    return between(
        [
            Part(
                Units(target[rows], None if group is None else group[rows]),
                np.stack([intervals.misranked(target[rows], row[rows]) for row in y_pred]),
            )
            for rows in (fold == number for number in np.unique(fold))
        ],
        level,
    )


@dataclass(frozen=True)
class Part:
    """What every set of scores is worth on images that are independent of those of other parts.

    Attributes:
        units: of N images.
        wrong: float [C, N], `intervals.misranked`; or its mean over several networks.
    """

    units: Units
    wrong: np.ndarray

    def influence(self, row: int) -> np.ndarray:
        """What each image adds to the error of a difference to the first, float [N]."""
        return self.units.centred(self.wrong[0] - self.wrong[row]) / self.units.of_class(self.units.images)


def between(parts: Sequence[Part], level: float) -> list[Difference]:
    """`against_first` of parts."""
    auc = 1 - np.mean([part.wrong[:, part.units.fake].mean(1) for part in parts], axis=0)
    ends = [(0.0, 0.0), *(_interval(parts, row, float(auc[row] - auc[0]), level) for row in range(1, len(auc)))]
    return [Difference(float(one), float(one - auc[0]), pair) for one, pair in zip(auc, ends, strict=True)]


def _interval(parts: Sequence[Part], row: int, difference: float, level: float) -> Interval | None:
    if any(part.units.lacking for part in parts):
        return None
    influence = [part.influence(row) for part in parts]
    spreads = [part.units.spread(values) for part, values in zip(parts, influence, strict=True)]
    variance = np.array([spread.variance for spread in spreads])
    if sum(part.units.carrying(abs(values)) for part, values in zip(parts, influence, strict=True)) < FEWEST:
        return None
    freedom = variance.sum() ** 2 / sum(spread.variance**2 / spread.freedom for spread in spreads)
    half = float(stdtrit(freedom, (1 + level) / 2) * np.sqrt(variance.sum()) / len(parts))
    return difference - half, difference + half
