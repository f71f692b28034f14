"""Finds the landmarks of faces with MediaPipe's face mesh.

Kartynnik et al., Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs (2019). The mesh takes a crop of
the face. The first crop is the box of a detector, or without one the whole image with a margin, because the images of
competitions are crops of faces already. The points then give a better crop, as MediaPipe does it from one frame of a
video to the next one; benchmarks/landmarks.py compares the ways.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ffdi.core.errors import DataError
from ffdi.data.images import cache
from ffdi.data.labels.table import Table
from ffdi.faces import crops, detection, networks
from ffdi.faces.crops import Crop
from ffdi.faces.networks import KINDS, POINTS, Network
from ffdi.synthetic.pseudo_fakes import MAX_ASPECT_RATIO

MARGIN = 1.3
"""Edge of the first crop, and of what a detector sees, in parts of the image's longer edge: in a crop without a margin
both find fewer faces, because they were trained on faces with something around them."""
REFINEMENTS = 2
"""Crops from the points of the crop before."""
PRESENCE = 0.5
"""MediaPipe's least presence of a face."""
OUTER_EYE_CORNERS = (33, 263)
"""Points of the mesh, the one on the left of the image first."""
TASK = 16
"""Images of one task of a thread."""


class Face(NamedTuple):
    """What was found in an image.

    Attributes:
        points: float64 [POINTS, 2], in parts of the image's width and height; NaN in a strip, in which no face is
            looked for.
        presence: from 0 to 1, how sure the network is that this is a face; NaN in a strip.
    """

    points: np.ndarray
    presence: float


class Found(NamedTuple):
    """The result for a row of a table: a face, or why its image cannot be read."""

    row: int
    face: Face
    fault: str = ""


NOTHING = Face(np.full((POINTS, 2), np.nan), float("nan"))


@dataclass(frozen=True)
class FaceFinder:
    """Finds the face of an image.

    Attributes:
        mesh: a network of the kind 'mesh'.
        detector: of the kind 'detector'; None: the image is a crop of a face.
        margin: see MARGIN.
        refinements: see REFINEMENTS.
    """

    mesh: Network
    detector: Network | None = None
    margin: float = MARGIN
    refinements: int = REFINEMENTS

    def find(self, pixels: np.ndarray) -> Face:
        """Finds the points of the most likely face, whether there is one or not: see its presence.

        Args:
            pixels: uint8 RGB [H, W, 3].
        """
        height, width = pixels.shape[:2]
        if max(height, width) > MAX_ASPECT_RATIO * min(height, width):  # pseudo-fakes use no landmarks of strips
            return NOTHING
        face = self._fit(pixels, self._choose_first_crop(pixels))
        for _ in range(self.refinements):
            corners = np.stack([face.points.min(axis=0), face.points.max(axis=0)])
            crop = crops.surround_face(pixels.shape, corners, face.points[list(OUTER_EYE_CORNERS)])
            if crop is None:
                break
            refined = self._fit(pixels, crop)
            if refined.presence < PRESENCE <= face.presence:
                break
            face = refined
        return face._replace(points=face.points / (width, height))

    def _choose_first_crop(self, pixels: np.ndarray) -> Crop:
        """The crop of the detector's box; with a margin around the image if there is none."""
        whole = crops.surround_image(pixels.shape, self.margin)
        if self.detector is None:
            return whole
        seen = whole.cut(pixels, detection.SIZE, cv2.BORDER_CONSTANT)
        box = detection.find_best_box(*self._detect(self.detector, seen))
        if box is None:
            return whole
        return crops.surround_face(pixels.shape, whole.locate(box.corners), whole.locate(box.eyes)) or whole

    @staticmethod
    def _detect(detector: Network, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The outputs for uint8 [128, 128, 3]: values, float32 [896, 16], and logits, float32 [896]."""
        values, logits = detector.run(seen.astype(np.float32) / 127.5 - 1)
        return values.reshape(-1, detection.VALUES), logits

    def _fit(self, pixels: np.ndarray, crop: Crop) -> Face:
        """The face in a crop, with points in pixels of the image."""
        size = KINDS["mesh"].size
        points, logit = self.mesh.run(crop.cut(pixels, size).astype(np.float32) / 255)
        places = points.reshape(POINTS, 3)[:, :2].astype(np.float64) / size
        return Face(crop.locate(places), float(detection.sigmoid(logit)[0]))


def open_finder(model: Path, detector: Path | None, threads: int, flag: str | None = None) -> FaceFinder:
    """Opens the networks for as many parallel calls; `flag` names the mesh. Errors as for `networks.open_network`."""
    mesh = networks.open_network(model, "mesh", threads, flag)
    return FaceFinder(mesh, None if detector is None else networks.open_network(detector, "detector", threads))


def find_faces(table: Table, finder: FaceFinder, threads: int) -> Iterator[Found]:
    """Finds the face of each image of a table, in its order.

    Args:
        table: the images.
        finder: for as many parallel calls as there are threads.
        threads: images that are read and looked at at a time.
    """
    cv2.setNumThreads(1)  # this pool already has a thread for each core
    waiting: deque[Future[list[Found]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for start in range(0, len(table), TASK):
            waiting.append(pool.submit(_find_rows, table, finder, range(start, min(start + TASK, len(table)))))
            if len(waiting) > 2 * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _find_rows(table: Table, finder: FaceFinder, rows: range) -> list[Found]:
    return [_find_row(table, finder, row) for row in rows]


def _find_row(table: Table, finder: FaceFinder, row: int) -> Found:
    try:
        return Found(row, finder.find(cache.read_pixels(table, row)))
    except DataError as error:
        return Found(row, NOTHING, error.what)
