"""Successive halving: which trial is trained next."""

from __future__ import annotations

import itertools
import math

import pytest

from ffdi.search import halving


@pytest.mark.parametrize(
    ("epochs", "count", "expected"), [(9, 3, [1, 3, 9]), (10, 3, [2, 4, 10]), (2, 3, [1, 2]), (1, 3, [1]), (5, 1, [5])]
)
def test_the_last_rung_has_all_epochs(epochs: int, count: int, expected: list[int]) -> None:
    assert halving.list_rungs(epochs, count, 3) == expected


def test_the_best_third_is_promoted_higher_rungs_first() -> None:
    scores: dict[str, list[float]] = {"a": [0.6], "b": [0.9]}
    assert halving.promote(scores, 3, 3, closed=False) is None
    scores["c"] = [0.7]
    assert halving.promote(scores, 3, 3, closed=False) == "b"
    scores["b"].append(0.8)
    assert halving.promote(scores, 3, 3, closed=False) is None
    scores |= {name: [0.8] for name in "def"}
    assert halving.promote(scores, 3, 3, closed=False) == "d"


def test_at_the_end_one_trial_reaches_the_last_rung() -> None:
    scores = {"a": [0.6], "b": [0.9]}
    assert halving.promote(scores, 3, 3, closed=True) == "b"
    scores["b"].append(0.1)
    assert halving.promote(scores, 3, 3, closed=True) == "b"
    scores["b"].append(0.1)
    assert halving.promote(scores, 3, 3, closed=True) is None


def test_a_diverged_trial_is_not_promoted() -> None:
    scores = {"a": [-math.inf], "b": [-math.inf], "c": [-math.inf]}
    assert halving.promote(scores, 2, 3, closed=True) is None


def test_a_failed_trial_is_replaced_by_the_next_best() -> None:
    scores = {"a": [0.9, -math.inf], "b": [0.8], "c": [0.7]}
    assert halving.promote(scores, 3, 3, closed=False) == "b"
    assert halving.promote(scores, 3, 3, closed=True) == "b"


def test_a_sweep_finds_the_best_trial_with_less_training() -> None:
    """27 trials whose order never changes: 27 + 9 + 3 comparisons and no more, and the best three reach the end."""
    scores: dict[str, list[float]] = {}
    steps = 0
    waiting = [f"{number:02d}" for number in (7 * step % 27 for step in range(27))]
    for step in itertools.count():
        going = halving.promote(scores, 3, 3, closed=not waiting)
        if going is None and not waiting:
            steps = step
            break
        name = going or waiting.pop()
        scores.setdefault(name, []).append(int(name) / 27)
    assert steps <= 27 + 9 + 3 + 6
    assert {"24", "25", "26"} <= {name for name, seen in scores.items() if len(seen) == 3}
