"""A student in the place of its teachers: its scores on images that neither has seen, and the speeds of both graphs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffdi.core.errors import ParityError, format_count
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.table import find_rows
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import metrics
from ffdi.export.equivalence import LIMITS
from ffdi.inference import select
from ffdi.inference.backend import Load

ROUNDS = 3
"""Each graph is timed so many times, in turns; the median counts."""


class Verdict(NamedTuple):
    """Scores of the same labelled images.

    Attributes:
        what: words for the images.
        target: int64 [N].
        teachers, student: y_pred float64 [N].
    """

    what: str
    target: np.ndarray
    teachers: np.ndarray
    student: np.ndarray


def match_scores(teachers: Ensemble, student: Ensemble, found: Dataset) -> Verdict:
    """The scores of the validation split, if both have scored it; else the out-of-fold scores of the training images.

    Out of fold, an image has one network of each teacher, and a student's network that has not seen it.

    Raises:
        ParityError: they have no images in common.
    """
    val, theirs, ours = found.splits.get("val"), teachers.read_val_logits(), student.read_val_logits()
    if val is not None and val.has_both_classes and theirs is not None and ours is not None:
        scored, logits = theirs
        if np.array_equal(scored.img_name, ours[0].img_name):
            what = format_count(len(scored.img_name), "val image")
            return Verdict(what, scored.target, teachers.combine(logits), student.combine(ours[1]))
    images = teachers.assignment.img_name
    rows = find_rows(student.assignment.img_name, images)
    if (rows < 0).any():
        raise ParityError(
            "the student and its teachers have scored no images in common",
            hint="train the student on the images of its teachers, or export it under another --name",
        )
    return Verdict(
        f"{format_count(len(images), 'training image')}, out of fold",
        teachers.assignment.target,
        teachers.choice.y_pred,
        student.choice.y_pred[rows],
    )


def check_scores(verdict: Verdict) -> dict[str, Any]:
    """Compares the metrics in LIMITS.

    Returns:
        The words for the images, and the value of each metric for the teachers and the student.

    Raises:
        ParityError: the student loses more than a limit.
    """
    before, after = (metrics.evaluate(verdict.target, one) for one in (verdict.teachers, verdict.student))
    compared = {name: {"teachers": before[name], "student": after[name]} for name in LIMITS}
    _check_losses(verdict.what, compared, dict.fromkeys(LIMITS, 0.0))
    return {"images": verdict.what, **compared}


def check_with_precision(compared: dict[str, Any], record: dict[str, Any]) -> None:
    """Checks the same with what the student's graph loses against its networks, if it is not exact.

    Args:
        compared: of `check_scores`.
        record: of `equivalence.verify_first`, for a runtime.

    Raises:
        ParityError: both losses together are more than a limit.
    """
    if (gate := record.get("gate")) is not None:
        lost = {name: gate[name]["fp32"] - gate[name]["here"] for name in LIMITS}
        _check_losses(f"{compared['images']}, in this precision", compared, lost)


def _check_losses(what: str, compared: dict[str, Any], more: dict[str, float]) -> None:
    values = {name: (compared[name]["teachers"], compared[name]["student"] - more[name]) for name in LIMITS}
    if any(before - after > LIMITS[name] for name, (before, after) in values.items()):
        raise ParityError(
            f"the student is not as good as its teachers on {what}",
            problems=[
                f"{name}: {before:.4f} -> {after:.4f}, a loss of {before - after:.4f}; at most {LIMITS[name]}"
                for name, (before, after) in values.items()
            ],
            hint="the teachers' graph stays; export the student under its own name, without --name, or train it longer",
        )


def measure_speeds(graphs: Sequence[tuple[Path, ResizePolicy]], images: int, threads: int) -> list[float]:
    """Images per second of each graph on ONNX Runtime's CPU, without decoding, timed in turns.

    Args:
        graphs: files, each with the preparation of its images.
        images: of a call.
        threads: of a graph.
    """
    opened = []
    for path, policy in graphs:
        noise = np.random.default_rng(0).integers(0, 256, (images, policy.size, policy.size, 3), np.uint8)
        opened.append((select.RUNTIMES[select.PLAIN].open(path, 0, Load(images, 1, threads)), noise))
    rounds = [[select.measure_rate(*one) for one in opened] for _ in range(ROUNDS + 1)]
    return [statistics.median(rates) for rates in zip(*rounds[1:], strict=True)]  # the first call allocates memory
