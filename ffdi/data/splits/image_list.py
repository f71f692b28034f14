"""The image list of an experiment, `images.csv`: the training images, to be compared with those of a later run."""

from __future__ import annotations

import csv
import io
from hashlib import sha256
from typing import TYPE_CHECKING

from ffdi.core import csvs

if TYPE_CHECKING:
    from ffdi.data.inspection.scan import ScanResult

COLUMNS = ("img_name", "target", "group", "sha256")
LANDMARKS, PAIR = "landmarks_sha256", "pair"
"""Further columns, if the training uses landmarks or pairs."""


def format_image_list(scan: ScanResult, landmarks: bool = False, pairs: bool = False) -> str:
    """The CSV of a split's usable images, sorted by name: it depends neither on their order nor on their folder.

    Args:
        scan: the scan of the split.
        landmarks, pairs: whether the training uses these, so that a change of them is a change of the images.
    """
    table = scan.table
    target = [""] * len(table) if table.target is None else table.target.tolist()
    group = [""] * len(table) if table.group is None else table.group.tolist()
    hashes = [row.tobytes().hex() for row in scan.sha256]
    columns = dict(zip(COLUMNS, (table.img_name.tolist(), target, group, hashes), strict=True))
    if landmarks and table.landmarks is not None:
        columns[LANDMARKS] = [sha256(points.tobytes()).hexdigest() for points in table.landmarks]
    if pairs and table.pair is not None:
        columns[PAIR] = table.pair.tolist()
    rows = zip(zip(*columns.values(), strict=True), scan.usable.tolist(), strict=True)
    return csvs.format_csv([list(columns), *sorted(row for row, usable in rows if usable)])


def list_differences(old: str, new: str) -> list[str]:
    """A line for each image that was removed or added or has another label, group or content, sorted by name."""
    before, after = _parse_rows(old), _parse_rows(new)
    return [
        f"{name} {_describe_difference(before.get(name), after.get(name))}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _describe_difference(before: dict[str, str] | None, after: dict[str, str] | None) -> str:
    if before is None or after is None:
        return "is new" if before is None else "is gone"
    words = {"target": "label", "group": "group"}
    changes = [f"{word} {before[key]} -> {after[key]}" for key, word in words.items() if before[key] != after[key]]
    changes += ["other landmarks"] * (before.get(LANDMARKS) != after.get(LANDMARKS))
    changes += ["another real image of its pair"] * (before.get(PAIR) != after.get(PAIR))
    return ", ".join(changes + ["other bytes"] * (before["sha256"] != after["sha256"]))


def _parse_rows(text: str) -> dict[str, dict[str, str]]:
    return {row["img_name"]: row for row in csv.DictReader(io.StringIO(text))}
