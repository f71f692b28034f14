"""What several experiments said of the same training images, each by a network that had not seen the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from ffdi.core.errors import ExperimentError
from ffdi.evaluation import metrics, score_counts
from ffdi.evaluation.predictions import sigmoid


@dataclass(frozen=True, eq=False)
class Panel:
    """logits float64 [E, N], finite, target int [N], fold int [N], of E experiments trained on the same folds.

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
                fold: float(metrics.auc(score_counts.count(self.target[at], y_pred[at]))) for fold, at in rows.items()
            }

        return areas
