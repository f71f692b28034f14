"""From one encoded image to all that a page shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from ffdi.app import occlusion
from ffdi.data import images
from ffdi.data.images import Framing
from ffdi.deploy.runtime import OpenGraph
from ffdi.report import gallery
from ffdi.scoring.scores import FLOAT


@dataclass(frozen=True, eq=False)
class Judge:
    """An export that is open.

    Attributes:
        name: of the export.
        oof_auc: each experiment's out-of-fold AUC.
        graph: what scores.
        framing: how it takes images.
        turn: one image at a time; each has all cores.
    """

    name: str
    oof_auc: Mapping[str, float]
    graph: OpenGraph
    framing: Framing
    turn: Lock

    @property
    def whole(self) -> bool:
        """Whether it sees the whole image in its own place, so that parts of a face can be told by where they lie."""
        return self.framing.resize == "squash"

    def score(self, content: bytes, name: str) -> dict[str, Any]:
        """The probability that a face is fake, as its nine digits stand in a CSV.

        Args:
            content: an encoded image.
            name: what an error calls it.

        Raises:
            DataError: it cannot be used.
        """
        _, y_pred = self._scored(self.framing.frame(images.decode(content, name)))
        return {"img_name": name, "y_pred": FLOAT % y_pred}

    def look(self, content: bytes, name: str) -> dict[str, Any]:
        """The same, with pictures as data addresses and what the score rests on; all else as for `score`."""
        pixels = images.decode(content, name)
        seen, y_pred = self._scored(self.framing.frame(pixels))
        with self.turn:
            found = occlusion.ground(self.graph.run, seen, y_pred)
        shares = occlusion.shares(found.heat) if self.whole and found.change > 0 else {}
        return {
            "img_name": name,
            "y_pred": FLOAT % y_pred,
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "picture": gallery.picture(pixels if self.whole else seen),
            "heat": gallery.overlay(found.heat),
            "change": found.change,
            "shares": [{"part": part, "heat": heat, "area": area} for part, (heat, area) in shares.items()],
            "looks": gallery.looked(pixels),
        }

    def _scored(self, seen: np.ndarray) -> tuple[np.ndarray, float]:
        with self.turn:
            return seen, float(self.graph.run(seen[None])[0])
