"""Which images an experiment is trained on, as a CSV that can be compared with those that are found later."""

from __future__ import annotations

import csv
import io
from hashlib import sha256
from typing import TYPE_CHECKING

from ffdi.core import csvs

if TYPE_CHECKING:
    from ffdi.data.inspection.scan import ScanResult

COLUMNS = ("img_name", "target", "group", "sha256")
LANDMARKS = "landmarks_sha256"
"""One more column where there are any."""


def format_image_list(survey: ScanResult, landmarks: bool = False) -> str:
    """The usable images of a split, sorted by name, whatever their order and place: the same images, the same text.

    Args:
        survey: of the split.
        landmarks: whether those are looked at, so that others are other training images.
    """
    table = survey.table
    target = [""] * len(table) if table.target is None else table.target.tolist()
    group = [""] * len(table) if table.group is None else table.group.tolist()
    hashes = [row.tobytes().hex() for row in survey.sha256]
    columns = [table.img_name.tolist(), target, group, hashes]
    if landmarks and table.landmarks is not None:
        columns.append([sha256(points.tobytes()).hexdigest() for points in table.landmarks])
    rows = zip(zip(*columns, strict=True), survey.usable.tolist(), strict=True)
    return csvs.format_csv([[*COLUMNS, LANDMARKS][: len(columns)], *sorted(row for row, usable in rows if usable)])


def list_differences(old: str, new: str) -> list[str]:
    """A line for each image that is gone, new, or has another label, group or content; by name."""
    before, after = _rows(old), _rows(new)
    return [
        f"{name} {_difference(before.get(name), after.get(name))}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _difference(before: dict[str, str] | None, after: dict[str, str] | None) -> str:
    if before is None or after is None:
        return "is new" if before is None else "is gone"
    words = {"target": "label", "group": "group"}
    said = [f"{word} {before[key]} -> {after[key]}" for key, word in words.items() if before[key] != after[key]]
    said += ["other landmarks"] * (before.get(LANDMARKS) != after.get(LANDMARKS))
    return ", ".join(said + ["other bytes"] * (before["sha256"] != after["sha256"]))


def _rows(roster: str) -> dict[str, dict[str, str]]:
    return {row["img_name"]: row for row in csv.DictReader(io.StringIO(roster))}
