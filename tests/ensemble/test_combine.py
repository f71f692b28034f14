from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ffdi.ensemble import combine
from ffdi.ensemble.combine import Combination
from ffdi.evaluation.predictions import OofPredictions, sigmoid

FIXED = ["logit_mean", "mean"]
"""Methods that need no ledger."""
LOGITS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 8)),
    elements=st.floats(-200, 200, width=32),
)


@settings(max_examples=150, deadline=None)
@given(LOGITS, st.sampled_from([*FIXED, "greedy", "stacking"]), st.randoms(use_true_random=False))
def test_the_score_lies_between_the_least_and_the_largest_member(logits: np.ndarray, name: str, chance: object) -> None:
    weights = np.array([chance.random() + 0.01 for _ in logits])  # type: ignore[attr-defined]
    y_pred = Combination(name, weights / weights.sum()).combine(logits, [1] * len(logits))
    members = sigmoid(logits)
    assert (y_pred.shape, y_pred.dtype) == ((logits.shape[1],), np.float64)
    assert (y_pred >= members.min(axis=0) - 1e-12).all()
    assert (y_pred <= members.max(axis=0) + 1e-12).all()


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("folds", range(1, 41))
def test_certain_members_have_a_mean_of_one_at_most(name: str, folds: int) -> None:
    y_pred = combine.make_equal_combination(name, 1).combine(np.full((folds, 2), 100.0), [folds])
    assert (y_pred <= 1).all()
    assert y_pred == pytest.approx(1)


def test_some_methods_average_probabilities_and_some_logits() -> None:
    logits, weights = np.array([[0.0], [2.0]]), np.array([0.75, 0.25])
    sigmoid = 1 / (1 + math.exp(-2))
    assert combine.make_equal_combination("mean", 2).combine(logits, [1, 1]) == pytest.approx(
        [0.5 * 0.5 + 0.5 * sigmoid]
    )
    assert combine.make_equal_combination("logit_mean", 2).combine(logits, [1, 1]) == pytest.approx(
        [1 / (1 + math.exp(-1))]
    )
    assert Combination("greedy", weights).combine(logits, [1, 1]) == pytest.approx([0.75 * 0.5 + 0.25 * sigmoid])
    assert Combination("stacking", weights, 1.0).combine(logits, [1, 1]) == pytest.approx([1 / (1 + math.exp(-1.5))])


@pytest.mark.parametrize("name", FIXED)
def test_an_images_score_does_not_depend_on_the_others(name: str) -> None:
    assert combine.METHODS[name].pointwise
    logits, combination = np.random.default_rng(0).normal(size=(5, 30)), combine.make_equal_combination(name, 1)
    together = combination.combine(logits, [5])
    alone = [combination.combine(logits[:, [image]], [5])[0] for image in range(30)]
    assert together == pytest.approx(alone, rel=1e-14)


def test_half_precision_logits_are_combined_in_float64() -> None:
    logits = np.array([[1.0], [2.0]], np.float16)
    exact = (1 / (1 + math.exp(-1)) + 1 / (1 + math.exp(-2))) / 2
    assert combine.make_equal_combination("mean", 1).combine(logits, [2])[0] == pytest.approx(exact, rel=1e-14)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_experiments_and_their_folds_have_equal_weights(members: list[int]) -> None:
    parts = np.split(combine.compute_equal_weights(members), np.cumsum(members)[:-1])
    assert [len(part) for part in parts] == members
    assert all(math.isclose(part.sum(), 1 / len(members)) for part in parts)
    assert all(np.ptp(part) == 0 for part in parts)


@given(st.floats(-30, 30))
def test_sigmoid_is_the_logistic_function(logit: float) -> None:
    assert sigmoid(np.array([logit]))[0] == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-15)


def test_sigmoid_does_not_overflow() -> None:
    with np.errstate(all="raise"):
        extremes = np.array([-np.inf, -1e30, 0, 1e30, np.inf], np.float32)
        assert sigmoid(extremes).tolist() == [0, 0, 0.5, 1, 1]


# --- combinations of experiments -----------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(LOGITS, st.integers(1, 4), st.sampled_from(FIXED))
def test_equal_experiments_have_the_bits_of_equal_networks(logits: np.ndarray, experiments: int, name: str) -> None:
    folds = [len(part) for part in np.array_split(logits, min(experiments, len(logits)))]
    combined = combine.make_equal_combination(name, len(folds)).combine(logits, folds)
    weights, values = combine.compute_equal_weights(folds), logits.astype(np.float64)
    plain = weights @ sigmoid(values) if name == "mean" else sigmoid(weights @ values)
    assert combined.tobytes() == np.clip(plain, 0, 1).tobytes()


