"""The section of a report about kinds of images: AUC by kind of fake, slice and distortion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ffdi.core import console, manifests
from ffdi.core.translation import translate
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import error_analysis
from ffdi.experiments.experiment import Experiment
from ffdi.reporting.page import Cell, ReportTable, Section, Whisker, make_cell


def list_examples(ensemble: Ensemble) -> list[str]:
    """The names of the images that `build_kinds` shows."""
    found = [name for names in _pick_examples(ensemble).values() for name in names]
    for one in ensemble.experiments:
        if one.shift_path.is_file():
            slices = manifests.read_manifest(one.shift_path)["slices"].values()
            found += [name for parts in slices for part in parts for name in part.get("examples", [])]
    return list(dict.fromkeys(found))


def _pick_examples(ensemble: Ensemble) -> dict[str, list[str]]:
    """The names of example images of each kind of fake."""
    images = ensemble.assignment
    return {} if images.kind is None else error_analysis.pick_examples(images.img_name, images.kind)


def build_kinds(ensemble: Ensemble, thumbnails: Mapping[str, str]) -> Section:
    """AUC by kind of fake, family, cluster, band and distortion, the worst first.

    Args:
        thumbnails: data URLs of the images of `list_examples`, by name.
    """
    tables: list[ReportTable | None] = []
    lacking, examples = [], _pick_examples(ensemble)
    for one in ensemble.experiments:
        tables.append(_make_kind_table(one, {kind: _find(names, thumbnails) for kind, names in examples.items()}))
        if one.shift_path.is_file():
            slices = manifests.read_manifest(one.shift_path)["slices"]
            tables += [_make_slice_table(f"{one.name}: {name}", parts, thumbnails) for name, parts in slices.items()]
        if one.stress_path.is_file():
            tables.append(_make_stress_table(one.name, manifests.read_manifest(one.stress_path)))
        if one.reencoded_path.is_file():
            tables.append(_make_reencoded_table(one.name, manifests.read_manifest(one.reencoded_path)))
        flags = [flag for flag, path in (("shift", one.shift_path), ("stress", one.stress_path)) if not path.is_file()]
        if flags:
            words = " ".join(f"--{flag}" for flag in flags)
            lacking.append(
                f"Not available. Run: invoke score --experiment {one.argument} {words}, then this report again."
            )
    return Section("Kinds of images", lacking, tables=[table for table in tables if table is not None])


def _find(names: Sequence[str], thumbnails: Mapping[str, str]) -> list[str]:
    return [thumbnails[name] for name in names if name in thumbnails]


def _make_kind_table(experiment: Experiment, pictures: Mapping[str, Sequence[str]]) -> ReportTable | None:
    """The AUC of each kind of fake, and their mean; None without kinds."""
    kinds = manifests.read_manifest(experiment.metrics_path).get("kinds")
    if kinds is None or kinds["mean"] is None:
        return None
    rows = [
        _ScoredRow(
            name, one.get("auc"), one.get("intervals", {}).get("auc"), [str(one["fake"])], pictures.get(name, ())
        )
        for name, one in kinds["scores"].items()
    ]
    mean = _ScoredRow("mean of the kinds", kinds["mean"]["auc"], kinds["mean"]["intervals"].get("auc"), [""], ())
    never = ", by networks that have never seen this kind" if kinds["left_out"] else ""
    return _make_whisker_table(f"{experiment.name}: AUC by kind of fake{never}", ["fakes"], rows, mean)


def _make_slice_table(caption: str, parts: Sequence[Mapping[str, Any]], thumbnails: Mapping[str, str]) -> ReportTable:
    rows = [
        _ScoredRow(
            part["value"],
            part["auc"],
            part["interval"],
            [str(part["real"]), str(part["fake"]), translate(part["against"])],
            _find(part.get("examples", ()), thumbnails),
        )
        for part in parts
    ]
    return _make_whisker_table(f"{caption}, AUC of the ranks within folds", ["real", "fake", "against"], rows)


class _ScoredRow(NamedTuple):
    """A row of a table of AUCs; `auc` is None if there are too few images."""

    name: str
    auc: float | None
    interval: Sequence[float] | None
    counts: list[str]
    pictures: Sequence[str]


def _make_whisker_table(
    caption: str, columns: Sequence[str], rows: Sequence[_ScoredRow], last: _ScoredRow | None = None
) -> ReportTable:
    """A table of AUCs with their intervals on one axis, from the lowest AUC to the highest one.

    Args:
        columns: the headings of the counts.
        last: a row for the end; None without one.
    """
    ordered = sorted(rows, key=lambda row: np.inf if row.auc is None else row.auc)
    ordered += [] if last is None else [last]
    ends = [value for row in ordered if row.auc is not None for value in (row.auc, *(row.interval or ()))]
    start = min(0.5, np.floor(10 * min(ends, default=0.5)) / 10)  # the axis ends at 1

    def place(value: float) -> float:
        return round(100 * (value - start) / (1 - start), 1)

    cells: list[list[str | Cell]] = []
    for row in ordered:
        score = Cell("too few")
        if row.auc is not None:
            low, high = row.interval or (row.auc, row.auc)
            whisker = Whisker(place(row.auc), place(low), place(high), place(0.5))
            score = Cell(f"{row.auc:.4f}", console.interval(row.interval), whisker)
        first = Cell(row.name, pictures=row.pictures)
        cells.append([first, *row.counts, score])
    return ReportTable(caption, ["", *columns, f"AUC, 95 % (axis from {start:g} to 1)"], cells)


def _make_stress_table(name: str, found: Mapping[str, Any]) -> ReportTable:
    rows: list[list[str | Cell]] = [["as they are", f"{found['auc']:.4f}", ""]]
    rows += [
        [way, f"{row['auc']:.4f}", make_cell(f"{row['difference']:+.4f}", row["interval"], "+.4f")]
        for way, row in sorted(found["distortions"].items(), key=lambda pair: pair[1]["auc"])
    ]
    return ReportTable(f"{name}: AUC of distorted images", ["", "AUC", "difference, 95 %"], rows)


def _make_reencoded_table(name: str, found: Mapping[str, Any]) -> ReportTable:
    difference = make_cell(f"{found['difference']:+.4f}", found["interval"], "+.4f")
    rows: list[list[str | Cell]] = [
        ["as they are", f"{found['auc']:.4f}", ""],
        ["encoded alike", f"{found['reencoded_auc']:.4f}", difference],
    ]
    return ReportTable(f"{name}: AUC of images that are encoded alike", ["", "AUC", "difference, 95 %"], rows)
