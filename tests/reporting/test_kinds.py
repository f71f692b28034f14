"""The tables of a report about kinds of images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ffdi.core import manifests
from ffdi.data.splits.folds import FoldAssignment
from ffdi.reporting import kinds
from ffdi.reporting.page import Cell, ReportTable


def score(auc: float | None, low: float = 0.0, high: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"auc": auc, "intervals": {"auc": [low, high]}, "interval": [low, high], **more}


@pytest.fixture
def ensemble(tmp_path: Path) -> Any:
    """One experiment with kinds of fakes and the slices of `score --shift`."""
    scores = {"swap": score(0.9, 0.8, 0.95, fake=20), "editing": score(0.7, 0.42, 0.8, fake=9), "few": {"fake": 2}}
    means = {"scores": scores, "mean": score(0.8, 0.7, 0.9), "left_out": False, "worst": "editing"}
    parts = [
        score(0.95, 0.9, 0.99, value="bright", real=9, fake=8, against="itself", examples=["1.jpg", "gone.jpg"]),
        score(None, value="odd", real=1, fake=0, against="all fake", examples=[]),
        score(0.6, 0.55, 0.7, value="dark", real=7, fake=6, against="itself"),
    ]
    manifests.write_manifest(tmp_path / "metrics.json", {"kinds": means})
    manifests.write_manifest(tmp_path / "shift.json", {"splits": [], "slices": {"brightness": parts}})
    experiment = SimpleNamespace(
        name="one",
        argument="one",
        **{f"{name}_path": tmp_path / f"{name}.json" for name in ("metrics", "shift", "stress", "reencoded")},
    )
    kind = np.array(["", "swap", "editing", "swap"])
    names = np.array([f"{number}.jpg" for number in range(4)])
    images = FoldAssignment(names, np.zeros(4, int), np.array([0, 1, 1, 1]), None, kind)
    return SimpleNamespace(experiments=[experiment], assignment=images)


def read(table: ReportTable) -> list[tuple[str, str]]:
    """The names and the AUCs."""
    return [(str(row[0].text), str(row[-1].text)) for row in table.rows]  # type: ignore[union-attr]


def test_kinds_and_slices_come_from_the_lowest_auc_on(ensemble: Any) -> None:
    by_kind, by_slice = kinds.build_kinds(ensemble, {}).tables
    assert read(by_kind) == [
        ("editing", "0.7000"),
        ("swap", "0.9000"),
        ("few", "too few"),
        ("mean of the kinds", "0.8000"),
    ]
    assert [row[1] for row in by_kind.rows] == ["9", "20", "2", ""]
    assert read(by_slice) == [("dark", "0.6000"), ("bright", "0.9500"), ("odd", "too few")]
    assert by_slice.rows[1][1:4] == ["9", "8", "itself"]


def test_whiskers_of_a_table_share_an_axis(ensemble: Any) -> None:
    by_kind, by_slice = kinds.build_kinds(ensemble, {}).tables
    assert by_kind.columns[-1] == "AUC, 95 % (axis from 0.4 to 1)"
    assert by_slice.columns[-1] == "AUC, 95 % (axis from 0.5 to 1)"
    cell = by_kind.rows[0][-1]
    assert isinstance(cell, Cell)
    assert (cell.note, cell.whisker) == ("0.420 to 0.800", (50.0, 3.3, 66.7, 16.7))
    assert by_slice.rows[2][-1] == Cell("too few")


def test_rows_have_example_images_as_far_as_they_are_there(ensemble: Any) -> None:
    assert kinds.list_examples(ensemble) == ["2.jpg", "1.jpg", "3.jpg", "gone.jpg"]
    shown = {"1.jpg": "data:1", "2.jpg": "data:2", "3.jpg": "data:3"}
    by_kind, by_slice = kinds.build_kinds(ensemble, shown).tables
    assert [row[0].pictures for row in by_kind.rows] == [["data:2"], ["data:1", "data:3"], (), ()]  # type: ignore[union-attr]
    assert [row[0].pictures for row in by_slice.rows] == [[], ["data:1"], []]  # type: ignore[union-attr]
