"""Whether facts about the files alone tell the classes apart: a leak in the data set that a network may learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffdi.data.inspection.scan import ScanResult
from ffdi.data.labels.table import Table
from ffdi.evaluation import intervals, metrics

LEAK = 0.75
"""An AUC whose interval lies above it would spoil a run; natural differences of sources stay below."""


def measure(survey: ScanResult) -> dict[str, dict[str, Any]]:
    """The AUC of each fact about the files as a score, the better of both directions, with its 95 % interval or None.

    A fact that is the same for all images is left out. A fact that is a word (format, mode) scores each image by the
    share of fakes among the images with that word.

    Args:
        survey: of a table with usable images of both classes.
    """
    assert survey.table.target is not None
    table = survey.table.take(np.flatnonzero(survey.usable))
    facts = {name: values[survey.usable] for name, values in _facts(survey).items()}
    return {name: _area(table, values) for name, values in facts.items() if len(np.unique(values)) > 1}


def leaks(area: dict[str, Any]) -> bool:
    """Whether one of `measure`'s results would spoil a run."""
    return area["interval"] is not None and bool(area["interval"][0] > LEAK)


def _facts(survey: ScanResult) -> dict[str, np.ndarray]:
    target = np.asarray(survey.table.target)
    return {
        "bytes": survey.size,
        "width": survey.width,
        "height": survey.height,
        "width / height": survey.width / np.maximum(survey.height, 1),
        "format": _share_of_fakes(survey.format, target),
        "mode": _share_of_fakes(survey.mode, target),
    }


def _share_of_fakes(word: np.ndarray, target: np.ndarray) -> np.ndarray:
    _, place = np.unique(word, return_inverse=True)
    return (np.bincount(place, target) / np.bincount(place))[place]


def _area(table: Table, value: np.ndarray) -> dict[str, Any]:
    assert table.target is not None
    auc = float(metrics.auc(metrics.count_scores(table.target, value)))
    ends = intervals.area(table.target, value, table.group)
    if auc < 0.5:
        auc, ends = 1 - auc, ends and (1 - ends[1], 1 - ends[0])
    return {"auc": auc, "interval": ends and list(ends)}
