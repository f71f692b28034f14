"""95 % confidence intervals of all metrics, or the reason why a metric has none.

Each interval is a formula over the independent units of a sample: images, or whole groups of them.
benchmarks/interval_coverage.py measures the coverage of the intervals by simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log, log1p, sqrt
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, expit, gammaincinv, ndtr, ndtri, owens_t, stdtrit

from ffdi.evaluation import metrics
from ffdi.evaluation.metrics import ScoreCounts

LEVEL = 0.95
MIN_UNITS = 10
"""The smallest number of independent images, or groups of equal size, of each class."""
MIN_GROUPS = 30
"""The smallest number of groups of both classes together."""
MIN_PASSING = 10
"""The smallest number of independent real images above the threshold of a TPR at FPR."""
MIN_WRONG = 3
"""The smallest number of independent images on the wrong side of 0.5: fewer would dominate the losses."""
MIN_MISRANKED = {"auc": 2.0, "average_precision": 15.0}
"""In images of the smaller class: with a smaller weight of the misranked images, the interval is a one-sided bound,
because outliers that are not in the sample could change the score."""
EXACT_SHIFT = 0.25
"""Exact intervals are between those of Clopper and Pearson (0) and of Jeffreys (0.5)."""
_METHODS = (
    "AUC: score interval, its variance binormal, or DeLong's where that is larger; accuracy: Clopper and Pearson's, a "
    "little narrower; rates: Newcombe's of their parts; losses and average precision: Fay and Feuer's gamma interval; "
)
RULES = {"images": f"{_METHODS}by images within each class", "groups": f"{_METHODS}by whole groups"}
CONSTANT = "all images of a class have the same value"
FEW_GROUPS = f"there are fewer than {MIN_UNITS} groups of equal size in a class, or fewer than {MIN_GROUPS} in all"
BIASED = "noise increases it"
CERTAIN = "scores of exactly 0 or 1 cost 36 nats if they are wrong"
TIES = "too many images share the score of the threshold"
FEW_WRONG = "too few independent images are on the wrong side of 0.5"

Interval = tuple[float, float]


class MetricIntervals(NamedTuple):
    """Intervals by metric; for a metric without an interval, the reason."""

    intervals: dict[str, Interval]
    reasons: dict[str, str]


class Spread(NamedTuple):
    """The variance of an estimate, and its degrees of freedom."""

    variance: float
    freedom: float


class Units:
    """The independent units of a sample.

    Args:
        target: int [N], 1 = fake; both classes occur.
        group: str [N], of images that are not independent of each other; None if all are independent.
    """

    def __init__(self, target: np.ndarray, group: np.ndarray | None) -> None:
        self.fake = target == 1
        self.unit = np.arange(len(target)) if group is None else np.unique(group, return_inverse=True)[1]
        self.grouped = group is not None
        units = int(self.unit.max()) + 1
        self.size = np.stack([np.bincount(self.unit[rows], minlength=units) for rows in (~self.fake, self.fake)]) * 1.0
        self.images = self.size.sum(1)
        squares = (self.size**2).sum(1)
        self.effective = squares**2 / (self.size**4).sum(1)
        """float [2]: the number of equal groups with the same variance, if the images of a group are identical."""
        self.inflation = squares / self.images
        """float [2]: the design effect of each class if the images of a group are identical (Kish 1965)."""

    @property
    def lacking(self) -> str | None:
        """The reason why the sample has no intervals; None if it has."""
        few = [name for name, count in zip(("real", "fake"), self.effective, strict=True) if count < MIN_UNITS]
        if self.grouped:
            return FEW_GROUPS if few or self.estimate_freedom(np.ones(2)) + 1 < MIN_GROUPS else None
        return f"there are fewer than {MIN_UNITS} {' and '.join(few)} images" if few else None

    def expand(self, value: np.ndarray) -> np.ndarray:
        """Expands a value for each class, float [2], to the images: float [N]."""
        return np.where(self.fake, value[1], value[0])

    def center(self, value: np.ndarray) -> np.ndarray:
        """Values minus the mean of their class, float [N]."""
        return value - self.expand(np.bincount(self.fake, value) / self.images)

    def sum_by_unit(self, influence: np.ndarray) -> np.ndarray:
        """The contributions of the units of each class to an estimate, float [2, units], scaled as by a jackknife."""
        units = self.size.shape[1]
        parts = [np.bincount(self.unit[rows], influence[rows], units) for rows in (~self.fake, self.fake)]
        count = (self.size > 0).sum(1, keepdims=True)
        return np.stack(parts) * (count / np.maximum(count - 1, 1))

    def estimate_spread(self, influence: np.ndarray) -> Spread:
        """The spread of an estimate with the given influence of the images, float [N], centred by class."""
        parts = self.sum_by_unit(influence)
        total = parts.sum(0)
        variance = float((total**2).sum())
        return Spread(variance, self.estimate_freedom((parts**2).sum(1), influence) if variance else 1.0)

    def find_largest(self, influence: np.ndarray) -> float:
        """The largest contribution of a unit to an estimate."""
        return float(np.bincount(self.unit, influence).max())

    def count_effective(self, value: np.ndarray) -> float:
        """The effective number of units that contribute to a sum of values [N], not negative (Kish 1965)."""
        total = np.bincount(self.unit, value)
        return float(total.sum() ** 2 / (total**2).sum()) if total.any() else 0.0

    def estimate_freedom(self, variance: np.ndarray, influence: np.ndarray | None = None) -> float:
        """Degrees of freedom (Satterthwaite 1946) of the variance of an estimate.

        Groups with heavier tails than a normal distribution have fewer.

        Args:
            variance: float [2], of each class, not both 0; divided among the groups by the squares of their sizes.
            influence: float [N], of the images.
        """
        share = (variance[:, None] * self.size**2 / (self.size**2).sum(1, keepdims=True)).sum(0)
        found = float(share.sum() ** 2 / (share**2).sum()) - 1
        if self.grouped and influence is not None and influence.any():
            square = self.sum_by_unit(influence).sum(0) ** 2
            found = min(found, 3 * float(square.sum() ** 2 / (square**2).sum()) - 1)
        return max(1.0, found)

    def estimate_design_effect(self, error: np.ndarray, weight: np.ndarray) -> float:
        """The factor by which groups increase the variance of a weighted sum of errors, at least 1.

        With few groups that have errors, the result is close to that of groups of identical images.

        Args:
            error: float [N], at least 0.
            weight: float [2], of an image of each class.
        """
        if not self.grouped:
            return 1.0
        weighted = error * self.expand(weight)
        influence = self.center(weighted)
        worst = weight**2 * self.images @ self.inflation / (weight**2 @ self.images)
        alone = float((influence**2).sum())
        if not alone:
            return float(worst)
        trust = self.count_effective(weighted) ** 2
        seen = max(1.0, self.estimate_spread(influence).variance / alone)
        return float((trust * seen + worst) / (trust + 1))


def measure_intervals(target: np.ndarray, y_pred: np.ndarray, group: np.ndarray | None) -> MetricIntervals:
    """Estimates the interval of each metric.

    The order of the images changes the result by rounding errors only.

    Args:
        target: int [N], 1 = fake; both classes occur.
        y_pred: float [N] in [0, 1].
        group: str [N], of images that are not independent of each other; None if all are independent.
    """
    units = Units(target, group)
    if units.lacking:
        return MetricIntervals({}, dict.fromkeys(metrics.METRICS, units.lacking))
    y_pred = y_pred.astype(np.float64)
    counts, place = metrics.count_and_index_scores(target, y_pred)
    step = np.finfo(np.float64).eps
    right = np.where(units.fake, np.clip(y_pred, step, 1 - step), 1 - np.clip(y_pred, step, 1 - step))
    wrong = compute_misranked(target, y_pred)
    right_side = (y_pred > 0.5) == units.fake
    few = FEW_WRONG if units.count_effective(~right_side * 1.0) < MIN_WRONG * (1 + units.grouped) else None
    found: dict[str, Interval | str] = {
        "auc": estimate_auc_interval(units, wrong),
        **{name: _estimate_tpr_interval(units, counts, place, bound) for name, bound in metrics.FPR_BOUNDS.items()},
        "accuracy": estimate_share_interval(units, right_side),
        "log_loss": few
        or (CERTAIN if np.isin(y_pred, (0, 1)).any() else None)
        or estimate_mean_interval(units, -np.log(right)),
        "brier": few or estimate_mean_interval(units, (y_pred - units.fake) ** 2),
        "eer": _estimate_eer_interval(units, counts, place),
        "average_precision": _estimate_ap_interval(units, counts, place, wrong),
        "ece": BIASED,
    }
    return MetricIntervals(
        {name: one for name, one in found.items() if not isinstance(one, str)},
        {name: one for name, one in found.items() if isinstance(one, str)},
    )


def compute_auc_interval(target: np.ndarray, score: np.ndarray, group: np.ndarray | None) -> Interval | None:
    """The interval of the AUC; arguments as in `measure_intervals`, but scores need not be probabilities."""
    units = Units(target, group)
    if units.lacking:
        return None
    return estimate_auc_interval(units, compute_misranked(target, score))


def compute_misranked(target: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The fraction of the other class that is misranked against each image, float64 [N]; ties count half.

    The mean over either class is 1 - AUC; 1 minus these values are the structural components of DeLong, DeLong and
    Clarke-Pearson (1988).
    """
    counts, place = metrics.count_and_index_scores(target, score)
    below = 1 - (counts.fake.cumsum(-1) - counts.fake / 2) / counts.fakes
    above = (counts.real.cumsum(-1) - counts.real / 2) / counts.reals
    return np.where(target == 1, above[place], below[place])


