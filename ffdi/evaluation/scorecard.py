"""The content of metrics.json: scores of out-of-fold predictions with confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi.evaluation import intervals, metrics
from ffdi.evaluation.intervals import Interval, Units

if TYPE_CHECKING:
    from ffdi.evaluation.predictions import OofPredictions


def make_scorecard(oof: OofPredictions, group: np.ndarray | None, val: list[OofPredictions]) -> dict[str, Any]:
    """All scores of out-of-fold predictions, with their intervals.

    Args:
        oof: all training images.
        group: str [N], in the order of `oof`; None if all images are independent.
        val: the predictions of each fold's network for the validation split; empty without one.

    Returns:
        `pooled` and each of `folds`: of `score_predictions`; `rank_normalised`: the AUC
        of ranks within each fold, which offsets between the folds' networks cannot lower; `val`: each fold's network on
        the validation split, their mean, and the `gap` between held-out and validation AUC.
    """
    return {
        "pooled": score_predictions(oof.target, oof.y_pred, group),
        "rank_normalised": _score_ranks(oof, group),
        "folds": {str(fold): _score_fold(oof, group, oof.fold == fold) for fold in np.unique(oof.fold).tolist()},
        **({"val": _score_val(oof, group, val)} if val else {}),
        "interval_level": intervals.LEVEL,
        "interval_rule": intervals.RULES["images" if group is None else "groups"],
    }


def score_predictions(target: np.ndarray, y_pred: np.ndarray, group: np.ndarray | None = None) -> dict[str, Any]:
    """All metrics; `intervals`: their 95 % intervals; `no_interval`: the reasons for missing intervals."""
    found = intervals.measure_intervals(target, y_pred, group)
    return {**metrics.evaluate(target, y_pred), **_describe_intervals(found.intervals, found.reasons)}


def score_without_intervals(target: np.ndarray, y_pred: np.ndarray) -> dict[str, Any]:
    """All metrics, and the interval of the AUC only."""
    return {**metrics.evaluate(target, y_pred), **_describe_auc_interval(target, y_pred, None)}


def _score_val(oof: OofPredictions, group: np.ndarray | None, val: list[OofPredictions]) -> dict[str, Any]:
    scores = {str(int(one.fold[0])): score_without_intervals(one.target, one.y_pred) for one in val}
    return {
        "folds": scores,
        "mean": metrics.average_scores(list(scores.values())),
        "gap": measure_val_gap(oof, group, val),
    }


def measure_val_gap(oof: OofPredictions, group: np.ndarray | None, val: list[OofPredictions]) -> dict[str, Any]:
    """The mean over the folds' networks of held-out AUC minus AUC on the validation split.

    Its interval combines the intervals of the held-out folds and that of the mean AUC on the validation split.
    """
    folds = [oof.fold == one.fold[0] for one in val]
    heldout = [_compute_auc(oof.target[rows], oof.logit[rows]) for rows in folds]
    on_val = float(np.mean([_compute_auc(one.target, one.logit) for one in val]))
    difference = float(np.mean(heldout)) - on_val
    units = [Units(oof.target[rows], None if group is None else group[rows]) for rows in folds]
    shared = Units(val[0].target, None)
    if reasons := [one.lacking for one in [*units, shared] if one.lacking]:
        return {"auc": difference, **_describe_intervals({}, {"auc": reasons[0]})}
    parts = []
    for auc, rows, one in zip(heldout, folds, units, strict=True):
        low, high = intervals.estimate_auc_interval(one, intervals.compute_misranked(oof.target[rows], oof.logit[rows]))
        parts.append((difference + (low - auc) / len(val), difference + (high - auc) / len(val)))
    wrong = np.mean([intervals.compute_misranked(one.target, one.logit) for one in val], axis=0)
    low, high = intervals.estimate_auc_interval(shared, wrong, len(val))
    parts.append((difference - (high - on_val), difference - (low - on_val)))
    return {"auc": difference, **_describe_intervals({"auc": intervals.combine_intervals(difference, parts)}, {})}


def _compute_auc(target: np.ndarray, score: np.ndarray) -> float:
    return float(metrics.auc(metrics.count_scores(target, score)))


def _score_fold(oof: OofPredictions, group: np.ndarray | None, rows: np.ndarray) -> dict[str, Any]:
    return score_predictions(oof.target[rows], oof.y_pred[rows], None if group is None else group[rows])


def _score_ranks(oof: OofPredictions, group: np.ndarray | None) -> dict[str, Any]:
    return {"auc": _compute_auc(oof.target, oof.ranks), **_describe_auc_interval(oof.target, oof.ranks, group)}


def _describe_auc_interval(target: np.ndarray, score: np.ndarray, group: np.ndarray | None) -> dict[str, Any]:
    units = Units(target, group)
    if units.lacking:
        return _describe_intervals({}, {"auc": units.lacking})
    return _describe_intervals(
        {"auc": intervals.estimate_auc_interval(units, intervals.compute_misranked(target, score))}, {}
    )


def _describe_intervals(found: Mapping[str, Interval], reasons: Mapping[str, str]) -> dict[str, Any]:
    return {"intervals": {name: list(ends) for name, ends in found.items()}, "no_interval": dict(reasons)}
