"""Which images are worth a look, and how they are shown."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from ffdi.evaluation import label_errors
from ffdi.report import looks

LISTED = 40
"""Images of each kind."""
EDGE = 256
"""Pixels of the longer side beyond which an image is shrunk for the page."""
QUALITY = 82
KINDS = {
    "error": "most confident errors",
    "uncertain": "most uncertain",
    "suspect": "label suspects",
}
"""By the word that stands for it on the page."""


class Exhibit(NamedTuple):
    """An image of the page.

    Attributes:
        img_name: its name.
        fold: which held it out.
        target: its label.
        y_pred: by networks that have not seen it.
        kinds: why it is there, keys of KINDS.
        picture: itself, as a data address.
        heat: what spoke for the side that the network took, with its strength as opacity.
        looks: what the field looks at, by name.
    """

    img_name: str
    fold: int
    target: int
    y_pred: float
    kinds: list[str]
    picture: str
    heat: str
    looks: dict[str, str]

    @property
    def error(self) -> float:
        """How far the score is from the label."""
        return abs(self.y_pred - self.target)


def pick(target: np.ndarray, y_pred: np.ndarray) -> dict[int, list[str]]:
    """Rows that are worth a look, with the reasons, the most confident errors first.

    Args:
        target: int [N], 1 = fake.
        y_pred: float [N] in [0, 1], out of fold.
    """
    error = np.abs(y_pred - target)
    rows = {
        "error": _first(-error, error > 0.5),
        "uncertain": _first(np.abs(y_pred - 0.5), np.full(len(target), True)),
        "suspect": _first(-error, label_errors.find_label_errors(target, y_pred)),
    }
    picked: dict[int, list[str]] = {}
    for kind in KINDS:
        for row in rows[kind]:
            picked.setdefault(row, []).append(kind)
    return picked


def picture(pixels: np.ndarray) -> str:
    """RGB uint8 [H, W, 3] as the address of a WebP, shrunk where it is larger than a page needs."""
    return _webp(cv2.cvtColor(looks.reduced(pixels, EDGE), cv2.COLOR_RGB2BGR))


def overlay(heat: np.ndarray) -> str:
    """Strength float [h, w] from 0 to 1 as the address of a WebP that lies over an image: the stronger, the denser."""
    strength = np.clip(heat * 255, 0, 255).astype(np.uint8)
    return _webp(np.dstack([cv2.applyColorMap(strength, cv2.COLORMAP_HOT), strength]))


def looked(pixels: np.ndarray) -> dict[str, str]:
    """All that the field looks at in RGB uint8 [H, W, 3], by name."""
    pixels = looks.reduced(pixels)
    return {name: picture(look(pixels)) for name, look in looks.LOOKS.items()}


def counts(picked: Mapping[int, list[str]]) -> dict[str, int]:
    """How many rows there are of each kind."""
    return {kind: sum(kind in kinds for kinds in picked.values()) for kind in KINDS}


def _first(order: np.ndarray, among: np.ndarray) -> list[int]:
    """The `LISTED` rows of least `order` among some."""
    rows = np.flatnonzero(among)
    return rows[np.argsort(order[rows], kind="stable")[:LISTED]].tolist()


def _webp(pixels: np.ndarray) -> str:
    encoded = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1]
    return f"data:image/webp;base64,{base64.b64encode(encoded.tobytes()).decode()}"
