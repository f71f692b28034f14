"""A student takes the place of its teachers only with scores that are as good."""

from __future__ import annotations

import numpy as np
import pytest

from ffdi.core.errors import ParityError
from ffdi.export import replacement
from ffdi.export.replacement import Verdict

TARGET = np.repeat([0, 1], 500)
GOOD = np.random.default_rng(0).normal(TARGET * 4.0, 1.0)
"""Scores of an AUC of 0.998."""


def squash(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-scores))


def compare(student: np.ndarray) -> dict[str, object]:
    return replacement.check_scores(Verdict("1000 val images", TARGET, squash(GOOD), squash(student)))


def test_scores_that_are_as_good_pass() -> None:
    compared = compare(GOOD + 0.01 * np.sin(np.arange(1000)))
    assert compared["images"] == "1000 val images"
    assert set(compared) == {"images", "auc", "tpr_at_fpr_1e-3"}


def test_a_student_that_loses_more_is_refused_with_its_figures() -> None:
    with pytest.raises(ParityError) as refused:
        compare(np.random.default_rng(1).normal(TARGET * 2.0, 1.0))
    assert "the student is not as good as its teachers on 1000 val images" in str(refused.value)
    assert refused.value.problems[0].startswith("auc: 0.99")
    assert refused.value.problems[0].endswith("at most 0.002")


def test_the_loss_of_a_lower_precision_counts_too() -> None:
    compared = {"images": "10 val images", **{name: {"teachers": 0.9, "student": 0.899} for name in replacement.LIMITS}}
    replacement.check_with_precision(compared, {"largest_difference": {}})
    gate = {name: {"fp32": 0.9, "here": 0.8995} for name in replacement.LIMITS}
    replacement.check_with_precision(compared, {"gate": gate})
    gate["auc"]["here"] = 0.8985
    with pytest.raises(ParityError, match="in this precision"):
        replacement.check_with_precision(compared, {"gate": gate})
