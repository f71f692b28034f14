"""Claim: wherever ffdi shows a 95 % interval, it holds the truth in 93 to 97 % of 1,000 simulated sets; above that only
where errors are so few that no honest interval holds less often.

    python benchmarks/interval_coverage.py [--sets 1000] [--points WORD ...]

Scores are drawn by class: normal (`even`: as wide for fakes as for real images; `wide`, `narrow`: twice and half as
wide) or Student's t with three degrees of freedom (`heavy`); `groups`: with a common part of each. The probability is the logistic function of the score; `digits` rounds it. The truth is that of 400,000 quantiles of each class, weighted
as the classes are. A row has, for each metric, how often the interval held the truth in the sets where one was given,
behind a slash the share of these sets where it is not all, and the median width. `--points` takes rows whose name has
all of the words. An hour on one core.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, ndtri, stdtr, stdtrit

from ffdi.scoring import intervals, metrics, tally

QUANTILES = 400_000
SHORT = {
    "auc": "auc",
    "tpr_at_fpr_1e-3": "1e-3",
    "tpr_at_fpr_1e-2": "1e-2",
    "tpr_at_fpr_1e-1": "1e-1",
    "accuracy": "acc",
    "log_loss": "loss",
    "brier": "brier",
    "eer": "eer",
    "average_precision": "ap",
}


@dataclass(frozen=True)
class Point:
    """One place of the plane.

    Attributes:
        real, fake: images.
        auc: the true one.
        shape: of the scores.
        digits: of the probability; None leaves it as it is.
        sizes: images in each group of either class; None where images are independent.
        alike: correlation within a group.
        mixed: whether group g of the real images and group g of the fakes are one.
        label: what the sizes are called.
    """

    real: int
    fake: int
    auc: float
    shape: str = "even"
    digits: int | None = None
    sizes: tuple[int, ...] | None = None
    alike: float = 0.0
    mixed: bool = False
    label: str = ""

    @property
    def name(self) -> str:
        rounded = "" if self.digits is None else f" digits {self.digits}"
        groups = f" groups {self.label} alike {self.alike}{' mixed' if self.mixed else ''}" if self.sizes else ""
        return f"{self.real}+{self.fake} auc {self.auc} {self.shape}{rounded}{groups}"

    @property
    def width(self) -> float:
        return {"wide": 2.0, "narrow": 0.5}.get(self.shape, 1.0)

    def apart(self) -> float:
        """How far the fakes' scores lie above the real images'."""
        if self.shape == "heavy":
            inner = stdtrit(3, (np.arange(20_000) + 0.5) / 20_000)
            return float(brentq(lambda shift: stdtr(3, inner + shift).mean() - self.auc, 0, 200))
        return float(ndtri(self.auc) * np.hypot(1, self.width))

    def y_pred(self, score: np.ndarray, apart: float) -> np.ndarray:
        middle = apart / (1 + self.width)
        probability: np.ndarray = expit(apart / self.width * (score - middle) + 0.5 * np.log(self.fake / self.real))
        return probability if self.digits is None else probability.round(self.digits)

    def truth(self, apart: float) -> dict[str, float]:
        share = (np.arange(QUANTILES) + 0.5) / QUANTILES
        inner = stdtrit(3, share) if self.shape == "heavy" else ndtri(share)
        score = np.concatenate([inner, apart + self.width * inner])
        target = np.repeat([0, 1], QUANTILES)
        counts = tally.count(target, self.y_pred(score, apart))
        weighted = tally.Tally(counts.score, counts.real * self.real, counts.fake * self.fake)
        return {name: float(metric(weighted)) for name, metric in metrics.METRICS.items()}

    def groups(self) -> np.ndarray | None:
        if self.sizes is None:
            return None
        each = np.repeat(np.arange(len(self.sizes)), self.sizes)
        return np.concatenate([each, each + (0 if self.mixed else len(self.sizes))])

    def draw(self, rng: np.random.Generator, group: np.ndarray | None, apart: float) -> np.ndarray:
        """y_pred float [real + fake]."""
        images = self.real + self.fake
        noise = rng.standard_t(3, images) if self.shape == "heavy" else rng.normal(size=images)
        if group is not None:
            noise = np.sqrt(1 - self.alike) * noise + np.sqrt(self.alike) * rng.normal(size=group.max() + 1)[group]
        noise[self.real :] = apart + self.width * noise[self.real :]
        return self.y_pred(noise, apart)


def points() -> Iterator[Point]:
    """The plane."""
    for count in (20, 50, 100, 300, 1000, 5000):
        for auc in (0.6, 0.9, 0.99, 0.999, 0.9999):
            yield Point(count, count, auc)
    yield Point(20_000, 20_000, 0.99)
    yield Point(20_000, 20_000, 0.9999)
    for shape in ("wide", "narrow", "heavy"):
        for count in (100, 1000):
            for auc in (0.6, 0.9, 0.99, 0.999):
                yield Point(count, count, auc, shape)
    for real, fake in ((5, 1000), (20, 200), (20, 2000), (200, 2000), (20, 20_000), (2000, 200), (2000, 20)):
        for auc in (0.6, 0.9, 0.99):
            yield Point(real, fake, auc)
    for shape in ("wide", "narrow"):
        yield Point(200, 2000, 0.9, shape)
        yield Point(2000, 200, 0.99, shape)
    for digits in (1, 2, 3):
        for count, auc in ((100, 0.9), (1000, 0.9), (1000, 0.99)):
            yield Point(count, count, auc, digits=digits)
    yield from grouped()


def grouped() -> Iterator[Point]:
    """Places where images are not independent."""
    for number in (1, 2, 5, 10, 20, 100, 1000):
        size = max(5, 1000 // number)
        for auc in (0.6, 0.9, 0.99, 0.9998) if number in (20, 100) else (0.9, 0.99):
            yield Point(number * size, number * size, auc, sizes=(size,) * number, alike=0.5, label=f"{number} equal")
    for alike in (0.3, 0.8):
        yield Point(1000, 1000, 0.9, sizes=(10,) * 100, alike=alike, label="100 equal")
    for number in (20, 100):
        yield Point(1000, 1000, 0.9, sizes=(1000 // number,) * number, alike=0.5, mixed=True, label=f"{number} equal")
    for number in (20, 100, 1000):
        sizes = tuple(np.maximum(1, 500 / np.arange(1, number + 1)).astype(int).tolist())
        yield Point(sum(sizes), sum(sizes), 0.9, sizes=sizes, alike=0.5, label=f"{number} Zipf")
    giant = (500, *(5,) * 100)
    yield Point(1000, 1000, 0.9, sizes=giant, alike=0.5, label="101 giant")
    uneven = tuple((np.arange(100) % 10 + 1).tolist())
    for auc in (0.6, 0.9, 0.99):
        yield Point(sum(uneven), sum(uneven), auc, sizes=uneven, alike=0.5, label="100 uneven")


def simulate(point: Point, sets: int) -> dict[str, list[tuple[bool, float]]]:
    """For each metric, whether the interval held the truth, and its width, in each set where there was one."""
    rng = np.random.default_rng(zlib.crc32(point.name.encode()))
    apart, group, target = point.apart(), point.groups(), np.repeat([0, 1], [point.real, point.fake])
    truth = point.truth(apart)
    found: dict[str, list[tuple[bool, float]]] = {name: [] for name in SHORT}
    for _ in range(sets):
        for name, (low, high) in intervals.measure(target, point.draw(rng, group, apart), group).intervals.items():
            found[name].append((low <= truth[name] <= high, high - low))
    return found


def main() -> None:
    """Prints the plane and its summary."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--points", nargs="*", default=[])
    asked = parser.parse_args()
    covered: dict[str, list[tuple[float, str]]] = {name: [] for name in SHORT}
    for point in points():
        if not all(word in point.name for word in asked.points):
            continue
        cells = []
        for name, hits in simulate(point, asked.sets).items():
            if not hits:
                continue
            held = 100 * float(np.mean([hit for hit, _ in hits]))
            given = len(hits) / asked.sets
            covered[name].append((held, f"{point.name}{'' if given == 1 else f' ({100 * given:.0f} % given)'}"))
            width = float(np.median([width for _, width in hits]))
            cells.append(f"{SHORT[name]} {held:.1f}{'' if given == 1 else f'/{100 * given:.0f}'} ({width:.2g})")
        print(f"{point.name}: {', '.join(cells) or 'no interval'}", flush=True)
    for name, rows in covered.items():
        if rows:
            inside = sum(93 <= held <= 97 for held, _ in rows)
            (least, where), (most, there) = min(rows), max(rows)
            print(
                f"{name}: {inside} of {len(rows)} points in 93 to 97; least {least:.1f}, {where}; most {most:.1f}, {there}"
            )


if __name__ == "__main__":
    main()
