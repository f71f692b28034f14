from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from ffdi.evaluation import differences, metrics
from ffdi.evaluation.metrics import count_scores

Case = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulated(rng: np.random.Generator, images: int, folds: int = 3, better: float = 0.0) -> Case:
    """y_pred [2, N] with common noise, target, fold."""
    target, fold = np.arange(images) % 2, np.arange(images) // 2 % folds
    common, own = rng.normal(size=images), 0.5 * rng.normal(size=(2, images))
    logit = (2 * target - 1) * np.array([[0.8], [0.8 + better]]) + common + own
    return 1 / (1 + np.exp(-logit)), target, fold


def by_pairs(target: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """1, 0.5 or 0 for every pair of a fake and a real image."""
    difference = y_pred[target == 1][:, None] - y_pred[target == 0][None, :]
    return (difference > 0) + 0.5 * (difference == 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([3, 1e9]))
def test_it_is_paired_delong_of_all_pairs(seed: int, folds: int, levels: float) -> None:
    y_pred, target, fold = simulated(np.random.default_rng(seed), 30 * folds, folds)
    y_pred = np.round(y_pred * levels) / levels  # few levels make ties
    found = differences.compare_with_first(y_pred, target, fold, None, 0.95)
    gaps, variances = [], []
    for number in range(folds):
        rows = fold == number
        gap = by_pairs(target[rows], y_pred[1, rows]) - by_pairs(target[rows], y_pred[0, rows])
        gaps.append(gap.mean())
        parts = [(gap.mean(axis).var(), gap.shape[1 - axis]) for axis in (0, 1)]
        variances += [(variance * size / (size - 1) ** 2, size) for variance, size in parts]  # a jackknife's
    total = sum(variance for variance, _ in variances)
    assert found[1].difference == pytest.approx(np.mean(gaps), abs=1e-12)
    if found[1].interval is not None:
        half = t.ppf(0.975, _freedom(variances)) * math.sqrt(total) / folds
        assert found[1].interval == pytest.approx((np.mean(gaps) - half, np.mean(gaps) + half), abs=1e-9)
        statistic = abs(np.mean(gaps)) * folds / math.sqrt(total)
        assert found[1].p_value == pytest.approx(2 * t.sf(statistic, _freedom(variances)), abs=1e-9)
    assert found[0][1:] == (0, (0, 0), 1)


def _freedom(variances: list[tuple[float, int]]) -> float:
    """Satterthwaite's, of a fold's two classes, then of the folds."""
    folds = [variances[place : place + 2] for place in range(0, len(variances), 2)]
    each = [(sum(v for v, _ in fold), sum(v**2 / n for v, n in fold)) for fold in folds]
    return sum(v for v, _ in each) ** 2 / sum(v**2 / (v**2 / squares - 1) for v, squares in each if v)


def test_offsets_between_folds_do_not_matter() -> None:
    y_pred, target, fold = simulated(np.random.default_rng(0), 300)
    shifted = 1 / (1 + np.exp(-(np.log(y_pred) - np.log1p(-y_pred) + 3.0 * fold)))
    found = differences.compare_with_first(shifted, target, fold, None, 0.95)[1]
    same = differences.compare_with_first(y_pred, target, fold, None, 0.95)[1]
    assert (found[:2], found.interval) == (pytest.approx(same[:2], abs=1e-12), pytest.approx(same.interval, abs=1e-12))


def test_the_auc_of_one_fold_is_the_auc() -> None:
    y_pred, target, fold = simulated(np.random.default_rng(1), 100, folds=1)
    found = differences.compare_with_first(y_pred, target, fold, None, 0.95)
    assert [one.auc for one in found] == pytest.approx(
        [metrics.auc(count_scores(target, row)) for row in y_pred], abs=1e-12
    )


def test_groups_of_one_image_equal_images() -> None:
    y_pred, target, fold = simulated(np.random.default_rng(2), 900)
    single = np.arange(900).astype(str)
    grouped, alone = (differences.compare_with_first(y_pred, target, fold, one, 0.95)[1] for one in (single, None))
    assert grouped.difference == alone.difference
    assert grouped.interval == pytest.approx(alone.interval, rel=0.02)


def test_copies_in_a_group_make_an_interval_no_narrower() -> None:
    y_pred, target, fold = simulated(np.random.default_rng(3), 300)
    single = np.arange(300).astype(str)
    copied = [np.repeat(part, 4, axis=-1) for part in (y_pred, target, fold, single)]
    once = differences.compare_with_first(y_pred, target, fold, single, 0.95)[1]
    again = differences.compare_with_first(*copied, 0.95)[1]
    assert again.interval == pytest.approx(once.interval, abs=1e-12)


def test_identical_folds_count_as_independent() -> None:
    y_pred, target, fold = simulated(np.random.default_rng(6), 120, folds=1)
    alone = differences.compare_with_first(y_pred, target, fold, None, 0.95)[1]
    four = [np.tile(part, 4) for part in (y_pred, target)]
    together = differences.compare_with_first(*four, np.repeat(np.arange(4), 120), None, 0.95)[1]
    assert alone.interval is not None
    assert together.interval is not None
    assert np.ptp(together.interval) == pytest.approx(np.ptp(alone.interval) / 2, rel=0.05)


@pytest.mark.parametrize("grouped", [False, True])
def test_few_images_in_a_fold_have_no_interval(grouped: bool) -> None:
    target = np.arange(57) % 2  # 28 fakes; the third fold has 9 of them
    fold = np.repeat([0, 1, 2], 19)
    y_pred = np.stack([1.0 - target, 1.0 * target])
    found = differences.compare_with_first(y_pred, target, fold, np.arange(57).astype(str) if grouped else None, 0.95)
    assert found == [(0, 0, (0, 0), 1), (1, 1, None, None)]


def test_nearly_equal_rankings_have_no_interval() -> None:
    y_pred, target, fold = simulated(np.random.default_rng(7), 600, folds=1)
    y_pred[1] = y_pred[0]
    assert differences.compare_with_first(y_pred, target, fold, None, 0.95)[1][1:] == (0, None, None)
    order = np.argsort(y_pred[0])
    first = np.flatnonzero(np.diff(target[order]))[0]
    y_pred[1, order[[first, first + 1]]] = y_pred[0, order[[first + 1, first]]]
    assert differences.compare_with_first(y_pred, target, fold, None, 0.95)[1].interval is None


def test_a_wider_level_gives_a_wider_interval() -> None:
    case = simulated(np.random.default_rng(5), 300)
    widths = [np.ptp(differences.compare_with_first(*case, None, level)[1].interval) for level in (0.9, 0.95, 0.99)]
    assert widths == sorted(widths)
    assert widths[2] / widths[0] == pytest.approx(2.575829 / 1.644854, rel=0.01)
