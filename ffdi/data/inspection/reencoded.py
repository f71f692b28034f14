"""Measures how well labels are predicted without the forgery, before and after all images are encoded alike.

Three predictors, each by cross-validation over groups where it learns: properties of the files, values at fixed
positions (`matched_filter`), and traces of an encoding in the pixels (`pixel_traces`). Real forgeries leave traces that
such statistics see too. A fault needs an AUC with an interval above `shortcuts.LEAK`, and the evidence of a shortcut:

- positions: at one position alone the class means differ by half a standard deviation (`LEAST_EFFECT`), beyond the
  pattern that both classes show there, and such positions cover little of the picture (`MOST_AREA`), as a mark does;
- encoding: re-encoding removes at least two thirds of what the AUC has above 0.5 (`REMOVED`): a generator's own traces
  are weaker, and most of them stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ffdi.core.errors import DataError, format_count
from ffdi.data.images import cache, reencoding
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.inspection import matched_filter, pixel_traces, shortcuts
from ffdi.data.inspection.matched_filter import Filter
from ffdi.data.inspection.pixel_traces import COARSE, SHAPES, SIDES, STEPS, PixelTraces
from ffdi.data.labels.table import Table
from ffdi.evaluation import intervals

IMAGES = 2000
"""The largest number of images of a split, the same share of each class; 0.12 MB of memory for each."""
SMALLEST, LARGEST, SHRUNK = 32, 120, 5 / 8
"""Width and height of all images once they are encoded alike, in pixels: `SHRUNK` of the median shorter edge, within
these limits. Shrinking resamples old blocks of 8 x 8 pixels away; enlarged, they would stay visible."""
RULE = "5 folds over groups; AUC of the held-out images"
LEAST_EFFECT = 0.5
"""In standard deviations, beyond chance. Natural differences of aligned faces reach 0.3, a logo of 5 % opacity 0.7."""
STRONG = 0.5
"""The positions of a mark have at least this share of the largest effect."""
MOST_AREA = 0.1
"""The largest share of the picture that a mark covers; `edges` are less of the picture in any case."""
MOST_GAPS = 0.2
"""A step belongs to a border if at least this share of its cells is strong, where there is such a step."""
SEEN = 4.0
"""Least t statistic of a position that counts as signal: among 57,600 positions, chance gives about as much."""
REMOVED = 2 / 3
AT_ONCE, TASK = 256, 8
"""Images whose results wait together, and images of one task of a thread."""
STATES = ("as they are", "re-encoded")


class Measured(NamedTuple):
    """The traces of one image.

    Attributes:
        row: of the table.
        before: of the image as it is.
        after: of the re-encoded image.
        size: of the re-encoded file, in bytes.
    """

    row: int
    before: PixelTraces
    after: PixelTraces
    size: int


@dataclass
class Sample:
    """The traces of a sample of images, collected one by one.

    Attributes:
        table: the images, of both classes.
        edge: width and height of the re-encoded images, of `choose_edge`.
        size: int64 [N], of the re-encoded files, in bytes.
        traces: for each of `STATES` the values of each kind of trace, [N, P].
    """

    table: Table
    edge: int
    size: np.ndarray = field(init=False)
    traces: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = field(init=False)

    def __post_init__(self) -> None:
        self.size = np.zeros(len(self.table), np.int64)
        self.traces = {}, {}

    def clear(self) -> None:
        """Frees the memory of the traces."""
        self.traces = {}, {}

    def record(self, image: Measured) -> None:
        self.size[image.row] = image.size
        for columns, traces in zip(self.traces, (image.before, image.after), strict=True):
            for name, values in traces._asdict().items():
                if name not in columns:
                    columns[name] = np.zeros((len(self.table), len(values)), values.dtype)
                columns[name][image.row] = values


def check_labels(tables: dict[str, Table]) -> None:
    """Checks that a split has enough images of both classes.

    Raises:
        DataError: no split has; the message has the counts of each.
    """
    if not any(map(has_enough, tables.values())):
        raise DataError(
            f"--reencoded needs a split with at least {intervals.MIN_UNITS} usable images of each class",
            problems=[f"{name}: {_describe_labels(table)}" for name, table in tables.items()],
            hint="run the doctor without --reencoded, or label more images",
        )


def has_enough(table: Table) -> bool:
    """Whether a split has enough images of both classes for an interval."""
    return table.target is not None and bool(np.bincount(table.target, minlength=2).min() >= intervals.MIN_UNITS)


def _describe_labels(table: Table) -> str:
    if table.target is None:
        return f"{format_count(len(table), 'image')} without labels"
    return f"{int((table.target == 0).sum())} real and {int((table.target == 1).sum())} fake"


def draw_rows(target: np.ndarray, most: int = IMAGES) -> np.ndarray:
    """int64 [n <= most + 1]: rows, the same share of each class; the same labels give the same rows."""
    share, rng = min(1.0, most / len(target)), np.random.default_rng(0)
    parts = [rng.permutation(np.flatnonzero(target == label)) for label in (0, 1)]
    return np.sort(np.concatenate([rows[: max(1, round(share * len(rows)))] for rows in parts]))


def choose_edge(width: np.ndarray, height: np.ndarray) -> int:
    """The edge of re-encoded images for a sample of images with these sizes, int [N] each."""
    return int(np.clip(round(SHRUNK * float(np.median(np.minimum(width, height)))), SMALLEST, LARGEST))


def measure_images(sample: Sample, threads: int) -> Iterator[Measured]:
    """Decodes each image, encodes it like the others, and measures it before and after.

    Raises:
        DataError: an image cannot be used any more; the message has its path.
    """
    table, policy = sample.table, ResizePolicy(sample.edge)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(table), AT_ONCE):  # bounded: map() would queue all of them at once
            rows = range(start, min(start + AT_ONCE, len(table)))
            tasks = [rows[first : first + TASK] for first in range(0, len(rows), TASK)]
            for found in pool.map(lambda task: [_measure_image(table, row, policy) for row in task], tasks):
                yield from found


def _measure_image(table: Table, row: int, policy: ResizePolicy) -> Measured:
    pixels = cache.read_pixels(table, row)
    alike = reencoding.reencode(pixels, policy)
    return Measured(row, pixel_traces.measure(pixels), pixel_traces.measure(alike.pixels), alike.size)


def describe(sample: Sample, properties: dict[str, np.ndarray]) -> dict[str, Any]:
    """The result for one split.

    Args:
        sample: complete.
        properties: of the files as they are, [N] each, which predict as in the doctor's table of file properties.

    Returns:
        The number of images, the size and quality of the re-encoded ones, and for each predictor: its AUC and interval
        in both `STATES`, None in a state in which it is the same for all images; whether it is a shortcut; and for
        values at positions where the classes differ.
    """
    table = sample.table
    assert table.target is not None
    found = {
        name: _judge_property(table, values, sample.size if name == "bytes" else None)
        for name, values in properties.items()
        if len(np.unique(values)) > 1 or name == "bytes"
    }
    fold = matched_filter.assign_folds(table.target, table.group)
    for name, shape in SHAPES.items():
        found[name] = _judge_positions(sample, fold, name, shape)
    found["encoding"] = _judge_encoding(sample, fold)
    return {"images": len(table), "size": sample.edge, "quality": reencoding.QUALITY, "predictors": found, "rule": RULE}


def _judge_property(table: Table, before: np.ndarray, after: np.ndarray | None) -> dict[str, Any]:
    """A property of files; the doctor's own table decides whether it is a fault."""
    areas = [
        _keep_area(shortcuts.measure_property(table, values)) if len(np.unique(values)) > 1 else None
        for values in (before, np.zeros(len(table)) if after is None else after)
    ]
    return {**dict(zip(STATES, areas, strict=True)), "shortcut": False}


