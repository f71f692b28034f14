from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from ffdi.evaluation import intervals, metrics
from ffdi.evaluation.intervals import Units

Case = tuple[np.ndarray, np.ndarray]


def simulated(rng: np.random.Generator, images: int = 200, shift: float = 1.5) -> Case:
    target = np.arange(images) % 2
    return target, 1 / (1 + np.exp(-shift * rng.normal(shift * (target - 0.5), 1)))


def clustered(rng: np.random.Generator, groups: int, size: int, shift: float = 1.5) -> tuple[Case, np.ndarray]:
    """Groups of one class whose images have half of their noise in common."""
    group = np.repeat(np.arange(groups), size)
    target = group % 2
    noise = np.sqrt(0.5) * (rng.normal(size=groups)[group] + rng.normal(size=len(group)))
    return (target, 1 / (1 + np.exp(-shift * (noise + shift * (target - 0.5))))), group.astype(str)


# --- agreement with others -----------------------------------------------------------------------------------------


def test_many_images_have_delongs_interval() -> None:
    target, y_pred = simulated(np.random.default_rng(0), 4000)
    difference = y_pred[target == 1][:, None] - y_pred[target == 0][None, :]
    won = (difference > 0) + 0.5 * (difference == 0)
    half = 1.96 * math.sqrt(sum(won.mean(axis).var(ddof=1) / 2000 for axis in (0, 1)))
    assert intervals.compute_auc_interval(target, y_pred, None) == pytest.approx(
        (won.mean() - half, won.mean() + half), abs=0.1 * half
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=4, max_size=40))
def test_misranked_fractions_are_those_of_all_pairs(rows: list[tuple[int, int]]) -> None:
    target, score = np.array([0, 1, *(label for label, _ in rows)]), np.array([4, 5, *(score for _, score in rows)])
    difference = score[target == 1][:, None] - score[target == 0][None, :]
    lost = (difference < 0) + 0.5 * (difference == 0)
    wrong = intervals.compute_misranked(target, score)
    assert wrong[target == 1] == pytest.approx(lost.mean(1), abs=1e-12)
    assert wrong[target == 0] == pytest.approx(lost.mean(0), abs=1e-12)


@pytest.mark.parametrize("errors", [0, 1, 7, 40, 100])
def test_the_accuracys_interval_lies_between_clopper_pearson_and_wilson(errors: int) -> None:
    target, right = np.arange(200) % 2, np.arange(200) >= errors
    low, high = intervals.estimate_share_interval(Units(target, None), right)
    exact = binomtest(200 - errors, 200).proportion_ci(method="exact")
    assert exact.low <= low
    assert high <= exact.high
    assert high - low == pytest.approx(exact.high - exact.low, rel=0.15)


def test_groups_have_the_interval_of_a_bootstrap_of_groups() -> None:
    rng = np.random.default_rng(1)
    (target, y_pred), group = clustered(rng, 200, 8)
    found = intervals.measure_intervals(target, y_pred, group).intervals
    rows = np.arange(1600).reshape(200, 8)
    drawn: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(400):
        chosen = [rng.choice(np.arange(label, 200, 2), 100) for label in (0, 1)]
        images = rows[np.concatenate(chosen)].ravel()
        once = metrics.evaluate(target[images], y_pred[images])
        for name, values in drawn.items():
            values.append(once[name])
    assert {"auc", "accuracy", "log_loss", "brier", "eer", "average_precision"} <= set(found)
    for name, values in drawn.items():
        low, high = found[name]
        assert high - low == pytest.approx(4 * np.std(values), rel=0.25), name


# --- at the edges --------------------------------------------------------------------------------------------------


def test_a_perfect_order_has_a_one_sided_bound() -> None:
    target = np.arange(40) % 2
    found = intervals.measure_intervals(target, 0.1 + 0.8 * target, None)
    least = pytest.approx(0.025 ** (1 / 20), abs=0.02)
    assert found.intervals["auc"] == (least, 1.0)
    assert intervals.compute_auc_interval(1 - target, 0.1 + 0.8 * target, None) == (
        0.0,
        pytest.approx(1 - 0.025 ** (1 / 20), abs=0.02),
    )
    assert found.intervals["accuracy"][1] == found.intervals["average_precision"][1] == 1.0
    assert found.intervals["eer"][0] == 0.0
    assert set(found.reasons) == {"log_loss", "brier", "ece", *metrics.FPR_BOUNDS}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([20, 60, 200]), st.sampled_from([0.0, 2.0, 6.0]), st.integers(0, 4))
def test_an_interval_has_a_width_and_stays_in_range(seed: int, images: int, shift: float, digits: int) -> None:
    target, y_pred = simulated(np.random.default_rng(seed), images, shift)
    y_pred = np.round(y_pred, digits)
    found, scores = intervals.measure_intervals(target, y_pred, None), metrics.evaluate(target, y_pred)
    assert found.intervals.keys() | found.reasons.keys() == metrics.METRICS.keys()
    assert not found.intervals.keys() & found.reasons.keys()
    for name, (low, high) in found.intervals.items():
        assert 0 <= low < high, name
        assert low <= scores[name] <= high, name
        assert high <= 1 or name == "log_loss"


