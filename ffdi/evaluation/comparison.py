"""Compares two sets of scores of the same images: of all images, of each kind of fake, and of other slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ffdi.evaluation import differences, metrics
from ffdi.evaluation.error_analysis import MIN_IMAGES
from ffdi.evaluation.intervals import LEVEL, Interval

ALL = "all images"
RESAMPLES = 1000
CHUNK_VALUES = 4_000_000
"""Weights of images that are drawn at once."""


@dataclass(frozen=True)
class Scores:
    """Two sets of scores of N images.

    Attributes:
        y_pred: float [2, N].
        target: int [N], 1 = fake.
        fold: int [N]; scores are compared within folds only. One number if one network scored all images.
        group: str [N], of images that are not independent of each other, each in one fold; None if all are independent.
    """

    y_pred: np.ndarray
    target: np.ndarray
    fold: np.ndarray
    group: np.ndarray | None

    def take(self, rows: np.ndarray) -> Scores:
        """The rows (bool [N]), without folds that lack a class."""
        both = [
            number
            for number in np.unique(self.fold[rows]).tolist()
            if len(np.unique(self.target[rows & (self.fold == number)])) == 2
        ]
        rows = rows & np.isin(self.fold, both)
        return Scores(
            self.y_pred[:, rows], self.target[rows], self.fold[rows], None if self.group is None else self.group[rows]
        )


@dataclass(frozen=True)
class Comparison:
    """The difference of the second set of scores to the first one, on some images.

    Attributes:
        name: of these images.
        real, fake: their number.
        first, second: the mean AUCs within the folds.
        interval: of the difference, by paired DeLong; None if there are too few images.
        bootstrap: the same by resampling images, or groups, within folds and classes.
        p_value: of no difference, by paired DeLong.
        corrected: the p-value after Holm's correction (Scandinavian Journal of Statistics 1979) for all slices; that of
            all images is not corrected.
    """

    name: str
    real: int
    fake: int
    first: float
    second: float
    difference: float
    interval: Interval | None
    bootstrap: Interval | None
    p_value: float | None
    corrected: float | None


def compare(scores: Scores, slices: Mapping[str, np.ndarray], seed: int = 0) -> list[Comparison]:
    """Compares the scores on all images and on each slice.

    Args:
        scores: both classes occur in a fold.
        slices: by name, bool [N]; one with a class alone is compared with all images of the other class in its folds.
        seed: of the bootstrap.

    Returns:
        All images first; slices with too few images are left out, and those with the images of an earlier one.
    """
    parts = {ALL: np.ones(len(scores.target), bool), **slices}
    different: dict[bytes, str] = {}
    for name, rows in parts.items():
        different.setdefault(_complete(scores, rows).tobytes(), name)
    found = [
        _compare_part(name, scores.take(np.frombuffer(rows, dtype=bool)), seed) for rows, name in different.items()
    ]
    scored = [one for one in found if one is not None]
    corrected = iter(correct_by_holm([one.p_value for one in scored if one.name != ALL]))
    return [one if one.name == ALL else replace(one, corrected=next(corrected)) for one in scored]


def _complete(scores: Scores, rows: np.ndarray) -> np.ndarray:
    """The rows of a slice and, if they are of one class, those of the other class in the same folds."""
    labels = np.unique(scores.target[rows])
    if len(labels) != 1:
        return rows
    return rows | ((scores.target != labels[0]) & np.isin(scores.fold, scores.fold[rows]))


def _compare_part(name: str, scores: Scores, seed: int) -> Comparison | None:
    """None if there are too few images."""
    real, fake = (int((scores.target == label).sum()) for label in (0, 1))
    if min(real, fake) < MIN_IMAGES:
        return None
    first, second = differences.compare_with_first(scores.y_pred, scores.target, scores.fold, scores.group, LEVEL)
    bootstrap = None if second.interval is None else resample_difference(scores, seed)
    return Comparison(
        name, real, fake, first.auc, second.auc, second.difference, second.interval, bootstrap,
        second.p_value, second.p_value,
    )  # fmt: skip


def resample_difference(scores: Scores, seed: int, resamples: int = RESAMPLES) -> Interval:
    """The 95 % percentile interval of the difference, by a bootstrap of images or groups within folds.

    Images are drawn within their class. Groups are drawn whole, whatever the classes of their images.
    """
    rng, numbers = np.random.default_rng(seed), np.unique(scores.fold)
    total = np.zeros(resamples)
    for number in numbers.tolist():
        total += _resample_fold(scores.take(scores.fold == number), rng, resamples)
    low, high = np.nanquantile(total / len(numbers), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _resample_fold(scores: Scores, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """float [resamples]: differences; NaN where a class was not drawn."""
    images = len(scores.target)
    if scores.group is None:
        stratum, unit = scores.target, np.arange(images)
    else:
        unit = np.unique(scores.group, return_inverse=True)[1]
        stratum = np.zeros(unit.max() + 1, np.int64)
    found, chunk = [], max(1, CHUNK_VALUES // images)
    for start in range(0, resamples, chunk):
        drawn = np.zeros((min(chunk, resamples - start), len(stratum)))
        for label in np.unique(stratum):
            places = np.flatnonzero(stratum == label)
            for row in drawn:
                row[places] = np.bincount(rng.integers(len(places), size=len(places)), minlength=len(places))
        weight = drawn[:, unit]
        found.append(
            _weigh_auc(scores.target, scores.y_pred[1], weight) - _weigh_auc(scores.target, scores.y_pred[0], weight)
        )
    return np.concatenate(found)


def _weigh_auc(target: np.ndarray, y_pred: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """float [R]: the AUC with weights float [R, N] of the images; NaN where a class has none."""
    score, place = metrics.index_scores(y_pred)
    counts = [np.zeros((len(weight), len(score))) for _ in (0, 1)]
    for label, count in enumerate(counts):
        rows = np.flatnonzero(target == label)
        rows = rows[np.argsort(place[rows], kind="stable")]
        starts = np.flatnonzero(np.diff(place[rows], prepend=-1))
        count[:, place[rows][starts]] = np.add.reduceat(weight[:, rows], starts, axis=1)
    with np.errstate(invalid="ignore"):
        return metrics.auc(metrics.ScoreCounts(score, *counts))


def correct_by_holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of several p-values, in their order; None stays None and does not count."""
    known = sorted((one, place) for place, one in enumerate(p_values) if one is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (one, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * one))
        corrected[place] = largest
    return corrected
