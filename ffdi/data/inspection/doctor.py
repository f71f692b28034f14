"""What a data set suffers from, before an hour is spent on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffdi.core.errors import ConfigError, DataError, nearest
from ffdi.data.inspection import duplicate_groups, shortcuts
from ffdi.data.inspection.duplicate_groups import DuplicateGroups, Picture
from ffdi.data.inspection.scan import ScanResult
from ffdi.data.labels.table import Table

FAULTS = {
    "unusable": "images that cannot be read or decoded; accepted, they are left out",
    "conflicts": "one picture with both labels; accepted, its copies stay in one fold",
    "leaks": "one picture in several splits; accepted, the other splits' scores are too good",
    "shortcuts": "files whose size, format or dimensions tell their label; accepted, scores may be of that",
}
"""What would spoil a run, and what accepting it means."""
SHOWN = 20
"""Images or pictures named for one fault where there are more."""
LARGE, LARGEST = 100, 0.05
"""A scene of more images than LARGE, and than this share of all, is said to be looked at: a chain of wrong pairs may
have joined it."""
COMMON = 8
"""Sizes counted one by one; the rest are added up."""


@dataclass(frozen=True)
class Fault:
    """One kind of `FAULTS`: a sentence, and a line for each image or picture."""

    kind: str
    what: str
    where: list[str]

    def lines(self) -> list[str]:
        """As an error shows it."""
        more = len(self.where) - SHOWN
        rest = [f"  ... and {more} more"] if more > 0 else []
        return [f"{self.kind}: {self.what}", *(f"  {line}" for line in self.where[:SHOWN]), *rest]


@dataclass(frozen=True)
class Diagnosis:
    """What was found in all splits together.

    Attributes:
        root: the data folder.
        surveys: by split, in the order of `twins`.
        facts: by split, `shortcuts.measure` where the labels allow it.
        faults: what would spoil a run.
    """

    root: Path
    surveys: dict[str, ScanResult]
    twins: DuplicateGroups
    facts: dict[str, dict[str, dict[str, Any]]]
    faults: list[Fault]

    def check(self, accepted: Sequence[str]) -> None:
        """Refuses what would spoil a run, except the kinds of `FAULTS` that a person has accepted.

        Raises:
            DataError: names every fault that is not accepted, with its images.
        """
        open_faults = [fault for fault in self.faults if fault.kind not in accepted]
        if open_faults:
            kinds = ",".join(fault.kind for fault in self.faults)
            raise DataError(
                f"the data would spoil a run: {', '.join(fault.kind for fault in open_faults)}",
                problems=[line for fault in open_faults for line in fault.lines()],
                hint=f"mend the data, or accept what you know of by adding --accept {kinds}; "
                "docs/data.md says what follows",
            )

    def usable(self, split: str) -> Table:
        """The images of a split that can be used; those of one scene, or of one given group, share a group.

        `group` is None where every image stands for itself.
        """
        survey = self.surveys[split]
        return replace(survey.table, group=self._group(split)).take(np.flatnonzero(survey.usable))

    def cluster(self, split: str) -> np.ndarray:
        """int64 [N]: the picture that each image of a split shows."""
        return self._of(split, self.twins.cluster)

    def _of(self, split: str, values: np.ndarray) -> np.ndarray:
        """The part of `values`, one for each image of all splits, that belongs to one split."""
        start = 0
        for name, survey in self.surveys.items():
            if name == split:
                return values[start : start + len(survey.table)]
            start += len(survey.table)
        raise KeyError(split)

    def _group(self, split: str) -> np.ndarray | None:
        table, scene = self.surveys[split].table, self._of(split, self.twins.scene)
        if table.group is None and len(np.unique(scene)) == len(scene):
            return None
        return duplicate_groups.merge_groups(table.img_name if table.group is None else table.group, scene)

    def scenes(self) -> dict[str, Any]:
        """How many scenes several pictures show, how many images do, and the largest share of all that show one."""
        pictures_of = Counter(
            scene for scene, _ in set(zip(self.twins.scene.tolist(), self.twins.cluster.tolist(), strict=True))
        )
        images_of = Counter(self.twins.scene.tolist())
        shared = [images_of[scene] for scene, pictures in pictures_of.items() if pictures > 1]
        largest = max(shared, default=0)
        return {
            "scenes": len(shared),
            "images": sum(shared),
            "largest": largest,
            "suspicious": largest > max(LARGE, LARGEST * len(self.twins.scene)),
        }

    def to_json(self) -> dict[str, Any]:
        """The content of doctor.json."""
        found = list(duplicate_groups.list_repeated(self.surveys, self.twins))
        return {
            "data_root": str(self.root.resolve()),
            "splits": {name: describe(survey) for name, survey in self.surveys.items()},
            "unusable": [line for survey in self.surveys.values() for line in survey.problems()],
            "duplicates": {
                "exact": sum(picture.kind == "exact" for picture in found),
                "near": sum(picture.kind == "near" for picture in found),
                "images": sum(len(picture.images) for picture in found),
                "pictures": [{"kind": picture.kind, "images": picture.names()} for picture in found],
            },
            "scenes": self.scenes(),
            "shortcuts": self.facts,
            "faults": [{"kind": fault.kind, "what": fault.what, "where": fault.where} for fault in self.faults],
        }


def diagnose(root: Path, surveys: dict[str, ScanResult], twins: DuplicateGroups) -> Diagnosis:
    """What the splits suffer from, by themselves and together."""
    facts = {name: shortcuts.measure(survey) for name, survey in surveys.items() if _both_classes(survey)}
    shown = list(duplicate_groups.list_repeated(surveys, twins))
    found = [_unusable(surveys), _conflicts(shown), _leaks(shown), _shortcuts(facts)]
    return Diagnosis(root, surveys, twins, facts, [fault for fault in found if fault.where])


def parse_accept(words: str | None) -> list[str]:
    """The kinds of faults in a list such as 'leaks,conflicts'.

    Raises:
        ConfigError: there is no such kind.
    """
    kinds = [word.strip() for word in words.split(",")] if words else []
    for kind in kinds:
        if kind not in FAULTS:
            raise ConfigError(f"--accept {words}: '{kind}' is no fault; {nearest(kind, FAULTS)}")
    return kinds


def describe(survey: ScanResult) -> dict[str, Any]:
    """How many images of which kinds a split has."""
    usable, target = survey.usable, survey.table.target
    sizes = [f"{width} x {height}" for width, height in zip(survey.width[usable], survey.height[usable], strict=True)]
    return {
        "images": len(survey.table),
        "real": None if target is None else int((target == 0).sum()),
        "fake": None if target is None else int((target == 1).sum()),
        "groups": None if survey.table.group is None else len(np.unique(survey.table.group)),
        "unusable": len(survey.faults),
        "formats": dict(Counter(survey.format[usable].tolist()).most_common()),
        "modes": dict(Counter(survey.mode[usable].tolist()).most_common()),
        "sizes": _most_common(Counter(sizes)),
    }


def _unusable(surveys: dict[str, ScanResult]) -> Fault:
    counts = [
        f"{len(survey.faults)} of {len(survey.table)} {name} images"
        for name, survey in surveys.items()
        if survey.faults
    ]
    lines = [line for survey in surveys.values() for line in survey.problems()]
    return Fault("unusable", f"{' and '.join(counts)} cannot be used", lines)


def _conflicts(shown: list[Picture]) -> Fault:
    found = [picture.line() for picture in shown if len(picture.labels) > 1]
    return Fault("conflicts", f"{_count(found, 'picture')} with both labels", found)


def _leaks(shown: list[Picture]) -> Fault:
    found = [picture.line() for picture in shown if len(picture.splits) > 1]
    return Fault("leaks", f"{_count(found, 'picture')} in more than one split", found)


def _shortcuts(facts: dict[str, dict[str, dict[str, Any]]]) -> Fault:
    found = [
        f"{fact} of the {split} files: AUC {area['auc']:.3f} ({area['interval'][0]:.3f} to {area['interval'][1]:.3f})"
        for split, areas in facts.items()
        for fact, area in areas.items()
        if shortcuts.leaks(area)
    ]
    return Fault("shortcuts", "the files tell their labels without their pixels", found)


def _both_classes(survey: ScanResult) -> bool:
    return survey.table.take(np.flatnonzero(survey.usable)).both_classes


def _count(found: list[str], noun: str) -> str:
    return f"{len(found)} {noun}{'' if len(found) == 1 else 's'}"


def _most_common(counter: Counter[str]) -> dict[str, int]:
    rest = sum(counter.values()) - sum(count for _, count in counter.most_common(COMMON))
    return {**dict(counter.most_common(COMMON)), **({"others": rest} if rest else {})}