def test_constant_scores_have_the_auc_interval_of_chance() -> None:
    target = np.arange(100) % 2
    found = intervals.measure_intervals(target, np.full(100, 0.3), None)
    low, high = found.intervals["auc"]
    assert low < 0.5 < high
    assert found.reasons["brier"] == found.reasons["log_loss"] == intervals.CONSTANT


@pytest.mark.parametrize("few", [1, 2, 9])
def test_few_images_of_a_class_have_no_interval(few: int) -> None:
    target = (np.arange(100) >= few).astype(int)
    found = intervals.measure_intervals(target, np.linspace(0.1, 0.9, 100), None)
    assert found == ({}, dict.fromkeys(metrics.METRICS, "there are fewer than 10 real images"))
    assert intervals.compute_auc_interval(target, np.arange(100), None) is None


@pytest.mark.parametrize(
    "sizes", [[100], [50, 50], [20] * 5, [500, *[5] * 100], [max(1, 500 // rank) for rank in range(1, 200)]]
)
def test_few_groups_have_no_interval(sizes: list[int]) -> None:
    half = np.repeat(np.arange(len(sizes)), sizes)
    group = np.concatenate([half, half + len(sizes)]).astype(str)
    target = np.repeat([0, 1], len(half))
    found = intervals.measure_intervals(target, np.random.default_rng(0).random(len(target)), group)
    assert found == ({}, dict.fromkeys(metrics.METRICS, intervals.FEW_GROUPS))


def test_a_group_of_both_classes_counts_once() -> None:
    target, y_pred = simulated(np.random.default_rng(2), 400)
    apart, both = np.arange(400) % 40, np.arange(400) // 2 % 20
    assert intervals.compute_auc_interval(target, y_pred, apart.astype(str)) is not None
    assert intervals.compute_auc_interval(target, y_pred, both.astype(str)) is None


def test_a_tpr_needs_ten_independent_images_above_its_threshold() -> None:
    target, y_pred = simulated(np.random.default_rng(4), 400)
    for size, shown in ((1, True), (2, True), (4, False)):  # 200, 100 and 50 groups of real images
        group = (np.arange(400) // (2 * size) * 2 + target).astype(str)
        assert ("tpr_at_fpr_1e-1" in intervals.measure_intervals(target, y_pred, group).intervals) == shown


def test_a_wrong_score_of_one_has_no_log_loss_interval() -> None:
    target, y_pred = simulated(np.random.default_rng(5))
    y_pred[1] = 1.0
    found = intervals.measure_intervals(target, y_pred, None)
    assert found.reasons["log_loss"] == "scores of exactly 0 or 1 cost 36 nats if they are wrong"
    assert "brier" in found.intervals


def test_scores_of_one_digit_have_no_tpr_interval() -> None:
    target, y_pred = simulated(np.random.default_rng(6), 2000)
    found = intervals.measure_intervals(target, np.round(y_pred, 1), None)
    assert found.reasons["tpr_at_fpr_1e-1"] == intervals.TIES


# --- width ---------------------------------------------------------------------------------------------------------


def test_copies_in_a_group_make_no_interval_narrower() -> None:
    target, y_pred = simulated(np.random.default_rng(2), 120)
    group = np.arange(120).astype(str)
    once, copies, alone = (
        intervals.measure_intervals(np.repeat(target, count), np.repeat(y_pred, count), groups).intervals
        for count, groups in ((1, group), (5, np.repeat(group, 5)), (5, None))
    )
    for name in ("auc", "accuracy", "brier", "log_loss", "eer"):
        widths = [one[name][1] - one[name][0] for one in (once, copies, alone)]
        assert widths[1] == pytest.approx(widths[0], rel=0.1), name
        assert widths[1] > 1.8 * widths[2], name  # sqrt(5), less what rounding to images makes


def test_intervals_widen_as_images_and_groups_get_fewer() -> None:
    rng = np.random.default_rng(3)
    many, few = (intervals.measure_intervals(*simulated(rng, images), None).intervals for images in (1600, 400))
    for name in ("auc", "accuracy", "log_loss", "brier", "eer", "average_precision"):
        assert few[name][1] - few[name][0] > 1.5 * (many[name][1] - many[name][0]), name
    assert Units(np.arange(400) % 2, None).estimate_freedom(np.ones(2)) == pytest.approx(399)
    uneven = np.minimum(np.arange(400) // 10, 20).astype(str)
    assert Units(np.arange(400) % 2, uneven).estimate_freedom(np.ones(2)) < 5  # one group holds half of the images


def test_the_order_of_the_rows_does_not_matter() -> None:
    (target, y_pred), group = clustered(np.random.default_rng(7), 80, 5)
    other = np.random.default_rng(8).permutation(len(target))
    found, turned = (
        intervals.measure_intervals(target[rows], y_pred[rows], group[rows]) for rows in (np.arange(len(target)), other)
    )
    assert found.reasons == turned.reasons
    for name, ends in found.intervals.items():
        assert turned.intervals[name] == pytest.approx(ends, rel=1e-9), name
