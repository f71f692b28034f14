"""Which way to combine experiments: the plain mean, unless another is better on folds that it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ffdi.core.errors import ConfigError, ExperimentError, nearest
from ffdi.ensemble import combine, greedy, stacking
from ffdi.ensemble.combine import METHODS, Combination, OofMatrix
from ffdi.evaluation import differences
from ffdi.evaluation.intervals import LEVEL, Interval

REFERENCE = "mean"
Fitter = Callable[[OofMatrix, Sequence[int]], Combination]


@dataclass(frozen=True)
class Row:
    """A method's nested score: AUC within each fold, averaged; less the plain mean's, with the interval of that.

    `interval` is None where there is none.
    """

    method: str
    auc: float
    difference: float
    interval: Interval | None
    chosen: bool


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen, and why.

    Attributes:
        rows: one a method, the plain mean first.
        combination: the chosen method, fitted on all images.
        y_pred: float64 [N], the chosen method's nested scores: each fold's by weights that were fitted on the others.
        rule: how the intervals were found.
    """

    rows: list[Row]
    combination: Combination
    y_pred: np.ndarray
    rule: str


def choose(
    logits: np.ndarray,
    target: np.ndarray,
    fold: np.ndarray,
    group: np.ndarray | None = None,
    candidates: Sequence[str] = tuple(METHODS),
    forced: str | None = None,
) -> Choice:
    """Chooses how E experiments that were trained on the same folds are combined.

    Nested: for every fold, a method's weights are fitted on the other folds' images, and score this fold's. The AUC is
    taken within each fold and averaged. The plain mean stays unless a method's gain over it has an interval above 0;
    among those, the best wins. The intervals hold together: with m methods beside the mean each has the level
    1 - 0.05 / m (Bonferroni), because the best of many looks good by luck. Methods that are not pointwise are shown,
    and never chosen.

    The same images in another order, or the same experiments in another, give the same choice.

    Args:
        logits: float [E, N], out of fold.
        target: int [N], 1 = fake; both classes occur in every fold.
        fold: int [N], which held each image out.
        group: str [N], whose images are not independent of each other; None where all are.
        candidates: keys of METHODS; the plain mean is always one.
        forced: one of the candidates that is chosen whatever its score; of one experiment nothing can be fitted.

    Raises:
        ConfigError: a candidate is no method.
        ExperimentError: a logit is not finite, or a fold lacks a class.
    """
    names = _names(candidates)
    if min(len(logits), len(np.unique(fold))) == 1:
        names = [name for name in names if name in (REFERENCE, forced) and not METHODS[name].fitted]
    _refuse_broken(logits)
    experiments = np.array(sorted(range(len(logits)), key=lambda one: np.sort(logits[one]).tobytes()))
    order = _order(logits[experiments], target, fold, group)
    panel = OofMatrix(logits[np.ix_(experiments, order)].astype(np.float64), target[order], fold[order])
    y_pred = np.stack([_nested(panel, name) for name in names])
    level = 1 - (1 - LEVEL) / max(1, len(names) - 1)
    found = differences.against_first(y_pred, panel.target, panel.fold, None if group is None else group[order], level)
    best = forced if forced in names else _best(names, found)
    rows = [Row(name, *one, chosen=name == best) for name, one in zip(names, found, strict=True)]
    combination = fit(best, panel, panel.folds)
    return Choice(
        rows,
        replace(combination, weights=_back(combination.weights, experiments)),
        _back(y_pred[names.index(best)], order),
        differences.RULES["images" if group is None else "groups"],
    )


def fit(name: str, panel: OofMatrix, folds: Sequence[int]) -> Combination:
    """A method, its weights fitted on the images of some folds."""
    if METHODS[name].fitted:
        return FITTERS[name](panel, folds)
    return combine.equal(name, len(panel.logits))


def _names(candidates: Sequence[str]) -> list[str]:
    """The plain mean, then the others, each once, in the order of METHODS."""
    for name in candidates:
        if name not in METHODS:
            raise ConfigError(
                f"unknown ensemble method '{name}': {nearest(name, METHODS)}",
                hint="correct ensemble.method in config.toml",
            )
    return [REFERENCE, *(name for name in METHODS if name in candidates and name != REFERENCE)]


def _refuse_broken(logits: np.ndarray) -> None:
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        raise ExperimentError(
            f"the out-of-fold logits of {len(broken)} of {len(logits)} experiments are not all finite, "
            f"first those of experiment {broken[0] + 1}",
            hint="train that experiment again, or leave it out",
        )


def _order(logits: np.ndarray, target: np.ndarray, fold: np.ndarray, group: np.ndarray | None) -> np.ndarray:
    """An order of the images, int [N], that follows from what they are: however they came, sums round alike."""
    return np.lexsort([*([] if group is None else [group]), *logits, target, fold])


def _back(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """What was put into an order, as it was before."""
    return values[np.argsort(order)]


def _nested(panel: OofMatrix, name: str) -> np.ndarray:
    """Scores float64 [N], each fold's by a combination that was fitted on the others."""
    y_pred = np.empty(len(panel.target))
    for number in panel.folds:
        rows = panel.fold == number
        combination = fit(name, panel, [other for other in panel.folds if other != number])
        y_pred[rows] = combination.out_of_fold(panel.logits[:, rows], panel.fold[rows])
    return y_pred


def _best(names: list[str], found: list[differences.Difference]) -> str:
    passed = [
        (one.auc, name)
        for name, one in zip(names, found, strict=True)
        if METHODS[name].pointwise and one.interval is not None and one.interval[0] > 0
    ]
    return max(passed, key=lambda pair: pair[0])[1] if passed else REFERENCE


FITTERS: dict[str, Fitter] = {"greedy": greedy.fit_greedy, "stacking": stacking.fit_stacking}
