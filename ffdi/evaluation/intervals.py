"""How far a score can be trusted: 95 % intervals of every metric, and why some metric has none.

Every interval is a formula over the independent units of a sample: images, or whole groups of them. What the formulas
hold is simulated by benchmarks/interval_coverage.py.
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
FEWEST = 10
"""Independent images, or groups of like size, that a class needs for an interval."""
GROUPS = 30
"""The same, of groups of both classes together."""
PASSING = 10
"""The same, of real ones above the threshold of a TPR at FPR."""
WRONG = 3
"""The same, of images on the wrong side of 0.5: below, a few images carry the losses and the average precision."""
WEIGHT = {"auc": 2.0, "average_precision": 15.0}
"""Images of the smaller class. Where all that is ranked wrongly weighs less, outliers that the sample does not show may
decide, and there is a one-sided bound."""
EDGE = 0.25
"""How far exact intervals go from Clopper and Pearson's (0) towards Jeffreys' (0.5)."""
_METHODS = (
    "AUC: score interval, its variance binormal, or DeLong's where that is larger; accuracy: Clopper and Pearson's, a "
    "little narrower; rates: Newcombe's of their parts; losses and average precision: Fay and Feuer's gamma interval; "
)
RULES = {"images": f"{_METHODS}by images within each class", "groups": f"{_METHODS}by whole groups"}
CONSTANT = "it is the same for all images of a class"
FEW_GROUPS = f"the images lie in groups worth fewer than {FEWEST} of equal size in a class, or {GROUPS} in all"
BIASED = "noise alone raises it"
CERTAIN = "scores of exactly 0 or 1 cost 36 nats where they are wrong"
TIED = "too many images share the score of the threshold"
CARRIED = "too few independent images are on the wrong side of 0.5"

Interval = tuple[float, float]


class Measured(NamedTuple):
    """Intervals by metric, and for each metric that has none the reason."""

    intervals: dict[str, Interval]
    reasons: dict[str, str]


class Spread(NamedTuple):
    """The variance of an estimate, and how many degrees of freedom are left to it."""

    variance: float
    freedom: float


class Units:
    """The independent units of a sample.

    Args:
        target: int [N], 1 = fake; both classes occur.
        group: str [N], whose images are not independent of each other; None where all are.
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
        """float [2]: groups of equal size that would vary as these, where the images of a group are alike."""
        self.inflation = squares / self.images
        """float [2]: the design effect of each class where the images of a group are alike (Kish 1965)."""

    @property
    def lacking(self) -> str | None:
        """Why nothing can be said of the sample; None where something can."""
        few = [name for name, count in zip(("real", "fake"), self.effective, strict=True) if count < FEWEST]
        if self.grouped:
            return FEW_GROUPS if few or self.freedom(np.ones(2)) + 1 < GROUPS else None
        return f"there are fewer than {FEWEST} {' and '.join(few)} images" if few else None

    def of_class(self, value: np.ndarray) -> np.ndarray:
        """One value for real and one for fake images, float [2], as the image that it belongs to: float [N]."""
        return np.where(self.fake, value[1], value[0])

    def centred(self, value: np.ndarray) -> np.ndarray:
        """Values less the mean of their class, float [N]."""
        return value - self.of_class(np.bincount(self.fake, value) / self.images)

    def totals(self, influence: np.ndarray) -> np.ndarray:
        """What the units of each class add to an estimate, float [2, units], scaled as by a jackknife."""
        units = self.size.shape[1]
        parts = [np.bincount(self.unit[rows], influence[rows], units) for rows in (~self.fake, self.fake)]
        count = (self.size > 0).sum(1, keepdims=True)
        return np.stack(parts) * (count / np.maximum(count - 1, 1))

    def spread(self, influence: np.ndarray) -> Spread:
        """Of an estimate whose error is the sum of the images' influence, float [N], centred within each class."""
        parts = self.totals(influence)
        total = parts.sum(0)
        variance = float((total**2).sum())
        return Spread(variance, self.freedom((parts**2).sum(1), influence) if variance else 1.0)

    def largest(self, influence: np.ndarray) -> float:
        """The largest total that a unit adds to an estimate."""
        return float(np.bincount(self.unit, influence).max())

    def carrying(self, value: np.ndarray) -> float:
        """How many units of equal size would carry a sum of values [N], at least 0, as these do (Kish 1965)."""
        total = np.bincount(self.unit, value)
        return float(total.sum() ** 2 / (total**2).sum()) if total.any() else 0.0

    def freedom(self, variance: np.ndarray, influence: np.ndarray | None = None) -> float:
        """Degrees of freedom (Satterthwaite 1946) of the variance of an estimate.

        Groups whose totals spread more widely than normal ones leave fewer.

        Args:
            variance: float [2], what each class adds, not both 0; the groups share it by the squares of their sizes.
            influence: float [N], of which the groups have totals.
        """
        share = (variance[:, None] * self.size**2 / (self.size**2).sum(1, keepdims=True)).sum(0)
        found = float(share.sum() ** 2 / (share**2).sum()) - 1
        if self.grouped and influence is not None and influence.any():
            square = self.totals(influence).sum(0) ** 2
            found = min(found, 3 * float(square.sum() ** 2 / (square**2).sum()) - 1)
        return max(1.0, found)

    def design_effect(self, error: np.ndarray, weight: np.ndarray) -> float:
        """How much larger the variance of a weighted sum of errors is for the groups, at least 1.

        Few groups with errors say little: then it goes towards that of groups whose images are alike.

        Args:
            error: float [N], at least 0.
            weight: float [2], of the images of each class.
        """
        if not self.grouped:
            return 1.0
        weighted = error * self.of_class(weight)
        influence = self.centred(weighted)
        worst = weight**2 * self.images @ self.inflation / (weight**2 @ self.images)
        alone = float((influence**2).sum())
        if not alone:
            return float(worst)
        trust = self.carrying(weighted) ** 2
        seen = max(1.0, self.spread(influence).variance / alone)
        return float((trust * seen + worst) / (trust + 1))


