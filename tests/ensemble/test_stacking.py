from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from ffdi.ensemble import combine
from ffdi.ensemble.combine import OofMatrix


def make_matrix(weights: list[float], bias: float, images: int, offset: float = 0.0, seed: int = 0) -> OofMatrix:
    """Labels drawn by the probability that the weights give; then each fold's logits are offset."""
    rng = np.random.default_rng(seed)
    logits, fold = rng.normal(scale=2, size=(len(weights), images)), np.arange(images) % 4
    target = (rng.random(images) < 1 / (1 + np.exp(-(weights @ logits + bias)))).astype(int)
    return OofMatrix(logits + offset * rng.normal(size=(len(weights), 4))[:, fold], target, fold)


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_known_weights_are_recovered_whatever_the_folds_offsets(offset: float) -> None:
    found = combine.fit_stacking(make_matrix([0.8, 0.3, 0.0], 0.4, 60_000, offset), [0, 1, 2, 3])
    assert found.weights == pytest.approx([0.8, 0.3, 0.0], abs=0.03)
    if not offset:
        assert found.bias == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_best_of_all_weights_that_are_not_negative(seed: int) -> None:
    case = make_matrix([0.5, -0.4, 0.2, -0.1], 0.0, 800, 1.0, seed)
    found = combine.fit_stacking(case, [0, 1, 2, 3])
    spread = case.logits.std(axis=1)
    columns = np.concatenate([case.logits / spread[:, None], np.eye(4)[case.fold].T])

    def loss(beta: np.ndarray) -> float:
        return float(np.logaddexp(0, (1 - 2 * case.target) * (beta @ columns)).sum() + (beta[:4] ** 2).sum() / 2)

    exact = minimize(loss, np.zeros(8), bounds=[(0, None)] * 4 + [(None, None)] * 4, options={"ftol": 1e-14}).x
    assert found.weights * spread == pytest.approx(exact[:4], abs=2e-3)
    assert found.bias == pytest.approx(exact[4:].mean(), abs=2e-3)


def test_a_good_member_among_noise_is_found() -> None:
    weights = combine.fit_stacking(make_matrix([0.0, 0.0, 1.5, 0.0], 0.0, 4000), [0, 1, 2, 3]).weights
    assert weights[2] > 10 * np.delete(weights, 2).max()


def test_few_images_give_equal_weights() -> None:
    case = make_matrix([2.0, 0.0], 0.0, 110)
    rare = np.bincount(case.target).min()
    assert rare < combine.MIN_IMAGES * 6
    assert combine.fit_stacking(case, [0, 1, 2, 3]).weights.tolist() == [0.5, 0.5]


def test_inverted_members_give_equal_weights() -> None:
    found = combine.fit_stacking(make_matrix([-1.0, -0.5], 0.0, 2000), [0, 1, 2, 3])
    assert (found.weights.tolist(), found.bias) == ([0.5, 0.5], 0.0)


def test_a_perfect_and_a_constant_member_have_finite_weights() -> None:
    target, fold = np.arange(400) % 2, np.arange(400) // 2 % 4
    logits = np.stack([200.0 * target - 100, np.full(400, 7.0), np.random.default_rng(0).normal(size=400)])
    found = combine.fit_stacking(OofMatrix(logits, target, fold), [0, 1, 2, 3])
    assert np.isfinite(found.weights).all()
    assert np.isfinite(found.bias)
    y_pred = found.combine(logits, [1, 1, 1])
    assert y_pred[target == 1].min() > y_pred[target == 0].max()


def test_copies_share_their_weight() -> None:
    case = make_matrix([0.8, 0.3], 0.0, 2000)
    once = combine.fit_stacking(case, [0, 1, 2, 3]).weights
    twice = combine.fit_stacking(OofMatrix(case.logits[[0, 0, 1]], case.target, case.fold), [0, 1, 2, 3]).weights
    assert twice[0] == pytest.approx(twice[1])
    assert twice[0] + twice[1] == pytest.approx(once[0], rel=0.01)
