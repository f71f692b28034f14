"""Calibration: strictly increasing maps of a score to a probability, which keep the order and so the AUC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffdi.core.errors import check_choice
from ffdi.evaluation import metrics
from ffdi.evaluation.predictions import compute_logits, sigmoid

TEMPERATURES = (0.05, 20.0)
BISECTIONS = 60
BINS = 12
"""The largest number of bins of equal size; a bin becomes one knot at most."""
MIN_GAP = 1e-3
"""The smallest distance of two knots: a steeper piece would lose precision in a float32 graph."""
IDENTITY_FRACTION = {"temperature": 1e-6, "isotonic": 1e-2}
"""The fraction of the uncalibrated score in the result: a minimum slope, so that flat pieces cause no ties."""


@dataclass(frozen=True)
class Calibration:
    """A strictly increasing map of [0, 1] into [0, 1].

    Attributes:
        kind: a key of KINDS.
        temperature: the divisor of the logit; for kind 'temperature'.
        x: scores at the knots, increasing from 0 to 1; for kind 'isotonic'.
        y: probabilities at the knots, increasing; linear between them.
    """

    kind: str
    temperature: float = 1.0
    x: tuple[float, ...] = (0.0, 1.0)
    y: tuple[float, ...] = (0.0, 1.0)

    def apply(self, y_pred: np.ndarray) -> np.ndarray:
        """Calibrates scores float [N] in [0, 1] -> float64 [N] in [0, 1].

        Scores that differ by 1e-9 or more, such as those of float32 networks and of submissions with nine digits,
        keep their order, so the AUC does not change.
        """
        y_pred = y_pred.astype(np.float64)
        if self.kind == "temperature":
            fraction = IDENTITY_FRACTION["temperature"]
            y_pred = (1 - fraction) * np.exp(
                -np.logaddexp(0, -compute_logits(y_pred) / self.temperature)
            ) + fraction * y_pred
        elif self.kind == "isotonic":
            y_pred = np.interp(y_pred, self.x, self.y)
        return np.clip(y_pred, 0, 1)

    def list_pieces(self) -> tuple[float, np.ndarray, np.ndarray]:
        """The isotonic map as y0 + sum of slope * relu(score - x): y0, x float64 [P], slope float64 [P]."""
        slope = np.diff(self.y) / np.diff(self.x)
        return self.y[0], np.array(self.x[:-1]), np.diff(slope, prepend=0)

    def describe(self) -> dict[str, Any]:
        """The calibration as plain JSON."""
        names = {"temperature": ["temperature"], "isotonic": ["x", "y"]}.get(self.kind, [])
        values = {name: getattr(self, name) for name in names}
        return {"kind": self.kind, **{n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}}


def fit_calibration(kind: str, y_pred: np.ndarray, target: np.ndarray) -> Calibration:
    """Fits a calibration; the identity replaces it if its log loss on the same images is not lower.

    Args:
        kind: a key of KINDS.
        y_pred: float [N] in [0, 1], of images that the networks and the ensemble were not fitted on.
        target: int [N], 1 = fake.

    Raises:
        ConfigError: the kind is unknown.
    """
    check_choice("ensemble.calibration", kind, KINDS)
    fitted = KINDS[kind](y_pred.astype(np.float64), target)
    identity = Calibration(kind)
    return (
        fitted if _compute_log_loss(fitted, y_pred, target) < _compute_log_loss(identity, y_pred, target) else identity
    )


def _fit_none(y_pred: np.ndarray, target: np.ndarray) -> Calibration:  # noqa: ARG001
    return Calibration("none")


def _fit_temperature(y_pred: np.ndarray, target: np.ndarray) -> Calibration:
    """One scalar (Guo et al., ICML 2017): bisection finds the minimum of the log loss, which is convex in 1 / T."""
    logit = np.clip(compute_logits(y_pred), -36, 36)  # scores of 0 and 1 would be infinite
    low, high = (1 / bound for bound in reversed(TEMPERATURES))
    for _ in range(BISECTIONS):
        middle = np.sqrt(low * high)
        increases = ((sigmoid(middle * logit) - target) * logit).sum() > 0
        low, high = (low, middle) if increases else (middle, high)
    return Calibration("temperature", float(1 / np.sqrt(low * high)))


def _fit_isotonic(y_pred: np.ndarray, target: np.ndarray) -> Calibration:
    """Pools adjacent violators (Zadrozny and Elkan, KDD 2002) among a few bins; linear between their centres.

    Each bin counts one more image, with the overall fraction of fakes as its label, so that no bin is 0 or 1. The ends
    are half-way between the outer pools and 0 or 1, or at the outer pools if these are near 0 or 1.
    """
    from sklearn.isotonic import IsotonicRegression  # takes seconds, and applying a calibration does not need it

    edges = np.unique(np.quantile(y_pred, np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.searchsorted(edges, y_pred, side="right")
    images = np.bincount(place, minlength=len(edges) + 1)
    filled = images > 0
    centre = np.bincount(place, y_pred, minlength=len(images))[filled] / images[filled]
    fakes = (np.bincount(place, target, minlength=len(images))[filled] + target.mean()) / (images[filled] + 1)
    fitted = IsotonicRegression().fit_transform(centre, fakes, sample_weight=images[filled] + 1)
    x, y = _place_knots(centre, fitted, images[filled])
    fraction = IDENTITY_FRACTION["isotonic"]
    return Calibration("isotonic", x=tuple(x.tolist()), y=tuple(((1 - fraction) * y + fraction * x).tolist()))


def _place_knots(centre: np.ndarray, fitted: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One knot for each pool of bins, at the mean score of its images; two knots are at least `MIN_GAP` apart."""
    _, pool = np.unique(fitted, return_inverse=True)
    x, y = (np.bincount(pool, images * value) / np.bincount(pool, images) for value in (centre, fitted))
    knots: list[int] = []
    for knot in range(len(x)):
        if x[knot] - (x[knots[-1]] if knots else 0) >= MIN_GAP and x[knot] <= 1 - MIN_GAP:
            knots.append(knot)
    low = y[0] if x[0] < MIN_GAP else y[0] / 2
    high = y[-1] if x[-1] > 1 - MIN_GAP else (1 + y[-1]) / 2
    return np.array([0, *x[knots], 1]), np.array([low, *y[knots], high])


def _compute_log_loss(calibration: Calibration, y_pred: np.ndarray, target: np.ndarray) -> float:
    return float(metrics.log_loss(metrics.count_scores(target, calibration.apply(y_pred))))


KINDS: dict[str, Callable[[np.ndarray, np.ndarray], Calibration]] = {
    "none": _fit_none,
    "temperature": _fit_temperature,
    "isotonic": _fit_isotonic,
}
