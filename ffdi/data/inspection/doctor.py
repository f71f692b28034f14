"""The diagnosis of a data set before a training: unusable images, duplicates, labels that file properties predict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffdi.core.errors import ConfigError, DataError, format_count, suggest_nearest
from ffdi.data.inspection import duplicate_groups, reencoded, shortcuts
from ffdi.data.inspection.duplicate_groups import DuplicateGroups, Picture
from ffdi.data.inspection.scan import ScanResult
from ffdi.data.labels.table import Table

FAULTS = {
    "unusable": "images that cannot be read or decoded; accepted, they are left out",
    "conflicts": "one picture with both labels; accepted, its copies stay in one fold",
    "leaks": "one picture in several splits; accepted, the other splits' scores are too good",
    "shortcuts": "files or marks in them that predict their label; accepted, scores may come of it",
}
"""Kinds of faults that make scores wrong, and the consequence of accepting each."""
SHOWN = 20
"""Most images or pictures that a message names for one fault."""
LARGE, LARGEST = 100, 0.05
"""A scene is suspicious with more images than LARGE and than this share of all: a chain of wrong pairs may have joined
it."""
COMMON = 8
"""Most frequent image sizes that are listed; the others are summed up."""


@dataclass(frozen=True)
class Fault:
    """One kind of `FAULTS`: a sentence, and a line for each image or picture."""

    kind: str
    what: str
    where: list[str]

    def format_lines(self) -> list[str]:
        more = len(self.where) - SHOWN
        rest = [f"  ... and {more} more"] if more > 0 else []
        return [f"{self.kind}: {self.what}", *(f"  {line}" for line in self.where[:SHOWN]), *rest]


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of all splits together.

    Attributes:
        root: the data folder.
        scans: by split, in the order of `duplicates`.
        duplicates: of the images of all splits, one split after the other.
        shortcuts: `measure_shortcuts` of each split that has usable images of both classes.
        faults: one for each kind that was found.
        reencoded: `reencoded.describe` of splits that have enough images of both classes; None if it was not asked for.
    """

    root: Path
    scans: dict[str, ScanResult]
    duplicates: DuplicateGroups
    shortcuts: dict[str, dict[str, dict[str, Any]]]
    faults: list[Fault]
    reencoded: dict[str, dict[str, Any]] | None = None

    def refuse_faults(self, accepted: Sequence[str]) -> None:
        """Refuses the data if it has faults of other kinds than the accepted ones.

        Raises:
            DataError: has every fault that is not accepted, with its images.
        """
        open_faults = [fault for fault in self.faults if fault.kind not in accepted]
        if open_faults:
            kinds = ",".join(fault.kind for fault in self.faults)
            raise DataError(
                f"the data would spoil a run: {', '.join(fault.kind for fault in open_faults)}",
                problems=[line for fault in open_faults for line in fault.format_lines()],
                hint=f"mend the data, or accept known faults by adding --accept {kinds}; "
                "docs/data.md describes the consequences",
            )

    def select_usable(self, split: str) -> Table:
        """The usable images of a split; images of one scene, one group of the data set or one pair share a group.

        `group` is None if no two images share a group.
        """
        scan = self.scans[split]
        return replace(scan.table, group=self._merge_groups(split)).take(np.flatnonzero(scan.usable))

    def _select_split(self, values: np.ndarray, split: str) -> np.ndarray:
        """The values of one split, from an array over the images of all splits."""
        start = 0
        for name, scan in self.scans.items():
            if name == split:
                return values[start : start + len(scan.table)]
            start += len(scan.table)
        raise KeyError(split)

    def _merge_groups(self, split: str) -> np.ndarray | None:
        table, group = self.scans[split].table, self._merge_scenes(split)
        if table.pair is None or not table.pair.any():
            return group
        real = np.where(table.pair == "", table.img_name, table.pair)
        return duplicate_groups.merge_groups(
            table.img_name if group is None else group, np.unique(real, return_inverse=True)[1]
        )

    def _merge_scenes(self, split: str) -> np.ndarray | None:
        """The groups of the data set, joined by scenes; None if no two images share one."""
        table, scene = self.scans[split].table, self._select_split(self.duplicates.scene, split)
        if table.group is None:
            return None if len(np.unique(scene)) == len(scene) else duplicate_groups.merge_groups(table.img_name, scene)
        # A suspicious scene may be a chain of wrong pairs: the groups of the data decide then, and can be corrected.
        cluster = self._select_split(self.duplicates.cluster, split)
        sizes = Counter(self.duplicates.scene.tolist())
        trusted = np.array([sizes[one] <= self._largest_trusted for one in scene.tolist()], dtype=bool)
        return duplicate_groups.merge_groups(
            table.group, np.where(trusted, scene, len(self.duplicates.scene) + cluster)
        )

    @property
    def _largest_trusted(self) -> float:
        return max(LARGE, LARGEST * len(self.duplicates.scene))

    def count_scenes(self) -> dict[str, Any]:
        """Counts the scenes with several pictures and their images, and measures the largest scene."""
        pictures_of = Counter(
            scene
            for scene, _ in set(zip(self.duplicates.scene.tolist(), self.duplicates.cluster.tolist(), strict=True))
        )
        images_of = Counter(self.duplicates.scene.tolist())
        shared = [images_of[scene] for scene, pictures in pictures_of.items() if pictures > 1]
        largest = max(shared, default=0)
        return {
            "scenes": len(shared),
            "images": sum(shared),
            "largest": largest,
            "suspicious": largest > self._largest_trusted,
        }

    def to_json(self) -> dict[str, Any]:
        """The content of `doctor.json`."""
        found = list(duplicate_groups.list_duplicates(self.scans, self.duplicates))
        more = {} if self.reencoded is None else {"reencoded": self.reencoded}
        return {
            "data_root": str(self.root.resolve()),
            "splits": {name: describe_split(scan) for name, scan in self.scans.items()},
            "unusable": [line for scan in self.scans.values() for line in scan.list_problems()],
            "duplicates": {
                "exact": sum(picture.kind == "exact" for picture in found),
                "near": sum(picture.kind == "near" for picture in found),
                "images": sum(len(picture.images) for picture in found),
                "pictures": [{"kind": picture.kind, "images": picture.list_names()} for picture in found],
            },
            "scenes": self.count_scenes(),
            "shortcuts": self.shortcuts,
            **more,
            "faults": [{"kind": fault.kind, "what": fault.what, "where": fault.where} for fault in self.faults],
        }


