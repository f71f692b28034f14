"""Scores one encoded image, and explains the score by a heat map, for the page of `serve`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

from ffdi.data.images import decode
from ffdi.data.images.resizing import ResizePolicy
from ffdi.evaluation.score_table import FLOAT
from ffdi.inference.backend import OpenGraph, Run
from ffdi.inference.worker import Check
from ffdi.reporting import face_parts, pictures, views

MAX_PIXELS = 50_500_000
"""Limit of an upload: accepts a photograph of 48 or 50 megapixels, and decodes it in less than 400 MB."""


@dataclass(frozen=True, eq=False)
class ImageExplainer:
    """Scores and explains images with an opened export.

    Attributes:
        name: of the export.
        oof_auc: out-of-fold AUC by experiment.
        graph: the opened graph.
        resize_policy: of the graph.
        find_landmarks: RGB uint8 [H, W, 3] -> float [L, 2] in parts of width and height, or None without a face; None
            if no landmarks are looked for.
    """

    name: str
    oof_auc: Mapping[str, float]
    graph: OpenGraph
    resize_policy: ResizePolicy
    find_landmarks: FindLandmarks | None = None

    @property
    def sees_whole_image(self) -> bool:
        """True if the graph gets the whole image without borders, so that positions identify parts of a face."""
        return self.resize_policy.resize == "squash"

    def score(self, content: bytes, name: str, check: Check) -> dict[str, Any]:
        """Returns the probability that a face is fake, with the nine digits of a CSV.

        Args:
            content: an encoded image.
            name: of the image in errors.
            check: called between steps of the work; the longest step is one batch of the graph.

        Raises:
            DataError: the image cannot be used.
        """
        y_pred = self._score(self.resize_policy.apply(self._decode(content, name, check)), check)
        return {"img_name": name, "y_pred": float(FLOAT % y_pred)}

    def explain(self, content: bytes, name: str, check: Check) -> dict[str, Any]:
        """Does the same, and returns pictures as data URLs, and the share of each part of the face in the heat map.

        The heat maps of all images have one scale: a part that changes the logit by `FULL` has the full colour.
        """
        pixels = self._decode(content, name, check)
        height, width = pixels.shape[:2]
        seen, pixels = self.resize_policy.apply(pixels), pictures.shrink(pixels)
        y_pred = self._score(seen, check)

        def run(batch: np.ndarray) -> np.ndarray:
            check()
            return self.graph.run(batch)

        found = occlude(run, seen, y_pred, self.graph.batch)
        parts = None if self.find_landmarks is None else face_parts.locate_parts(self.find_landmarks(pixels))
        shares = face_parts.share_heat(found.heat, parts) if parts and self.sees_whole_image else []
        return {
            "img_name": name,
            "y_pred": float(FLOAT % y_pred),
            "width": width,
            "height": height,
            "picture": pictures.encode_picture(pixels if self.sees_whole_image else seen),
            "heat": pictures.encode_overlay(found.heat / FULL),
            "change": found.change,
            "shares": [one._asdict() for one in shares],
            "looks": views.render_views(pixels, parts),
        }

    def _decode(self, content: bytes, name: str, check: Check) -> np.ndarray:
        pixels = decode.decode(content, name, MAX_PIXELS)
        check()
        return pixels

    def _score(self, seen: np.ndarray, check: Check) -> float:
        check()
        return float(self.graph.run(seen[None])[0])


STEPS = 7
"""Windows in a row and in a column; neighbours overlap by half."""
BLUR = 1 / 10
"""Standard deviation of the blur, as a fraction of the edge: removes details, but not light and colour."""
EPSILON = 1e-7
"""Smallest distance of y_pred from 0 and 1, in fp32."""
FULL = 1.0
"""The change of the logit that has the full colour: from a score of 0.5 to one of 0.73."""
FindLandmarks = Callable[[np.ndarray], np.ndarray | None]


class Occlusion(NamedTuple):
    """The effect of image regions on a score.

    Attributes:
        heat: evidence for the predicted class, float32 [S, S]: the mean fall of the logit by windows around a place.
        change: largest change of the logit towards the other class by one blurred window; 0 or less without effect.
    """

    heat: np.ndarray
    change: float


def occlude(run: Run, pixels: np.ndarray, y_pred: float, batch: int) -> Occlusion:
    """Scores an image with each of 49 windows blurred in turn.

    Occlusion as in Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014), with a blur
    in place of a grey patch, which could look like a manipulation.

    Args:
        run: the graph.
        pixels: the input of the graph, RGB uint8 [S, S, 3], S at least 16.
        y_pred: the score of the image.
        batch: windows in a batch.
    """
    edge = len(pixels)
    blurred = cv2.GaussianBlur(pixels, (0, 0), edge * BLUR)
    starts = np.linspace(0, edge - compute_window_size(edge), STEPS).round().astype(int).tolist()
    places = [(top, left) for top in starts for left in starts]
    found = []
    for start in range(0, len(places), batch):
        some = places[start : start + batch]
        blurred_images = np.repeat(pixels[None], len(some), axis=0)
        for image, (top, left) in zip(blurred_images, some, strict=True):
            part = np.s_[top : top + compute_window_size(edge), left : left + compute_window_size(edge)]
            image[part] = blurred[part]
        found.append(run(blurred_images))
    side = 1 if y_pred >= 0.5 else -1
    falls = side * (_compute_logit(np.array(y_pred)) - _compute_logit(np.concatenate(found)))
    heat, seen = np.zeros((edge, edge), np.float32), np.zeros((edge, edge), np.float32)
    for fall, (top, left) in zip(falls, places, strict=True):
        part = np.s_[top : top + compute_window_size(edge), left : left + compute_window_size(edge)]
        heat[part] += fall
        seen[part] += 1
    smooth = cv2.GaussianBlur(heat / seen, (0, 0), compute_window_size(edge) / 4)  # the windows have sharp edges
    return Occlusion(np.maximum(smooth, 0), float(falls.max()))


def compute_window_size(edge: int) -> int:
    return edge // 4


def _compute_logit(y_pred: np.ndarray) -> np.ndarray:
    clipped = np.clip(y_pred.astype(np.float64), EPSILON, 1 - EPSILON)
    return np.log(clipped) - np.log1p(-clipped)
