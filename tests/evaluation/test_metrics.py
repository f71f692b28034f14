from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from ffdi.evaluation import metrics
from ffdi.evaluation.metrics import ScoreCounts, count_scores

Case = tuple[np.ndarray, np.ndarray]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Labels of both classes, and scores with many ties."""
    rows = draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=2, max_size=60))
    target = np.array([label for label, _ in rows], dtype=np.int64)
    assume(0 < target.sum() < len(target))
    return target, np.array([score / 12 for _, score in rows])


def auc_of_all_pairs(target: np.ndarray, y_pred: np.ndarray) -> float:
    difference = y_pred[target == 1][:, None] - y_pred[target == 0][None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def best_tpr_of_all_thresholds(target: np.ndarray, y_pred: np.ndarray, bound: float) -> float:
    passing = [y_pred >= threshold for threshold in [*np.unique(y_pred), np.inf]]
    within = [one for one in passing if one[target == 0].mean() <= bound]
    return float(max(one[target == 1].mean() for one in within))


def ranked(real: int, fake: int, passed_over: int) -> Case:
    """`passed_over` real images score above every fake one, the others below."""
    target = np.array([0] * passed_over + [1] * fake + [0] * (real - passed_over))
    return target, np.linspace(1, 0, real + fake)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_auc_is_the_fraction_of_ordered_pairs(case: Case) -> None:
    assert math.isclose(float(metrics.auc(count_scores(*case))), auc_of_all_pairs(*case), abs_tol=1e-12)


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from([0.0, 1e-3, 1e-2, 0.1, 0.25, 1 / 3, 0.5, 1.0]))
def test_tpr_at_fpr_is_the_best_of_all_thresholds(case: Case, bound: float) -> None:
    assert metrics.tpr_at_fpr(count_scores(*case), bound) == best_tpr_of_all_thresholds(*case, bound)


def eer_of_all_lines(target: np.ndarray, y_pred: np.ndarray) -> float:
    """Every piece of the ROC is asked where its false positive and false negative rates are equal."""
    fpr, tpr, _ = sklearn.roc_curve(target, y_pred, drop_intermediate=False)
    found = []
    for left in range(len(fpr) - 1):
        (x, y), (u, v) = (fpr[left], 1 - tpr[left]), (fpr[left + 1], 1 - tpr[left + 1])
        share = (y - x) / ((u - x) - (v - y))
        if 0 <= share <= 1:
            found.append(float(x + share * (u - x)))
    assert max(found) - min(found) < 1e-9
    return found[0]


def ece_of_all_bins(target: np.ndarray, y_pred: np.ndarray) -> float:
    total = 0.0
    for number in range(metrics.ECE_BINS):
        low, high = number / metrics.ECE_BINS, (number + 1) / metrics.ECE_BINS
        inside = (y_pred * metrics.ECE_BINS >= number) & ((y_pred < high) | (number == metrics.ECE_BINS - 1))
        assert (y_pred[inside] >= low - 1e-15).all()
        if inside.any():
            total += inside.mean() * abs(target[inside].mean() - y_pred[inside].mean())
    return total


@st.composite
def any_cases(draw: st.DrawFn) -> Case:
    """Labels of both classes, and probabilities as networks give them, tied or not."""
    score = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.125, 0.5, 1 / 3, 1.0]))
    rows = draw(st.lists(st.tuples(st.integers(0, 1), score), min_size=2, max_size=60))
    target = np.array([label for label, _ in rows], dtype=np.int64)
    assume(0 < target.sum() < len(target))
    return target, np.array([score for _, score in rows])


@settings(max_examples=300, deadline=None)
@given(st.one_of(cases(), any_cases()))
def test_metrics_equal_scikit_learn_or_brute_force(case: Case) -> None:
    expected = {
        "auc": sklearn.roc_auc_score(*case),
        "accuracy": sklearn.accuracy_score(case[0], case[1] > 0.5),
        "log_loss": sklearn.log_loss(*case, labels=[0, 1]),
        "brier": sklearn.brier_score_loss(*case),
        "average_precision": sklearn.average_precision_score(*case),
        "eer": eer_of_all_lines(*case),
        "ece": ece_of_all_bins(*case),
        **{f"tpr_at_fpr_1e-{n}": best_tpr_of_all_thresholds(*case, 10.0**-n) for n in (1, 2, 3)},
    }
    found = metrics.evaluate(*case)
    assert set(expected) == set(metrics.METRICS)
    for name, value in expected.items():
        assert math.isclose(found[name], value, rel_tol=1e-12, abs_tol=1e-12), name


@settings(max_examples=50, deadline=None)
@given(any_cases(), st.integers(0, 2**32 - 1))
def test_a_resample_equals_its_repeated_images(case: Case, seed: int) -> None:
    target, y_pred = case
    weight = np.random.default_rng(seed).integers(1, 4, len(target))
    whole = count_scores(target, y_pred)
    place = np.searchsorted(-whole.score, -y_pred)
    real, fake = (
        np.bincount(place[target == label], weight[target == label], minlength=len(whole.score)) for label in (0, 1)
    )
    many = ScoreCounts(whole.score, np.stack([whole.real, real]), np.stack([whole.fake, fake]))
    written = metrics.evaluate(np.repeat(target, weight), np.repeat(y_pred, weight))
    for name, metric in metrics.METRICS.items():
        assert np.allclose(metric(many), [metric(whole), written[name]], rtol=0, atol=1e-12), name


@pytest.mark.parametrize(
    ("real", "passed_over", "name", "expected"),
    [
        (999, 0, "tpr_at_fpr_1e-3", 1.0),
        (999, 1, "tpr_at_fpr_1e-3", 0.0),
        (1000, 1, "tpr_at_fpr_1e-3", 1.0),
        (1000, 2, "tpr_at_fpr_1e-3", 0.0),
        (3000, 3, "tpr_at_fpr_1e-3", 1.0),
        (99, 1, "tpr_at_fpr_1e-2", 0.0),
        (100, 1, "tpr_at_fpr_1e-2", 1.0),
        (700, 7, "tpr_at_fpr_1e-2", 1.0),
        (700, 8, "tpr_at_fpr_1e-2", 0.0),
    ],
)
def test_a_false_positive_rate_at_the_bound_is_within_it(
    real: int, passed_over: int, name: str, expected: float
) -> None:
    assert metrics.METRICS[name](count_scores(*ranked(real, 20, passed_over))) == expected


def test_tied_real_and_fake_images_pass_together_or_not_at_all() -> None:
    target, y_pred = np.array([1, 1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.7, 0.1])
    assert metrics.tpr_at_fpr(count_scores(target, y_pred), 0.49) == pytest.approx(2 / 3)
    assert metrics.tpr_at_fpr(count_scores(target, y_pred), 0.5) == 1.0


def test_a_half_counts_as_real() -> None:
    assert metrics.accuracy(count_scores(np.array([0, 0, 1]), np.array([0.5, 0.1, np.nextafter(0.5, 1)]))) == 1


def test_log_loss_is_the_mean_cross_entropy() -> None:
    target, y_pred = np.array([0, 1, 1]), np.array([0.25, 0.5, 0.9])
    assert metrics.log_loss(count_scores(target, y_pred)) == pytest.approx(
        -(math.log(0.75) + math.log(0.5) + math.log(0.9)) / 3
    )


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_log_loss_of_a_certain_mistake_is_finite(kind: type) -> None:
    assert metrics.log_loss(count_scores(np.array([0, 1]), np.array([1, 0], dtype=kind))) == pytest.approx(
        36.04, abs=0.01
    )


def test_log_loss_of_one_class_is_valid() -> None:
    assert metrics.log_loss(count_scores(np.array([1, 1]), np.array([0.5, 0.5]))) == pytest.approx(math.log(2))


def test_evaluate_counts_both_classes_and_has_every_metric() -> None:
    scores = metrics.evaluate(np.array([0, 0, 0, 1]), np.array([0.1, 0.6, 0.2, 0.9]))
    assert scores == {
        "real": 3,
        "fake": 1,
        "auc": 1.0,
        "tpr_at_fpr_1e-3": 1.0,
        "tpr_at_fpr_1e-2": 1.0,
        "tpr_at_fpr_1e-1": 1.0,
        "accuracy": 0.75,
        "log_loss": pytest.approx(-(math.log(0.9) * 2 + math.log(0.4) + math.log(0.8)) / 4),
        "brier": pytest.approx((0.01 + 0.36 + 0.04 + 0.01) / 4),
        "eer": 0.0,
        "average_precision": 1.0,
        "ece": pytest.approx((0.1 + 0.6 + 0.2 + 0.1) / 4),
    }


def test_the_mean_is_taken_metric_by_metric() -> None:
    scores = [{name: value + place for place, name in enumerate(metrics.METRICS)} for value in (1.0, 2.0, 6.0)]
    assert metrics.average_scores(scores) == {name: 3.0 + place for place, name in enumerate(metrics.METRICS)}