@pytest.mark.parametrize("name", combine.METHODS)
@given(
    folds=st.lists(st.integers(1, 5), min_size=1, max_size=4), images=st.integers(1, 8), seed=st.integers(0, 2**32 - 1)
)
@settings(max_examples=40, deadline=None)
def test_any_combination_of_experiments_scores_in_0_to_1(name: str, folds: list[int], images: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=50, size=(sum(folds), images))
    y_pred = Combination(name, rng.dirichlet(np.ones(len(folds)))).combine(logits, folds)
    assert (y_pred.shape, y_pred.dtype) == ((images,), np.float64)
    assert (y_pred >= 0).all()
    assert (y_pred <= 1).all()


@pytest.mark.parametrize("name", ["greedy", "stacking"])
def test_an_experiments_weight_is_divided_among_its_folds(name: str) -> None:
    one = Combination(name, np.array([0.75, 0.25]))
    assert one.spread_weights([3, 1]).tolist() == [0.25, 0.25, 0.25, 0.25]
    logits = np.array([[1.0, -2.0], [-3.0, 0.5]])
    assert one.combine(np.repeat(logits, [4, 2], axis=0), [4, 2]) == pytest.approx(one.combine(logits, [1, 1]))


def test_networks_without_an_experiment_are_refused() -> None:
    with pytest.raises(ValueError, match="2 experiments with weights, 1 with networks"):
        combine.make_equal_combination("mean", 2).combine(np.zeros((3, 1)), [3])


def test_stacking_adds_its_bias() -> None:
    y_pred = Combination("stacking", np.array([2.0, 1.0]), -0.5).combine(np.array([[1.0], [0.25]]), [1, 1])
    assert y_pred == pytest.approx([1 / (1 + math.exp(-1.75))])


@pytest.mark.parametrize("name", combine.METHODS)
def test_pointwise_methods_score_each_image_alone(name: str) -> None:
    logits, one = np.random.default_rng(0).normal(size=(4, 30)), Combination(name, np.array([0.3, 0.7]))
    together, alone = one.combine(logits, [2, 2]), [one.combine(logits[:, [at]], [2, 2])[0] for at in range(30)]
    assert np.allclose(together, alone, rtol=1e-14, atol=0) == combine.METHODS[name].pointwise


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30))
def test_ranks_are_scaled_and_ties_share_their_mean(scores: list[int]) -> None:
    by_hand = [sum(other < own for other in scores) + scores.count(own) / 2 for own in scores]
    assert combine.compute_ranks(np.array(scores)) * len(scores) == pytest.approx(by_hand)


def test_the_rank_mean_ignores_the_size_of_logits() -> None:
    logits = np.array([[1.0, 2.0, 3.0], [5.0, -900.0, 700.0]])
    assert combine.make_equal_combination("rank_mean", 2).combine(logits, [1, 1]) == pytest.approx(
        [2 / 6, 2 / 6, 5 / 6]
    )


def test_equal_sums_of_ranks_are_ties() -> None:
    logits = np.array([np.random.default_rng(seed).permutation(7) for seed in range(6)])
    y_pred = combine.make_equal_combination("rank_mean", 6).combine(logits, [1] * 6)
    assert len(np.unique(y_pred)) == len(np.unique(logits.sum(axis=0)))


@pytest.mark.parametrize("name", combine.METHODS)
def test_out_of_fold_scores_are_those_of_each_fold(name: str) -> None:
    logits, fold = np.random.default_rng(0).normal(size=(2, 12)), np.arange(12) % 3
    one = Combination(name, np.array([0.5, 0.5]))
    y_pred = one.combine_within_folds(logits, fold)
    for number in range(3):
        assert y_pred[fold == number] == pytest.approx(one.combine(logits[:, fold == number], [1, 1]))


def test_out_of_fold_ranks_are_those_of_the_predictions() -> None:
    rng = np.random.default_rng(1)
    logit, fold = np.round(rng.normal(size=40), 1).astype(np.float32), rng.integers(0, 3, 40)
    ledger = OofPredictions(np.arange(40).astype(str), fold, fold, logit, np.full(40, "aa"))
    assert combine.make_equal_combination("rank_mean", 1).combine_within_folds(logit[None], fold) == pytest.approx(
        ledger.ranks, abs=1e-12
    )
