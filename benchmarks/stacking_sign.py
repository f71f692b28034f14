"""Claim: without negative weights stacking loses under 0.001 AUC, unless one thing disturbs weak and good networks.

    python benchmarks/stacking_sign.py

The AUC on 10,000 fresh images above the plain mean's, of stacking with weights of any sign and with none negative.
Three worlds. `own`: what images have in common disturbs a network in proportion to its signal. `common`: it disturbs
all networks alike, also those that tell nothing apart, and so again on the fresh images. `changed`: as `common`, but
the fresh images disturb each network in its own way. Two minutes on one core.
"""

from __future__ import annotations

import numpy as np

from ffdi.ensemble import combine
from ffdi.ensemble.combine import Combination, OofMatrix
from ffdi.evaluation import metrics

TRIALS = 40
FOLDS = 5
FRESH = 10_000
SHARED, OWN, NETWORK, OFFSET = 0.8, 0.6, 0.5, 0.7
WORLDS = ("own", "common", "changed")
MEMBERS = {
    "one good among noise": [1.0, 0.0, 0.0, 0.0, 0.0],
    "one better, several weak": [1.0, 0.4, 0.4, 0.3, 0.3],
    "six nearly equal": [0.8, 0.8, 0.7, 0.7, 0.7, 0.6],
}


def draw(rng: np.random.Generator, signals: np.ndarray, target: np.ndarray, world: str, fresh: bool) -> np.ndarray:
    """Logits of every network for every image, float64 [E, FOLDS, N]."""
    shape = (len(signals), len(target))
    shared = SHARED * rng.normal(size=shape if fresh and world == "changed" else len(target))
    image = signals[:, None] * (2 * target - 1) + (signals[:, None] if world == "own" else 1) * shared
    image = image + OWN * rng.normal(size=shape)
    logits: np.ndarray = image[:, None] + NETWORK * rng.normal(size=(shape[0], FOLDS, shape[1]))
    return logits


def any_sign(panel: OofMatrix) -> Combination:
    """Stacking as it would be if weights might be negative."""
    slopes, bias = combine._fit_regression(panel.logits, panel.target, panel.fold)
    return Combination("stacking", slopes / combine._compute_deviation(panel.logits), bias)


def trial(rng: np.random.Generator, signals: np.ndarray, world: str, images: int) -> list[float]:
    """The gain over the plain mean with any sign, and with none negative."""
    offset = OFFSET * rng.normal(size=(len(signals), FOLDS, 1))
    target, fold = np.arange(images) % 2, rng.permutation(np.arange(images) // 2 % FOLDS)
    logits = draw(rng, signals, target, world, fresh=False) + offset
    panel = OofMatrix(np.take_along_axis(logits, fold[None, None], 1)[:, 0], target, fold)
    target = np.arange(FRESH) % 2
    logits = (draw(rng, signals, target, world, fresh=True) + offset).reshape(-1, FRESH)
    ways = (
        combine.make_equal_combination("mean", len(signals)),
        any_sign(panel),
        combine.fit_stacking(panel, panel.folds),
    )
    plain, free, bound = (
        float(metrics.auc(metrics.count_scores(target, way.combine(logits, [FOLDS] * len(signals))))) for way in ways
    )
    return [free - plain, bound - plain]


def main() -> None:
    """Prints both gains for each world, set of members and number of images."""
    for world in WORLDS:
        for name, signals in MEMBERS.items():
            for images in (300, 1500):
                rng = np.random.default_rng(0)
                gains = np.array([trial(rng, np.array(signals), world, images) for _ in range(TRIALS)])
                (free, bound), error = gains.mean(0), (gains[:, 1] - gains[:, 0]).std() / np.sqrt(TRIALS)
                print(
                    f"{world:8} {name:26}{images:5} images: any sign {free:+.4f}, none negative {bound:+.4f}, "
                    f"difference {bound - free:+.4f} +- {error:.4f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