def _keep_area(measured: dict[str, Any]) -> dict[str, Any]:
    return {key: measured[key] for key in ("auc", "interval")}


def _judge_positions(sample: Sample, fold: np.ndarray, name: str, shape: tuple[int, int]) -> dict[str, Any]:
    table, areas, filters = sample.table, [], []
    assert table.target is not None
    for columns in sample.traces:
        score, fitted = matched_filter.score_by_positions(
            columns[name], table.target, fold, shape, shared=name == "detail"
        )
        areas.append(shortcuts.measure_score(table, score))
        filters.append(fitted)
    effect = _measure_effect(filters[0])
    strong = np.abs(filters[0].effect) >= max(STRONG * float(np.abs(filters[0].effect).max()), 1e-9)
    marked = effect >= LEAST_EFFECT and (name == "edges" or strong.mean() <= MOST_AREA)
    return {
        **dict(zip(STATES, map(_keep_area, areas), strict=True)),
        "shortcut": bool(areas[0]["shortcut"] and marked),
        "effect": effect,
        "area": float(strong.mean()),
        "where": _locate_sides(filters[0], strong) if name == "edges" else _locate_box(filters[0], strong, shape),
    }


def _measure_effect(fitted: Filter) -> float:
    """The largest difference of the class means in standard deviations, beyond what chance gives (`SEEN`)."""
    largest, t = float(np.abs(fitted.effect).max()), float(np.abs(fitted.t).max())
    return largest * max(0.0, 1 - (SEEN / max(t, SEEN)) ** 2) ** 0.5


