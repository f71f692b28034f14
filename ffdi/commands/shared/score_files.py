"""Score files from elsewhere: CSVs with a column of images and a column of scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffdi.config.schema import DataConfig
from ffdi.core.errors import DataError
from ffdi.data.labels.classes import Classes
from ffdi.data.labels.columns import Header, read_columns, read_header
from ffdi.data.labels.image_names import ListedImages
from ffdi.evaluation import score_table

LABELS = ("target", "label")
SCORES = (score_table.COLUMNS[1], "score", "prediction", "probability", "prob")
"""Usual names of the column of scores."""


@dataclass(frozen=True)
class ScoreFile:
    """The rows of a file.

    Attributes:
        listed: the images, as the file names them.
        y_pred: float64 [N], any finite numbers, higher for fakes.
        target: int64 [N]; None without a column of labels.
    """

    path: Path
    listed: list[str]
    y_pred: np.ndarray
    target: np.ndarray | None

    def find(self, img_name: np.ndarray) -> np.ndarray:
        """The scores of images, float64 [M]; NaN for those that the file lacks."""
        names = img_name.tolist()
        images, place = ListedImages(names, names, "", ""), {name: row for row, name in enumerate(names)}
        found = np.full(len(names), np.nan)
        for name, score in zip(self.listed, self.y_pred.tolist(), strict=True):
            if (image := images.find(name)) is not None:
                found[place[image]] = score
        return found


def read_score_file(path: Path) -> ScoreFile:
    """Reads a file.

    Raises:
        DataError: a column is missing, or rows are bad; the message has all bad rows.
    """
    header, problems, classes = read_header(path, DataConfig()), list[str](), Classes({})
    image, score = _choose_columns(path, header)
    target = [name for name in LABELS if name in header.columns and name != score][:1]
    listed: dict[str, float] = {}
    labels: list[int] = []
    for line, (name, text, *label) in read_columns(path, header, (image, score, *target), problems):
        value, known = _parse_score(text), [classes.read_label(one) for one in label]
        if name in listed:
            problems.append(f"{path.name} line {line}: {name} is listed already")
        elif not math.isfinite(value):
            problems.append(f"{path.name} line {line}: the score '{text}' is not a finite number")
        elif None in known:
            problems.append(f"{path.name} line {line}: label '{label[0]}' {classes.describe_fault(label[0])}")
        listed.setdefault(name, value)
        labels += [one for one in known if one is not None]
    if problems or not listed:
        what = f"bad rows in {path}: {len(problems)}" if problems else f"{path} has no rows"
        raise DataError(what, problems=problems, hint="mend the file")
    return ScoreFile(path, list(listed), np.array(list(listed.values())), np.array(labels) if target else None)


def _choose_columns(path: Path, header: Header) -> tuple[str, str]:
    """The columns of images and of scores; the latter has a usual name, or is the only other one."""
    others = [name for name in header.columns if name not in (header.image, *LABELS)]
    named = [name for name in SCORES if name in others] or (others if len(others) == 1 else [])
    if header.image is None or not named:
        lacking = "images" if header.image is None else "scores"
        raise DataError(
            f"{path} line 1: it is unclear which column has the {lacking}: the header is '{','.join(header.columns)}'",
            hint=f"name the columns {' and '.join(score_table.COLUMNS)}",
        )
    return header.image, named[0]


def _parse_score(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
