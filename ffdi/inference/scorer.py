"""Who scores a table's images: a graph that is open, and proven, here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ffdi.data.images.decode import Framing
from ffdi.data.labels.table import Table
from ffdi.inference import predict, select
from ffdi.inference.backend import Load
from ffdi.inference.predict import Score
from ffdi.inference.select import Proof


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
    framing: Framing
    table: Table


class Scorer(NamedTuple):
    """Who does it.

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


def opened(task: Task, asked: str, load: Load) -> Scorer:
    """Opens the graph in this process.

    Args:
        task: what is to be scored.
        asked: as for `serving.open_graph`, which also says what is raised.
        load: how it will be asked.
    """
    graph = select.open_graph(task.model, asked, load, task.proof)
    threads = load.streams * load.threads
    score = partial(predict.scores, task.table, framing=task.framing, graph=graph, threads=threads)
    return Scorer(graph.runtime, graph.provider, graph.why, score)
