"""Greedy ensemble selection: experiments are added one after the other, as long as the AUC rises."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np

from ffdi.ensemble.combine import Combination, OofMatrix

ROUNDS = 20
"""Experiments that are added after the start; a weight is then a multiple of about 1/20."""

Bag = tuple[int, ...]


def fit_greedy(panel: OofMatrix, folds: Sequence[int]) -> Combination:
    """Weights on probabilities by forward selection with replacement (Caruana et al., ICML 2004).

    The start is the best n experiments taken together, with the n that scores best. Then, `ROUNDS` times, the
    experiment is added (again) that leaves the highest AUC; the best bag met on the way wins, of equals the earliest.
    The AUC is the mean of those within each fold: offsets between the folds' networks play no part in it.

    Args:
        panel: all experiments.
        folds: those whose images may be looked at.
    """
    single = [_one(index, len(panel.logits)) for index in range(len(panel.logits))]
    order = sorted(single, key=lambda bag: -_area(panel, folds, bag))
    starts = [_sum(order[: count + 1]) for count in range(len(order))]
    bag = best = max(reversed(starts), key=lambda bag: _area(panel, folds, bag))  # of equals, that of more experiments
    for _ in range(ROUNDS):
        bag = max((_sum([bag, added]) for added in order), key=lambda bag: _area(panel, folds, bag))
        best = max(best, bag, key=lambda bag: _area(panel, folds, bag))
    return Combination("greedy", np.array(best) / sum(best))


def _area(panel: OofMatrix, folds: Sequence[int], bag: Bag) -> float:
    common = gcd(*bag)
    areas = panel.areas(tuple(count // common for count in bag))
    return round(sum(areas[fold] for fold in folds) / len(folds), 12)  # 0.8 and 0.9 are no worse than 0.85 twice


def _one(index: int, experiments: int) -> Bag:
    return tuple(int(index == other) for other in range(experiments))


def _sum(bags: Sequence[Bag]) -> Bag:
    return tuple(map(sum, zip(*bags, strict=True)))
