"""Probabilities that mean what they say: a map of the score that keeps every order, and so the AUC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffdi.core.errors import ConfigError, nearest
from ffdi.evaluation import metrics
from ffdi.evaluation.predictions import sigmoid

TEMPERATURES = (0.05, 20.0)
HALVINGS = 60
BINS = 12
"""Bins of equally many images at most; one becomes at most one knot."""
GAP = 1e-3
"""The least distance of two knots: no piece is so steep that a float32 graph would blur it."""
BLEND = {"temperature": 1e-6, "isotonic": 1e-2}
"""The share of the score itself in the calibrated one: the least slope, so that where a curve is flat no ties arise."""


@dataclass(frozen=True)
class Calibration:
    """A strictly rising map of [0, 1] into [0, 1].

    Attributes:
        kind: a key of KINDS.
        temperature: what the score's logit is divided by; temperature only.
        x: scores at the knots, rising from 0 to 1; isotonic only.
        y: probabilities there, rising; straight lines between them.
    """

    kind: str
    temperature: float = 1.0
    x: tuple[float, ...] = (0.0, 1.0)
    y: tuple[float, ...] = (0.0, 1.0)

    def apply(self, y_pred: np.ndarray) -> np.ndarray:
        """Calibrates scores float [N] in [0, 1] -> float64 [N] in [0, 1].

        Never lowers the AUC of scores that are equal or at least 1e-9 apart, which is what float32 networks and
        submissions of nine digits give: those stay apart, in their order.
        """
        y_pred = y_pred.astype(np.float64)
        if self.kind == "temperature":
            blend = BLEND["temperature"]
            y_pred = (1 - blend) * np.exp(-np.logaddexp(0, -_logit(y_pred) / self.temperature)) + blend * y_pred
        elif self.kind == "isotonic":
            y_pred = np.interp(y_pred, self.x, self.y)
        return np.clip(y_pred, 0, 1)

    def pieces(self) -> tuple[float, np.ndarray, np.ndarray]:
        """The isotonic map as y0 + sum of slope * relu(score - x): y0, x float64 [P], slope float64 [P]."""
        slope = np.diff(self.y) / np.diff(self.x)
        return self.y[0], np.array(self.x[:-1]), np.diff(slope, prepend=0)

    def describe(self) -> dict[str, Any]:
        """What `read_calibration` makes it from again, as plain JSON."""
        said = {"temperature": ["temperature"], "isotonic": ["x", "y"]}.get(self.kind, [])
        values = {name: getattr(self, name) for name in said}
        return {"kind": self.kind, **{n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}}


def read_calibration(record: Mapping[str, Any]) -> Calibration:
    """A calibration from its description.

    Raises:
        ConfigError: it describes none.
    """
    check_calibration(kind := str(record.get("kind")))
    try:
        found = Calibration(
            kind,
            float(record.get("temperature", 1.0)),
            *(tuple(map(float, record.get(axis, (0.0, 1.0)))) for axis in ("x", "y")),
        )
        sound = 0 < found.temperature < np.inf and found.x[0] == 0 and found.x[-1] == 1 and len(found.x) == len(found.y)
        sound &= bool((np.diff(found.x) > 0).all() and (np.diff(found.y) > 0).all())
        sound &= found.y[0] >= 0 and found.y[-1] <= 1
    except (TypeError, ValueError, IndexError):
        sound = False
    if not sound:
        raise ConfigError(f"{dict(record)} is no calibration", hint="fit it again")
    return found


def fit_calibration(kind: str, y_pred: np.ndarray, target: np.ndarray) -> Calibration:
    """Fits a calibration; in its own sample the log loss is never above that of the scores themselves.

    Args:
        kind: a key of KINDS.
        y_pred: float [N] in [0, 1], of images that no fitted part of the score has seen.
        target: int [N], 1 = fake.

    Raises:
        ConfigError: there is no such kind.
    """
    check_calibration(kind)
    found = KINDS[kind](y_pred.astype(np.float64), target)
    same = Calibration(kind)
    return found if _loss(found, y_pred, target) < _loss(same, y_pred, target) else same


def _none(y_pred: np.ndarray, target: np.ndarray) -> Calibration:  # noqa: ARG001
    return Calibration("none")


def _temperature(y_pred: np.ndarray, target: np.ndarray) -> Calibration:
    """One scalar (Guo et al., ICML 2017), where the log loss, convex in its inverse, is flat: by bisection."""
    logit = np.clip(_logit(y_pred), -36, 36)  # a score of 0 or 1 is as certain as float64 knows
    low, high = (1 / bound for bound in reversed(TEMPERATURES))
    for _ in range(HALVINGS):
        middle = np.sqrt(low * high)
        rises = ((sigmoid(middle * logit) - target) * logit).sum() > 0
        low, high = (low, middle) if rises else (middle, high)
    return Calibration("temperature", float(1 / np.sqrt(low * high)))


def _isotonic(y_pred: np.ndarray, target: np.ndarray) -> Calibration:
    """Pools adjacent violators (Zadrozny and Elkan, KDD 2002) among few bins, and draws lines from centre to centre.

    One image more, of the share of fakes in all, is counted in each bin: no bin is certain. The line ends half way
    between the outer pools and certainty, or at the outer pools where those lie at 0 or 1.
    """
    from sklearn.isotonic import IsotonicRegression  # seconds, which who only applies it can save

    edges = np.unique(np.quantile(y_pred, np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.searchsorted(edges, y_pred, side="right")
    images = np.bincount(place, minlength=len(edges) + 1)
    full = images > 0
    centre = np.bincount(place, y_pred, minlength=len(images))[full] / images[full]
    share = (np.bincount(place, target, minlength=len(images))[full] + target.mean()) / (images[full] + 1)
    rising = IsotonicRegression().fit_transform(centre, share, sample_weight=images[full] + 1)
    x, y = _knots(centre, rising, images[full])
    blend = BLEND["isotonic"]
    return Calibration("isotonic", x=tuple(x.tolist()), y=tuple(((1 - blend) * y + blend * x).tolist()))


def _knots(centre: np.ndarray, rising: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One knot for each pool of bins, at its images' mean score, none within `GAP` of another; then both ends."""
    _, pool = np.unique(rising, return_inverse=True)
    x, y = (np.bincount(pool, images * value) / np.bincount(pool, images) for value in (centre, rising))
    kept: list[int] = []
    for knot in range(len(x)):
        if x[knot] - (x[kept[-1]] if kept else 0) >= GAP and x[knot] <= 1 - GAP:
            kept.append(knot)
    low = y[0] if x[0] < GAP else y[0] / 2
    high = y[-1] if x[-1] > 1 - GAP else (1 + y[-1]) / 2
    return np.array([0, *x[kept], 1]), np.array([low, *y[kept], high])


def _logit(y_pred: np.ndarray) -> np.ndarray:
    """Infinite at 0 and 1."""
    with np.errstate(divide="ignore"):
        return np.log(y_pred) - np.log1p(-y_pred)


def _loss(calibration: Calibration, y_pred: np.ndarray, target: np.ndarray) -> float:
    return float(metrics.log_loss(metrics.count_scores(target, calibration.apply(y_pred))))


def check_calibration(kind: str) -> None:
    """Refuses a kind that is not there.

    Raises:
        ConfigError: names the nearest one.
    """
    if kind not in KINDS:
        raise ConfigError(
            f"unknown calibration '{kind}': {nearest(kind, KINDS)}", hint="correct ensemble.calibration in config.toml"
        )


KINDS: dict[str, Callable[[np.ndarray, np.ndarray], Calibration]] = {
    "none": _none,
    "temperature": _temperature,
    "isotonic": _isotonic,
}
