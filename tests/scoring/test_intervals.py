from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ffdi.scoring import intervals
from ffdi.scoring.tally import count


def simulated(rng: np.random.Generator, images: int = 200, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    target = np.arange(images) % 2
    return target, 1 / (1 + np.exp(-rng.normal(shift * target, 1)))


def delong_by_pairs(target: np.ndarray, y_pred: np.ndarray) -> tuple[float, float]:
    """AUC and DeLong's variance from the matrix of all pairs."""
    difference = y_pred[target == 1][:, None] - y_pred[target == 0][None, :]
    won = (difference > 0) + 0.5 * (difference == 0)
    of_fake, of_real = won.mean(1), won.mean(0)
    return float(won.mean()), float(of_fake.var(ddof=1) / len(of_fake) + of_real.var(ddof=1) / len(of_real))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=6, max_size=60))
def test_delong_is_that_of_all_pairs(rows: list[tuple[int, int]]) -> None:
    target, y_pred = np.array([label for label, _ in rows]), np.array([score / 12 for _, score in rows])
    assume(2 <= target.sum() <= len(target) - 2)
    area, variance = delong_by_pairs(target, y_pred)
    assume(0 < area < 1)
    half = intervals.NORMAL * math.sqrt(variance) / (area * (1 - area))
    middle = math.log(area / (1 - area))
    expected = [1 / (1 + math.exp(-(middle + sign * half))) for sign in (-1, 1)]
    assert intervals.delong(count(target, y_pred)) == pytest.approx(expected, abs=1e-12)


def test_a_perfect_order_of_few_images_promises_little() -> None:
    target = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
    low, high = intervals.delong(count(target, target * 0.9))
    assert (low, high) == (pytest.approx(0.025 ** (1 / 4)), 1.0)
    assert intervals.delong(count(1 - target, target * 0.9)) == (0.0, pytest.approx(1 - 0.025 ** (1 / 4)))


def test_one_image_of_a_class_promises_nothing() -> None:
    assert intervals.delong(count(np.array([0, 1, 0, 0]), np.array([0.1, 0.5, 0.6, 0.2]))) == (0.0, 1.0)


def test_the_same_scores_give_the_same_intervals_whatever_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    case = simulated(np.random.default_rng(1))
    whole = intervals.measure(*case, None)
    assert intervals.measure(*case, None) == whole
    monkeypatch.setattr(intervals, "CELLS", 7_000)
    assert intervals.measure(*case, None) == whole


@pytest.mark.parametrize(
    ("images", "given"), [(198, set()), (200, {"1e-1"}), (1998, {"1e-1"}), (2000, {"1e-1", "1e-2"})]
)
def test_an_interval_that_would_promise_too_much_is_not_given(images: int, given: set[str]) -> None:
    found = intervals.measure(*simulated(np.random.default_rng(4), images), None)
    always = {"auc", "accuracy", "log_loss", "brier", "eer", "average_precision"}
    assert set(found) == always | {f"tpr_at_fpr_{bound}" for bound in given}


def test_a_group_with_real_images_counts_once_for_a_bound() -> None:
    target, y_pred = simulated(np.random.default_rng(4), 400)
    assert "tpr_at_fpr_1e-1" in intervals.measure(target, y_pred, (np.arange(400) // 4).astype(str))
    assert "tpr_at_fpr_1e-1" not in intervals.measure(target, y_pred, (np.arange(400) // 5).astype(str))


def test_images_of_a_group_that_are_copies_count_once() -> None:
    target, y_pred = simulated(np.random.default_rng(2), 60)
    group = np.array([str(number) for number in range(60)])
    once = intervals.measure(target, y_pred, group)
    copies = intervals.measure(np.repeat(target, 5), np.repeat(y_pred, 5), np.repeat(group, 5))
    alone = intervals.measure(np.repeat(target, 5), np.repeat(y_pred, 5), None)
    for name in ("auc", "accuracy", "brier"):
        assert copies[name] == pytest.approx(once[name], abs=1e-12)
        assert copies[name][1] - copies[name][0] > 1.7 * (alone[name][1] - alone[name][0])  # sqrt(5), less some luck


def test_a_group_of_both_classes_is_drawn_whole() -> None:
    target, y_pred = np.array([0, 1] * 8), np.array([0.2, 0.8] * 8)
    group = np.repeat([str(number) for number in range(8)], 2)
    assert intervals.measure(target, y_pred, group)["accuracy"] == (1.0, 1.0)


def test_intervals_widen_as_images_get_fewer() -> None:
    rng = np.random.default_rng(3)
    many, few = (intervals.measure(*simulated(rng, images), None) for images in (800, 80))
    for name in ("auc", "accuracy", "log_loss", "brier"):
        assert few[name][1] - few[name][0] > 1.5 * (many[name][1] - many[name][0]), name
