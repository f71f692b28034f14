"""From one encoded image to all that a page shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

from ffdi.data.images import decode
from ffdi.data.images.decode import ResizePolicy
from ffdi.evaluation.score_table import FLOAT
from ffdi.inference.backend import OpenGraph, Run
from ffdi.inference.worker import Check
from ffdi.report import gallery, looks

MAX_PIXELS = 25_000_000
"""Of an upload: a photograph of 24 megapixels passes, and what decoding it takes stays below 200 MB."""


@dataclass(frozen=True, eq=False)
class ImageExplainer:
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
    framing: ResizePolicy

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

        found = occlude(run, seen, y_pred, self.graph.batch)
        parts = share_heat(found.heat) if self.whole and found.change > 0 else {}
        return {
            "img_name": name,
            "y_pred": FLOAT % y_pred,
            "width": width,
            "height": height,
            "picture": gallery.picture(pixels if self.whole else seen),
            "heat": gallery.overlay(found.heat),
            "change": found.change,
            "shares": [{"part": part, "heat": heat, "area": area} for part, (heat, area) in parts.items()],
            "looks": gallery.looked(pixels),
        }

    def _decoded(self, content: bytes, name: str, check: Check) -> np.ndarray:
        pixels = decode.decode(content, name, MAX_PIXELS)
        check()
        return pixels

    def _scored(self, seen: np.ndarray, check: Check) -> float:
        check()
        return float(self.graph.run(seen[None])[0])


STEPS = 7
"""Windows in a row, and in a column; neighbours cover each other by half."""
SMOOTH = 1 / 10
"""Deviation of the blur, in parts of the edge: no detail is left, light and colour are."""
LEAST = 1e-7
"""Nearest to 0 and 1 that a y_pred counts as, in fp32."""


class Occlusion(NamedTuple):
    """What a score rests on.

    Attributes:
        heat: what speaks for the side that was taken, float32 [S, S] from 0 to 1.
        change: by how much the logit goes back, at most, where one window is blurred; 0 or less where nothing helps.
    """

    heat: np.ndarray
    change: float


def occlude(run: Run, pixels: np.ndarray, y_pred: float, batch: int) -> Occlusion:
    """Asks a graph for one image with each of 49 windows blurred.

    Occlusion as in Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014), with a blur
    in place of a grey patch, which would be a trace of its own.

    Args:
        run: the graph.
        pixels: as it takes them, RGB uint8 [S, S, 3], S at least 16.
        y_pred: what it gives for them.
        batch: windows to ask for at a time.
    """
    edge = len(pixels)
    blurred = cv2.GaussianBlur(pixels, (0, 0), edge * SMOOTH)
    starts = np.linspace(0, edge - window(edge), STEPS).round().astype(int).tolist()
    places = [(top, left) for top in starts for left in starts]
    found = []
    for start in range(0, len(places), batch):
        some = places[start : start + batch]
        asked = np.repeat(pixels[None], len(some), axis=0)
        for image, (top, left) in zip(asked, some, strict=True):
            part = np.s_[top : top + window(edge), left : left + window(edge)]
            image[part] = blurred[part]
        found.append(run(asked))
    side = 1 if y_pred >= 0.5 else -1
    falls = side * (_logit(np.array(y_pred)) - _logit(np.concatenate(found)))
    heat, seen = np.zeros((edge, edge), np.float32), np.zeros((edge, edge), np.float32)
    for fall, (top, left) in zip(falls, places, strict=True):
        part = np.s_[top : top + window(edge), left : left + window(edge)]
        heat[part] += fall
        seen[part] += 1
    heat = np.maximum(
        cv2.GaussianBlur(heat / seen, (0, 0), window(edge) / 4), 0
    )  # the steps between windows say nothing
    return Occlusion(heat / max(float(heat.max()), LEAST), float(falls.max()))


def window(edge: int) -> int:
    """Edge of a window, for an image's."""
    return edge // 4


def share_heat(heat: np.ndarray) -> dict[str, tuple[float, float]]:
    """By part of a face that fills the image: its share of the heat, and of the area."""
    total = max(float(heat.sum()), LEAST)
    return {
        name: (float(heat[mask].sum()) / total, float(mask.mean())) for name, mask in looks.parts(*heat.shape).items()
    }


def _logit(y_pred: np.ndarray) -> np.ndarray:
    clipped = np.clip(y_pred.astype(np.float64), LEAST, 1 - LEAST)
    return np.log(clipped) - np.log1p(-clipped)
