"""Scores of many images in pieces: what is published stays, and a run that was killed goes on behind it."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from ffdi.core import csvs, files, links, manifests
from ffdi.core.errors import ExperimentError
from ffdi.data.labels.table import Table
from ffdi.evaluation import score_table
from ffdi.inference.predict import Part, Score

ROWS = 1024
"""Images in a shard: at most that many, and the batches under way, are scored in vain when a run is killed."""

RUNTIME = "runtime"
"""The file that names the runtime of a run that was begun."""


class Shards:
    """The shards of a table, in a folder beside the CSV that they will make."""

    def __init__(self, output: Path, table: Table, key: str, substitute: float | None = None) -> None:
        """Shards that are to become a CSV.

        Args:
            output: the CSV.
            table: the images.
            key: what decides the scores beside the images: the graph and the runtime.
            substitute: the score of an image that cannot be used; None where there is none.
        """
        self.table, self.substitute = table, substitute
        self.folder = parts_of(output)
        self._key = f"{key} {substitute}"
        self._paths: dict[range, Path] = {}
        self._kept: list[Part] = []

    def begin(self, runtime: str) -> None:
        """Writes down which runtime the shards are scored by."""
        files.write_text(links.below(self.folder, RUNTIME), runtime)

    def score(self, score: Score) -> Iterator[Part]:
        """Scores what is missing, and publishes each shard as soon as it is whole.

        A shard with an image that cannot be used and has no substitute is not published.

        Yields:
            What `score` yields; for a shard that an earlier run has left, a part with its rows and faults, and no
            scores.
        """
        pending: list[Part] = []
        for part in score(self._missing()):
            pending.append(part)
            whole = range(pending[0].rows.start, part.rows.stop)
            if whole in self._paths:
                self._publish(whole, pending)
                pending = []
            yield part
            yield from self._passed_over()
        yield from self._passed_over()

    def join(self, output: Path) -> np.ndarray:
        """Makes the CSV of all shards, and gives y_pred, float32 [N]."""
        y_pred = []
        with files.open_atomic(output) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            file.write(csvs.format_csv([score_table.COLUMNS]))
            for path in self._paths.values():
                text = manifests.read_manifest(path)["csv"]
                file.write(text)
                y_pred += [float(score) for _, score in csv.reader(io.StringIO(text, newline=""))]
        return np.array(y_pred, np.float32)

    def remove(self) -> None:
        """Removes all shards."""
        with suppress(OSError):
            files.remove(self.folder)

    def _missing(self) -> Iterator[range]:
        """The rows of each shard that no earlier run has left; asked for when they are to be scored."""
        for start in range(0, len(self.table), ROWS):
            rows = range(start, min(start + ROWS, len(self.table)))
            path = self._paths[rows] = self._path(rows)
            try:
                self._kept.append(Part(rows, np.empty(0, np.float32), manifests.read_manifest(path)["faults"]))
            except ExperimentError:  # missing, or damaged: it is scored again
                yield rows

    def _passed_over(self) -> Iterator[Part]:
        while self._kept:
            yield self._kept.pop(0)

    def _publish(self, rows: range, parts: list[Part]) -> None:
        y_pred = np.concatenate([part.y_pred for part in parts])
        broken = np.isnan(y_pred)
        if broken.any() and self.substitute is None:
            return
        if broken.any():
            y_pred[broken] = self.substitute
        content = score_table.to_csv(self.table.img_name[rows.start : rows.stop], y_pred, header=False)
        manifests.write_manifest(
            self._paths[rows], {"csv": content, "faults": [one for part in parts for one in part.faults]}
        )

    def _path(self, rows: range) -> Path:
        """A shard's file; its name holds what its scores depend on: names, sizes and times of the images, the key."""
        said = hashlib.sha256(self._key.encode())
        for row in rows:
            path = self.table.path(row)
            try:
                status = path.stat()
                said.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
            except OSError:
                said.update(f"{path}\0missing\n".encode())
        return links.below(self.folder, f"{rows.start:09d}-{said.hexdigest()[:16]}.json")


def parts_of(output: Path) -> Path:
    """The folder beside a CSV in which its shards lie."""
    return links.below(output.parent, f"{output.name}.parts")


def begin_shards(output: Path) -> str | None:
    """The runtime of a run that was begun and not ended; None where there is none."""
    path = links.below(parts_of(output), RUNTIME)
    return path.read_text(encoding="utf-8") if path.is_file() else None