def estimate_auc_interval(units: Units, wrong: np.ndarray, networks: int = 1) -> Interval:
    """The interval of an AUC, or of the mean of several on the same images, by inverting a score test.

    The interval has all AUCs whose distance from the measured AUC is at most t standard errors. The standard error is
    that of the tested AUC: binormal, with the measured ratio of the classes' variances, and increased if DeLong's is
    larger; for groups by their design effect (Obuchowski, Biometrics 1997). So the interval is within 0 to 1, is never
    empty, and includes 1 if no image is misranked.

    Args:
        units: `lacking` is None.
        wrong: float [N], `compute_misranked`, or its mean over networks.
        networks: their number.
    """
    miss = float(wrong[units.fake].mean())
    ratio, least = _estimate_variance_ratio(units, wrong), 0.5 / units.images.prod()
    parts = _compute_binormal_variance(np.clip(np.array([miss]), least, 1 - least), ratio, units.images)
    influence = units.center(wrong) / units.expand(units.images)
    widened = max(1 / networks, float((influence**2).sum() / parts.sum()))
    effect = units.estimate_design_effect(1 - wrong if miss > 0.5 else wrong, 1 / units.images)
    freedom = units.estimate_freedom(parts[:, 0], influence)
    worth = units.images.min() / effect * _compute_freedom_factor(freedom)
    if min(miss, 1 - miss) * worth < MIN_MISRANKED["auc"]:
        low, high = _compute_exact_interval(1 - miss, worth)
        return (low, 1.0) if miss < 0.5 else (0.0, high)
    reach = _get_t_quantile(freedom) * sqrt(widened * effect)

    def find_end(sign: int) -> float:
        near, far = sign * _compute_logit(miss, least), 40.0
        for _ in range(5):
            tried = np.linspace(near, far, 33)
            share = expit(sign * tried)
            outside = sign * (share - miss) > reach * np.sqrt(
                _compute_binormal_variance(share, ratio, units.images).sum(0)
            )
            if not outside.any():
                return (1 + sign) / 2
            first = max(1, int(np.argmax(outside)))
            near, far = tried[first - 1], tried[first]
        return float(expit(sign * far))

    return 1 - find_end(1), 1 - find_end(-1)


