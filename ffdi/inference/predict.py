"""Scores the images of a table with an opened graph, without torch.

Scores of many images are published in shards: an interrupted run resumes after the last published shard.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Semaphore
from typing import NamedTuple

import cv2
import numpy as np

from ffdi.core import csvs, files, links, manifests
from ffdi.core.errors import DataError, ExperimentError
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.evaluation import score_table
from ffdi.inference import select
from ffdi.inference.backend import Load, OpenGraph
from ffdi.inference.select import GoldenProof


class Part(NamedTuple):
    """The scores of some rows of a table.

    Attributes:
        rows: of the table.
        y_pred: the graph's output, float32 [len(rows), ...]; NaN for an image that cannot be used.
        faults: a line for each image that cannot be used.
        nan_faults: a line for each other image for which the graph returns NaN.
    """

    rows: range
    y_pred: np.ndarray
    faults: list[str]
    nan_faults: Sequence[str] = ()


Score = Callable[[Iterable[range]], Iterator[Part]]
"""Ranges of rows -> their parts, in order; a part is inside one range."""


def score_batches(
    table: Table, ranges: Iterable[range], resize_policy: ResizePolicy, graph: OpenGraph, threads: int
) -> Iterator[Part]:
    """Scores the images of a table batch by batch, in the order of the ranges.

    Each thread decodes a batch, then runs the graph on it, so all cores are busy; a semaphore limits the threads in the
    graph to its streams. Memory is limited by the number of pending batches.

    Args:
        table: the images.
        ranges: rows; a batch is inside one range.
        resize_policy: how the graph takes images.
        graph: the open graph.
        threads: number of cores.
    """
    cv2.setNumThreads(1)  # this pool already has a thread for each core
    turns = Semaphore(graph.streams)
    waiting: deque[Future[Part]] = deque()
    pool = ThreadPoolExecutor(max(threads, graph.streams))
    try:
        for rows in _split_ranges(ranges, graph.batch):
            waiting.append(pool.submit(_score_rows, table, rows, resize_policy, graph, turns))
            if len(waiting) > 2 * max(threads, graph.streams):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _split_ranges(ranges: Iterable[range], batch: int) -> Iterator[range]:
    for rows in ranges:
        yield from (rows[start : start + batch] for start in range(0, len(rows), batch))


def _score_rows(table: Table, rows: range, resize_policy: ResizePolicy, graph: OpenGraph, turns: Semaphore) -> Part:
    pixels, faults = [], {}
    for row in rows:
        try:
            pixels.append(resize_policy.load(table.path(row)))
        except DataError as error:
            faults[row] = error.what
    if not pixels:
        return Part(rows, np.full(len(rows), np.nan, np.float32), list(faults.values()))
    with turns:
        found = graph.run(np.stack(pixels))
    y_pred = np.full((len(rows), *found.shape[1:]), np.nan, np.float32)
    scored = [row for row in rows if row not in faults]
    y_pred[[row - rows.start for row in scored]] = found
    broken = np.isnan(found.reshape(len(found), -1)).any(axis=1)
    nan_faults = [f"{name}: the graph returns NaN" for name in table.img_name[scored][broken].tolist()]
    return Part(rows, y_pred, list(faults.values()), nan_faults)


@dataclass(frozen=True, eq=False)
class Task:
    """A graph, and the images to score.

    Attributes:
        model: an ONNX file.
        proof: the golden images that a runtime has to reproduce first.
        resize_policy: how the graph takes images.
        table: the images.
    """

    model: Path
    proof: GoldenProof
    resize_policy: ResizePolicy
    table: Table


class Scorer(NamedTuple):
    """An opened and checked graph, here or on a cluster.

    Attributes:
        device: `OpenGraph.device`.
        provider: the name of the engine's provider that really runs.
        why: one line for the user.
        score: scores ranges of rows.
    """

    device: str
    provider: str
    why: str
    score: Score


def open_scorer(task: Task, device: str, load: Load) -> Scorer:
    """Opens the graph in this process; arguments and errors as for `select.open_graph`."""
    graph = select.open_graph(task.model, device, load, task.proof)
    threads = load.streams * load.threads
    score = partial(score_batches, task.table, resize_policy=task.resize_policy, graph=graph, threads=threads)
    return Scorer(graph.device, graph.provider, graph.why, score)


ROWS = 1024
"""Images in a shard; a killed run loses at most one shard and the pending batches."""

RUNTIME = "runtime"
"""Name of the file with the runtime of an unfinished run."""


class Shards:
    """The shards of a table, in the folder OUTPUT.parts."""

    def __init__(self, output: Path, table: Table, key: str, substitute: float | None = None) -> None:
        """Finds the folder of the shards.

        Args:
            output: the final CSV.
            table: the images.
            key: identifies the graph and the runtime.
            substitute: score of an image that cannot be used; None for an error.
        """
        self.table, self.substitute = table, substitute
        self.folder = get_shards_folder(output)
        self._key = f"{key} {substitute}"
        self._paths: dict[range, Path] = {}
        self._stored: list[Part] = []

    def start(self, runtime: str) -> None:
        """Records the runtime of the shards."""
        files.write_text(links.join(self.folder, RUNTIME), runtime)

    def score(self, score: Score) -> Iterator[Part]:
        """Scores the missing shards, and publishes each shard as soon as it is complete.

        A shard with an unusable image is published only if there is a substitute.

        Yields:
            The parts of `score`; for a shard of an earlier run, a part with its rows and faults, and without scores.
        """
        pending: list[Part] = []
        for part in score(self._find_missing()):
            part = part._replace(faults=[*part.faults, *part.nan_faults], nan_faults=())
            pending.append(part)
            whole = range(pending[0].rows.start, part.rows.stop)
            if whole in self._paths:
                self._publish(whole, pending)
                pending = []
            yield part
            yield from self._take_stored()
        yield from self._take_stored()

    def join(self, output: Path) -> np.ndarray:
        """Writes the CSV of all shards; returns y_pred, float32 [N]."""
        y_pred = []
        with files.open_atomic(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(csvs.format_csv([score_table.COLUMNS]))
            for path in self._paths.values():
                text = manifests.read_manifest(path)["csv"]
                file.write(text)
                y_pred += [float(score) for _, score in csv.reader(io.StringIO(text, newline=""))]
        return np.array(y_pred, np.float32)

    def remove(self) -> None:
        with suppress(OSError):
            files.remove(self.folder)

    def _find_missing(self) -> Iterator[range]:
        """Yields the rows of each missing shard, one at a time while scoring."""
        for start in range(0, len(self.table), ROWS):
            rows = range(start, min(start + ROWS, len(self.table)))
            path = self._paths[rows] = self._get_path(rows)
            try:
                self._stored.append(Part(rows, np.empty(0, np.float32), manifests.read_manifest(path)["faults"]))
            except ExperimentError:  # missing or damaged: score it again
                yield rows

    def _take_stored(self) -> Iterator[Part]:
        while self._stored:
            yield self._stored.pop(0)

    def _publish(self, rows: range, parts: list[Part]) -> None:
        y_pred = np.concatenate([part.y_pred for part in parts])
        broken = np.isnan(y_pred)
        if broken.any() and self.substitute is None:
            return
        if broken.any():
            y_pred[broken] = self.substitute
        content = score_table.format_scores(self.table.img_name[rows.start : rows.stop], y_pred, header=False)
        manifests.write_manifest(
            self._paths[rows], {"csv": content, "faults": [one for part in parts for one in part.faults]}
        )

    def _get_path(self, rows: range) -> Path:
        """Returns the path of a shard; its name has a hash of the key and of the images' paths, sizes and times."""
        digest = hashlib.sha256(self._key.encode())
        for row in rows:
            path = self.table.path(row)
            try:
                status = path.stat()
                digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
            except OSError:
                digest.update(f"{path}\0missing\n".encode())
        return links.join(self.folder, f"{rows.start:09d}-{digest.hexdigest()[:16]}.json")


def get_shards_folder(output: Path) -> Path:
    return links.join(output.parent, f"{output.name}.parts")


def read_started_runtime(output: Path) -> str | None:
    """Reads the runtime of an unfinished run; None if there is no such run."""
    path = links.join(get_shards_folder(output), RUNTIME)
    return path.read_text(encoding="utf-8") if path.is_file() else None
