"""Claim: a 95 % interval of ffdi holds the truth in at least 93 % of 1,000 simulated sets, wherever one set in twenty
has one, and in at most 97 % but where errors are so few that it is one-sided or jumps between whole numbers.

    python benchmarks/interval_coverage.py [--sets 1000] [--points WORD ...]

Scores are drawn by class: normal (`even`: as wide for fakes as for real images; `wide`, `narrow`: twice and half as
wide) or Student's t with three degrees of freedom (`heavy`); `groups`: with a common part of each. The probability is
the logistic function of the score; `digits` rounds it. The truth is that of 400,000 quantiles of each class, weighted
as the classes are. A row has, for each metric, how often the interval held the truth in the sets where one was given,
behind a slash the share of sets where it was given if not in all, and the median width. A summary counts the points
where at least one set in twenty had one; `missed` is the largest share of all sets of a point, those without an
interval included, in which an interval was given and did not hold. The last rows are of the gap between held-out folds
and validation split, and of differences of two networks. A point has at most 40 million images in all its sets.
`--points` takes the rows with all of the words.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, ndtri, stdtr, stdtrit

from ffdi.evaluation import differences, intervals, metrics, scorecard
from ffdi.evaluation.predictions import OofPredictions

QUANTILES = 400_000
IMAGES = 40_000_000
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
        counts = metrics.count_scores(target, self.y_pred(score, apart))
        weighted = metrics.ScoreCounts(counts.score, counts.real * self.real, counts.fake * self.fake)
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
    for count in (20, 50, 100, 300, 1000):
        for auc in (0.6, 0.9, 0.99, 0.999, 0.9999):
            yield Point(count, count, auc)
    for auc in (0.9, 0.99, 0.999, 0.9999):
        yield Point(5000, 5000, auc)
    yield Point(20_000, 20_000, 0.99)
    yield Point(20_000, 20_000, 0.9999)
    for shape in ("wide", "narrow", "heavy"):
        for count in (100, 1000):
            for auc in (0.6, 0.9, 0.99, 0.999):
                yield Point(count, count, auc, shape)
    yield Point(5, 1000, 0.9)
    yield Point(20, 20_000, 0.9)
    for real, fake in ((20, 200), (20, 2000), (200, 2000), (2000, 200), (2000, 20)):
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
        for auc in (0.6, 0.9, 0.99, 0.9998) if number in (20, 100) else (0.9,) if number < 20 else (0.9, 0.99):
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


Hits = dict[str, list[tuple[bool, float]]]
"""For each metric whether the interval held the truth, and its width, in each set where there was one."""


def simulate(point: Point, sets: int) -> Hits:
    """Sets of a point."""
    rng = np.random.default_rng(zlib.crc32(point.name.encode()))
    apart, group, target = point.apart(), point.groups(), np.repeat([0, 1], [point.real, point.fake])
    truth = point.truth(apart)
    found: Hits = {name: [] for name in SHORT}
    for _ in range(sets):
        for name, (low, high) in intervals.measure_intervals(
            target, point.draw(rng, group, apart), group
        ).intervals.items():
            found[name].append((low <= truth[name] <= high, high - low))
    return found


def compared(images: int, folds: int, aucs: tuple[float, float], sets: int) -> Hits:
    """The gap of networks of these AUCs on folds and on the validation split; the difference of two such networks."""
    rng = np.random.default_rng(images + folds)
    target, fold = np.arange(images * folds) % 2, np.arange(images * folds) // images
    names = np.arange(images * folds).astype(str)
    apart = ndtri(aucs) * np.sqrt(2)
    found: Hits = {"gap": [], "difference": []}
    for _ in range(sets):
        common = rng.normal(size=len(target))
        own = rng.normal(size=(2, len(target)))
        logit = apart[:, None] * target + np.sqrt(0.7) * common + np.sqrt(0.3) * own
        scores = [
            OofPredictions(*(column[fold == 0] for column in (names, fold + number, target, row, names)))
            for number, row in enumerate(
                apart[1] * target
                + np.sqrt(0.7) * rng.normal(size=len(target))
                + np.sqrt(0.3) * rng.normal(size=(folds, len(target)))
            )
        ]
        oof = OofPredictions(names, fold, target, logit[0], names)
        ends = scorecard.measure_val_gap(oof, None, scores)["intervals"].get("auc")
        difference = differences.compare_with_first(expit(logit), target, fold, None, 0.95)[1].interval
        for name, one, truth in (("gap", ends, aucs[0] - aucs[1]), ("difference", difference, aucs[1] - aucs[0])):
            if one is not None:
                found[name].append((one[0] <= truth <= one[1], one[1] - one[0]))
    return found


def row(name: str, hits: Hits, sets: int) -> None:
    """Prints a point."""
    cells = []
    for metric, one in hits.items():
        if one:
            held, given = 100 * np.mean([hit for hit, _ in one]), len(one) / sets
            share = "" if given == 1 else f"/{100 * given:.0f}"
            cells.append(
                f"{SHORT.get(metric, metric)} {held:.1f}{share} ({np.median([width for _, width in one]):.2g})"
            )
    print(f"{name}: {', '.join(cells) or 'no interval'}" + (f" [{sets} sets]" if sets != 1000 else ""), flush=True)


def main() -> None:
    """Prints the plane and its summary."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--points", nargs="*", default=[])
    asked = parser.parse_args()
    done: list[tuple[str, Hits, int]] = []
    for point in points():
        if all(word in point.name for word in asked.points):
            sets = min(asked.sets, IMAGES // (point.real + point.fake))
            done.append((point.name, simulate(point, sets), sets))
            row(*done[-1])
    for images, folds, aucs in (
        (200, 3, (0.9, 0.8)),
        (1000, 3, (0.99, 0.98)),
        (1000, 3, (0.999, 0.998)),
        (100, 5, (0.6, 0.6)),
    ):
        name = f"compared {folds} folds of {images} auc {aucs[0]} {aucs[1]}"
        if all(word in name for word in asked.points):
            done.append((name, compared(images, folds, aucs, asked.sets), asked.sets))
            row(*done[-1])
    for metric in (*SHORT, "gap", "difference"):
        summarise(metric, [(name, hits[metric], sets) for name, hits, sets in done if hits.get(metric)])


def summarise(metric: str, rows: list[tuple[str, list[tuple[bool, float]], int]]) -> None:
    """Prints how a metric fares over the plane."""
    often = [(100 * float(np.mean([hit for hit, _ in one])), name) for name, one, sets in rows if len(one) >= sets / 20]
    missed = [(100 * sum(not hit for hit, _ in one) / sets, name) for name, one, sets in rows]
    if often:
        below, above = [one for one in often if one[0] < 93], [one for one in often if one[0] > 97]
        print(f"{metric}: {len(often)} points, {len(below)} below 93, {len(above)} above 97")
        print(f"  least {min(often)}, most {max(often)}, missed {max(missed)}", flush=True)


if __name__ == "__main__":
    main()
