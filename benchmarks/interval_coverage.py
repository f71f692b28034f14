"""Claim: 95 % intervals cover the truth in 93 to 97 % of 1,000 simulated experiments.

    python benchmarks/interval_coverage.py

Logits of real images are drawn from N(-0.75, 1), of fakes from N(0.75, 1), so that the score is calibrated; as single
images, and as groups of two images with a common part (correlation 0.5). The truth is that of two million images.
A quarter of an hour on one core.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from ffdi.scoring import intervals, metrics

TRIALS = 1000
IMAGES = 2000
GROUP = 2
SHIFT = 0.75


def draw(rng: np.random.Generator, images: int, grouped: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """target [images], y_pred [images], and the groups, each of one class."""
    unit = np.arange(images) // (GROUP if grouped else 1)
    target = unit % 2
    noise = rng.normal(size=images)
    if grouped:
        noise = np.sqrt(0.5) * (noise + rng.normal(size=unit[-1] + 1)[unit])
    logit = (2 * target - 1) * SHIFT + noise
    return target, 1 / (1 + np.exp(-2 * SHIFT * logit)), unit.astype(str) if grouped else None


def main() -> None:
    """Prints the share of trials whose interval holds the truth."""
    rng = np.random.default_rng(0)
    truth = metrics.evaluate(*draw(rng, 2_000_000, grouped=False)[:2])
    for grouped in (False, True):
        hits: Counter[str] = Counter()
        for _ in range(TRIALS):
            for name, (low, high) in intervals.measure(*draw(rng, IMAGES, grouped)).items():
                hits[name] += low <= truth[name] <= high
        print(f"{IMAGES} images" + (f" in groups of {GROUP}" if grouped else ""))
        for name in hits:
            print(f"  {name:20}{100 * hits[name] / TRIALS:6.1f} %   truth {truth[name]:.4f}")


if __name__ == "__main__":
    main()
