"""Pictures that more than one image of a data set shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ffdi.data.inspection.duplicate_groups import Twins
from ffdi.data.inspection.scan import Survey

NAMED = 4
"""Images of one picture that a line names."""


@dataclass(frozen=True)
class Picture:
    """A picture that several images show.

    Attributes:
        kind: 'exact' where all pixels are equal, else 'near'.
        images: (split, img_name, target or None) of each.
    """

    kind: str
    images: list[tuple[str, str, int | None]]

    @property
    def splits(self) -> set[str]:
        """The splits that it stands in."""
        return {split for split, _, _ in self.images}

    @property
    def labels(self) -> set[int]:
        """The labels that it has."""
        return {target for _, _, target in self.images if target is not None}

    def names(self) -> list[str]:
        """'split/img_name (label)' of each image."""
        word = {0: " (real)", 1: " (fake)", None: ""}
        return [f"{split}/{name}{word[target]}" for split, name, target in self.images]

    def line(self) -> str:
        """As an error shows it."""
        names = self.names()
        more = f" = ... {len(names) - NAMED} more" if len(names) > NAMED else ""
        return f"{' = '.join(names[:NAMED])}{more}" + (", nearly" if self.kind == "near" else "")


def repeated(surveys: dict[str, Survey], twins: Twins) -> Iterator[Picture]:
    """Every picture that more than one image shows, in the order of the tables."""
    _, place, count = np.unique(twins.cluster, return_inverse=True, return_counts=True)
    members: dict[int, list[tuple[str, str, int | None]]] = {}
    start = 0
    for split, survey in surveys.items():
        table = survey.table
        for row in np.flatnonzero(count[place[start : start + len(table)]] > 1).tolist():
            target = None if table.target is None else int(table.target[row])
            members.setdefault(int(twins.cluster[start + row]), []).append((split, str(table.img_name[row]), target))
        start += len(table)
    for cluster, found in members.items():
        yield Picture("near" if cluster in twins.near else "exact", found)
