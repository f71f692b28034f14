"""Every runtime of this machine asked what a new graph has to be able to do, before anybody is served by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffdi.core.errors import DataError, FFDIError, ParityError
from ffdi.data.images.decode import ResizePolicy
from ffdi.export import equivalence
from ffdi.export.equivalence import EquivalenceCheck
from ffdi.inference import predict, select
from ffdi.inference.backend import Load, OpenGraph

MARGIN = 2.0
"""A runtime that is not exact may differ by so many times what it differed by here, wherever it serves."""


class Candidate(NamedTuple):
    """A graph that is to be served.

    Attributes:
        kind: what it multiplies in, a key of `precision.KINDS`.
        model: its file.
        judged: the same graph with the jury's output; the same file where that is y_pred.
    """

    kind: str
    model: Path
    judged: Path


@dataclass(frozen=True, eq=False)
class VerifiedRuntime:
    """What a candidate is asked.

    Attributes:
        framing: how it takes images.
        exact: whether it has to give torch's scores; else it has to be worth as much.
        real: real images, uint8 [N, S, S, 3].
        expected: y_pred of them by the networks in fp32, float [N].
        jury: what a graph that is not exact is judged by.
        threads: how many cores there are.
    """

    framing: ResizePolicy
    exact: bool
    real: np.ndarray
    expected: np.ndarray
    jury: EquivalenceCheck
    threads: int

    def of(self, candidate: Candidate, name: str) -> dict[str, Any]:
        """What it shows on one runtime: what really ran, its differences, and the `limit` within which it may serve.

        Raises:
            ParityError: other scores than torch's, or scores that are worth less.
            DeviceError: it cannot open the graph.
        """
        runtime, images = select.RUNTIMES[name], len(self.jury.table)
        graph = runtime.open(candidate.model, 0, Load(images, 1, self.threads))
        differences = equivalence.measure_parity(graph, self.real, self.expected)
        record: dict[str, Any] = {"provider": graph.provider, "largest_difference": differences}
        if self.exact and runtime.exact:
            equivalence.check_parity(name, differences)
            return {**record, "limit": equivalence.TOLERANCE}
        graph = runtime.open(candidate.judged, 0, Load(images, self.threads, 1))
        record["gate"] = self.jury.hear(self._heard(graph), f"this graph on {name}")
        largest = max(record["gate"]["largest_difference"], *differences.values())
        return {**record, "limit": MARGIN * largest}

    def _heard(self, graph: OpenGraph) -> np.ndarray:
        table = self.jury.table
        parts = list(predict.score_batches(table, [range(len(table))], self.framing, graph, self.threads))
        if faults := [fault for part in parts for fault in part.faults]:
            raise DataError("images that a graph is judged by cannot be used", problems=faults)
        return np.concatenate([part.y_pred for part in parts])


def verify_all(trial: VerifiedRuntime, candidate: Candidate, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What a candidate shows on each runtime; one that fails is kept with the reason, and may not serve.

    Raises:
        ParityError: the plain runtime fails: nobody can be served.
    """
    records = {}
    for name in names:
        try:
            records[name] = trial.of(candidate, name)
        except DataError:
            raise
        except FFDIError as error:
            if name == select.PLAIN:
                raise
            records[name] = {"refused": str(error.what), "why": list(error.problems), "limit": None}
    return records


def verify_first(
    trial: VerifiedRuntime, attempts: Sequence[Callable[[], Candidate]], names: Sequence[str]
) -> tuple[Candidate, dict[str, dict[str, Any]]]:
    """The first candidate that may be served by every runtime, and what it shows; at last the most careful one.

    Args:
        trial: what they are asked.
        attempts: each makes a candidate, in place of the one before.
        names: the runtimes.

    Raises:
        ParityError: the plain runtime fails with the last one, too.
    """
    *hopes, last = attempts
    for make in hopes:
        with suppress(ParityError):  # what it says is true of a graph that nobody will see
            candidate = make()
            records = verify_all(trial, candidate, names)
            if all(record["limit"] is not None for record in records.values()):
                return candidate, records
    candidate = last()
    return candidate, verify_all(trial, candidate, names)


def find_runtimes(asked: str | None) -> list[str]:
    """The runtimes to prove: those that are asked for, else all that run here and are offered; the plain one first.

    Raises:
        ConfigError: there is no such runtime.
    """
    words = [word.strip() for word in asked.split(",")] if asked else []
    names = [select.list_devices(word)[0] for word in words]
    offered = [name for name, one in select.RUNTIMES.items() if one.offered and not one.missing(0)]
    return list(dict.fromkeys([select.PLAIN, *(names or offered)]))
