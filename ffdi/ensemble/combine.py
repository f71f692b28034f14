"""Combines the logits of several networks into one probability for each image; fits the weights.

Greedy selection and stacking fit weights on out-of-fold predictions; the other methods have equal weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import gcd
from typing import Literal

import numpy as np

from ffdi.core.errors import ExperimentError, format_count
from ffdi.evaluation import metrics
from ffdi.evaluation.predictions import sigmoid


@dataclass(frozen=True)
class Method:
    """An ensembling method.

    Attributes:
        space: of the average; ranks are within the scored set of images.
        fitted: whether the weights are fitted on out-of-fold predictions; else all experiments have equal weights.
    """

    space: Literal["probability", "logit", "rank"]
    fitted: bool

    @property
    def pointwise(self) -> bool:
        """Whether an image's score depends on that image alone; only such a method can be exported."""
        return self.space != "rank"


@dataclass(frozen=True, eq=False)
class Combination:
    """How experiments are combined.

    Attributes:
        method: a key of METHODS.
        weights: float64 [E], one for each experiment, not negative; their sum is 1, except for stacking.
        bias: added to the weighted logits; 0 except for stacking.
    """

    method: str
    weights: np.ndarray
    bias: float = 0.0

    @property
    def space(self) -> Literal["probability", "logit", "rank"]:
        return METHODS[self.method].space

    def spread_weights(self, folds: Sequence[int]) -> np.ndarray:
        """float64 [sum(folds)]: the weights of the networks, equal among the folds of an experiment.

        Args:
            folds: the number of networks of each of the E experiments.
        """
        if len(folds) != len(self.weights):
            raise ValueError(
                f"{format_count(len(self.weights), 'experiment')} with weights, {len(folds)} with networks"
            )
        if not METHODS[self.method].fitted:
            return compute_equal_weights(list(folds))  # not 1 / E / folds, which differs in the last bit
        return np.repeat(self.weights / np.asarray(folds), folds)

    def combine(self, logits: np.ndarray, folds: Sequence[int]) -> np.ndarray:
        """Scores N images.

        Args:
            logits: float [M, N], M = sum(folds), ordered by experiment; finite.
            folds: the number of networks of each of the E experiments.

        Returns:
            y_pred float64 [N], in [0, 1].
        """
        return _average(logits, self.spread_weights(folds), self.space, self.bias)

    def combine_within_folds(self, logits: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Scores the training images, one fold at a time, because ranks are not comparable across folds.

        Args:
            logits: float [E, N], out of fold.
            fold: int [N], the fold that holds each image out.

        Returns:
            y_pred float64 [N], in [0, 1].
        """
        y_pred = np.empty(logits.shape[1])
        for number in np.unique(fold):
            rows = fold == number
            y_pred[rows] = self.combine(logits[:, rows], [1] * len(logits))
        return y_pred


def make_equal_combination(name: str, experiments: int) -> Combination:
    """A combination with equal weights."""
    return Combination(name, np.full(experiments, 1 / experiments))


def compute_equal_weights(members: list[int]) -> np.ndarray:
    """float64 [sum(members)]: the weights of the networks, equal among experiments and among the folds of each.

    Args:
        members: the number of folds of each experiment.
    """
    return np.concatenate([np.full(folds, 1 / (folds * len(members))) for folds in members])


def compute_ranks(scores: np.ndarray) -> np.ndarray:
    """The rank of each score among all N, scaled into (0, 1): float64 [N]; ties have their mean rank."""
    _, place, images = np.unique(scores, return_inverse=True, return_counts=True)
    return ((images.cumsum() - images / 2) / len(scores))[place]


def _average(logits: np.ndarray, weights: np.ndarray, space: str, bias: float) -> np.ndarray:
    logits = logits.astype(np.float64)
    if space == "logit":
        return sigmoid(weights @ logits + bias)
    if space == "rank":  # rounded: equal sums of ranks could differ in the last bit
        return np.round(weights @ np.stack([compute_ranks(row) for row in logits]), 12)
    return np.clip(weights @ sigmoid(logits), 0, 1)  # the sum of 18 weights of 1/18 is slightly above 1


AUTO = "auto"
"""Nested cross-validation chooses the method."""
METHODS = {
    "mean": Method(space="probability", fitted=False),
    "logit_mean": Method(space="logit", fitted=False),
    "rank_mean": Method(space="rank", fitted=False),
    "greedy": Method(space="probability", fitted=True),
    "stacking": Method(space="logit", fitted=True),
}


@dataclass(frozen=True, eq=False)
class OofMatrix:
    """Out-of-fold predictions of E experiments, trained on the same folds, for the same images.

    Attributes:
        logits: float64 [E, N], finite.
        target: int [N].
        fold: int [N].

    Raises:
        ExperimentError: a fold lacks a class.
    """

    logits: np.ndarray
    target: np.ndarray
    fold: np.ndarray

    def __post_init__(self) -> None:
        for number in self.folds:
            if len(np.unique(self.target[self.fold == number])) < 2:
                raise ExperimentError(
                    f"fold {number} has held-out images of one class only, so it has no AUC",
                    hint="set a smaller folds.k, and train the experiments again",
                )

    @property
    def folds(self) -> list[int]:
        return np.unique(self.fold).tolist()

    @cached_property
    def fold_aucs(self) -> Callable[[tuple[int, ...]], dict[int, float]]:
        """A cached function of integer weights [E]: the AUC of the weighted mean probability within each fold."""
        members = sigmoid(self.logits)
        rows = {number: np.flatnonzero(self.fold == number) for number in self.folds}

        @cache
        def compute_fold_aucs(weights: tuple[int, ...]) -> dict[int, float]:
            y_pred = np.array(weights) @ members / sum(weights)
            return {
                fold: float(metrics.auc(metrics.count_scores(self.target[at], y_pred[at]))) for fold, at in rows.items()
            }

        return compute_fold_aucs


GREEDY_ROUNDS = 20
"""Steps of the forward selection; a weight is a multiple of about 1/20."""

Bag = tuple[int, ...]
"""How many times each experiment is selected."""


def fit_greedy(matrix: OofMatrix, folds: Sequence[int]) -> Combination:
    """Fits weights of probabilities by forward selection with replacement (Caruana et al., ICML 2004).

    It starts with the best n experiments, for the n with the highest AUC. At each of `GREEDY_ROUNDS` steps it adds the
    experiment, possibly again, that gives the highest AUC. The best bag of all steps wins, the earliest one of equals.
    The AUC is the mean of the AUCs within the folds, so offsets between the networks of different folds do not matter.

    Args:
        matrix: of all experiments.
        folds: to fit on.
    """
    single = [_make_bag(index, len(matrix.logits)) for index in range(len(matrix.logits))]
    order = sorted(single, key=lambda bag: -_compute_auc(matrix, folds, bag))
    starts = [_add_bags(order[: count + 1]) for count in range(len(order))]
    bag = best = max(reversed(starts), key=lambda bag: _compute_auc(matrix, folds, bag))  # the largest n of equals
    for _ in range(GREEDY_ROUNDS):
        bag = max((_add_bags([bag, added]) for added in order), key=lambda bag: _compute_auc(matrix, folds, bag))
        best = max(best, bag, key=lambda bag: _compute_auc(matrix, folds, bag))
    return Combination("greedy", np.array(best) / sum(best))


def _compute_auc(matrix: OofMatrix, folds: Sequence[int], bag: Bag) -> float:
    common = gcd(*bag)
    aucs = matrix.fold_aucs(tuple(count // common for count in bag))
    return round(sum(aucs[fold] for fold in folds) / len(folds), 12)  # rounding errors must not decide


def _make_bag(index: int, experiments: int) -> Bag:
    return tuple(int(index == other) for other in range(experiments))


def _add_bags(bags: Sequence[Bag]) -> Bag:
    return tuple(map(sum, zip(*bags, strict=True)))


def compute_single_aucs(matrix: OofMatrix) -> list[float]:
    """The mean AUC within the folds of each experiment alone."""
    count = len(matrix.logits)
    return [_compute_auc(matrix, matrix.folds, _make_bag(index, count)) for index in range(count)]


MIN_IMAGES = 10
"""Images of the smaller class for each coefficient (Peduzzi et al. 1996); with fewer, the weights are equal."""
INTERCEPT_SCALE = 10.0
"""The value of the indicator columns of the folds; a larger value reduces the penalty of their coefficients."""


def fit_stacking(matrix: OofMatrix, folds: Sequence[int]) -> Combination:
    """Fits weights of logits by logistic regression (stacking; Wolpert 1992), none negative (Breiman 1996).

    Each fold has its own intercept for the offset of its networks; the bias is their mean. While a coefficient is not
    positive, the experiment with the lowest one is removed and the regression is fitted again.

    A negative weight uses a weak network to cancel an error that a good network has too. In simulations this gains up
    to 0.06 AUC if the test images cause the same error, and loses up to 0.03 if they do not
    (benchmarks/stacking_sign.py). Out-of-fold predictions cannot tell these cases apart, so weights are not negative.

    Args:
        matrix: of all experiments.
        folds: to fit on.
    """
    rows = np.isin(matrix.fold, folds)
    logits, target, fold = matrix.logits[:, rows], matrix.target[rows], matrix.fold[rows]
    used = np.arange(len(logits))
    if np.bincount(target, minlength=2).min() < MIN_IMAGES * (len(logits) + len(folds)):
        used = used[:0]
    while len(used):
        slopes, bias = _fit_regression(logits[used], target, fold)
        if (slopes > 0).all():
            weights = np.zeros(len(logits))
            weights[used] = slopes / _compute_deviation(logits[used])
            return Combination("stacking", weights, bias)
        used = np.delete(used, slopes.argmin())
    return Combination("stacking", np.full(len(logits), 1 / len(logits)))


def _fit_regression(logits: np.ndarray, target: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients of the standardized logits, float64 [E], and the mean of the folds' intercepts."""
    from sklearn.linear_model import LogisticRegression  # takes seconds, and only stacking needs it

    columns = [
        *(logits / _compute_deviation(logits)[:, None]),
        *(INTERCEPT_SCALE * (fold == number) for number in np.unique(fold)),
    ]
    model = LogisticRegression(fit_intercept=False, solver="newton-cholesky", max_iter=100)
    coefficients = model.fit(np.stack(columns, axis=1), target).coef_[0]
    return coefficients[: len(logits)], float(INTERCEPT_SCALE * coefficients[len(logits) :].mean())


def _compute_deviation(logits: np.ndarray) -> np.ndarray:
    """The standard deviation of each experiment's logits, float64 [E]; 1 if they are constant."""
    deviation = logits.std(axis=1)
    return np.where(deviation > 0, deviation, 1.0)
