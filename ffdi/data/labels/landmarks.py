"""The landmark file: points of each training image's face, from `invoke landmarks` or from any other detector.

It is a CSV of image name, x0, y0, x1, y1, ... in parts of the image's width and height. A column `presence`, from 0 to
1, may say how sure the detector is. An image without a face has no points: these fields are empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ffdi.config.schema import DataConfig
from ffdi.core import names
from ffdi.core.errors import format_count
from ffdi.data.labels.columns import read_columns, read_header
from ffdi.data.labels.table import Table

PRESENCE = "presence"
LEAST_POINTS = 3
"""Least number of points."""
MAX_OUTSIDE = 0.5
"""Largest distance of a point from the image, in parts of it: faces may be cut off at the border."""
SMALLEST_FACE = 0.01
"""Least part of the image that the points enclose: a face is larger."""
DIGITS = 4
"""Digits behind the point: a tenth of a pixel in an image of 1,000 px."""


def list_columns(image: str, points: int) -> list[str]:
    """The header that `invoke landmarks` writes.

    Args:
        image: the name of the image column.
        points: their number.
    """
    return [image, PRESENCE, *_list_coordinates(points)]


def _list_coordinates(points: int) -> list[str]:
    return [f"{axis}{number}" for number in range(points) for axis in "xy"]


def format_row(name: str, presence: float, points: np.ndarray) -> list[str]:
    """A row of the file.

    Args:
        name: of the image.
        presence: from 0 to 1, NaN if it is unknown.
        points: float [L, 2]; NaN for an image without a face.
    """
    values = [""] * points.size if np.isnan(points).any() else [f"{value:.{DIGITS}f}" for value in points.ravel()]
    return [name, "" if np.isnan(presence) else f"{presence:.{DIGITS}f}", *values]


def find_points_fault(points: np.ndarray) -> str:
    """Why the points of a row of the file, float [L, 2], cannot be those of a face; empty if they can."""
    outside = ~((points >= -MAX_OUTSIDE) & (points <= 1 + MAX_OUTSIDE))
    if outside.any():
        value = points[outside][0]
        return f"{value:g} is not in the image: points are in parts of its width and height, from 0 to 1"
    if _measure_enclosed(points) < SMALLEST_FACE:
        return f"the points enclose less than {SMALLEST_FACE:.0%} of the image: no face is so small"
    return ""


def _measure_enclosed(points: np.ndarray) -> float:
    """The part of the image inside of the points' convex hull."""
    return cv2.contourArea(cv2.convexHull(points.clip(0, 1).astype(np.float32)))


def read_landmarks(path: Path, train: Table, config: DataConfig, problems: list[str]) -> np.ndarray:
    """Reads the landmarks of each image's face.

    Args:
        path: the CSV; it may lack images, and rows of other images are ignored.
        train: the N images.
        config: has the name of the image column.
        problems: gets a line for each bad row, and a line if no row belongs to any of the images.

    Returns:
        float32 [N, L, 2], x and y from 0 to 1; NaN for images without landmarks.

    Raises:
        DataError: a column is missing.
    """
    header, images = read_header(path, config), train.index_names(config)
    presence = [column for column in header.columns if column == PRESENCE]
    points = max((len(header.columns) - 1 - len(presence)) // 2, LEAST_POINTS)
    columns = (header.image or config.image_column, *_list_coordinates(points), *presence)
    place = {name: row for row, name in enumerate(train.img_name.tolist())}
    found = np.full((len(train), points, 2), np.nan, np.float32)
    seen: set[str] = set()
    for line, (field, *values) in read_columns(path, header, columns, problems):
        name = images.find(field) or field.strip(names.BLANKS)
        coordinates, fault = _parse_row(values[: 2 * points], values[2 * points :])
        if name in seen:
            fault = f"duplicate row for {names.quote(name)}"
        if fault:
            problems.append(f"{path.name} line {line}: {fault}")
        elif name in place:
            found[place[name]] = coordinates
        seen.add(name)
    if len(place) and not seen & place.keys():
        problems.append(
            f"{path.name} names none of the {format_count(len(place), 'training image')}, such as {train.img_name[0]}"
        )
    return found


def _parse_row(values: Sequence[str], presence: Sequence[str]) -> tuple[np.ndarray, str]:
    """The points of a row, float64 [L, 2], and what is wrong with it."""
    unknown = np.full((len(values) // 2, 2), np.nan)
    given = values if any(values) else ()
    try:
        score, numbers = list(map(float, filter(None, presence))), list(map(float, given))
    except ValueError:
        return unknown, f"'{_find_text([*filter(None, presence), *given])}' is not a number"
    if not all(0 <= one <= 1 for one in score):
        return unknown, f"the presence {presence[0]} is not from 0 to 1"
    if not numbers:
        return unknown, ""
    points = np.array(numbers).reshape(-1, 2)
    return points, find_points_fault(points)


def _find_text(values: Sequence[str]) -> str:
    """The first value that is not a number, which there is."""
    for value in values:
        try:
            float(value)
        except ValueError:
            return value
    raise AssertionError("all are numbers")