def estimate_share_interval(units: Units, right: np.ndarray) -> Interval:
    """The interval of a fraction of all images, by Clopper and Pearson (1934) for the effective number of images.

    Stratification by class and design effects change that number (Korn and Graubard, Survey Methodology 1998).

    Args:
        units: `lacking` is None.
        right: bool [N].
    """
    images, rare = len(right), right if right.mean() < 0.5 else ~right
    each = np.bincount(units.fake, rare) / units.images
    pooled, apart = rare.mean() * (1 - rare.mean()), units.images @ (each * (1 - each)) / images
    count = rare.sum()
    stratified = (count * apart / pooled + 1) / (count + 1) if count else 1.0
    effect = stratified * units.estimate_design_effect(rare * 1.0, np.ones(2))
    freedom = units.estimate_freedom(units.images * (each * (1 - each) + 1 / images), units.center(rare * 1.0))
    return _compute_exact_interval(float(right.mean()), images / effect * _compute_freedom_factor(freedom))


def estimate_mean_interval(units: Units, value: np.ndarray) -> Interval | str:
    """The gamma interval of a mean of values that are not negative (Fay and Feuer, Statistics in Medicine 1997).

    The interval is that of a sum of rare events of different sizes. Its upper end allows for one more event of the
    largest size. The result is a reason, a str, if the values do not differ.

    Args:
        units: `lacking` is None.
        value: float [N], not all 0.
    """
    return _estimate_gamma_interval(units, float(value.mean()), units.center(value) / len(value))


