"""Nested selection: chooses how experiments are combined, with scores that the choice cannot inflate.

A fitted method, such as greedy selection or stacking, looks good on the images that its weights were fitted on. So each
method is scored by nested cross-validation:

1. For each fold, the method's weights are fitted on the out-of-fold predictions of all other folds.
2. These weights combine the predictions of this fold, and the AUC within this fold is computed.
3. The score of the method is the mean of these AUCs.

The plain mean is the reference. Another method replaces it only if the confidence interval of its gain is above 0; of
several such methods, the one with the highest score wins. The winner is then fitted on all folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ffdi.core import console
from ffdi.core.errors import ExperimentError, check_choice, format_count
from ffdi.ensemble import combine
from ffdi.ensemble.combine import METHODS, Combination, OofMatrix
from ffdi.evaluation import differences, score_names
from ffdi.evaluation.intervals import LEVEL, Interval

REFERENCE = "mean"
Fitter = Callable[[OofMatrix, Sequence[int]], Combination]


@dataclass(frozen=True)
class MethodScore:
    """The nested score of a method.

    Attributes:
        auc: the mean of the AUCs within the folds.
        difference: to the plain mean.
        interval: of the difference; None if there are too few images.
        gain: the difference to the best single experiment.
    """

    method: str
    auc: float
    difference: float
    interval: Interval | None
    chosen: bool
    gain: float


@dataclass(frozen=True, eq=False)
class Choice:
    """The chosen method.

    Attributes:
        rows: one for each method, the plain mean first.
        combination: the chosen method, fitted on all images.
        y_pred: float64 [N], the nested predictions of the chosen method: those of a fold have weights that were fitted
            on the other folds.
        rule: the method of the intervals.
        single: the best single experiment, as its place among the experiments, and its mean AUC within the folds.
    """

    rows: list[MethodScore]
    combination: Combination
    y_pred: np.ndarray
    rule: str
    single: tuple[int, float]

    def make_table(self, names: Sequence[str]) -> tuple[str, list[str], list[list[str | float]]]:
        """Heading, columns and rows of a table: the best single experiment, and each way to combine all of them.

        Args:
            names: of the experiments.
        """
        heading = f"ways to combine the experiments: AUC ({score_names.MEAN_OF_FOLDS}; weights from the other folds)"
        single, auc = self.single
        rows: list[list[str | float]] = [[f"best single experiment: {names[single]}", auc, "", "", ""]]
        rows += [
            [
                row.method + (" (taken)" if row.chosen else ""),
                row.auc,
                f"{row.gain:+.4f}",
                f"{row.difference:+.4f}",
                console.interval(row.interval, "+.4f"),
            ]
            for row in self.rows
        ]
        return heading, ["", "AUC", "against the single", "against the mean", "interval"], rows


def choose_method(
    logits: np.ndarray,
    target: np.ndarray,
    fold: np.ndarray,
    group: np.ndarray | None = None,
    candidates: Sequence[str] = tuple(METHODS),
    forced: str | None = None,
) -> Choice:
    """Chooses how to combine E experiments that were trained on the same folds; see the docstring of this module.

    With m methods besides the mean, each interval has the level 1 - 0.05 / m (Bonferroni), because the best of several
    methods can look good by chance. Methods that are not pointwise are scored but never chosen. The choice does not
    depend on the order of the images or the experiments.

    Args:
        logits: float [E, N], out of fold.
        target: int [N], 1 = fake; both classes occur in each fold.
        fold: int [N], the fold that holds each image out.
        group: str [N], of images that are not independent of each other; None if all are independent.
        candidates: keys of METHODS; the plain mean is always added.
        forced: a candidate to choose without regard to its score; with one experiment, no fitted method.

    Raises:
        ConfigError: a candidate is unknown.
        ExperimentError: a logit is not finite, or a fold lacks a class.
    """
    names = _list_candidates(candidates)
    if min(len(logits), len(np.unique(fold))) == 1:
        names = [name for name in names if name in (REFERENCE, forced) and not METHODS[name].fitted]
    _check_finite(logits)
    experiments = np.array(sorted(range(len(logits)), key=lambda one: np.sort(logits[one]).tobytes()))
    order = _sort_images(logits[experiments], target, fold, group)
    matrix = OofMatrix(logits[np.ix_(experiments, order)].astype(np.float64), target[order], fold[order])
    y_pred = np.stack([_score_nested(matrix, name) for name in names])
    level = 1 - (1 - LEVEL) / max(1, len(names) - 1)
    scores = differences.compare_with_first(
        y_pred, matrix.target, matrix.fold, None if group is None else group[order], level
    )
    best = forced if forced in names else _pick_best(names, scores)
    aucs = combine.compute_single_aucs(matrix)
    single = int(np.argmax(aucs))
    rows = [
        MethodScore(name, one.auc, one.difference, one.interval, chosen=name == best, gain=one.auc - aucs[single])
        for name, one in zip(names, scores, strict=True)
    ]
    combination = fit_method(best, matrix, matrix.folds)
    return Choice(
        rows,
        replace(combination, weights=_restore_order(combination.weights, experiments)),
        _restore_order(y_pred[names.index(best)], order),
        differences.RULES["images" if group is None else "groups"],
        (int(experiments[single]), aucs[single]),
    )


def fit_method(name: str, matrix: OofMatrix, folds: Sequence[int]) -> Combination:
    """Fits a method's weights on the images of some folds."""
    if METHODS[name].fitted:
        return FITTERS[name](matrix, folds)
    return combine.make_equal_combination(name, len(matrix.logits))


def _list_candidates(candidates: Sequence[str]) -> list[str]:
    """The plain mean, then the other candidates in the order of METHODS."""
    for name in candidates:
        check_choice("ensemble.method", name, METHODS)
    return [REFERENCE, *(name for name in METHODS if name in candidates and name != REFERENCE)]


def _check_finite(logits: np.ndarray) -> None:
    invalid = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(invalid):
        raise ExperimentError(
            f"the out-of-fold logits of {len(invalid)} of "
            f"{format_count(len(logits), 'experiment')} are not all finite, "
            f"first those of experiment {invalid[0] + 1}",
            hint="train that experiment again, or leave it out",
        )


def _sort_images(logits: np.ndarray, target: np.ndarray, fold: np.ndarray, group: np.ndarray | None) -> np.ndarray:
    """An order of the images, int [N], that depends on their values only: sums then round in the same way."""
    return np.lexsort([*([] if group is None else [group]), *logits, target, fold])


def _restore_order(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Undoes `values[order]`."""
    return values[np.argsort(order)]


def _score_nested(matrix: OofMatrix, name: str) -> np.ndarray:
    """The nested predictions of a method, float64 [N]."""
    y_pred = np.empty(len(matrix.target))
    for number in matrix.folds:
        rows = matrix.fold == number
        combination = fit_method(name, matrix, [other for other in matrix.folds if other != number])
        y_pred[rows] = combination.combine_within_folds(matrix.logits[:, rows], matrix.fold[rows])
    return y_pred


def _pick_best(names: list[str], scores: list[differences.Difference]) -> str:
    better = [
        (one.auc, name)
        for name, one in zip(names, scores, strict=True)
        if METHODS[name].pointwise and one.interval is not None and one.interval[0] > 0
    ]
    return max(better, key=lambda pair: pair[0])[1] if better else REFERENCE


FITTERS: dict[str, Fitter] = {"greedy": combine.fit_greedy, "stacking": combine.fit_stacking}
