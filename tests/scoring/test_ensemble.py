from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ffdi.errors import ConfigError
from ffdi.scoring import ensemble

LOGITS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 8)),
    elements=st.floats(-200, 200, width=32),
)


@settings(max_examples=150, deadline=None)
@given(LOGITS, st.sampled_from(sorted(ensemble.METHODS)), st.randoms(use_true_random=False))
def test_the_score_lies_between_the_least_and_the_largest_member(logits: np.ndarray, name: str, chance: object) -> None:
    weights = np.array([chance.random() + 0.01 for _ in logits])  # type: ignore[attr-defined]
    y_pred = ensemble.combine(logits, weights / weights.sum(), name)
    members = ensemble.sigmoid(logits)
    assert (y_pred.shape, y_pred.dtype) == ((logits.shape[1],), np.float64)
    assert (y_pred >= members.min(axis=0) - 1e-12).all()
    assert (y_pred <= members.max(axis=0) + 1e-12).all()


@pytest.mark.parametrize("name", ensemble.METHODS)
@pytest.mark.parametrize("folds", range(1, 41))
def test_certain_members_never_add_up_to_more_than_one(name: str, folds: int) -> None:
    y_pred = ensemble.combine(np.full((folds, 2), 100.0), ensemble.equal_weights([folds]), name)
    assert (y_pred <= 1).all()
    assert y_pred == pytest.approx(1)


def test_mean_averages_probabilities_and_logit_mean_averages_logits() -> None:
    logits, weights = np.array([[0.0], [2.0]]), np.array([0.75, 0.25])
    sigmoid = 1 / (1 + math.exp(-2))
    assert ensemble.combine(logits, weights, "mean") == pytest.approx([0.75 * 0.5 + 0.25 * sigmoid])
    assert ensemble.combine(logits, weights, "logit_mean") == pytest.approx([1 / (1 + math.exp(-0.5))])


@pytest.mark.parametrize("name", ensemble.METHODS)
def test_an_images_score_does_not_depend_on_the_others(name: str) -> None:
    assert ensemble.method(name).pointwise
    logits, weights = np.random.default_rng(0).normal(size=(5, 30)), ensemble.equal_weights([5])
    together = ensemble.combine(logits, weights, name)
    alone = [ensemble.combine(logits[:, [image]], weights, name)[0] for image in range(30)]
    assert together == pytest.approx(alone, rel=1e-14)


def test_half_precision_logits_are_combined_in_float64() -> None:
    logits = np.array([[1.0], [2.0]], np.float16)
    exact = (1 / (1 + math.exp(-1)) + 1 / (1 + math.exp(-2))) / 2
    assert ensemble.combine(logits, np.array([0.5, 0.5]), "mean")[0] == pytest.approx(exact, rel=1e-14)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_every_experiment_counts_the_same_and_so_does_each_fold(members: list[int]) -> None:
    parts = np.split(ensemble.equal_weights(members), np.cumsum(members)[:-1])
    assert [len(part) for part in parts] == members
    assert all(math.isclose(part.sum(), 1 / len(members)) for part in parts)
    assert all(np.ptp(part) == 0 for part in parts)


@given(st.floats(-30, 30))
def test_sigmoid_is_the_logistic_function(logit: float) -> None:
    assert ensemble.sigmoid(np.array([logit]))[0] == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-15)


def test_sigmoid_does_not_overflow() -> None:
    with np.errstate(all="raise"):
        extremes = np.array([-np.inf, -1e30, 0, 1e30, np.inf], np.float32)
        assert ensemble.sigmoid(extremes).tolist() == [0, 0, 0.5, 1, 1]


@pytest.mark.parametrize(
    ("name", "advice"), [("logitmean", "did you mean 'logit_mean'?"), ("stacking", "known: mean, logit_mean")]
)
def test_an_unknown_method_is_refused(name: str, advice: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ensemble.combine(np.zeros((1, 1)), np.ones(1), name)
    expected = f"unknown ensemble method '{name}': {advice}\nnext: correct ensemble.method in config.toml"
    assert str(caught.value) == expected
