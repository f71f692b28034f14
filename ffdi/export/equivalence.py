"""Checks of an exported graph on every runtime of this machine, before it is published.

A graph in fp32 has to give the scores of its networks, within TOLERANCE. A graph in another precision, or a runtime
that is not exact, may lose only LIMITS of the metrics on labelled images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffdi.core.errors import ConfigError, DataError, FFDIError, ParityError, format_count
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.table import Table
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import metrics
from ffdi.inference import predict, select
from ffdi.inference.backend import Load, OpenGraph, Setup
from ffdi.inference.bundle import LOGITS, OUTPUT

LIMITS = {"auc": 0.002, "tpr_at_fpr_1e-3": 0.02}
"""Largest loss of each metric."""
MAX_IMAGES = 1000
"""Largest number of images in an equivalence check."""


@dataclass(frozen=True, eq=False)
class EquivalenceCheck:
    """Labelled images that no network was trained on, and their scores by the networks in fp32.

    Attributes:
        table: the images, of both classes.
        y_pred: float64 [N], by the networks in fp32; None if there are no such images: then `table` has training
            images, and a graph has to give the scores of torch.
        output: name of the graph's output for this check.
        combine: that output, float [N, ...] -> y_pred float64 [N].
    """

    table: Table
    y_pred: np.ndarray | None
    output: str
    combine: Callable[[np.ndarray], np.ndarray]

    def compare(self, found: np.ndarray, what: str) -> dict[str, Any]:
        """Compares the output of a graph with the scores of the networks.

        Args:
            found: the output, float [N, ...].
            what: the graph, in an error.

        Returns:
            The number of images, their split, both values of each metric in LIMITS, the largest difference of y_pred.

        Raises:
            ParityError: a metric loses more than its limit, or there are no images to measure it on.
        """
        assert self.table.target is not None
        if self.y_pred is None:
            raise ParityError(
                f"{what} is not exact, and there are no labelled images to measure its loss on: the network was "
                "trained on all training images",
                hint="add a labelled validation split and train again, or export with --precision fp32",
            )
        y_pred = self.combine(found)
        if not np.isfinite(y_pred).all():
            raise ParityError(f"{what} gives scores that are not finite", hint="export in another precision")
        before, after = (metrics.evaluate(self.table.target, one) for one in (self.y_pred, y_pred))
        losses = {name: before[name] - after[name] for name in LIMITS}
        if any(losses[name] > limit for name, limit in LIMITS.items()):
            raise ParityError(
                f"{what} loses too much against fp32 on {format_count(len(self.table), f'{self.table.split} image')}",
                problems=[
                    f"{name}: {before[name]:.4f} -> {after[name]:.4f}, a loss of {losses[name]:.4f}; at most {limit}"
                    for name, limit in LIMITS.items()
                ],
                hint="export in another precision, or without --soup",
            )
        return {
            "images": len(self.table),
            "split": self.table.split,
            "largest_difference": float(np.abs(y_pred - self.y_pred).max()),
            **{name: {"fp32": before[name], "here": after[name]} for name in LIMITS},
        }


def choose_equivalence_check(ensemble: Ensemble, found: Dataset, *, soup: bool = False) -> EquivalenceCheck:
    """Uses the validation images if they have labels and scores of all networks, else the training images.

    A training image is scored only by the networks that were not trained on it; a network that was trained on all of
    them is compared with its own scores only.

    Args:
        ensemble: the networks of the graph.
        found: the data of their training.
        soup: the folds are averaged, so every network was trained on all training images.

    Raises:
        DataError: neither split can be used.
    """
    val = _build_from_validation(ensemble, found)
    if val is None and soup:
        raise DataError(
            f"--soup needs validation images with labels and scores of every fold; there are none under {found.root}",
            hint="export without --soup",
        )
    return val or _build_from_training(ensemble, found)


def _build_from_validation(ensemble: Ensemble, found: Dataset) -> EquivalenceCheck | None:
    val = found.splits.get("val")
    if val is None or not val.has_both_classes or (scored := ensemble.read_val_logits()) is None:
        return None
    first, logits = scored
    rows = _find_rows(val, first.img_name)
    if rows is None:
        return None
    some = spread_rows(len(rows), MAX_IMAGES)
    return EquivalenceCheck(
        val.take(rows[some]), ensemble.combine(logits[:, some]), OUTPUT, lambda y_pred: y_pred.astype(np.float64)
    )


def _build_from_training(ensemble: Ensemble, found: Dataset) -> EquivalenceCheck:
    train = found.split("train")
    rows = _find_rows(train, ensemble.assignment.img_name)
    if rows is None:
        raise DataError(
            f"{train.source} does not list the images that these experiments were trained on, and there are no "
            "validation scores to compare with",
            hint="pass --data FOLDER with the data they were trained on",
        )
    some = spread_rows(len(rows), MAX_IMAGES)
    if any(member.is_refit for member in ensemble.members):
        return EquivalenceCheck(train.take(rows[some]), None, OUTPUT, lambda y_pred: y_pred)
    folds = len(ensemble.members) // len(ensemble.experiments)
    members = np.arange(len(ensemble.experiments))[:, None] * folds + ensemble.assignment.fold[some]

    def verdict(logits: np.ndarray) -> np.ndarray:
        return ensemble.combine_oof(np.take_along_axis(logits.T, members, axis=0))

    return EquivalenceCheck(train.take(rows[some]), ensemble.combine_oof(ensemble.oof_logits[:, some]), LOGITS, verdict)


def spread_rows(count: int, most: int) -> np.ndarray:
    """Selects at most `most` of `count` rows, evenly spread: int64 [min(count, most)]."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def _find_rows(table: Table, img_name: np.ndarray) -> np.ndarray | None:
    """Finds the table's row of each image, int64 [N]; None if an image is missing."""
    rows = table.rows(img_name)
    return None if not len(rows) or (rows < 0).any() else rows


