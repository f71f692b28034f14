"""Many logits for an image become one probability."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import numpy as np

from ffdi.core.errors import ConfigError, ExperimentError, nearest
from ffdi.evaluation import metrics
from ffdi.evaluation.predictions import sigmoid


@dataclass(frozen=True)
class Method:
    """An ensembling method.

    Attributes:
        space: what is averaged: probabilities, logits, or ranks within the set of images that is scored.
        fitted: whether the weights are learnt from the ledger; else every experiment counts the same.
        pointwise: whether an image's score depends on that image alone; only then can it be exported.
    """

    space: Literal["probability", "logit", "rank"]
    fitted: bool

    @property
    def pointwise(self) -> bool:
        """Whether an image's score depends on that image alone; only then can it be exported."""
        return self.space != "rank"


@dataclass(frozen=True, eq=False)
class Combination:
    """How experiments are combined.

    Attributes:
        method: a key of METHODS.
        weights: float64 [E], one an experiment, none negative; they add up to 1, except those of stacking.
        bias: added to the weighted logits; 0 except for stacking.
    """

    method: str
    weights: np.ndarray
    bias: float = 0.0

    @property
    def space(self) -> Literal["probability", "logit", "rank"]:
        """What is averaged."""
        return METHODS[self.method].space

    def spread(self, folds: Sequence[int]) -> np.ndarray:
        """float64 [sum(folds)]: each experiment's weight, in equal parts for its folds' networks.

        Args:
            folds: how many networks each of the E experiments has.
        """
        if len(folds) != len(self.weights):
            raise ValueError(f"{len(self.weights)} experiments have weights, {len(folds)} have networks")
        if not METHODS[self.method].fitted:
            return equal_weights(list(folds))  # the same bits as ever
        return np.repeat(self.weights / np.asarray(folds), folds)

    def combine(self, logits: np.ndarray, folds: Sequence[int]) -> np.ndarray:
        """Scores N images.

        Args:
            logits: float [M, N], M = sum(folds), experiment by experiment; finite.
            folds: how many networks each of the E experiments has.

        Returns:
            y_pred float64 [N], in [0, 1].
        """
        return _average(logits, self.spread(folds), self.space, self.bias)

    def out_of_fold(self, logits: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Scores the training images from the experiments' ledgers, fold by fold: ranks mean nothing across folds.

        Args:
            logits: float [E, N].
            fold: int [N], which held each image out.

        Returns:
            y_pred float64 [N], in [0, 1].
        """
        y_pred = np.empty(logits.shape[1])
        for number in np.unique(fold):
            rows = fold == number
            y_pred[rows] = self.combine(logits[:, rows], [1] * len(logits))
        return y_pred


def equal(name: str, experiments: int) -> Combination:
    """A method by which each of the experiments counts the same."""
    return Combination(name, np.full(experiments, 1 / experiments))


def check_method(name: str) -> None:
    """Refuses a method that is not there.

    Raises:
        ConfigError: names the nearest one.
    """
    if name not in (AUTO, *METHODS):
        raise ConfigError(
            f"unknown ensemble method '{name}': {nearest(name, (AUTO, *METHODS))}",
            hint="correct ensemble.method in config.toml",
        )


def equal_weights(members: list[int]) -> np.ndarray:
    """float64 [sum(members)]: every experiment counts the same, and so does each of its folds.

    Args:
        members: the number of folds of each experiment.
    """
    return np.concatenate([np.full(folds, 1 / (folds * len(members))) for folds in members])


def ranks(scores: np.ndarray) -> np.ndarray:
    """Each score's rank among all N, scaled into (0, 1): float64 [N]; ties share the mean of their ranks."""
    _, place, images = np.unique(scores, return_inverse=True, return_counts=True)
    return ((images.cumsum() - images / 2) / len(scores))[place]


def _average(logits: np.ndarray, weights: np.ndarray, space: str, bias: float) -> np.ndarray:
    logits = logits.astype(np.float64)
    if space == "logit":
        return sigmoid(weights @ logits + bias)
    if space == "rank":  # rounded, because sums of ranks that are equal would else differ in their last bit
        return np.round(weights @ np.stack([ranks(row) for row in logits]), 12)
    return np.clip(weights @ sigmoid(logits), 0, 1)  # 18 weights of 1/18 add up to a little more than 1


AUTO = "auto"
"""The method that nested cross-validation chooses."""
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
                    f"fold {number} held out images of one class: no AUC within it",
                    hint="choose fewer folds, and train the experiments again",
                )

    @property
    def folds(self) -> list[int]:
        """The folds' numbers, ascending."""
        return np.unique(self.fold).tolist()

    @cached_property
    def areas(self) -> Callable[[tuple[int, ...]], dict[int, float]]:
        """The AUC within each fold, of probabilities weighted as said; what was asked once is remembered."""
        members = sigmoid(self.logits)
        rows = {number: np.flatnonzero(self.fold == number) for number in self.folds}

        @cache
        def areas(weights: tuple[int, ...]) -> dict[int, float]:
            y_pred = np.array(weights) @ members / sum(weights)
            return {
                fold: float(metrics.auc(metrics.count_scores(self.target[at], y_pred[at]))) for fold, at in rows.items()
            }

        return areas
