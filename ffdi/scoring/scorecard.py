"""metrics.json: what an experiment's out-of-fold predictions are worth, from the ledger alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi.scoring import intervals, metrics, tally

if TYPE_CHECKING:
    from ffdi.scoring.ledger import Ledger


def draw_up(oof: Ledger, group: np.ndarray | None, val: list[Ledger]) -> dict[str, Any]:
    """All scores of a ledger, with their intervals.

    Args:
        oof: every training image once.
        group: str [N], in the ledger's order; None where images are independent.
        val: what each fold's network says of the validation split; empty without one.

    Returns:
        `pooled` and each of `folds`: every metric, and `intervals` of those that have one; `rank_normalised`: the AUC
        of ranks within each fold, which offsets between the folds' networks cannot lower; `val`: each fold's network on
        the validation split, their mean, and the `gap`: how much better they are on their held-out folds.
    """
    return {
        "pooled": score(oof.target, oof.y_pred, group),
        "rank_normalised": _auc_of_ranks(oof, group),
        "folds": {str(fold): _of_fold(oof, group, oof.fold == fold) for fold in np.unique(oof.fold).tolist()},
        **({"val": _on_val(oof, group, val)} if val else {}),
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


def _on_val(oof: Ledger, group: np.ndarray | None, val: list[Ledger]) -> dict[str, Any]:
    scores = {str(int(one.fold[0])): glance(one.target, one.y_pred) for one in val}
    return {"folds": scores, "mean": metrics.mean(list(scores.values())), "gap": _gap(oof, group, val)}


def _gap(oof: Ledger, group: np.ndarray | None, val: list[Ledger]) -> dict[str, Any]:
    """The mean over the folds' networks of AUC held out minus AUC on the validation split, each against itself.

    Its interval: held-out folds are resampled apart, validation images together for all networks.
    """
    differences, resampled = [], []
    for one in val:
        rows = oof.fold == one.fold[0]
        held_out = oof.target[rows], oof.logit[rows]
        differences.append(_auc(*held_out) - _auc(one.target, one.logit))
        apart = intervals.resampled_auc(*held_out, None if group is None else group[rows], seed=1 + int(one.fold[0]))
        resampled.append(apart - intervals.resampled_auc(one.target, one.logit, None, seed=0))
    spread = intervals.percentiles(np.mean(resampled, axis=0))
    return {"auc": float(np.mean(differences)), "intervals": {"auc": list(spread)}}


def _auc(target: np.ndarray, score: np.ndarray) -> float:
    return float(metrics.auc(tally.count(target, score)))


def _of_fold(oof: Ledger, group: np.ndarray | None, rows: np.ndarray) -> dict[str, Any]:
    return score(oof.target[rows], oof.y_pred[rows], None if group is None else group[rows])


def _auc_of_ranks(oof: Ledger, group: np.ndarray | None) -> dict[str, Any]:
    ranks = oof.ranks
    return {"auc": _auc(oof.target, ranks), "intervals": {"auc": list(intervals.area(oof.target, ranks, group))}}