def _estimate_gamma_interval(units: Units, middle: float, influence: np.ndarray) -> Interval | str:
    spread, largest = units.estimate_spread(influence), units.find_largest(influence)
    if sqrt(spread.variance) < 1e-12 * middle:  # a rounding error
        return CONSTANT
    variance = spread.variance / _compute_freedom_factor(spread.freedom)
    above, more = middle + (1 - EXACT_SHIFT) * largest, variance + (1 - EXACT_SHIFT) * largest**2
    tail = (1 - LEVEL) / 2
    low = gammaincinv(middle**2 / variance, tail) * variance / middle
    high = gammaincinv(above**2 / more, 1 - tail) * more / above
    return float(low), float(high)


def _estimate_tpr_interval(units: Units, counts: ScoreCounts, place: np.ndarray, bound: float) -> Interval | str:
    """The interval of a TPR at an FPR bound: it combines the uncertainty of the fakes and of the threshold.

    The uncertainty of the threshold is that of its rank among the real images.
    """
    real, fake = units.images
    if min(real, units.effective[0]) * bound < MIN_PASSING:
        return f"it rests on fewer than {MIN_PASSING} independent real images above the threshold"
    fpr, tpr = counts.compute_rates()

    def find_step(allowed: float) -> int:
        """The last step of the curve with at most `allowed` real images above the threshold."""
        return max(0, int(np.searchsorted(fpr, (allowed + 1e-6) / real, side="right")) - 1)

    last = find_step(real * bound)
    passing, missed = (place < last) & ~units.fake, (place >= last) & units.fake
    of_real, of_fake = np.eye(2)
    deviation = sqrt(real * bound * (1 - bound) * units.estimate_design_effect(passing * 1.0, of_real))
    reach = _get_t_quantile(units.estimate_freedom(of_real))
    middle = real * bound + (reach**2 - 1) * (1 - 2 * bound) / 6
    first, final = find_step(ceil(middle - reach * deviation) - 1), find_step(floor(middle + reach * deviation))
    worth = (
        fake
        / units.estimate_design_effect(missed * 1.0, of_fake)
        * _compute_freedom_factor(units.estimate_freedom(of_fake))
    )
    rate = float(tpr[last])
    own = _compute_exact_interval(rate, worth)
    if np.diff(tpr[max(0, first - 1) : final + 2]).max() > (own[1] - own[0]) / 4:
        return TIES
    return _clip_interval(combine_intervals(rate, [own, (float(tpr[first]), float(tpr[final]))]))


def _estimate_eer_interval(units: Units, counts: ScoreCounts, place: np.ndarray) -> Interval:
    """The interval of the EER: the EERs of curves at the ends of Wilson's intervals of each class."""
    fpr, tpr = counts.compute_rates()
    middle = float(metrics.find_crossing(fpr, tpr))
    threshold = int(np.argmax(1 - tpr - fpr <= 0))
    wrong = (place < threshold) != units.fake
    together = units.estimate_design_effect(wrong * 1.0, 1 / units.images)
    parts = []
    for label, one in enumerate(np.eye(2)):
        effect = max(together, units.estimate_design_effect(wrong * 1.0, one))
        worth = units.images[label] / effect * _compute_freedom_factor(units.estimate_freedom(one))
        low, high = _compute_wilson_interval((fpr, tpr)[label], worth)
        ends = [metrics.find_crossing(*((end, tpr) if label == 0 else (fpr, end))) for end in (low, high)]
        parts.append((float(min(ends)), float(max(ends))))
    return _clip_interval(combine_intervals(middle, parts))


def _estimate_ap_interval(units: Units, counts: ScoreCounts, place: np.ndarray, wrong: np.ndarray) -> Interval | str:
    """The interval of the average precision: a gamma interval of its difference to 1, by derivatives of the precision.

    If few images are misranked: from the lowest average precision at the lower end of the AUC to 1.
    """
    miss = float(wrong[units.fake].mean())
    worth = units.images.min() / units.estimate_design_effect(wrong, 1 / units.images)
    if miss * worth < MIN_MISRANKED["average_precision"]:
        odds = (1 - _compute_exact_interval(1 - miss, worth)[0]) * units.images[0] / units.images[1]
        return 1 - _bound_missed_precision(odds), 1.0
    caught, passed = counts.fake.cumsum(-1), counts.real.cumsum(-1)
    called = np.maximum(caught + passed, 1)
    lacking = 1 - float((counts.fake * caught / called).sum() / counts.fakes[0])
    weight = counts.fake / counts.fakes / called**2
    of_fake = (1 - caught / called) / counts.fakes - _sum_from_below(weight * passed)
    influence = units.center(np.where(units.fake, of_fake[place], _sum_from_below(weight * caught)[place]))
    ends = _estimate_gamma_interval(units, lacking, influence)
    return ends if isinstance(ends, str) else (max(0.0, 1 - ends[1]), 1 - ends[0])


