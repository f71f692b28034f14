"""The paired comparison of experiments, and the images that one gets right and the other one does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ffdi.core import console
from ffdi.core.errors import format_count
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import comparison, score_names
from ffdi.evaluation.comparison import Comparison, Scores
from ffdi.evaluation.predictions import sigmoid
from ffdi.reporting.page import Cell, ReportTable, Section
from ffdi.reporting.thresholds import USUAL

MAX_IMAGES = 6
"""In the gallery, of each side of a pair."""
MAX_PAIRS = 2
"""In the gallery: the experiments that differ most from the best one."""


class Pair(NamedTuple):
    """Two experiments on the same images.

    Attributes:
        best, other: their names; `best` has the best out-of-fold score of all.
        rows: the comparison of `other` with `best` on all images and on each kind of fake.
        gained, lost: the rows that `other` gets right and `best` does not, and the reverse, the clearest first.
    """

    best: str
    other: str
    rows: list[Comparison]
    gained: np.ndarray
    lost: np.ndarray

    @property
    def kinds(self) -> dict[str, str]:
        """The words for the two kinds of images in the gallery, by key."""
        return {
            f"gained {self.other}": f"right in {self.other}, wrong in {self.best}",
            f"lost {self.other}": f"right in {self.best}, wrong in {self.other}",
        }

    @property
    def picked(self) -> dict[str, np.ndarray]:
        """The rows in the gallery, by key."""
        return dict(zip(self.kinds, (self.gained[:MAX_IMAGES], self.lost[:MAX_IMAGES]), strict=True))


def compare_with_best(ensemble: Ensemble) -> list[Pair]:
    """Compares each experiment with the best single one; first comes the one that differs from it in most images."""
    images, names = ensemble.assignment, [one.name for one in ensemble.experiments]
    y_pred, best = sigmoid(ensemble.oof_logits), ensemble.choice.single[0]
    kinds = [] if images.kind is None else np.unique(images.kind[images.target == 1]).tolist()
    slices: Mapping[str, np.ndarray] = {f"kind: {one}": images.kind == one for one in kinds if one}
    right = (y_pred >= USUAL) == (images.target == 1)
    found = []
    for other in range(len(names)):
        if other != best:
            scores = Scores(y_pred[[best, other]], images.target, images.fold, images.group)
            clearest = np.argsort(-np.abs(y_pred[other] - y_pred[best]), kind="stable")
            gained, lost = (
                clearest[(right[one] & ~right[two])[clearest]] for one, two in ((other, best), (best, other))
            )
            found.append(Pair(names[best], names[other], comparison.compare(scores, slices), gained, lost))
    return sorted(found, key=lambda pair: -len(pair.gained) - len(pair.lost))


def build_comparison(pairs: Sequence[Pair]) -> Section:
    """A table of each pair."""
    columns = ["", "AUC", "AUC of the best", "difference, 95 %", "p"]
    tables = [
        ReportTable(
            f"{pair.other} against {pair.best}, {score_names.MEAN_OF_FOLDS}: only {pair.other} gets "
            f"{format_count(len(pair.gained), 'image')} right, only {pair.best} {len(pair.lost)}",
            columns,
            [
                [
                    one.name,
                    f"{one.second:.4f}",
                    f"{one.first:.4f}",
                    Cell(f"{one.difference:+.4f}", console.interval(one.interval, "+.4f")),
                    "" if one.corrected is None else f"{one.corrected:.3g}",
                ]
                for one in pair.rows
            ],
        )
        for pair in pairs
    ]
    line = (
        "Paired DeLong within folds; p-values of kinds have Holm's correction. Right means that the score is on the "
        f"label's side of {USUAL}. The images are in the gallery, with a kind of their own."
    )
    return Section("Comparison", [line], tables=tables)
