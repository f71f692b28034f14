"""Asynchronous successive halving (ASHA; Li et al., MLSys 2020): chooses the trial of a sweep to train next.

Most of the time of a search goes into trials that are bad from the start. Successive halving trains all trials for a
few epochs, stops, and continues only the best ones. The epochs at which trials are compared are the rungs. Example: a
sweep of 9 trials and 9 epochs with a factor of 3 and 3 rungs:

    rung 0: 9 trials have 1 epoch;  the best 3 are promoted
    rung 1: 3 trials have 3 epochs; the best 1 is promoted
    rung 2: 1 trial has all 9 epochs

This costs 9 * 1 + 3 * 2 + 1 * 6 = 21 epochs instead of 81. "Asynchronous": a device that is free does not wait until a
rung is full. `promote` looks only at the trials that have reached a rung so far, and promotes one if it is among their
best 1 / factor; otherwise the device starts a new trial.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence


def list_rungs(epochs: int, count: int, factor: int) -> list[int]:
    """The epochs at which trials are compared, ascending; the last rung is the end of the training.

    Args:
        epochs: of a complete training.
        count: the number of rungs; a short training has fewer.
        factor: between the epochs of neighbouring rungs.
    """
    return sorted({max(1, math.ceil(epochs / factor**exponent)) for exponent in range(count)})


def promote(
    scores: Mapping[str, Sequence[float]], rungs: int, factor: int, *, running: Collection[str] = (), closed: bool
) -> str | None:
    """Chooses a trial to continue; None if a new trial should start, or if there is nothing to do.

    The best 1 / factor of the trials at a rung are promoted; the highest rungs come first. A failed trial, with a last
    score that is not finite, is replaced by the next best one.

    Args:
        scores: of each trial, one for each rung that it has reached; higher is better.
        rungs: the number of rungs.
        factor: one of `factor` trials is promoted.
        running: trials that are training now.
        closed: no new trial will start; then at least one trial of each rung is promoted.
    """
    for rung in reversed(range(rungs - 1)):
        reached = [name for name, known in scores.items() if len(known) > rung]
        finite = [name for name in reached if math.isfinite(scores[name][-1])]
        best = sorted(finite, key=lambda name: (-scores[name][rung], name))
        places = max(len(reached) // factor, int(closed))
        for name in best[:places]:
            if len(scores[name]) == rung + 1 and name not in running:
                return name
    return None
