"""The content of metrics.json: scores of out-of-fold predictions with confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi.evaluation import error_analysis, intervals, metrics
from ffdi.evaluation.intervals import Interval, Units

if TYPE_CHECKING:
    from ffdi.evaluation.predictions import OofPredictions

NO_KIND = "(no kind)"
"""The name of fakes whose kind is unknown."""


def make_scorecard(
    oof: OofPredictions,
    group: np.ndarray | None,
    val: list[OofPredictions],
    kind: np.ndarray | None = None,
    refit: OofPredictions | None = None,
) -> dict[str, Any]:
    """All scores of out-of-fold predictions, with their intervals.

    Args:
        oof: all training images.
        group: str [N], in the order of `oof`; None if all images are independent.
        val: the predictions of each fold's network for the validation split; empty without one.
        kind: str [N], the kind of each fake, '' for other images; None without kinds.
        refit: the predictions of the network on all training images for the validation split; None without one.

    Returns:
        `pooled` and each of `folds`: of `score_predictions`; `mean`: the means of the scores within the folds;
        `rank_normalised`: the AUC of ranks within each fold, which offsets between the folds' networks cannot lower;
        `val`: each fold's network on the validation split, their mean, the `gap` between held-out and validation AUC,
        and the network on all images, `refit`, if there is one; `kinds`: of `score_kinds`.
    """
    folds = {str(fold): _score_fold(oof, group, oof.fold == fold) for fold in np.unique(oof.fold).tolist()}
    return {
        "pooled": score_predictions(oof.target, oof.y_pred, group),
        "mean": metrics.average_scores(list(folds.values())),
        "rank_normalised": _score_ranks(oof, group),
        "folds": folds,
        **({"kinds": score_kinds(oof, kind, group)} if kind is not None else {}),
        **({"val": _score_val(oof, group, val, refit)} if val else {}),
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


def score_kinds(oof: OofPredictions, kind: np.ndarray, group: np.ndarray | None) -> dict[str, Any]:
    """The AUC of each kind of fake against the real images that are held out in the same folds, by ranks within folds.

    Args:
        oof: all training images.
        kind: str [N], '' for real images.
        group: str [N], None if all images are independent.

    Returns:
        `scores`: the number of fakes of each kind, the AUC and its interval, if there are enough images; `mean`: the
        mean AUC, each kind with the same weight, with an interval as if kinds with the same real images erred together;
        `worst`: the kind with the lowest AUC; `left_out`: whether all fakes of each kind are held out in one fold, so
        that no network scored a kind that it was trained on.
    """
    ranks, scores, folds_of = oof.ranks, dict[str, Any](), dict[str, list[int]]()
    for name in np.unique(kind[oof.target == 1]).tolist():
        fakes = (kind == name) & (oof.target == 1)
        key, folds = name or NO_KIND, np.unique(oof.fold[fakes])
        reals = (oof.target == 0) & np.isin(oof.fold, folds)
        scores[key], folds_of[key] = {"fake": int(fakes.sum())}, folds.tolist()
        if min(fakes.sum(), reals.sum()) >= error_analysis.MIN_IMAGES:
            rows = fakes | reals
            scores[key]["auc"] = _compute_auc(oof.target[rows], ranks[rows])
            scores[key] |= _describe_auc_interval(oof.target[rows], ranks[rows], None if group is None else group[rows])
    left_out = all(len(folds) == 1 for folds in folds_of.values())
    scored = {name: one for name, one in scores.items() if "auc" in one}
    together = {name: folds_of[name][0] if left_out else 0 for name in scored}
    return {
        "scores": scores,
        "mean": _average_kinds(scored, together) if scored else None,
        "worst": min(scored, key=lambda name: scored[name]["auc"]) if scored else None,
        "left_out": left_out,
    }


def _average_kinds(scored: Mapping[str, dict[str, Any]], together: Mapping[str, int]) -> dict[str, Any]:
    """The mean AUC of kinds; those with the same number in `together` have the same real images.

    The half-lengths of the intervals of such kinds are added, and of the sums the squares.
    """
    mean = float(np.mean([one["auc"] for one in scored.values()]))
    if reasons := [one["no_interval"]["auc"] for one in scored.values() if one["no_interval"]]:
        return {"auc": mean, **_describe_intervals({}, {"auc": reasons[0]})}
    reach: dict[int, np.ndarray] = {}
    for name, one in scored.items():
        below_and_above = (np.array(one["intervals"]["auc"]) - one["auc"]) / len(scored)
        reach[together[name]] = reach.get(together[name], np.zeros(2)) + below_and_above
    found = intervals.combine_intervals(mean, [(mean + one).tolist() for one in reach.values()])
    return {"auc": mean, **_describe_intervals({"auc": found}, {})}


def _score_val(
    oof: OofPredictions, group: np.ndarray | None, val: list[OofPredictions], refit: OofPredictions | None
) -> dict[str, Any]:
    scores = {str(int(one.fold[0])): score_without_intervals(one.target, one.y_pred) for one in val}
    return {
        "folds": scores,
        "mean": metrics.average_scores(list(scores.values())),
        "gap": measure_val_gap(oof, group, val),
        **({"refit": score_without_intervals(refit.target, refit.y_pred)} if refit is not None else {}),
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
