from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ffdi.evaluation import comparison, differences
from ffdi.evaluation.comparison import ALL, Scores


def simulate(seed: int, images: int = 300, folds: int = 3, better: float = 0.5, grouped: bool = False) -> Scores:
    """Two sets of scores with common noise."""
    rng = np.random.default_rng(seed)
    target, fold = np.arange(images) % 2, np.arange(images) // 2 % folds
    logit = (2 * target - 1) * np.array([[0.8], [0.8 + better]]) + rng.normal(size=images)
    y_pred = 1 / (1 + np.exp(-logit - 0.5 * rng.normal(size=(2, images))))
    return Scores(y_pred, target, fold, (np.arange(images) // (2 * folds)).astype(str) if grouped else None)


def test_all_images_are_compared_as_by_paired_delong() -> None:
    scores = simulate(0)
    (row,) = comparison.compare(scores, {})
    _, expected = differences.compare_with_first(scores.y_pred, scores.target, scores.fold, None, 0.95)
    assert (row.name, row.real, row.fake) == (ALL, 150, 150)
    assert (row.second, row.difference, row.interval, row.p_value) == tuple(expected)
    assert row.corrected == row.p_value
    assert row.second - row.first == pytest.approx(row.difference)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_bootstrap_agrees_with_delong(grouped: bool) -> None:
    (row,) = comparison.compare(simulate(1, 600, grouped=grouped), {})
    assert row.interval is not None
    assert row.bootstrap is not None
    assert row.bootstrap == pytest.approx(row.interval, abs=0.15 * np.ptp(row.interval))


def test_the_bootstrap_is_a_function_of_its_seed() -> None:
    scores = simulate(2)
    first, again, other = (comparison.resample_difference(scores, seed) for seed in (0, 0, 1))
    assert first == again != other


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 6))
def test_a_weighted_auc_is_that_of_repeated_images(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    target, score = np.arange(20) % 2, rng.integers(0, levels, 20) / levels
    weight = rng.integers(0, 3, (4, 20)).astype(float)
    weight[:, :2] += 1
    expected = [roc_auc_score(np.repeat(target, row.astype(int)), np.repeat(score, row.astype(int))) for row in weight]
    assert comparison._weigh_auc(target, score, weight) == pytest.approx(expected, abs=1e-12)


def test_a_kind_is_compared_with_the_real_images_of_its_folds() -> None:
    scores = simulate(3)
    kind = (scores.target == 1) & (scores.fold < 2)
    row = comparison.compare(scores, {"kind": kind})[1]
    rows = kind | ((scores.target == 0) & (scores.fold < 2))
    means = [
        np.mean([roc_auc_score(scores.target[rows & (scores.fold == f)], y[rows & (scores.fold == f)]) for f in (0, 1)])
        for y in scores.y_pred
    ]
    assert (row.name, row.real, row.fake) == ("kind", 100, 100)
    assert [row.first, row.second] == pytest.approx(means, abs=1e-12)


def test_slices_that_are_small_or_equal_are_left_out() -> None:
    scores = simulate(4)
    few, half = np.arange(300) < 12, np.arange(300) < 150
    rows = comparison.compare(scores, {"few": few, "half": half, "again": half.copy(), "all": np.ones(300, bool)})
    assert [row.name for row in rows] == [ALL, "half"]


def test_folds_without_a_class_of_a_slice_are_left_out() -> None:
    scores = simulate(5)
    rows = (scores.fold == 0) | ((scores.fold == 1) & (scores.target == 1))
    found = comparison.compare(scores, {"uneven": rows})[1]
    assert (found.real, found.fake) == (50, 50)


def test_holms_correction() -> None:
    assert comparison.correct_by_holm([0.01, None, 0.04, 0.03, 0.5]) == pytest.approx(
        [0.04, None, 0.09, 0.09, 0.5], nan_ok=True
    )
    assert comparison.correct_by_holm([0.6, 0.7]) == [1.0, 1.0]
    assert comparison.correct_by_holm([]) == []


def test_slices_are_corrected_together_and_all_images_alone() -> None:
    scores = simulate(6)
    rows = comparison.compare(scores, {"first": scores.fold == 0, "second": scores.fold == 1})
    assert rows[0].corrected == rows[0].p_value
    assert [row.corrected for row in rows[1:]] == comparison.correct_by_holm([row.p_value for row in rows[1:]])


def test_two_sets_that_rank_alike_have_no_interval() -> None:
    scores = simulate(7)
    same = Scores(np.stack([scores.y_pred[0], scores.y_pred[0] ** 2]), scores.target, scores.fold, None)
    (row,) = comparison.compare(same, {})
    assert (row.difference, row.interval, row.bootstrap, row.p_value) == (0, None, None, None)
