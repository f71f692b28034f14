"""Adversarial validation: whether a classifier can tell two splits apart, and by which images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ffdi.evaluation import intervals, metrics

DIMENSIONS = 64
PARTS = 5


@dataclass(frozen=True)
class Verdict:
    """How well two splits are told apart.

    Attributes:
        auc, interval: of the classifier on images that it was not fitted to; 0.5 is not at all; no interval where a
            split has too few images.
        first, second: float64 [N], [M]: how much each image of either split looks like the second one, 0 to 1.
    """

    auc: float
    interval: tuple[float, float] | None
    first: np.ndarray
    second: np.ndarray


def validate_adversarially(first: np.ndarray, second: np.ndarray, seed: int) -> Verdict:
    """Fits a logistic regression on principal components of features, scored by cross-validation.

    Args:
        first: float [N, D], features of one split's images.
        second: float [M, D], of the other's; at least `PARTS` images each.
        seed: decides the parts.
    """
    features = np.concatenate([first, second]).astype(np.float64)
    split = np.repeat([0, 1], [len(first), len(second)])
    dimensions = min(DIMENSIONS, features.shape[1], len(features) * (PARTS - 1) // PARTS)
    classifier = make_pipeline(
        StandardScaler(),
        PCA(dimensions, random_state=seed),
        LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced"),
    )
    parts = StratifiedKFold(PARTS, shuffle=True, random_state=seed)
    score = cross_val_predict(classifier, features, split, cv=parts, method="predict_proba")[:, 1]
    auc = float(metrics.auc(metrics.count_scores(split, score)))
    return Verdict(auc, intervals.area(split, score, None), score[: len(first)], score[len(first) :])
