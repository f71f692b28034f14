"""From images to scores with an open graph; does not know torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Semaphore
from typing import NamedTuple

import cv2
import numpy as np

from ffdi.core.errors import DataError
from ffdi.data.images.decode import ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.inference import select
from ffdi.inference.backend import Load, OpenGraph
from ffdi.inference.select import Proof


class Part(NamedTuple):
    """What some rows of a table came to.

    Attributes:
        rows: which.
        y_pred: the graph's output, float32 [len(rows), ...], NaN where an image cannot be used.
        faults: a line for each image that cannot be used.
    """

    rows: range
    y_pred: np.ndarray
    faults: list[str]


Score = Callable[[Iterable[range]], Iterator[Part]]
"""Ranges of rows -> their parts, in order; a part never reaches over the end of a range."""


def score_batches(
    table: Table, ranges: Iterable[range], framing: ResizePolicy, graph: OpenGraph, threads: int
) -> Iterator[Part]:
    """Scores a table's images, batch by batch, in the order of the ranges.

    Each thread decodes a batch and runs it, so that every core is busy with one or the other; as many threads run the
    graph at a time as it takes. Memory is bounded by the batches that are under way.

    Args:
        table: whose images.
        ranges: rows, a batch never reaches over the end of one.
        framing: how the graph takes images.
        graph: the open graph.
        threads: how many cores there are.
    """
    cv2.setNumThreads(1)  # a thread for each core is here already
    turns = Semaphore(graph.streams)
    waiting: deque[Future[Part]] = deque()
    pool = ThreadPoolExecutor(max(threads, graph.streams))
    try:
        for rows in _batches(ranges, graph.batch):
            waiting.append(pool.submit(_score, table, rows, framing, graph, turns))
            if len(waiting) > 2 * max(threads, graph.streams):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(ranges: Iterable[range], batch: int) -> Iterator[range]:
    for rows in ranges:
        yield from (rows[start : start + batch] for start in range(0, len(rows), batch))


def _score(table: Table, rows: range, framing: ResizePolicy, graph: OpenGraph, turns: Semaphore) -> Part:
    pixels, faults = [], {}
    for row in rows:
        try:
            pixels.append(framing.load(table.path(row)))
        except DataError as error:
            faults[row] = error.what
    if not pixels:
        return Part(rows, np.full(len(rows), np.nan, np.float32), list(faults.values()))
    with turns:
        found = graph.run(np.stack(pixels))
    y_pred = np.full((len(rows), *found.shape[1:]), np.nan, np.float32)
    y_pred[[row not in faults for row in rows]] = found
    return Part(rows, y_pred, list(faults.values()))


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be scored.

    Attributes:
        model: an ONNX file.
        proof: what a runtime has to show before it may serve it.
        framing: how the graph takes images.
        table: whose images.
    """

    model: Path
    proof: Proof
    framing: ResizePolicy
    table: Table


class Scorer(NamedTuple):
    """A graph that is open and proven, here or on a cluster, and scores a table's images.

    Attributes:
        runtime: by which, a key of `serving.RUNTIMES`.
        provider: what really runs, in that engine's own words.
        why: one line for the person who started it.
        score: rows to their parts.
    """

    runtime: str
    provider: str
    why: str
    score: Score


def open_scorer(task: Task, asked: str, load: Load) -> Scorer:
    """Opens the graph in this process.

    Args:
        task: what is to be scored.
        asked: as for `serving.open_graph`, which also says what is raised.
        load: how it will be asked.
    """
    graph = select.open_graph(task.model, asked, load, task.proof)
    threads = load.streams * load.threads
    score = partial(score_batches, task.table, framing=task.framing, graph=graph, threads=threads)
    return Scorer(graph.runtime, graph.provider, graph.why, score)
