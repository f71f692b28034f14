"""Points of faces, from whatever model found them: a CSV of image name, x0, y0, x1, y1, ... in parts of the image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ffdi.config.schema import DataConfig
from ffdi.core import names
from ffdi.data.labels import columns

LEAST = 3
"""Points that enclose something."""
BEYOND = 0.5
"""How far outside of an image a point may lie, in parts of it: faces are cut off at borders."""
SMALLEST = 0.01
"""The part of an image that points have to enclose: less is no face."""


def read(path: Path, img_name: np.ndarray, config: DataConfig, problems: list[str]) -> np.ndarray:
    """The points of each image's face.

    Args:
        path: the CSV; images that it does not name have no points, and names of other images are passed over.
        img_name: str [N].
        config: what the column of the image's name is called.
        problems: receives a line for each bad row, and one where no row names any of the images.

    Returns:
        float32 [N, L, 2], x and y from 0 to 1; NaN where there are none.

    Raises:
        DataError: the header does not name them.
    """
    points = (len(columns.header(path, config)) - 1) // 2
    wanted = tuple(f"{axis}{number}" for number in range(max(points, LEAST)) for axis in "xy")
    place = {name: row for row, name in enumerate(img_name.tolist())}
    found = np.full((len(img_name), len(wanted)), np.nan, np.float32)
    seen: set[str] = set()
    for line, (field, *values) in columns.read(path, config, (config.image_column, *wanted), problems):
        name = columns.image(field, place)
        if fault := _fault(name, values, seen):
            problems.append(f"{path.name} line {line}: {fault}")
        elif name in place:
            found[place[name]] = [float(value) for value in values]
        seen.add(name)
    if len(place) and not seen & place.keys():
        problems.append(f"{path.name} names none of the {len(place)} training images, such as {img_name[0]}")
    return found.reshape(len(img_name), -1, 2)


def _fault(name: str, values: list[str], seen: set[str]) -> str:
    if name in seen:
        return f"{names.quote(name)} stands twice"
    for value in values:
        try:
            if not -BEYOND <= float(value) <= 1 + BEYOND:
                return f"{value} is no place in an image: points are in parts of its width and height, from 0 to 1"
        except ValueError:
            return f"'{value}' is no number"
    if _enclosed(values) < SMALLEST:
        return f"the points enclose less than {SMALLEST:.0%} of the image: no face is so small"
    return ""


def _enclosed(values: list[str]) -> float:
    """The part of an image inside of the points' convex hull."""
    points = np.array(values, np.float32).reshape(-1, 2).clip(0, 1)
    return cv2.contourArea(cv2.convexHull(points))
