"""How many real and fake images have each score: all that a metric needs, for one set of images or many resamples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tally:
    """Counts of images by score.

    Attributes:
        score: float64 [U], each score once, the highest first.
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

    def rates(self) -> tuple[np.ndarray, np.ndarray]:
        """The step ROC: false and true positive rates [..., U + 1] with 0, 1, ... U of the scores called fake."""
        return _from_zero(self.real.cumsum(-1) / self.reals), _from_zero(self.fake.cumsum(-1) / self.fakes)


def count(target: np.ndarray, y_pred: np.ndarray) -> Tally:
    """Counts labels int [N] (1 = fake) by score float [N]."""
    return placed(target, y_pred)[0]


def placed(target: np.ndarray, y_pred: np.ndarray) -> tuple[Tally, np.ndarray]:
    """The counts, and the place of each image's score among the scores, int [N]."""
    score, place = index(y_pred)
    return Tally(score, *(np.bincount(place[target == label], minlength=len(score)) * 1.0 for label in (0, 1))), place


def index(y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The scores that occur, float64 [U] with the highest first, and the place of each image's among them, int [N]."""
    score, place = np.unique(-y_pred.astype(np.float64), return_inverse=True)
    return -score, place


def _from_zero(rate: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(rate[..., :1]), rate], axis=-1)
