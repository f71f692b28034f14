"""Which trial of a sweep to train next: asynchronous successive halving (Li et al., ASHA, MLSys 2020)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence


def list_rungs(epochs: int, count: int, factor: int) -> list[int]:
    """After how many epochs trials are compared, the last time after all of them.

    Args:
        epochs: of a whole training.
        count: how many comparisons there are to be; fewer where a training is too short for that.
        factor: each comparison is so many times as late as the one before.
    """
    return sorted({max(1, math.ceil(epochs / factor**turn)) for turn in range(count)})


def promote(
    scores: Mapping[str, Sequence[float]], rungs: int, factor: int, *, going: Collection[str] = (), closed: bool
) -> str | None:
    """The trial that has earned to be trained on; None where a new one is to be begun, or nothing is left to do.

    Of the trials that were compared at a rung, the best 1 / factor go on; the later rungs first. One that has failed,
    whose last score is not finite, leaves its place to the next best.

    Args:
        scores: of each trial, one for each rung that it has reached; higher is better.
        rungs: how many there are.
        factor: of so many trials one goes on.
        going: trials that are being trained on already.
        closed: no new trial will come; then at least one of each rung goes on.
    """
    for rung in reversed(range(rungs - 1)):
        reached = [name for name, seen in scores.items() if len(seen) > rung]
        sound = [name for name in reached if math.isfinite(scores[name][-1])]
        best = sorted(sound, key=lambda name: (-scores[name][rung], name))
        places = max(len(reached) // factor, int(closed))
        for name in best[:places]:
            if len(scores[name]) == rung + 1 and name not in going:
                return name
    return None
