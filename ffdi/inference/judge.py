"""From one encoded image to all that a page shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffdi.data.images import decode
from ffdi.data.images.decode import Framing
from ffdi.evaluation.score_table import FLOAT
from ffdi.inference import explain
from ffdi.inference.backend import OpenGraph
from ffdi.inference.worker import Check
from ffdi.report import gallery, looks

MAX_PIXELS = 25_000_000
"""Of an upload: a photograph of 24 megapixels passes, and what decoding it takes stays below 200 MB."""


@dataclass(frozen=True, eq=False)
class Judge:
    """An export that is open.

    Attributes:
        name: of the export.
        oof_auc: each experiment's out-of-fold AUC.
        graph: what scores.
        framing: how it takes images.
    """

    name: str
    oof_auc: Mapping[str, float]
    graph: OpenGraph
    framing: Framing

    @property
    def whole(self) -> bool:
        """Whether it sees the whole image in its own place, so that parts of a face can be told by where they lie."""
        return self.framing.resize == "squash"

    def score(self, content: bytes, name: str, check: Check) -> dict[str, Any]:
        """The probability that a face is fake, as its nine digits stand in a CSV.

        Args:
            content: an encoded image.
            name: what an error calls it.
            check: called between parts of the work, the longest of which is a batch of the graph.

        Raises:
            DataError: it cannot be used.
        """
        y_pred = self._scored(self.framing.frame(self._decoded(content, name, check)), check)
        return {"img_name": name, "y_pred": FLOAT % y_pred}

    def look(self, content: bytes, name: str, check: Check) -> dict[str, Any]:
        """The same, with pictures as data addresses and what the score rests on; all else as for `score`."""
        pixels = self._decoded(content, name, check)
        height, width = pixels.shape[:2]
        seen, pixels = self.framing.frame(pixels), looks.reduced(pixels)
        y_pred = self._scored(seen, check)

        def run(batch: np.ndarray) -> np.ndarray:
            check()
            return self.graph.run(batch)

        found = explain.ground(run, seen, y_pred, self.graph.batch)
        shares = explain.shares(found.heat) if self.whole and found.change > 0 else {}
        return {
            "img_name": name,
            "y_pred": FLOAT % y_pred,
            "width": width,
            "height": height,
            "picture": gallery.picture(pixels if self.whole else seen),
            "heat": gallery.overlay(found.heat),
            "change": found.change,
            "shares": [{"part": part, "heat": heat, "area": area} for part, (heat, area) in shares.items()],
            "looks": gallery.looked(pixels),
        }

    def _decoded(self, content: bytes, name: str, check: Check) -> np.ndarray:
        pixels = decode.decode(content, name, MAX_PIXELS)
        check()
        return pixels

    def _scored(self, seen: np.ndarray, check: Check) -> float:
        check()
        return float(self.graph.run(seen[None])[0])
