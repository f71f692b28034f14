"""Stacking: a logistic regression learns how much each experiment's logit counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ffdi.ensemble.combine import Combination, OofMatrix

ENOUGH = 10
"""Images of the rarer class for each coefficient (Peduzzi et al. 1996); below, every experiment counts the same."""
FREE = 10.0
"""Size of the columns that stand for the folds; the larger, the less the penalty holds their coefficients back."""


def fit_stacking(panel: OofMatrix, folds: Sequence[int]) -> Combination:
    """Weights on logits by logistic regression (Wolpert 1992), none negative (Breiman 1996).

    Each fold has an intercept of its own, which takes up the offsets between the folds' networks; the bias is their
    mean. While a coefficient is not positive the lowest one's experiment is left out and the rest fitted anew.

    A negative weight uses a weak network to take out what disturbs a good one as well. In simulation that is worth up
    to 0.06 AUC where the test images are disturbed in just that way, and costs up to 0.03 where they are not, and 0.001
    or nothing where weak networks are disturbed weakly (benchmarks/stacking_sign.py). The ledger cannot know which, so
    there are none.

    Args:
        panel: all experiments.
        folds: those whose images may be looked at.
    """
    rows = np.isin(panel.fold, folds)
    logits, target, fold = panel.logits[:, rows], panel.target[rows], panel.fold[rows]
    kept = np.arange(len(logits))
    if np.bincount(target, minlength=2).min() < ENOUGH * (len(logits) + len(folds)):
        kept = kept[:0]
    while len(kept):
        slopes, bias = _regress(logits[kept], target, fold)
        if (slopes > 0).all():
            weights = np.zeros(len(logits))
            weights[kept] = slopes / _spread(logits[kept])
            return Combination("stacking", weights, bias)
        kept = np.delete(kept, slopes.argmin())
    return Combination("stacking", np.full(len(logits), 1 / len(logits)))


def _regress(logits: np.ndarray, target: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients of the logits in units of their spread, float64 [E], and the mean of the folds' intercepts."""
    from sklearn.linear_model import LogisticRegression  # seconds, which who stacks nothing can save

    columns = [*(logits / _spread(logits)[:, None]), *(FREE * (fold == number) for number in np.unique(fold))]
    model = LogisticRegression(fit_intercept=False, solver="newton-cholesky", max_iter=100)
    found = model.fit(np.stack(columns, axis=1), target).coef_[0]
    return found[: len(logits)], float(FREE * found[len(logits) :].mean())


def _spread(logits: np.ndarray) -> np.ndarray:
    """Each experiment's standard deviation, float64 [E]; 1 where it says the same of every image."""
    spread = logits.std(axis=1)
    return np.where(spread > 0, spread, 1.0)
