"""metrics.json: what an experiment's out-of-fold predictions are worth, from the ledger alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi.evaluation import intervals, metrics
from ffdi.evaluation.intervals import Interval, Units

if TYPE_CHECKING:
    from ffdi.evaluation.predictions import OofPredictions


def make_scorecard(oof: OofPredictions, group: np.ndarray | None, val: list[OofPredictions]) -> dict[str, Any]:
    """All scores of a ledger, with their intervals.

    Args:
        oof: every training image once.
        group: str [N], in the ledger's order; None where images are independent.
        val: what each fold's network says of the validation split; empty without one.

    Returns:
        `pooled` and each of `folds`: as `score` gives it; `rank_normalised`: the AUC
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
    """Every metric; `intervals`: the 95 % interval of those that have one; `no_interval`: why the others have none."""
    found = intervals.measure(target, y_pred, group)
    return {**metrics.evaluate(target, y_pred), **_given(found.intervals, found.reasons)}


def score_without_intervals(target: np.ndarray, y_pred: np.ndarray) -> dict[str, Any]:
    """Every metric, and the interval of the AUC alone: what a table shows."""
    return {**metrics.evaluate(target, y_pred), **_area(target, y_pred, None)}


def _on_val(oof: OofPredictions, group: np.ndarray | None, val: list[OofPredictions]) -> dict[str, Any]:
    scores = {str(int(one.fold[0])): score_without_intervals(one.target, one.y_pred) for one in val}
    return {"folds": scores, "mean": metrics.mean(list(scores.values())), "gap": gap(oof, group, val)}


def gap(oof: OofPredictions, group: np.ndarray | None, val: list[OofPredictions]) -> dict[str, Any]:
    """The mean over the folds' networks of AUC held out minus AUC on the validation split, each against itself.

    Its interval combines those of the held-out folds and that of the networks' mean AUC on the images that they share.
    """
    folds = [oof.fold == one.fold[0] for one in val]
    held_out = [_auc(oof.target[rows], oof.logit[rows]) for rows in folds]
    on_val = float(np.mean([_auc(one.target, one.logit) for one in val]))
    difference = float(np.mean(held_out)) - on_val
    units = [Units(oof.target[rows], None if group is None else group[rows]) for rows in folds]
    shared = Units(val[0].target, None)
    if reasons := [one.lacking for one in [*units, shared] if one.lacking]:
        return {"auc": difference, **_given({}, {"auc": reasons[0]})}
    parts = []
    for auc, rows, one in zip(held_out, folds, units, strict=True):
        low, high = intervals.of_area(one, intervals.misranked(oof.target[rows], oof.logit[rows]))
        parts.append((difference + (low - auc) / len(val), difference + (high - auc) / len(val)))
    wrong = np.mean([intervals.misranked(one.target, one.logit) for one in val], axis=0)
    low, high = intervals.of_area(shared, wrong, len(val))
    parts.append((difference - (high - on_val), difference - (low - on_val)))
    return {"auc": difference, **_given({"auc": intervals.combined(difference, parts)}, {})}


def _auc(target: np.ndarray, score: np.ndarray) -> float:
    return float(metrics.auc(metrics.count_scores(target, score)))


def _of_fold(oof: OofPredictions, group: np.ndarray | None, rows: np.ndarray) -> dict[str, Any]:
    return score(oof.target[rows], oof.y_pred[rows], None if group is None else group[rows])


def _auc_of_ranks(oof: OofPredictions, group: np.ndarray | None) -> dict[str, Any]:
    return {"auc": _auc(oof.target, oof.ranks), **_area(oof.target, oof.ranks, group)}


def _area(target: np.ndarray, score: np.ndarray, group: np.ndarray | None) -> dict[str, Any]:
    units = Units(target, group)
    if units.lacking:
        return _given({}, {"auc": units.lacking})
    return _given({"auc": intervals.of_area(units, intervals.misranked(target, score))}, {})


def _given(found: Mapping[str, Interval], reasons: Mapping[str, str]) -> dict[str, Any]:
    return {"intervals": {name: list(ends) for name, ends in found.items()}, "no_interval": dict(reasons)}