def diagnose(root: Path, scans: dict[str, ScanResult], duplicates: DuplicateGroups) -> Diagnosis:
    """Finds the faults of each split and of all splits together."""
    facts = {name: measure_shortcuts(scan) for name, scan in scans.items() if _has_both_classes(scan)}
    shown = list(duplicate_groups.list_duplicates(scans, duplicates))
    found = [_find_unusable(scans), _find_conflicts(scans, shown), _find_leaks(shown), _find_shortcuts(facts)]
    return Diagnosis(root, scans, duplicates, facts, [fault for fault in found if fault.where])


def draw_sample(diagnosis: Diagnosis, split: str) -> tuple[reencoded.Sample, dict[str, np.ndarray]]:
    """The sample of a split for `reencoded.describe`, without its traces, and the properties of its files."""
    table, scan = diagnosis.select_usable(split), diagnosis.scans[split]
    assert table.target is not None
    rows = reencoded.draw_rows(table.target)
    facts = {name: values[scan.usable][rows] for name, values in _list_properties(scan).items()}
    return reencoded.Sample(table.take(rows), reencoded.choose_edge(facts["width"], facts["height"])), facts


def add_reencoded(diagnosis: Diagnosis, contents: dict[str, dict[str, Any]]) -> Diagnosis:
    """The diagnosis with `reencoded.describe` of some splits, and their shortcuts among its faults."""
    lines = [line for split, content in contents.items() for line in reencoded.list_shortcuts(split, content)]
    known = next((fault for fault in diagnosis.faults if fault.kind == "shortcuts"), None)
    others = [fault for fault in diagnosis.faults if fault is not known]
    if lines:
        what = "traces of how the files were made predict the labels"
        known = Fault("shortcuts", what, [*(known.where if known else []), *lines])
    return replace(diagnosis, faults=[*others, *([known] if known else [])], reencoded=contents)


def parse_accept(words: str | None) -> list[str]:
    """Parses a list of kinds of faults such as 'leaks,conflicts'.

    Raises:
        ConfigError: there is no such kind.
    """
    kinds = [word.strip() for word in words.split(",")] if words else []
    for kind in kinds:
        if kind not in FAULTS:
            raise ConfigError(f"--accept {words}: '{kind}' is not a kind of fault; {suggest_nearest(kind, FAULTS)}")
    return kinds


