"""The check of an exported graph: it gives torch's answers on real images, or, where it does not multiply as its
networks did, it loses next to nothing against them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffdi.core.errors import DataError, ParityError
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.table import Table
from ffdi.ensemble.group import Ensemble
from ffdi.evaluation import metrics, predictions
from ffdi.inference.backend import OpenGraph
from ffdi.inference.bundle import LOGITS, OUTPUT

LIMITS = {"auc": 0.002, "tpr_at_fpr_1e-3": 0.02}
"""The most that each score may lose."""
IMAGES = 1000
"""Images that judge, at most."""


@dataclass(frozen=True, eq=False)
class EquivalenceCheck:
    """Images with labels that no network was trained on, and what the networks said of them in fp32.

    Attributes:
        table: the images, of both classes.
        y_pred: float64 [N], by the networks in fp32.
        output: which of a graph's outputs is judged.
        verdict: that output, float [N, ...] -> y_pred float64 [N].
    """

    table: Table
    y_pred: np.ndarray
    output: str
    verdict: Callable[[np.ndarray], np.ndarray]

    def hear(self, found: np.ndarray, what: str) -> dict[str, Any]:
        """Compares what a graph says of the images with what the networks said.

        Args:
            found: the output, float [N, ...].
            what: what an error calls the graph.

        Returns:
            How many images of which split; each of LIMITS before and after; the largest difference of y_pred.

        Raises:
            ParityError: a score loses more than its limit.
        """
        assert self.table.target is not None
        y_pred = self.verdict(found)
        if not np.isfinite(y_pred).all():
            raise ParityError(f"{what} gives scores that are no numbers", hint="export in another precision")
        before, after = (metrics.evaluate(self.table.target, one) for one in (self.y_pred, y_pred))
        losses = {name: before[name] - after[name] for name in LIMITS}
        if any(losses[name] > limit for name, limit in LIMITS.items()):
            raise ParityError(
                f"{what} loses too much against fp32 on {len(self.table)} {self.table.split} images",
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
    """The validation images, where they have labels and all folds have scored them; else the training images, each
    judged by the networks that did not see it.

    Args:
        ensemble: whose networks are to be exported.
        found: the data they were trained on.
        soup: whether folds are mixed, so that there is no network that did not see a training image.

    Raises:
        DataError: the data set has neither.
    """
    val = _of_val(ensemble, found)
    if val is None and soup:
        raise DataError(
            "a soup can only be judged by validation images with labels that every fold has scored; "
            f"there are none under {found.root}",
            hint="export without --soup",
        )
    return val or _of_held_out(ensemble, found)


def _of_val(ensemble: Ensemble, found: Dataset) -> EquivalenceCheck | None:
    val = found.splits.get("val")
    paths = [member.folder.val_path for member in ensemble.members]
    if val is None or not val.both_classes or not all(path.is_file() for path in paths):
        return None
    ledgers = [predictions.read_predictions(path) for path in paths]
    rows = _places(val, ledgers[0].img_name)
    if rows is None or any(not np.array_equal(one.img_name, ledgers[0].img_name) for one in ledgers):
        return None
    some = spread_rows(len(rows), IMAGES)
    logits = np.stack([one.logit[some] for one in ledgers])
    return EquivalenceCheck(
        val.take(rows[some]), ensemble.combine(logits), OUTPUT, lambda y_pred: y_pred.astype(np.float64)
    )


def _of_held_out(ensemble: Ensemble, found: Dataset) -> EquivalenceCheck:
    train = found.split("train")
    rows = _places(train, ensemble.deal.img_name)
    if rows is None:
        raise DataError(
            f"{train.source} does not list the images that these experiments were trained on, and there are no "
            "validation scores to judge by",
            hint="pass --data FOLDER with the data they were trained on",
        )
    some = spread_rows(len(rows), IMAGES)
    folds = len(ensemble.members) // len(ensemble.experiments)
    voices = np.arange(len(ensemble.experiments))[:, None] * folds + ensemble.deal.fold[some]

    def verdict(logits: np.ndarray) -> np.ndarray:
        return ensemble.combine_held_out(np.take_along_axis(logits.T, voices, axis=0))

    return EquivalenceCheck(
        train.take(rows[some]), ensemble.combine_held_out(ensemble.held_out[:, some]), LOGITS, verdict
    )


def spread_rows(count: int, most: int) -> np.ndarray:
    """Rows evenly out of all, at most so many: int64 [min(count, most)]."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def _places(table: Table, img_name: np.ndarray) -> np.ndarray | None:
    """The table's row of each image, int64 [N]; None where one is not in it."""
    place = {name: row for row, name in enumerate(table.img_name.tolist())}
    rows = [place.get(name, -1) for name in img_name.tolist()]
    return None if not rows or min(rows) < 0 else np.array(rows)


BATCHES = (1, 7, 32)
"""Images at a time; beside these a graph is asked for a full batch of its own and a part of one."""
TOLERANCE = 1e-5
"""Largest difference of y_pred in fp32."""


def measure_parity(graph: OpenGraph, real: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """The largest |difference of y_pred| for each size of batch.

    Args:
        graph: the exported one, opened.
        real: real images, uint8 [N, S, S, 3]; a batch may show one twice.
        expected: y_pred of them by torch in fp32, float [N].
    """
    asked = {str(count): count for count in BATCHES}
    asked["last, partial"] = graph.batch + max(1, graph.batch // 2)
    rows = {name: np.resize(np.arange(len(real)), count) for name, count in asked.items()}
    return {
        name: float(np.abs(expected[some].astype(np.float64) - graph.run(real[some])).max())
        for name, some in rows.items()
    }


def check_parity(runtime: str, differences: dict[str, float]) -> None:
    """Refuses a graph that differs by more than the tolerance, or gives no number.

    Raises:
        ParityError: names every batch size with its difference.
    """
    if all(difference <= TOLERANCE for difference in differences.values()):  # false for NaN as well
        return
    raise ParityError(
        f"the exported graph on {runtime} differs from the networks by more than {TOLERANCE:g}",
        problems=[f"batch {batch}: largest difference {value:.3g}" for batch, value in differences.items()],
        hint="report this with the config.toml and the versions of torch, onnxscript and onnxruntime",
    )
