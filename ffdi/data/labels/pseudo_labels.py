"""Pseudo-labels: scores of trained networks for images without labels, a set for each fold.

The set of a fold comes from the networks of that fold alone, which have not seen its held-out images. So nothing that
is known of a held-out image reaches the network that is judged by it, however many rounds there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ffdi.core import csvs
from ffdi.core.errors import ExperimentError
from ffdi.data.labels.table import Table
from ffdi.evaluation.score_table import FLOAT

ALL = "all"
"""The column of the set for a network on all training images, from all networks."""
CLASSES = ("real", "fake")


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Images and their sets.

    Attributes:
        name: of the pseudo-labels.
        sha256: the hash of labels.csv.
        folds: the hash of the folds.csv of the experiments that made them.
        table: the images.
        logits: float32 [k + 1, N]: by fold, and at last for a network on all training images; NaN where an image is not
            in a set.
    """

    name: str
    sha256: str
    folds: str
    table: Table
    logits: np.ndarray

    def check_folds(self, experiment: str, folds: str) -> None:
        """Checks that an experiment has the same folds: networks of others have seen its held-out images.

        Args:
            experiment: its name.
            folds: the hash of its folds.csv.

        Raises:
            ExperimentError: the folds differ.
        """
        if self.folds != folds:
            raise ExperimentError(
                f"the pseudo-labels {self.name} were made with other folds than those of {experiment}: networks that "
                "have seen an image would take part in its out-of-fold score",
                hint="set [folds] and folds.seed as in the experiment that made them",
            )

    def select_fold(self, fold: int) -> Table | None:
        """The images of a fold's set, with their logits as soft targets; None if there are none.

        Args:
            fold: its number; that of the folds, k, for a network on all training images.
        """
        rows = np.flatnonzero(np.isfinite(self.logits[fold]))
        return replace(self.table.take(rows), soft_logit=self.logits[fold, rows]) if len(rows) else None


class Limits(NamedTuple):
    """Which images are in a set.

    Attributes:
        confidence: the least probability of the likelier class.
        disagreement: the largest standard deviation of the networks' probabilities.
        per_class: the most images of a class, those with the highest confidence; None: all.
    """

    confidence: float = 0.9
    disagreement: float = 0.2
    per_class: int | None = None


def select_images(y_pred: np.ndarray, allowed: np.ndarray, limits: Limits) -> np.ndarray:
    """Selects the images of a set.

    Args:
        y_pred: float64 [M, N], the probability of a fake by each network.
        allowed: bool [N], other images are left out.
        limits: of a set.

    Returns:
        bool [N].
    """
    mean = y_pred.mean(0)
    confidence = np.maximum(mean, 1 - mean)
    chosen = allowed & (confidence >= limits.confidence) & (y_pred.std(0) <= limits.disagreement)
    if limits.per_class is not None:
        for fake in (False, True):
            rows = np.flatnonzero(chosen & ((mean > 0.5) == fake))
            order = np.argsort(-confidence[rows], kind="stable")
            chosen[rows[order[limits.per_class :]]] = False
    return chosen


def count_classes(logits: np.ndarray) -> dict[str, int]:
    """The numbers of images whose logit in a set, float [N], says real and fake."""
    fake = int((logits > 0).sum())
    return dict(zip(CLASSES, (int(np.isfinite(logits).sum()) - fake, fake), strict=True))


def list_columns(k: int) -> list[str]:
    """The columns of a set of pseudo-labels for k folds."""
    return ["img_name", "sha256", *(f"fold_{fold}" for fold in range(k)), ALL]


def format_labels(table: Table, sha256: np.ndarray, logits: np.ndarray) -> str:
    """The text of labels.csv: the images that are in at least one set.

    Args:
        table: the images.
        sha256: uint8 [N, 32], the hashes of their files.
        logits: as in `PseudoLabels`.
    """
    rows: list[Sequence[object]] = [list_columns(len(logits) - 1)]
    for row in np.flatnonzero(np.isfinite(logits).any(0)).tolist():
        cells = ["" if math.isnan(one) else FLOAT % one for one in logits[:, row].tolist()]
        rows.append([str(table.img_name[row]), sha256[row].tobytes().hex(), *cells])
    return csvs.format_csv(rows)


def read_labels(path: Path, k: int, hint: str) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Reads labels.csv: the names str [N], the hashes of the files, and the logits float32 [k + 1, N].

    Raises:
        ExperimentError: the file is damaged; names the line.
    """
    columns = list_columns(k)
    (first, header), *rows = list(csvs.read_csv(path, ExperimentError, hint)) or [(1, [])]
    parsed = [(line, fields, _parse_logits(fields[2:])) for line, fields in rows]
    wrong = [line for line, fields, found in parsed if found is None or len(fields) != len(columns)]
    if header != columns or wrong:
        line = first if header != columns else wrong[0]
        raise ExperimentError(f"{path} line {line}: not {','.join(columns)}", hint=hint)
    names, hashes = ([fields[place] for _, fields, _ in parsed] for place in (0, 1))
    logits = np.array([found for _, _, found in parsed], np.float32)
    return np.array(names, dtype=str), hashes, logits.reshape(len(names), k + 1).T


def _parse_logits(words: Iterable[str]) -> list[float] | None:
    """NaN for an empty field; None if a field is not a number."""
    try:
        found = [float(word) if word else math.nan for word in words]
    except ValueError:
        return None
    return None if any(math.isinf(one) for one in found) else found
