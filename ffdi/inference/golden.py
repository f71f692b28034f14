"""A few images that travel with a graph, and the scores that it must give them wherever it is served."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffdi.core import files, links
from ffdi.core.errors import DataError, ParityError
from ffdi.data.images.decode import Framing
from ffdi.data.labels.table import Table
from ffdi.evaluation import score_table
from ffdi.inference.backend import Run

COUNT = 16


@dataclass(frozen=True, eq=False)
class Golden:
    """names: [G], of files; images: uint8 [G, S, S, 3]; y_pred: float32 [G], by torch in fp32."""

    names: list[str]
    images: np.ndarray
    y_pred: np.ndarray

    def check(self, run: Run, limit: float, runtime: str) -> float:
        """The largest difference from the scores.

        Raises:
            ParityError: it is above the limit; names every image.
        """
        y_pred = run(self.images)
        difference = np.abs(y_pred.astype(np.float64) - self.y_pred)
        if (difference <= limit).all():  # false for NaN as well
            return float(difference.max())
        wrong = np.flatnonzero(~(difference <= limit)).tolist()
        raise ParityError(
            f"{runtime} does not give this export's scores on this machine: {len(wrong)} of {len(self.names)} golden "
            f"images differ by more than {limit:.2g}",
            problems=[f"{self.names[one]}: {y_pred[one]:.6f} instead of {self.y_pred[one]:.6f}" for one in wrong],
            hint="pass --device cpu, or export again on this machine",
        )


def write(path: Path, table: Table, y_pred: np.ndarray) -> None:
    """Lists a table's scores, float32 [N], in a folder of its own, with copies of its files as they are."""
    names = [f"{number:02d}{table.path(number).suffix.lower()}" for number in range(len(table))]
    with files.explained(path.parent):
        path.parent.mkdir()
        for number, name in enumerate(names):
            shutil.copyfile(table.path(number), path.with_name(name))
    files.text(path, score_table.to_csv(np.array(names), y_pred))


def read(path: Path, framing: Framing, count: int) -> Golden:
    """The first `count` images of a list, framed as a graph takes them.

    Raises:
        DataError: an image cannot be decoded.
        OSError, ValueError: the list is missing or damaged; its hash has been looked at before.
    """
    rows = list(_rows(path))[:count]
    if foreign := [name for name, _ in rows if Path(name).name != name]:
        raise DataError(f"{path} names a file outside of its folder: {foreign[0]}")
    pixels = [framing.load(links.below(path.parent, name)) for name, _ in rows]
    return Golden([name for name, _ in rows], np.stack(pixels), np.array([score for _, score in rows], np.float32))


def _rows(path: Path) -> Iterator[tuple[str, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row[score_table.COLUMNS[0]], float(row[score_table.COLUMNS[1]])
