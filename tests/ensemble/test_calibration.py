from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ffdi.ensemble import calibration
from ffdi.ensemble.calibration import Calibration
from ffdi.evaluation import metrics
from ffdi.evaluation.metrics import count_scores

NINE_DIGITS = st.integers(0, 10**9).map(lambda digits: digits / 10**9)
EXTREMES = st.one_of(NINE_DIGITS, st.sampled_from([0.0, 1.0, 1e-9, 1e-8, 1 - 1e-9, 1 - 1e-8, 0.5, 0.5 + 1e-9]))
SCORES = arrays.arrays(np.float64, st.integers(2, 60), elements=EXTREMES)
SINGLES = arrays.arrays(np.float32, st.integers(2, 60), elements=st.floats(0, 1, width=32))


def auc(target: np.ndarray, y_pred: np.ndarray) -> float:
    return float(metrics.auc(count_scores(target, y_pred)))


def log_loss(target: np.ndarray, y_pred: np.ndarray) -> float:
    return float(metrics.log_loss(count_scores(target, y_pred)))


def drawn(temperature: float, images: int = 4000, seed: int = 0, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose logit, divided by the temperature, is true; labels."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(scale=scale, size=images)
    return 1 / (1 + np.exp(-logit * temperature)), (rng.random(images) < 1 / (1 + np.exp(-logit))).astype(int)


@pytest.mark.parametrize("kind", calibration.KINDS)
@given(scores=SCORES, seed=st.integers(0, 2**32 - 1), other=SCORES)
@settings(max_examples=150, deadline=None)
def test_it_never_lowers_the_auc(kind: str, scores: np.ndarray, seed: int, other: np.ndarray) -> None:
    rng = np.random.default_rng(seed)
    target, labels = rng.integers(0, 2, len(scores)), rng.integers(0, 2, len(other))
    target[:2] = labels[:2] = 0, 1
    fitted = calibration.fit_calibration(kind, scores, target)
    for y_pred, label in ((scores, target), (other, labels)):
        calibrated = fitted.apply(y_pred)
        assert calibrated.dtype == np.float64
        assert (calibrated >= 0).all()
        assert (calibrated <= 1).all()
        assert auc(label, calibrated) == auc(label, y_pred)
        assert len(np.unique(calibrated)) == len(np.unique(y_pred))


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0, 4.0, 20.0])
@given(scores=arrays.arrays(np.int64, 40, elements=st.integers(0, 2**24)))
def test_a_temperature_keeps_float32_scores_distinct(temperature: float, scores: np.ndarray) -> None:
    y_pred = (scores / 2**24).astype(np.float32)
    calibrated = Calibration("temperature", temperature).apply(y_pred)
    assert np.unique(calibrated, return_inverse=True)[1].tolist() == np.unique(y_pred, return_inverse=True)[1].tolist()


@pytest.mark.parametrize("kind", calibration.KINDS)
@given(scores=SINGLES, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_the_log_loss_of_the_fitted_images_does_not_increase(kind: str, scores: np.ndarray, seed: int) -> None:
    target = np.random.default_rng(seed).integers(0, 2, len(scores))
    before = log_loss(target, scores)
    assert log_loss(target, calibration.fit_calibration(kind, scores, target).apply(scores)) <= before + 1e-9


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_over_and_underconfident_scores_get_a_lower_log_loss(kind: str, temperature: float) -> None:
    y_pred, target = drawn(temperature)
    truth = drawn(1.0)[0]
    fitted = calibration.fit_calibration(kind, y_pred, target)
    assert log_loss(target, fitted.apply(y_pred)) < log_loss(target, y_pred) - 0.02
    fresh, labels = drawn(temperature, seed=1)
    assert log_loss(labels, fitted.apply(fresh)) < log_loss(labels, fresh) - 0.02
    assert np.abs(fitted.apply(y_pred) - truth).mean() < 0.02


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_temperature_is_found(temperature: float) -> None:
    y_pred, target = drawn(temperature, 100_000)
    assert calibration.fit_calibration("temperature", y_pred, target).temperature == pytest.approx(
        temperature, rel=0.02
    )


def test_no_other_temperature_has_a_lower_log_loss() -> None:
    y_pred, target = drawn(1.7, 500)
    best = calibration.fit_calibration("temperature", y_pred, target)
    around = [Calibration("temperature", best.temperature * factor) for factor in (0.9, 0.99, 1.01, 1.1)]
    least = log_loss(target, best.apply(y_pred))
    assert all(log_loss(target, one.apply(y_pred)) > least for one in around)


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_perfect_and_random_scores_are_calibrated_too(kind: str) -> None:
    target = np.arange(100) % 2
    for y_pred in (0.4 + 0.2 * target, np.full(100, 0.7), 1.0 * target, 1.0 - target):
        calibrated = calibration.fit_calibration(kind, y_pred, target).apply(y_pred)
        assert np.isfinite(calibrated).all()
        assert auc(target, calibrated) == auc(target, y_pred)
        assert log_loss(target, calibrated) <= log_loss(target, y_pred) + 1e-9


@given(SINGLES, st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_isotonic_has_few_pieces_of_limited_slope(scores: np.ndarray, seed: int) -> None:
    target = np.random.default_rng(seed).integers(0, 2, len(scores))
    fitted = calibration.fit_calibration("isotonic", scores, target)
    base, x, slope = fitted.list_pieces()
    assert len(x) <= calibration.BINS + 1
    assert slope.cumsum().min() >= calibration.IDENTITY_FRACTION["isotonic"] - 1e-12
    assert slope.cumsum().max() <= 1 / calibration.MIN_GAP
    grid = np.linspace(0, 1, 201)
    assert base + np.maximum(grid[:, None] - x, 0) @ slope == pytest.approx(fitted.apply(grid), abs=1e-9)


@pytest.mark.parametrize("kind", calibration.KINDS)
def test_a_description_is_json(kind: str) -> None:
    described = calibration.fit_calibration(kind, *drawn(2.0)).describe()
    assert json.loads(json.dumps(described)) == described


def test_a_description_has_the_parameters() -> None:
    assert Calibration("none").describe() == {"kind": "none"}
    assert Calibration("temperature", 2.0).describe() == {"kind": "temperature", "temperature": 2.0}
    assert Calibration("isotonic").describe() == {"kind": "isotonic", "x": [0.0, 1.0], "y": [0.0, 1.0]}


def test_none_keeps_the_bits() -> None:
    y_pred = drawn(1.0)[0]
    assert Calibration("none").apply(y_pred).tobytes() == y_pred.tobytes()


def test_a_temperature_divides_the_logit() -> None:
    calibrated = Calibration("temperature", 2.0).apply(np.array([1 / (1 + math.exp(-3.0))]))
    assert calibrated == pytest.approx(1 / (1 + math.exp(-1.5)), abs=1e-6)
