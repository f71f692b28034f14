"""How good scores are. Every function takes labels [N] (1 = fake) and scores [N] (higher = more likely fake)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn import metrics as sklearn

Metric = Callable[[np.ndarray, np.ndarray], float]


def auc(target: np.ndarray, y_pred: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half: the competition's measure."""
    return float(sklearn.roc_auc_score(target, y_pred))


def tpr_at_fpr(target: np.ndarray, y_pred: np.ndarray, bound: float) -> float:
    """The largest true positive rate at a threshold whose false positive rate is within `bound`.

    On the step ROC, nothing interpolated: with fewer than 1 / bound real images no real image may pass.
    """
    fpr, tpr, _ = sklearn.roc_curve(target, y_pred, drop_intermediate=False)
    return float(tpr[fpr <= bound].max())


def accuracy(target: np.ndarray, y_pred: np.ndarray) -> float:
    """The share of images on the right side of 0.5; 0.5 itself counts as real, as argmax of two equal classes."""
    return float(((y_pred > 0.5) == (target == 1)).mean())


def log_loss(target: np.ndarray, y_pred: np.ndarray) -> float:
    """Mean cross entropy in nats, of probabilities kept at least one float64 step from 0 and 1."""
    return float(sklearn.log_loss(target, y_pred.astype(np.float64), labels=[0, 1]))


def evaluate(target: np.ndarray, y_pred: np.ndarray) -> dict[str, float | int]:
    """Every metric of `METRICS`, with the counts of both classes."""
    scores = {name: metric(target, y_pred) for name, metric in METRICS.items()}
    return {"real": int((target == 0).sum()), "fake": int((target == 1).sum()), **scores}


def mean(scores: list[dict[str, float | int]]) -> dict[str, float]:
    """The mean of each metric over several evaluations."""
    return {name: float(np.mean([score[name] for score in scores])) for name in METRICS}


METRICS: dict[str, Metric] = {
    "auc": auc,
    "tpr_at_fpr_1e-3": lambda target, y_pred: tpr_at_fpr(target, y_pred, 1e-3),
    "tpr_at_fpr_1e-2": lambda target, y_pred: tpr_at_fpr(target, y_pred, 1e-2),
    "accuracy": accuracy,
    "log_loss": log_loss,
}
