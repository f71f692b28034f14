"""Metrics. Each one takes ScoreCounts and returns float64 [...], a value for each resample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np


@dataclass(frozen=True)
class ScoreCounts:
    """The number of real and fake images at each score.

    Attributes:
        score: float64 [U], the distinct scores, descending.
        real: float64 [..., U], real images of that score; leading axes are resamples.
        fake: float64 [..., U], fake ones.
    """

    score: np.ndarray
    real: np.ndarray
    fake: np.ndarray

    @property
    def reals(self) -> np.ndarray:
        """All real images, float64 [..., 1]."""
        return self.real.sum(-1, keepdims=True)

    @property
    def fakes(self) -> np.ndarray:
        """All fake images, float64 [..., 1]."""
        return self.fake.sum(-1, keepdims=True)

    def compute_rates(self) -> tuple[np.ndarray, np.ndarray]:
        """The step ROC: false and true positive rates [..., U + 1] with the 0 to U highest scores called fake."""
        return _prepend_zero(self.real.cumsum(-1) / self.reals), _prepend_zero(self.fake.cumsum(-1) / self.fakes)


def count_scores(target: np.ndarray, y_pred: np.ndarray) -> ScoreCounts:
    """Counts labels int [N] (1 = fake) by score float [N]."""
    return count_and_index_scores(target, y_pred)[0]


def count_and_index_scores(target: np.ndarray, y_pred: np.ndarray) -> tuple[ScoreCounts, np.ndarray]:
    """Counts, and the index of each image's score in `ScoreCounts.score`, int [N]."""
    score, place = index_scores(y_pred)
    real, fake = (np.bincount(place[target == label], minlength=len(score)) * 1.0 for label in (0, 1))
    return ScoreCounts(score, real, fake), place


def index_scores(y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct scores float64 [U], descending, and the index of each image's score among them, int [N]."""
    score, place = np.unique(-y_pred.astype(np.float64), return_inverse=True)
    return -score, place


def _prepend_zero(rate: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(rate[..., :1]), rate], axis=-1)


Metric = Callable[[ScoreCounts], np.ndarray]
ECE_BINS = 15


def auc(counts: ScoreCounts) -> np.ndarray:
    """Area under the ROC curve; ties count half. The metric of the competition."""
    above = counts.fake.cumsum(-1) - counts.fake / 2
    return (counts.real * above).sum(-1) / (counts.reals * counts.fakes)[..., 0]


def tpr_at_fpr(counts: ScoreCounts, bound: float) -> np.ndarray:
    """The largest true positive rate at a false positive rate of at most `bound`.

    On the step ROC, without interpolation, which would give a higher value: with fewer than 1 / bound real images, no
    real image may be above the threshold.
    """
    fpr, tpr = counts.compute_rates()
    return np.where(fpr <= bound, tpr, 0).max(-1)


def accuracy(counts: ScoreCounts) -> np.ndarray:
    """The fraction of correct predictions at the threshold 0.5; a score of 0.5 counts as real."""
    return _average_over_images(counts, np.where(counts.score > 0.5, 0.0, 1.0), np.where(counts.score > 0.5, 1.0, 0.0))


def log_loss(counts: ScoreCounts) -> np.ndarray:
    """Mean cross entropy in nats, of probabilities clipped to one float64 epsilon from 0 and 1."""
    step = np.finfo(np.float64).eps
    y_pred = np.clip(counts.score, step, 1 - step)
    return _average_over_images(counts, -np.log1p(-y_pred), -np.log(y_pred))


def brier(counts: ScoreCounts) -> np.ndarray:
    """Mean squared error of the probability (Brier 1950)."""
    return _average_over_images(counts, counts.score**2, (1 - counts.score) ** 2)


def equal_error_rate(counts: ScoreCounts) -> np.ndarray:
    """The rate at which false positive and false negative rate are equal, by linear interpolation of the ROC."""
    return find_crossing(*counts.compute_rates())


def find_crossing(fpr: np.ndarray, tpr: np.ndarray) -> np.ndarray:
    """The FPR at which a curve of ascending rates [..., U + 1] meets 1 - TPR = FPR, by linear interpolation."""
    surplus = 1 - tpr - fpr  # falls from 1 to -1
    after = np.argmax(surplus <= 0, axis=-1)[..., None]
    left, right = (np.take_along_axis(surplus, after - back, -1) for back in (1, 0))
    start, end = (np.take_along_axis(fpr, after - back, -1) for back in (1, 0))
    return (start + (end - start) * left / (left - right))[..., 0]


def average_precision(counts: ScoreCounts) -> np.ndarray:
    """Precision at each score, weighted by the share of fakes that it adds; nothing interpolated."""
    caught = counts.fake.cumsum(-1)
    called = caught + counts.real.cumsum(-1)
    return (counts.fake * caught / np.maximum(called, 1)).sum(-1) / counts.fakes[..., 0]


def calibration_error(counts: ScoreCounts) -> np.ndarray:
    """Expected calibration error over `ECE_BINS` bins of equal width, as a fraction (Naeini et al., AAAI 2015).

    A bin includes its lower edge; its error is |fraction of fakes - mean score|, weighted by its number of images.
    """
    bins = assign_calibration_bins(counts.score)
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    images = counts.real + counts.fake
    surplus = np.add.reduceat(counts.fake - images * counts.score, starts, axis=-1)
    return np.abs(surplus).sum(-1) / images.sum(-1)


def assign_calibration_bins(score: np.ndarray) -> np.ndarray:
    """The index of the bin of each score in [0, 1]: int, of the shape of `score`."""
    return np.minimum((score * ECE_BINS).astype(int), ECE_BINS - 1)


def evaluate(target: np.ndarray, y_pred: np.ndarray) -> dict[str, float | int]:
    """All `METRICS`, and the number of images of each class.

    Args:
        target: int [N], 1 = fake; both classes occur.
        y_pred: float [N] in [0, 1].
    """
    counts = count_scores(target, y_pred)
    scores = {name: float(metric(counts)) for name, metric in METRICS.items()}
    return {"real": int(counts.reals[0]), "fake": int(counts.fakes[0]), **scores}


def average_scores(scores: list[dict[str, float | int]]) -> dict[str, float]:
    """The mean of each metric over several evaluations."""
    return {name: float(np.mean([score[name] for score in scores])) for name in METRICS}


def _average_over_images(counts: ScoreCounts, of_real: np.ndarray, of_fake: np.ndarray) -> np.ndarray:
    """The mean over all images of a value that depends on score and label."""
    total = (counts.real * of_real + counts.fake * of_fake).sum(-1)
    return total / (counts.reals + counts.fakes)[..., 0]


FPR_BOUNDS = {"tpr_at_fpr_1e-3": 1e-3, "tpr_at_fpr_1e-2": 1e-2, "tpr_at_fpr_1e-1": 1e-1}
METRICS: dict[str, Metric] = {
    "auc": auc,
    **{name: partial(tpr_at_fpr, bound=bound) for name, bound in FPR_BOUNDS.items()},
    "accuracy": accuracy,
    "log_loss": log_loss,
    "brier": brier,
    "eer": equal_error_rate,
    "average_precision": average_precision,
    "ece": calibration_error,
}
