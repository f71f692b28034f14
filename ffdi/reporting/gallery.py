"""The example images of a report, and how they are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ffdi.reporting.face_parts import Share

MAX_IMAGES = 24
"""For each kind."""
KINDS = {
    "missed": "missed fakes",
    "alarm": "false alarms",
    "uncertain": "most uncertain",
    "suspect": "label suspects",
}
"""The kinds of images, and their names in the page."""


class Exhibit(NamedTuple):
    """An image of the gallery.

    Attributes:
        fold: that holds the image out.
        target: the label, 1 = fake.
        y_pred: the out-of-fold score.
        kinds: keys of the gallery's kinds.
        picture: the image as a data URL.
        heat: the heat map as a data URL, with the evidence as opacity.
        views: data URLs of views of the face, by name.
        shares: the parts of the face in the heat map; empty if they are unknown.
    """

    img_name: str
    fold: int
    target: int
    y_pred: float
    kinds: list[str]
    picture: str
    heat: str
    views: dict[str, str]
    shares: list[Share]

    @property
    def error(self) -> float:
        return abs(self.y_pred - self.target)


def pick_images(
    target: np.ndarray, y_pred: np.ndarray, suspect: np.ndarray, more: Mapping[str, np.ndarray]
) -> dict[int, list[str]]:
    """Selects rows for the gallery, with their kinds; of each kind the most confident errors come first.

    Args:
        target: int [N], 1 = fake.
        y_pred: float [N] in [0, 1], out of fold.
        suspect: bool [N], images whose label is probably wrong.
        more: chosen rows of further kinds, by key.
    """
    error = np.abs(y_pred - target)
    rows = {
        "missed": _take_first(-error, (error > 0.5) & (target == 1)),
        "alarm": _take_first(-error, (error > 0.5) & (target == 0)),
        "uncertain": _take_first(np.abs(y_pred - 0.5), np.full(len(target), True)),
        "suspect": _take_first(-error, suspect),
        **{kind: chosen.tolist() for kind, chosen in more.items()},
    }
    picked: dict[int, list[str]] = {}
    for kind, chosen in rows.items():
        for row in chosen:
            picked.setdefault(row, []).append(kind)
    return picked


def _take_first(order: np.ndarray, mask: np.ndarray) -> list[int]:
    """The `MAX_IMAGES` rows with the smallest `order` where `mask` is True."""
    rows = np.flatnonzero(mask)
    return rows[np.argsort(order[rows], kind="stable")[:MAX_IMAGES]].tolist()
