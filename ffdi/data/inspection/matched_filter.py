"""Predicts labels from values at fixed positions, by cross-validation with a matched filter.

The filter is linear discriminant analysis with a diagonal covariance ("naive", Bickel and Levina, Bernoulli 2004): the
difference of the class means at each position, divided by the pooled variance there, at the positions with the largest
t statistics alone. The sums that it needs are collected fold by fold, so memory does not grow with the images.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

FOLDS = 5
SEED = 0
USED, FEWEST_USED = 0.01, 40
"""The share of the positions that the filter uses, and their least number."""
FLOOR = 0.1
"""Added to each variance, in parts of the mean variance: a position at which all images are alike decides nothing."""
NOISE = 2.0
"""A mean below this many standard errors is no pattern."""
NEAR = 9
"""Width of the surroundings of a pattern, in positions: faces are aligned to a few pixels only."""
ROWS = 64
"""Images that are converted to fractions at once."""


@dataclass(frozen=True)
class ClassSums:
    """Sums over the images of both classes.

    Attributes:
        count: float64 [2].
        total, squares: float64 [2, P].
    """

    count: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    def __sub__(self, other: ClassSums) -> ClassSums:
        return ClassSums(self.count - other.count, self.total - other.total, self.squares - other.squares)


@dataclass(frozen=True)
class Filter:
    """A matched filter.

    Attributes:
        weight: float32 [P], 0 at positions that are not used.
        middle: float32 [P], the mean of both class means.
        effect: float32 [P], the difference of the class means, fake minus real, in standard deviations.
        t: float32 [P], the same in standard errors.
    """

    weight: np.ndarray
    middle: np.ndarray
    effect: np.ndarray
    t: np.ndarray


def assign_folds(target: np.ndarray, group: np.ndarray | None) -> np.ndarray:
    """Assigns images to `FOLDS` folds with similar class shares; a group is never split.

    Args:
        target: int64 [N].
        group: str [N]; None if no two images belong together.

    Returns:
        int64 [N].
    """
    unit = np.arange(len(target)) if group is None else np.unique(group, return_inverse=True)[1]
    fakes = np.bincount(unit, target) / np.bincount(unit)
    order = np.random.default_rng(SEED).permutation(len(fakes))
    order = order[np.argsort(fakes[order], kind="stable")]
    fold = np.empty(len(fakes), np.int64)
    fold[order] = np.arange(len(fakes)) % FOLDS
    return fold[unit]


def score_by_positions(
    values: np.ndarray, target: np.ndarray, fold: np.ndarray, shape: tuple[int, int], shared: bool
) -> tuple[np.ndarray, Filter]:
    """Scores each image with the filter of the other folds.

    Args:
        values: int8 [N, P].
        target: int64 [N], 1 = fake; both classes occur.
        fold: int64 [N], of `assign_folds`.
        shape: rows and columns of the positions.
        shared: whether to ignore patterns that both classes share, see `fit`.

    Returns:
        float64 [N], and the filter of all images.
    """
    sums = [_sum_classes(values[fold == number], target[fold == number]) for number in range(FOLDS)]
    whole = ClassSums(*(np.sum([getattr(one, name) for one in sums], 0) for name in ("count", "total", "squares")))
    score = np.zeros(len(values))
    for number, own in enumerate(sums):
        rest = whole - own
        if rest.count.all():
            rows = np.flatnonzero(fold == number)
            score[rows] = _apply(fit(rest, shape, shared), values, rows)
    return score, fit(whole, shape, shared)


def fit(sums: ClassSums, shape: tuple[int, int], shared: bool) -> Filter:
    """Fits a filter to images of both classes.

    Aligned faces have eyes and mouths at one place, sharper or moved a little in one class: no mark, but what both
    classes show. With `shared`, a difference therefore counts only as far as it exceeds the pattern that the means of
    both classes have around the position.
    """
    mean = sums.total / sums.count[:, None]
    within = (sums.squares - sums.total * mean).sum(0) / sums.count.sum()
    variance = np.maximum(within, 0) + FLOOR * within.mean() + 1e-6
    error = np.sqrt(variance * (1 / sums.count).sum())
    difference = mean[1] - mean[0]
    if shared:
        pattern = np.maximum(np.abs(mean).min(0) - NOISE * error, 0).reshape(shape)
        around = cv2.dilate(pattern, np.ones((NEAR, NEAR), np.uint8)).ravel()
        difference = np.sign(difference) * np.maximum(np.abs(difference) - around, 0)
    t = difference / error
    used = np.argsort(-np.abs(t), kind="stable")[: max(FEWEST_USED, round(USED * len(t)))]
    weight = np.zeros(len(t), np.float32)
    weight[used] = (difference / variance)[used]
    middle, effect = mean.mean(0), difference / np.sqrt(variance)
    return Filter(weight, middle.astype(np.float32), effect.astype(np.float32), t.astype(np.float32))


def score_by_features(values: np.ndarray, target: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Scores each image by linear discriminant analysis, fitted to the other folds.

    Args:
        values: float32 [N, F], F a few hundred.
        target: int64 [N], 1 = fake; both classes occur.
        fold: int64 [N], of `assign_folds`.

    Returns:
        float64 [N].
    """
    score = np.zeros(len(values))
    for number in range(FOLDS):
        rest = fold != number
        if len(np.unique(target[rest])) == 2:
            weight, middle = _fit_ridge(values[rest].astype(np.float64), target[rest])
            score[~rest] = (values[~rest] - middle) @ weight
    return score


RIDGE = 0.3
"""Added to the covariance of features with variance 1."""


def _fit_ridge(values: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weight of each feature, and the middle of both class means: float64 [F] each."""
    mean = np.stack([values[target == label].mean(0) for label in (0, 1)])
    scale = values.std(0) + 0.01 * values.std() + 1e-9
    inner = (values - mean[target]) / scale
    covariance = inner.T @ inner / len(inner) + RIDGE * np.eye(len(scale))
    weight = np.linalg.solve(covariance, (mean[1] - mean[0]) / scale)
    return _normalize(weight, covariance) / scale, mean.mean(0)


def _normalize(weight: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Gives the scores of all folds one scale."""
    deviation = float(np.sqrt(weight @ covariance @ weight))
    return weight / deviation if deviation else weight


def _sum_classes(values: np.ndarray, target: np.ndarray) -> ClassSums:
    total, squares = np.zeros((2, 2, values.shape[1]))
    for start in range(0, len(values), ROWS):
        part, label = values[start : start + ROWS].astype(np.float32), target[start : start + ROWS]
        for number in (0, 1):
            own = part[label == number]
            total[number] += own.sum(0)
            squares[number] += (own**2).sum(0)
    return ClassSums(np.bincount(target, minlength=2) * 1.0, total, squares)


def _apply(fitted: Filter, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """float64 [rows]: the scores of some images, on a scale that all folds share."""
    used = np.flatnonzero(fitted.weight)
    weight, middle = fitted.weight[used], fitted.middle[used]
    length = float(np.abs(fitted.effect[used]).sum()) or 1.0
    return (values[np.ix_(rows, used)] - middle) @ weight.astype(np.float64) / length