def measure(target: np.ndarray, y_pred: np.ndarray, group: np.ndarray | None) -> Measured:
    """An interval for each metric that has an honest one, and for the others why not.

    The same images in any order give the same numbers, but for rounding.

    Args:
        target: int [N], 1 = fake; both classes occur.
        y_pred: float [N] in [0, 1].
        group: str [N], whose images are not independent of each other; None where all are.
    """
    units = Units(target, group)
    if units.lacking:
        return Measured({}, dict.fromkeys(metrics.METRICS, units.lacking))
    y_pred = y_pred.astype(np.float64)
    counts, place = metrics.count_and_place(target, y_pred)
    step = np.finfo(np.float64).eps
    right = np.where(units.fake, np.clip(y_pred, step, 1 - step), 1 - np.clip(y_pred, step, 1 - step))
    wrong = misranked(target, y_pred)
    right_side = (y_pred > 0.5) == units.fake
    few = CARRIED if units.carrying(~right_side * 1.0) < WRONG * (1 + units.grouped) else None
    found: dict[str, Interval | str] = {
        "auc": of_area(units, wrong),
        **{name: _rate_at(units, counts, place, bound) for name, bound in metrics.FPR_BOUNDS.items()},
        "accuracy": share(units, right_side),
        "log_loss": few or (CERTAIN if np.isin(y_pred, (0, 1)).any() else None) or mean(units, -np.log(right)),
        "brier": few or mean(units, (y_pred - units.fake) ** 2),
        "eer": _equal_error_rate(units, counts, place),
        "average_precision": _average_precision(units, counts, place, wrong),
        "ece": BIASED,
    }
    return Measured(
        {name: one for name, one in found.items() if not isinstance(one, str)},
        {name: one for name, one in found.items() if isinstance(one, str)},
    )


def area(target: np.ndarray, score: np.ndarray, group: np.ndarray | None) -> Interval | None:
    """The interval of the AUC alone; arguments as for `measure`, except that any order of scores will do."""
    units = Units(target, group)
    if units.lacking:
        return None
    return of_area(units, misranked(target, score))


