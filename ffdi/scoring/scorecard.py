"""metrics.json: what an experiment's out-of-fold predictions are worth, from the ledger alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffdi.scoring import intervals, metrics, tally
from ffdi.scoring.ledger import Ledger


def draw_up(oof: Ledger, group: np.ndarray | None) -> dict[str, Any]:
    """All scores of a ledger, with their intervals.

    Args:
        oof: every training image once.
        group: str [N], in the ledger's order; None where images are independent.

    Returns:
        `pooled` and each of `folds`: every metric, and `intervals` of those that have one; `rank_normalised`: the AUC
        of ranks within each fold, which offsets between the folds' networks cannot lower.
    """
    return {
        "pooled": score(oof.target, oof.y_pred, group),
        "rank_normalised": _auc_of_ranks(oof, group),
        "folds": {str(fold): _of_fold(oof, group, oof.fold == fold) for fold in np.unique(oof.fold).tolist()},
        "interval_level": intervals.LEVEL,
        "interval_rule": intervals.RULES["images" if group is None else "groups"],
    }


def score(target: np.ndarray, y_pred: np.ndarray, group: np.ndarray | None = None) -> dict[str, Any]:
    """Every metric, and `intervals`: the 95 % interval of those that have one, as [low, high]."""
    spread = {name: list(interval) for name, interval in intervals.measure(target, y_pred, group).items()}
    return {**metrics.evaluate(target, y_pred), "intervals": spread}


def glance(target: np.ndarray, y_pred: np.ndarray) -> dict[str, Any]:
    """Every metric, and `intervals` of the AUC alone: what a table shows, without a thousand resamples."""
    return {**metrics.evaluate(target, y_pred), "intervals": {"auc": list(intervals.area(target, y_pred, None))}}


def _of_fold(oof: Ledger, group: np.ndarray | None, rows: np.ndarray) -> dict[str, Any]:
    return score(oof.target[rows], oof.y_pred[rows], None if group is None else group[rows])


def _auc_of_ranks(oof: Ledger, group: np.ndarray | None) -> dict[str, Any]:
    ranks = oof.ranks
    area = float(metrics.auc(tally.count(oof.target, ranks)))
    return {"auc": area, "intervals": {"auc": list(intervals.area(oof.target, ranks, group))}}