def _locate_box(fitted: Filter, strong: np.ndarray, shape: tuple[int, int]) -> dict[str, Any] | None:
    """The box around the strong positions, in parts of width and height, and the share of the signal in it."""
    if not strong.any():
        return None
    rows, columns = (np.flatnonzero(strong.reshape(shape).any(axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    signal = np.where(np.abs(fitted.t) >= SEEN, fitted.t.astype(np.float64) ** 2, 0).reshape(shape)
    inside = signal[top:bottom, left:right].sum()
    ends = {
        "left": left / shape[1],
        "top": top / shape[0],
        "right": right / shape[1],
        "bottom": bottom / shape[0],
    }
    return {
        **{side: float(end) for side, end in ends.items()},
        "share": float(inside / signal.sum()) if signal.any() else 0.0,
    }


def _locate_sides(fitted: Filter, strong: np.ndarray) -> dict[str, Any] | None:
    """The sides at which the classes differ, and the width of the border at each, in pixels."""
    if not strong.any():
        return None
    known = (np.abs(fitted.effect) >= LEAST_EFFECT) & (np.abs(fitted.t) >= SEEN)
    share = (known if known.any() else strong).reshape(len(SIDES), STEPS, COARSE).mean(2)
    limit = min(MOST_GAPS, float(share.max()))
    deepest = {side: np.flatnonzero(share[number] >= limit) for number, side in enumerate(SIDES)}
    return {side: int(steps[-1]) + 1 for side, steps in deepest.items() if len(steps)}


def _judge_encoding(sample: Sample, fold: np.ndarray) -> dict[str, Any]:
    assert sample.table.target is not None
    before, after = (
        shortcuts.measure_score(
            sample.table, matched_filter.score_by_features(columns["encoding"], sample.table.target, fold)
        )
        for columns in sample.traces
    )
    vanishes = after["auc"] - 0.5 <= (1 - REMOVED) * (before["auc"] - 0.5)
    return {
        **dict(zip(STATES, map(_keep_area, (before, after)), strict=True)),
        "shortcut": bool(before["shortcut"] and vanishes),
    }


def list_shortcuts(split: str, content: dict[str, Any]) -> list[str]:
    """A line for each shortcut of a split."""
    return [
        _format_shortcut(split, name, predictor)
        for name, predictor in content["predictors"].items()
        if predictor["shortcut"]
    ]


def _format_shortcut(split: str, name: str, predictor: dict[str, Any]) -> str:
    before, after = (predictor[state] for state in STATES)
    interval = shortcuts.format_interval(before["interval"])
    line = f"{name} of the {split} images: AUC {before['auc']:.3f} ({interval}), re-encoded {after['auc']:.3f}"
    return f"{line}; {format_place(name, predictor)}" if "where" in predictor else line


def format_place(name: str, predictor: dict[str, Any]) -> str:
    """Where the classes differ, in words."""
    where = predictor["where"]
    if where is None:
        return "nowhere"
    if name == "edges":
        return ", ".join(f"{side} {width} px" for side, width in where.items())
    return (
        f"x {where['left']:.2f} to {where['right']:.2f}, y {where['top']:.2f} to {where['bottom']:.2f} "
        f"({where['share']:.0%} of the signal)"
    )
