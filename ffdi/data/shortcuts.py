"""Whether facts about the files alone tell the classes apart: a leak in the data set that a network may learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffdi.data.survey import Survey
from ffdi.scoring import intervals, metrics, tally

LEAK = 0.75
"""An AUC whose interval lies above it would spoil a run; natural differences of sources stay below."""


def measure(survey: Survey) -> dict[str, dict[str, Any]]:
    """The AUC of each fact about the files as a score, the better of both directions, with its 95 % interval.

    A fact that is the same for all images is left out. A fact that is a word (format, mode) scores each image by the
    share of fakes among the images with that word.

    Args:
        survey: of a table with usable images of both classes.
    """
    assert survey.table.target is not None
    target = survey.table.target[survey.usable]
    facts = {name: values[survey.usable] for name, values in _facts(survey).items()}
    return {name: _area(target, values) for name, values in facts.items() if len(np.unique(values)) > 1}


def leaks(area: dict[str, Any]) -> bool:
    """Whether one of `measure`'s results would spoil a run."""
    return bool(area["interval"][0] > LEAK)


def _facts(survey: Survey) -> dict[str, np.ndarray]:
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


def _area(target: np.ndarray, value: np.ndarray) -> dict[str, Any]:
    auc = float(metrics.auc(tally.count(target, value)))
    low, high = intervals.area(target, value, None)
    return {"auc": auc, "interval": [low, high]} if auc >= 0.5 else {"auc": 1 - auc, "interval": [1 - high, 1 - low]}