def misranked(target: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The share of the other class's images that each image is on the wrong side of, float64 [N]; ties count half.

    The mean over either class is 1 - AUC; 1 less these are the structural components of DeLong, DeLong and
    Clarke-Pearson (1988).
    """
    counts, place = metrics.count_and_place(target, score)
    below = 1 - (counts.fake.cumsum(-1) - counts.fake / 2) / counts.fakes
    above = (counts.real.cumsum(-1) - counts.real / 2) / counts.reals
    return np.where(target == 1, above[place], below[place])


def of_area(units: Units, wrong: np.ndarray, networks: int = 1) -> Interval:
    """The interval of an AUC, or of the mean of several on the same images, by inverting a score test.

    It has the AUCs from which the measured one lies within t standard errors. The standard error is that of the AUC
    that is tried: binormal, with the ratio of the classes' widths that the images show, and widened where DeLong's is
    larger; for groups by their design effect (Obuchowski, Biometrics 1997). So it stays within 0 to 1, always has a
    width, and reaches 1 where no image is on the wrong side.

    Args:
        units: nothing `lacking`.
        wrong: float [N], `misranked`, or its mean over networks.
        networks: how many these are.
    """
    miss = float(wrong[units.fake].mean())
    ratio, least = _ratio(units, wrong), 0.5 / units.images.prod()
    parts = _binormal(np.clip(np.array([miss]), least, 1 - least), ratio, units.images)
    influence = units.centred(wrong) / units.of_class(units.images)
    widened = max(1 / networks, float((influence**2).sum() / parts.sum()))
    effect = units.design_effect(1 - wrong if miss > 0.5 else wrong, 1 / units.images)
    freedom = units.freedom(parts[:, 0], influence)
    worth = units.images.min() / effect * _worth(freedom)
    if min(miss, 1 - miss) * worth < WEIGHT["auc"]:
        low, high = _exact(1 - miss, worth)
        return (low, 1.0) if miss < 0.5 else (0.0, high)
    reach = _quantile(freedom) * sqrt(widened * effect)

    def end(sign: int) -> float:
        near, far = sign * _logit(miss, least), 40.0
        for _ in range(5):
            tried = np.linspace(near, far, 33)
            share = expit(sign * tried)
            outside = sign * (share - miss) > reach * np.sqrt(_binormal(share, ratio, units.images).sum(0))
            if not outside.any():
                return (1 + sign) / 2
            first = max(1, int(np.argmax(outside)))
            near, far = tried[first - 1], tried[first]
        return float(expit(sign * far))

    return 1 - end(1), 1 - end(-1)


def share(units: Units, right: np.ndarray) -> Interval:
    """The interval of a share of all images, by Clopper and Pearson (1934) for as many images as it is worth.

    Classes of fixed size and design effects change how many that is (Korn and Graubard, Survey Methodology 1998).

    Args:
        units: nothing `lacking`.
        right: bool [N].
    """
    images, rare = len(right), right if right.mean() < 0.5 else ~right
    each = np.bincount(units.fake, rare) / units.images
    pooled, apart = rare.mean() * (1 - rare.mean()), units.images @ (each * (1 - each)) / images
    count = rare.sum()
    stratified = (count * apart / pooled + 1) / (count + 1) if count else 1.0
    effect = stratified * units.design_effect(rare * 1.0, np.ones(2))
    freedom = units.freedom(units.images * (each * (1 - each) + 1 / images), units.centred(rare * 1.0))
    return _exact(float(right.mean()), images / effect * _worth(freedom))


def mean(units: Units, value: np.ndarray) -> Interval | str:
    """The gamma interval of a mean of values that are at least 0 (Fay and Feuer, Statistics in Medicine 1997).

    It is that of a sum of rare events of different sizes. Its upper end takes into account that the next event may be
    as large as the largest yet. A reason instead where the values do not differ.

    Args:
        units: nothing `lacking`.
        value: float [N], not all 0.
    """
    return _gamma(units, float(value.mean()), units.centred(value) / len(value))


def _gamma(units: Units, middle: float, influence: np.ndarray) -> Interval | str:
    spread, largest = units.spread(influence), units.largest(influence)
    if sqrt(spread.variance) < 1e-12 * middle:  # what rounding leaves
        return CONSTANT
    variance = spread.variance / _worth(spread.freedom)
    above, more = middle + (1 - EDGE) * largest, variance + (1 - EDGE) * largest**2
    tail = (1 - LEVEL) / 2
    low = gammaincinv(middle**2 / variance, tail) * variance / middle
    high = gammaincinv(above**2 / more, 1 - tail) * more / above
    return float(low), float(high)


def _rate_at(units: Units, counts: ScoreCounts, place: np.ndarray, bound: float) -> Interval | str:
    """The interval of a TPR at an FPR bound: the fakes' uncertainty and the threshold's, `combined`.

    The threshold's is that of the rank that the bound has among the real images.
    """
    real, fake = units.images
    if min(real, units.effective[0]) * bound < PASSING:
        return f"it rests on fewer than {PASSING} independent real images above the threshold"
    fpr, tpr = counts.rates()

    def step(allowed: float) -> int:
        """The last place on the curve that lets so many real images pass."""
        return max(0, int(np.searchsorted(fpr, (allowed + 1e-6) / real, side="right")) - 1)

    last = step(real * bound)
    passing, missed = (place < last) & ~units.fake, (place >= last) & units.fake
    of_real, of_fake = np.eye(2)
    deviation = sqrt(real * bound * (1 - bound) * units.design_effect(passing * 1.0, of_real))
    reach = _quantile(units.freedom(of_real))
    middle = real * bound + (reach**2 - 1) * (1 - 2 * bound) / 6
    first, final = step(ceil(middle - reach * deviation) - 1), step(floor(middle + reach * deviation))
    worth = fake / units.design_effect(missed * 1.0, of_fake) * _worth(units.freedom(of_fake))
    rate = float(tpr[last])
    own = _exact(rate, worth)
    if np.diff(tpr[max(0, first - 1) : final + 2]).max() > (own[1] - own[0]) / 4:
        return TIED
    return _within(combined(rate, [own, (float(tpr[first]), float(tpr[final]))]))


def _equal_error_rate(units: Units, counts: ScoreCounts, place: np.ndarray) -> Interval:
    """The interval of the EER: where each class's curve would cross, were it at the ends of Wilson's intervals."""
    fpr, tpr = counts.rates()
    middle = float(metrics.crossing(fpr, tpr))
    threshold = int(np.argmax(1 - tpr - fpr <= 0))
    wrong = (place < threshold) != units.fake
    together = units.design_effect(wrong * 1.0, 1 / units.images)
    parts = []
    for label, one in enumerate(np.eye(2)):
        effect = max(together, units.design_effect(wrong * 1.0, one))
        worth = units.images[label] / effect * _worth(units.freedom(one))
        low, high = _wilson((fpr, tpr)[label], worth)
        ends = [metrics.crossing(*((end, tpr) if label == 0 else (fpr, end))) for end in (low, high)]
        parts.append((float(min(ends)), float(max(ends))))
    return _within(combined(middle, parts))


def _average_precision(units: Units, counts: ScoreCounts, place: np.ndarray, wrong: np.ndarray) -> Interval | str:
    """The interval of the average precision: of what it misses to 1, a gamma interval by the precision's derivatives.

    Where little is ranked wrongly: 1, and the least average precision that the lower end of the AUC allows.
    """
    miss = float(wrong[units.fake].mean())
    worth = units.images.min() / units.design_effect(wrong, 1 / units.images)
    if miss * worth < WEIGHT["average_precision"]:
        odds = (1 - _exact(1 - miss, worth)[0]) * units.images[0] / units.images[1]
        return 1 - _most_missed(odds), 1.0
    caught, passed = counts.fake.cumsum(-1), counts.real.cumsum(-1)
    called = np.maximum(caught + passed, 1)
    lacking = 1 - float((counts.fake * caught / called).sum() / counts.fakes[0])
    weight = counts.fake / counts.fakes / called**2
    of_fake = (1 - caught / called) / counts.fakes - _from_below(weight * passed)
    influence = units.centred(np.where(units.fake, of_fake[place], _from_below(weight * caught)[place]))
    ends = _gamma(units, lacking, influence)
    return ends if isinstance(ends, str) else (max(0.0, 1 - ends[1]), 1 - ends[0])


def _most_missed(odds: float) -> float:
    """How much real images that outrank some share of the fakes can take from the average precision.

    Args:
        odds: the images, for each fake, times the share that they outrank, which may be any.
    """
    share = np.linspace(0.001, 1, 1000)
    images = odds / share
    return float((images * np.log((1 + images) / (1 - share + images))).max())


def _from_below(value: np.ndarray) -> np.ndarray:
    """Sums over this score and all lower ones."""
    total: np.ndarray = value[::-1].cumsum()[::-1]
    return total


def combined(middle: float, parts: Sequence[Sequence[float]]) -> Interval:
    """The interval of an estimate from what each independent source of error alone would give it.

    Squared and added, each side by itself (Newcombe, Statistics in Medicine 1998; Zou and Donner, same 2008).
    """
    low, high = (sqrt(sum((part[end] - middle) ** 2 for part in parts)) for end in (0, 1))
    return middle - low, middle + high


def _within(ends: Interval) -> Interval:
    return max(0.0, ends[0]), min(1.0, ends[1])


def _ratio(units: Units, wrong: np.ndarray) -> float:
    """The real images' share of both classes' variance on the scale where they are normal.

    There the shares on the wrong side are normal too, of each class by the other's width; the class that is compared
    with more images shows them finer, and counts more.
    """
    others = units.images[::-1]
    least = units.of_class(0.5 / others)
    normal = ndtri(np.clip(wrong, least, 1 - least))
    real, fake = (np.log(normal[rows].var() + 1e-9) for rows in (~units.fake, units.fake))
    return float(np.clip(expit((others[0] * real - others[1] * fake) / others.sum()), 0.05, 0.95))


def _binormal(miss: np.ndarray, ratio: float, images: np.ndarray) -> np.ndarray:
    """What real and fake images add to the variance of 1 - AUC, float [2, M], for normal scores.

    The chance that one image is on the wrong side of two others is bivariate normal (Owen 1956).
    """
    real, fake = images
    normal = ndtri(miss)
    alike = np.array([ratio, 1 - ratio])[:, None]
    both = ndtr(normal) - 2 * owens_t(normal, np.sqrt((1 - alike) / (1 + alike))) - miss**2
    others = np.array([fake, real])[:, None] - 1
    return (both * others + miss * (1 - miss) / 2) / (real * fake)


def _exact(middle: float, worth: float) -> Interval:
    """The interval of a share of so many images, which need be no whole number: Clopper and Pearson's, less `EDGE`."""
    hits, tail = middle * worth, (1 - LEVEL) / 2
    low = float(betaincinv(hits + EDGE, worth - hits + 1 - EDGE, tail)) if middle > 0 else 0.0
    return low, float(betaincinv(hits + 1 - EDGE, worth - hits + EDGE, 1 - tail)) if middle < 1 else 1.0


def _wilson(rate: np.ndarray, worth: float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's intervals (1927) of rates, float [U], of so many images."""
    square = _quantile(np.inf) ** 2
    middle = (rate + square / worth / 2) / (1 + square / worth)
    half = np.sqrt(square * rate * (1 - rate) / worth + (square / worth) ** 2 / 4) / (1 + square / worth)
    return middle - half, middle + half


def _quantile(freedom: float) -> float:
    """Student's t for `LEVEL`."""
    return float(stdtrit(min(freedom, 1e9), (1 + LEVEL) / 2))


def _worth(freedom: float) -> float:
    """By what few degrees of freedom reduce the number of images."""
    return (_quantile(np.inf) / _quantile(freedom)) ** 2


def _logit(share: float, least: float) -> float:
    share = min(max(share, least), 1 - least)
    return log(share) - log1p(-share)