def _bound_missed_precision(odds: float) -> float:
    """The largest loss of average precision by real images that are ranked above a fraction of the fakes.

    Args:
        odds: real images for each fake, times the fraction of the fakes below them.
    """
    share = np.linspace(0.001, 1, 1000)
    images = odds / share
    return float((images * np.log((1 + images) / (1 - share + images))).max())


def _sum_from_below(value: np.ndarray) -> np.ndarray:
    """The sum over this score and all lower ones, for each score."""
    total: np.ndarray = value[::-1].cumsum()[::-1]
    return total


def combine_intervals(middle: float, parts: Sequence[Sequence[float]]) -> Interval:
    """Combines the intervals of an estimate by each of its independent sources of error.

    The squared distances to each end are added (Newcombe, Statistics in Medicine 1998; Zou and Donner, same 2008).
    """
    low, high = (sqrt(sum((part[end] - middle) ** 2 for part in parts)) for end in (0, 1))
    return middle - low, middle + high


def _clip_interval(ends: Interval) -> Interval:
    return max(0.0, ends[0]), min(1.0, ends[1])


def _estimate_variance_ratio(units: Units, wrong: np.ndarray) -> float:
    """The real images' fraction of the variance of both classes, on a scale on which their scores are normal.

    On this scale the misranked fractions are normal too. The class that is compared with more images has a finer
    resolution and a larger weight.
    """
    others = units.images[::-1]
    least = units.expand(0.5 / others)
    normal = ndtri(np.clip(wrong, least, 1 - least))
    real, fake = (np.log(normal[rows].var() + 1e-9) for rows in (~units.fake, units.fake))
    return float(np.clip(expit((others[0] * real - others[1] * fake) / others.sum()), 0.05, 0.95))


def _compute_binormal_variance(miss: np.ndarray, ratio: float, images: np.ndarray) -> np.ndarray:
    """The contributions of real and fake images to the variance of 1 - AUC, float [2, M], for normal scores.

    The probability that an image is misranked against two others is bivariate normal (Owen 1956).
    """
    real, fake = images
    normal = ndtri(miss)
    alike = np.array([ratio, 1 - ratio])[:, None]
    both = ndtr(normal) - 2 * owens_t(normal, np.sqrt((1 - alike) / (1 + alike))) - miss**2
    others = np.array([fake, real])[:, None] - 1
    return (both * others + miss * (1 - miss) / 2) / (real * fake)


def _compute_exact_interval(middle: float, worth: float) -> Interval:
    """Clopper and Pearson's interval, less `EXACT_SHIFT`, of a fraction of `worth` images, which may be fractional."""
    hits, tail = middle * worth, (1 - LEVEL) / 2
    low = float(betaincinv(hits + EXACT_SHIFT, worth - hits + 1 - EXACT_SHIFT, tail)) if middle > 0 else 0.0
    return low, float(betaincinv(hits + 1 - EXACT_SHIFT, worth - hits + EXACT_SHIFT, 1 - tail)) if middle < 1 else 1.0


def _compute_wilson_interval(rate: np.ndarray, worth: float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's intervals (1927) of rates, float [U], of `worth` images."""
    square = _get_t_quantile(np.inf) ** 2
    middle = (rate + square / worth / 2) / (1 + square / worth)
    half = np.sqrt(square * rate * (1 - rate) / worth + (square / worth) ** 2 / 4) / (1 + square / worth)
    return middle - half, middle + half


def _get_t_quantile(freedom: float) -> float:
    """The quantile of Student's t for `LEVEL`."""
    return float(stdtrit(min(freedom, 1e9), (1 + LEVEL) / 2))


def _compute_freedom_factor(freedom: float) -> float:
    """The factor by which few degrees of freedom reduce the effective number of images."""
    return (_get_t_quantile(np.inf) / _get_t_quantile(freedom)) ** 2


def _compute_logit(share: float, least: float) -> float:
    share = min(max(share, least), 1 - least)
    return log(share) - log1p(-share)
