"""Which way is fake, and whether scores point there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ffdi.submission import misfits

DOUBT = 5.0
"""Standard deviations. By chance the rank correlation of N images is 0 with a deviation of 1 / sqrt(N - 1), ties or
not, so that 26 images and fewer are never judged. Means of probabilities and of logits both rise with every member's
logit: as long as members do not contradict each other, 0 is the least that an honest blend can expect."""


@dataclass(frozen=True)
class Direction:
    """What tells the direction of fake apart from the scores themselves.

    Attributes:
        reference: float [N], the members' logits, weighted as they count, for the images that are scored.
        oof_auc: each experiment's out-of-fold AUC, the mean of its folds', by name; pooled, offsets between the folds'
            networks alone could bring it below 0.5.
        oof_high: the upper end of its 95 % interval, by name; an experiment is missing where it has none.
    """

    reference: np.ndarray
    oof_auc: Mapping[str, float]
    oof_high: Mapping[str, float] = field(default_factory=dict)

    def inverted(self) -> list[str]:
        """A line for each experiment whose scores fall where fake is more likely, beyond chance."""
        return [
            f"experiment {name} has the out-of-fold AUC {auc}, below 0.5 beyond chance: its labels are inverted"
            for name, auc in self.oof_auc.items()
            if self.oof_high.get(name, 1.0) < 0.5
        ]

    def useless(self) -> list[str]:
        """A line for each other experiment that does no better than chance."""
        return [
            f"experiment {name} has the out-of-fold AUC {auc}, no better than chance: it has learned nothing"
            for name, auc in self.oof_auc.items()
            if not auc >= 0.5 and not self.oof_high.get(name, 1.0) < 0.5  # nor is NaN good enough
        ]


def turned(y_pred: np.ndarray, reference: np.ndarray) -> list[str]:
    """Whether scores [N] fall where the reference [N] rises, beyond doubt."""
    if not misfits.are_numbers(y_pred):
        return []
    if not misfits.are_numbers(reference) or reference.shape != y_pred.shape:
        return [f"the reference is {misfits.kind(reference)}, not float {list(y_pred.shape)}"]
    known = ~(np.isnan(reference) | np.isnan(y_pred))
    correlation = rank_correlation(reference[known], y_pred[known])
    if correlation * np.sqrt(max(known.sum() - 1, 0)) >= -DOUBT:
        return []
    return [f"the scores are turned around: their rank correlation with the networks' mean logit is {correlation:.3f}"]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two float [N], in [-1, 1]; ties share the mean of their ranks.

    0 where a side is constant or there are fewer than two images: no direction can be told.
    """
    one, other = (pd.Series(side.astype(np.float64)).rank().to_numpy() for side in (first, second))
    one, other = one - (len(one) + 1) / 2, other - (len(other) + 1) / 2
    scale = np.sqrt((one @ one) * (other @ other))
    return float(np.clip(one @ other / scale, -1, 1)) if scale > 0 else 0.0
