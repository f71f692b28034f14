"""How far a score can be trusted: 95 % intervals of every metric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, log, log1p, sqrt

import numpy as np

from ffdi.scoring import metrics, tally
from ffdi.scoring.tally import Tally

LEVEL = 0.95
NORMAL = 1.959963984540054
"""The normal distribution's quantile for `LEVEL`."""
RESAMPLES = 1000
ENOUGH = 10
"""Real images, or groups with some, above the threshold of a TPR at FPR whose interval is given."""
CELLS = 4_000_000
"""Counts that are held at once: resamples times scores."""
RULES = {
    "images": "auc: DeLong on the logit scale; the others: bootstrap of images within each class, percentiles",
    "groups": "bootstrap of whole groups within groups of real, of fake and of both kinds of images, percentiles",
}

Interval = tuple[float, float]


def measure(target: np.ndarray, y_pred: np.ndarray, group: np.ndarray | None) -> dict[str, Interval]:
    """An interval for each metric that has an honest one; the same input gives the same numbers.

    The calibration error has none: noise alone raises it, and each resample again. A TPR at FPR has one only where the
    bound lets at least `ENOUGH` real images pass (or groups with real images): below, the bootstrap covers the truth
    less often than it says (benchmarks/interval_coverage.py).

    Args:
        target: int [N], 1 = fake; both classes occur.
        y_pred: float [N].
        group: str [N], whose images are not independent of each other; None where all are.
    """
    others = _honest(target, group)
    if group is not None:
        return _bootstrap(target, y_pred, group, ["auc", *others])
    return {"auc": delong(tally.count(target, y_pred)), **_bootstrap(target, y_pred, None, others)}


def area(target: np.ndarray, y_pred: np.ndarray, group: np.ndarray | None) -> Interval:
    """The interval of the AUC alone; arguments as for `measure`, except that any order of scores will do."""
    if group is None:
        return delong(tally.count(target, y_pred))
    return _bootstrap(target, y_pred, group, ["auc"])["auc"]


def resampled_auc(target: np.ndarray, y_pred: np.ndarray, group: np.ndarray | None, seed: int) -> np.ndarray:
    """The AUC of each bootstrap resample, float64 [RESAMPLES]; NaN where a resample of groups lacks a class.

    The draws follow from target, group and seed alone: two sets of scores are resampled alike, and are paired.
    """
    return _resampled(target, y_pred, group, ["auc"], seed)["auc"]


def _bootstrap(
    target: np.ndarray, y_pred: np.ndarray, group: np.ndarray | None, names: list[str]
) -> dict[str, Interval]:
    return {name: percentiles(values) for name, values in _resampled(target, y_pred, group, names, 0).items()}


def _resampled(
    target: np.ndarray, y_pred: np.ndarray, group: np.ndarray | None, names: list[str], seed: int
) -> dict[str, np.ndarray]:
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    with np.errstate(invalid="ignore"):  # a resample of few groups may lack a class; it is passed over below
        for part in _resamples(target, y_pred, group, seed):
            for name, values in found.items():
                values.append(metrics.METRICS[name](part))
    return {name: np.concatenate(values) for name, values in found.items()}


def delong(counts: Tally) -> Interval:
    """The AUC's interval by DeLong, DeLong and Clarke-Pearson (1988), on the logit scale, which keeps it in 0 to 1.

    Where every image is on its side DeLong's variance is 0: the bound is then that of a share of 1 among as many
    images as the smaller class has (Clopper and Pearson 1934).
    """
    reals, fakes = float(counts.reals[0]), float(counts.fakes[0])
    auc = float(metrics.auc(counts))
    if auc in (0.0, 1.0):
        far = ((1 - LEVEL) / 2) ** (1 / min(reals, fakes))
        return (far, 1.0) if auc else (0.0, 1 - far)
    if min(reals, fakes) < 2:
        return 0.0, 1.0
    won, lost = placements(counts)
    variance = _variance(won, counts.fake, auc) / fakes + _variance(lost, counts.real, auc) / reals
    middle, half = log(auc) - log1p(-auc), NORMAL * sqrt(variance) / (auc * (1 - auc))
    return _expit(middle - half), _expit(middle + half)


def placements(counts: Tally) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's structural components: what one image of each score adds to the AUC, float64 [U] for fake and for real.

    A fake's is the share of the real images below it, a real image's that of the fakes above it; ties count half. The
    mean of either over its class is the AUC.
    """
    won = 1 - (counts.real.cumsum(-1) - counts.real / 2) / counts.reals
    return won, (counts.fake.cumsum(-1) - counts.fake / 2) / counts.fakes


def _honest(target: np.ndarray, group: np.ndarray | None) -> list[str]:
    """Names of the metrics beside the AUC that `measure` gives an interval for."""
    reals = (target == 0).sum() if group is None else len(np.unique(group[target == 0]))
    rare = {name for name, bound in metrics.FPR_BOUNDS.items() if reals * bound < ENOUGH}
    return [name for name in metrics.METRICS if name not in rare | {"auc", "ece"}]


def _variance(value: np.ndarray, count: np.ndarray, mean: float) -> float:
    return float((count * (value - mean) ** 2).sum() / (count.sum() - 1))


def _expit(x: float) -> float:
    return 1 / (1 + exp(-x)) if x > -700 else 0.0


def words(ends: Sequence[float]) -> str:
    """An interval as a table shows it."""
    low, high = ends
    return f"{low:.3f} to {high:.3f}"


def percentiles(values: np.ndarray) -> Interval:
    """The middle `LEVEL` of resampled values; those that are NaN are passed over."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _resamples(target: np.ndarray, y_pred: np.ndarray, group: np.ndarray | None, seed: int) -> Iterator[Tally]:
    """`RESAMPLES` resamples, as many at a time as memory should hold."""
    score, place = tally.index(y_pred)
    unit = np.arange(len(target)) if group is None else np.unique(group, return_inverse=True)[1]
    strata, streams = _strata(target, unit), np.random.default_rng(seed).spawn(3)
    at_once = max(1, CELLS // len(target))
    for start in range(0, RESAMPLES, at_once):
        times = min(at_once, RESAMPLES - start)
        weight = _drawn(strata, times, streams)[:, unit]
        yield Tally(score, *(_counted(weight, place, target == label, len(score)) for label in (0, 1)))


def _strata(target: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """int [units]: 0 where a unit has real images only, 2 where fake ones only, 1 where both."""
    fakes, images = np.bincount(unit, target), np.bincount(unit)
    return np.where(fakes == 0, 0, np.where(fakes == images, 2, 1))


def _drawn(strata: np.ndarray, times: int, streams: list[np.random.Generator]) -> np.ndarray:
    """int [times, units]: how often each unit was drawn, with replacement, from its stratum and by its stream."""
    drawn = np.zeros((times, len(strata)), np.int64)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        chosen = streams[stratum].integers(len(members), size=(times, len(members)))
        chosen += np.arange(times)[:, None] * len(members)
        counted = np.bincount(chosen.ravel(), minlength=times * len(members))
        drawn[:, members] = counted.reshape(times, len(members))
    return drawn


def _counted(weight: np.ndarray, place: np.ndarray, which: np.ndarray, scores: int) -> np.ndarray:
    """float64 [times, scores]: the weights [times, N] of the images `which`, added up by score."""
    times = len(weight)
    cell = place[which] + np.arange(times)[:, None] * scores
    counted = np.bincount(cell.ravel(), weight[:, which].ravel(), minlength=times * scores)
    return counted.reshape(times, scores)
