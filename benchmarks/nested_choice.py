"""Claim: nested choice never scores below the plain mean by more than its interval in 200 random trials.

    python benchmarks/nested_choice.py

Each trial draws the out-of-fold logits of several experiments on the same five folds, chooses by them, and scores the
chosen combination of all folds' networks on 20,000 fresh images beside the plain mean of the same networks. A network's
logit is the label's signal, noise that all experiments share (images that are hard), noise of the experiment, noise of
the fold's network and the network's offset. A trial is lost beyond the interval where the loss on the fresh images is
more than half of the width of the interval by which the method was chosen.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ffdi.ensemble import combine, selection
from ffdi.ensemble.selection import Choice
from ffdi.evaluation import metrics

TRIALS = 200
IMAGES = 1500
FRESH = 20_000
FOLDS = 5
SHARED, OWN, NETWORK, OFFSET = 0.6, 0.6, 0.5, 0.7
"""Standard deviations; signals have the same unit."""
SCENARIOS = {
    "one good member among noise": [1.0, 0.0, 0.0, 0.0, 0.0],
    "equal members": [0.8, 0.8, 0.8, 0.8],
    "one better, several weak": [1.0, 0.4, 0.4, 0.3, 0.3],
}


@dataclass(frozen=True)
class Trial:
    """What was chosen, and how much higher its AUC on the fresh images is than the plain mean's."""

    choice: Choice
    gain: float

    @property
    def method(self) -> str:
        return self.choice.combination.method

    @property
    def slack(self) -> float:
        """Half of the width of the chosen method's interval."""
        row = next(row for row in self.choice.rows if row.chosen)
        return 0.0 if row.interval is None else (row.interval[1] - row.interval[0]) / 2


def draw(rng: np.random.Generator, signals: list[float], target: np.ndarray) -> np.ndarray:
    """Logits of every network for every image, float64 [E, FOLDS, N]."""
    images, experiments = len(target), len(signals)
    shape = (experiments, FOLDS, images)
    image = SHARED * rng.normal(size=images) + OWN * rng.normal(size=(experiments, images))
    logit = np.array(signals)[:, None] * (2 * target - 1) + image
    logits: np.ndarray = logit[:, None] + NETWORK * rng.normal(size=shape)
    return logits


def trial(rng: np.random.Generator, signals: list[float], images: int = IMAGES, fresh: int = FRESH) -> Trial:
    """One set of out-of-fold predictions, one choice, one test."""
    offset = OFFSET * rng.normal(size=(len(signals), FOLDS, 1))
    target, fold = np.arange(images) % 2, rng.permutation(np.arange(images) // 2 % FOLDS)
    logits = draw(rng, signals, target) + offset
    choice = selection.choose_method(np.take_along_axis(logits, fold[None, None], 1)[:, 0], target, fold)
    target = np.arange(fresh) % 2
    logits = (draw(rng, signals, target) + offset).reshape(-1, fresh)
    folds = [FOLDS] * len(signals)
    chosen = choice.combination.combine(logits, folds)
    return Trial(
        choice,
        _auc(target, chosen) - _auc(target, combine.make_equal_combination("mean", len(folds)).combine(logits, folds)),
    )


def _auc(target: np.ndarray, y_pred: np.ndarray) -> float:
    return float(metrics.auc(metrics.count_scores(target, y_pred)))


def main() -> None:
    """Prints what was chosen in each scenario, and what it gained or lost."""
    for seed, (name, signals) in enumerate(SCENARIOS.items()):
        rng = np.random.default_rng(seed)
        trials = [trial(rng, signals) for _ in range(TRIALS)]
        gains = np.array([one.gain for one in trials])
        lost = sum(one.gain < -one.slack for one in trials)
        print(f"{name}, {TRIALS} trials")
        print("  chosen " + ", ".join(f"{method} {n}" for method, n in Counter(t.method for t in trials).most_common()))
        print(f"  gain in AUC over the plain mean: mean {gains.mean():+.5f}, worst {gains.min():+.5f}")
        print(f"  trials below the plain mean: {(gains < 0).sum()}; by more than the interval: {lost}", flush=True)


if __name__ == "__main__":
    main()