def describe_split(scan: ScanResult) -> dict[str, Any]:
    """Counts the images of a split by class, format, mode and size."""
    usable, target = scan.usable, scan.table.target
    sizes = [f"{width} x {height}" for width, height in zip(scan.width[usable], scan.height[usable], strict=True)]
    return {
        "images": len(scan.table),
        "real": None if target is None else int((target == 0).sum()),
        "fake": None if target is None else int((target == 1).sum()),
        "groups": None if scan.table.group is None else len(np.unique(scan.table.group)),
        "unusable": len(scan.faults),
        "formats": dict(Counter(scan.format[usable].tolist()).most_common()),
        "modes": dict(Counter(scan.mode[usable].tolist()).most_common()),
        "sizes": _count_sizes(Counter(sizes)),
    }


def _find_unusable(scans: dict[str, ScanResult]) -> Fault:
    counts = [
        f"{len(scan.faults)} of {format_count(len(scan.table), f'{name} image')}"
        for name, scan in scans.items()
        if scan.faults
    ]
    lines = [line for scan in scans.values() for line in scan.list_problems()]
    return Fault("unusable", f"{' and '.join(counts)} cannot be used", lines)


def _find_conflicts(scans: dict[str, ScanResult], shown: list[Picture]) -> Fault:
    """Pictures with both labels; a fake may be nearly the real image of its pair, from which it was made."""
    made_from: dict[str, str] = {}
    if "train" in scans and (pair := scans["train"].table.pair) is not None:
        made_from = dict(zip(scans["train"].table.img_name.tolist(), pair.tolist(), strict=True))
    found = [
        picture.format_line()
        for picture in shown
        if len(picture.labels) > 1 and not (picture.kind == "near" and _has_sources(picture, made_from))
    ]
    return Fault("conflicts", f"{format_count(len(found), 'picture')} with both labels", found)


def _has_sources(picture: Picture, made_from: dict[str, str]) -> bool:
    """Whether the real image of each fake among the images of a picture is one of them too."""
    own = {name for split, name, target in picture.images if split == "train" and target == 0}
    return all(made_from.get(name) in own for _, name, target in picture.images if target == 1)


def _find_leaks(shown: list[Picture]) -> Fault:
    found = [picture.format_line() for picture in shown if len(picture.splits) > 1]
    return Fault("leaks", f"{format_count(len(found), 'picture')} in more than one split", found)


def _find_shortcuts(facts: dict[str, dict[str, dict[str, Any]]]) -> Fault:
    found = [
        f"{fact} of the {split} files: AUC {area['auc']:.3f} ({shortcuts.format_interval(area['interval'])})"
        for split, areas in facts.items()
        for fact, area in areas.items()
        if area["shortcut"]
    ]
    return Fault("shortcuts", "the files' properties predict the labels without their pixels", found)


def _has_both_classes(scan: ScanResult) -> bool:
    return scan.table.take(np.flatnonzero(scan.usable)).has_both_classes


def _count_sizes(counter: Counter[str]) -> dict[str, int]:
    rest = sum(counter.values()) - sum(count for _, count in counter.most_common(COMMON))
    return {**dict(counter.most_common(COMMON)), **({"others": rest} if rest else {})}


def measure_shortcuts(scan: ScanResult) -> dict[str, dict[str, Any]]:
    """Measures how well each file property predicts the label.

    A property that is the same for all images is left out. For the format and the mode, the score is the share of fakes
    among the images with the same value.

    Args:
        scan: of a table with usable images of both classes.

    Returns:
        For each property its AUC as a score, in the better of both directions; the 95 % interval, or None; and whether
        it is a shortcut, which is a fault.
    """
    assert scan.table.target is not None
    table = scan.table.take(np.flatnonzero(scan.usable))
    facts = {name: values[scan.usable] for name, values in _list_properties(scan).items()}
    return {
        name: shortcuts.measure_property(table, values) for name, values in facts.items() if len(np.unique(values)) > 1
    }


def _list_properties(scan: ScanResult) -> dict[str, np.ndarray]:
    target = np.asarray(scan.table.target)
    return {
        "bytes": scan.size,
        "width": scan.width,
        "height": scan.height,
        "width / height": scan.width / np.maximum(scan.height, 1),
        "format": _compute_fake_share(scan.format, target),
        "mode": _compute_fake_share(scan.mode, target),
        "JPEG quantization": scan.quantization,
    }


def _compute_fake_share(word: np.ndarray, target: np.ndarray) -> np.ndarray:
    _, place = np.unique(word, return_inverse=True)
    return (np.bincount(place, target) / np.bincount(place))[place]