BATCHES = (1, 7, 32)
"""Batch sizes of the comparison; another one is one and a half batches of the graph."""
TOLERANCE = 1e-5
"""Largest difference of y_pred in fp32."""


def measure_parity(graph: OpenGraph, real: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Measures the largest absolute difference of y_pred for each batch size.

    Args:
        graph: the exported graph.
        real: real images, uint8 [N, S, S, 3]; repeated in large batches.
        expected: their y_pred by torch in fp32, float [N].
    """
    counts = {str(count): count for count in BATCHES}
    counts["last, partial"] = graph.batch + max(1, graph.batch // 2)
    rows = {name: np.resize(np.arange(len(real)), count) for name, count in counts.items()}
    return {
        name: float(np.abs(expected[some].astype(np.float64) - graph.run(real[some])).max())
        for name, some in rows.items()
    }


def check_parity(runtime: str, differences: dict[str, float]) -> None:
    """Refuses a difference above the tolerance, or NaN.

    Raises:
        ParityError: lists every batch size with its difference.
    """
    if all(difference <= TOLERANCE for difference in differences.values()):  # false for NaN as well
        return
    raise ParityError(
        f"the exported graph on {runtime} differs from the networks by more than {TOLERANCE:g}",
        problems=[f"batch {batch}: largest difference {value:.3g}" for batch, value in differences.items()],
        hint="report this with the config.toml and the versions of torch, onnxscript and onnxruntime",
    )


MARGIN = 2.0
"""Limit of a runtime that is not exact, as a multiple of its largest difference in this check."""


class Candidate(NamedTuple):
    """A graph before its checks.

    Attributes:
        kind: its precision, a key of `quantize.KINDS`.
        model: its file.
        compared: the same graph with the output of the equivalence check; the same file if that output is y_pred.
    """

    kind: str
    model: Path
    compared: Path


@dataclass(frozen=True, eq=False)
class RuntimeVerifier:
    """Checks candidates on the runtimes of this machine.

    Attributes:
        resize_policy: of the graph.
        exact: the graph has to give the scores of torch; else it has to pass the equivalence check.
        real: real images, uint8 [N, S, S, 3].
        expected: their y_pred by the networks in fp32, float [N].
        equivalence: the check of a graph or a runtime that is not exact.
        threads: number of cores.
        setup: how candidates are opened.
    """

    resize_policy: ResizePolicy
    exact: bool
    real: np.ndarray
    expected: np.ndarray
    equivalence: EquivalenceCheck
    threads: int
    setup: Setup

    def verify(self, candidate: Candidate, name: str) -> dict[str, Any]:
        """Checks a candidate on one runtime; returns the provider, the differences, and the `limit` for golden scores.

        Raises:
            ParityError: the scores differ from those of torch, or fail the equivalence check.
            DeviceError: the runtime cannot open the graph.
        """
        runtime, images = select.RUNTIMES[name], len(self.equivalence.table)
        graph = runtime.open(candidate.model, 0, Load(images, 1, self.threads), self.setup)
        differences = measure_parity(graph, self.real, self.expected)
        record: dict[str, Any] = {"provider": graph.provider, "largest_difference": differences}
        if self.exact and runtime.exact:
            check_parity(name, differences)
            return {**record, "limit": TOLERANCE}
        graph = runtime.open(candidate.compared, 0, Load(images, self.threads, 1), self.setup)
        record["gate"] = self.equivalence.compare(self._score(graph), f"this graph on {name}")
        largest = max(record["gate"]["largest_difference"], *differences.values())
        return {**record, "limit": MARGIN * largest}

    def _score(self, graph: OpenGraph) -> np.ndarray:
        table = self.equivalence.table
        parts = list(predict.score_batches(table, [range(len(table))], self.resize_policy, graph, self.threads))
        if faults := [fault for part in parts for fault in part.faults]:
            raise DataError("images of the equivalence check cannot be used", problems=faults)
        return np.concatenate([part.y_pred for part in parts])


def verify_all(trial: RuntimeVerifier, candidate: Candidate, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Checks a candidate on each runtime; the record of a failed runtime has the reason, and no limit.

    Raises:
        ParityError: the plain runtime fails, which every machine has.
    """
    records = {}
    for name in names:
        try:
            records[name] = trial.verify(candidate, name)
        except DataError:
            raise
        except FFDIError as error:
            if name == select.PLAIN:
                raise
            records[name] = {"refused": str(error.what), "why": list(error.problems), "limit": None}
    return records


def verify_first(
    trial: RuntimeVerifier, attempts: Sequence[Callable[[], Candidate]], names: Sequence[str]
) -> tuple[Candidate, dict[str, dict[str, Any]]]:
    """Returns the first candidate that passes on every runtime, else the last one, each with its records.

    Args:
        trial: the checks.
        attempts: each creates a candidate, in place of the one before.
        names: the runtimes.

    Raises:
        ParityError: the plain runtime fails with the last candidate too.
    """
    *earlier, last = attempts
    for make in earlier:
        with suppress(ParityError):  # this candidate is discarded
            candidate = make()
            records = verify_all(trial, candidate, names)
            if all(record["limit"] is not None for record in records.values()):
                return candidate, records
    candidate = last()
    return candidate, verify_all(trial, candidate, names)


def choose_runtimes(requested: str | None, precision: str) -> list[str]:
    """Chooses the runtimes to check: the requested ones, else all that run here; the plain one first.

    Raises:
        ConfigError: a runtime is unknown, or not used for graphs of this precision.
    """
    words = [word.strip() for word in requested.split(",")] if requested else []
    names = [select.parse_device(word).runtime for word in words]
    refused = {name: reason for name in select.RUNTIMES if (reason := select.explain_precision(name, precision))}
    if unfit := [name for name in names if name in refused]:
        raise ConfigError(f"--runtimes {unfit[0]}: {refused[unfit[0]]}", hint="leave it out of --runtimes")
    offered = [
        name for name, one in select.RUNTIMES.items() if one.offered and name not in refused and not one.missing(0)
    ]
    return list(dict.fromkeys([select.PLAIN, *(names or offered)]))
