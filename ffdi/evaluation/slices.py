"""The AUC of parts of a data set: where a score comes from, and where it does not hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffdi.evaluation import intervals, metrics

FEWEST = 10
"""Images of a class below which a part is not scored."""


@dataclass(frozen=True)
class Slice:
    """One part.

    Attributes:
        value: what its images have in common.
        real, fake: how many images of each class it has.
        against: 'itself'; or 'all real', 'all fake' where it has one class only, as a family of fakes does.
        auc, interval: of its images against those; None where there are too few, the interval also where these lie
            in too few groups.
    """

    value: str
    real: int
    fake: int
    against: str
    auc: float | None
    interval: tuple[float, float] | None


def slice_by(value: np.ndarray, target: np.ndarray, score: np.ndarray, group: np.ndarray | None) -> list[Slice]:
    """The parts of each value, in the order of the values; images without one ('') are passed over.

    Args:
        value: str [N].
        target: int [N], 1 = fake.
        score: float [N]; ranks within each fold where several networks scored.
        group: str [N], whose images are not independent of each other; None where all are.
    """
    return [_of(one, value == one, target, score, group) for one in np.unique(value).tolist() if one]


def bands(quantity: np.ndarray, names: list[str]) -> np.ndarray:
    """str [N]: as many bands of like size as there are names, from low to high; all '' where all values are equal."""
    edges = np.quantile(quantity, np.linspace(0, 1, len(names) + 1)[1:-1])
    if quantity.min() == quantity.max():
        return np.full(len(quantity), "")
    return np.array(names)[np.searchsorted(edges, quantity, side="right")]


def _of(value: str, part: np.ndarray, target: np.ndarray, score: np.ndarray, group: np.ndarray | None) -> Slice:
    real, fake = (int((part & (target == label)).sum()) for label in (0, 1))
    against = "itself" if real and fake else "all real" if fake else "all fake"
    rows = part if against == "itself" else part | (target == (0 if fake else 1))
    if min((target[rows] == label).sum() for label in (0, 1)) < FEWEST:
        return Slice(value, real, fake, against, None, None)
    auc = float(metrics.auc(metrics.count_scores(target[rows], score[rows])))
    interval = intervals.area(target[rows], score[rows], None if group is None else group[rows])
    return Slice(value, real, fake, against, auc, interval)
