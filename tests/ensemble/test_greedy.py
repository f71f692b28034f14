from __future__ import annotations

from collections import Counter
from math import gcd
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ffdi.ensemble import combine
from ffdi.ensemble.combine import OofMatrix
from ffdi.evaluation import metrics
from ffdi.evaluation.predictions import sigmoid


def make_matrix(
    rng: np.random.Generator, signals: list[float], images: int = 60, folds: int = 2, grain: int = 0
) -> OofMatrix:
    """Members of the signals given; a grain makes ties."""
    target, fold = np.arange(images) % 2, np.arange(images) // 2 % folds
    logits = np.array(signals)[:, None] * (2 * target - 1) + rng.normal(size=(len(signals), images))
    return OofMatrix(np.round(logits * grain) / grain if grain else logits, target, fold)


def slow(matrix: OofMatrix, folds: list[int], rounds: int) -> list[float]:
    """The same rule, written out: bags are lists of experiments, every AUC is computed anew by scikit-learn."""

    def area(bag: list[int]) -> float:
        count = [bag.count(one) // gcd(*Counter(bag).values()) for one in range(len(matrix.logits))]
        y_pred = np.array(count) @ sigmoid(matrix.logits) / sum(count)  # to the bit: rounding decides about ties
        parts = [matrix.fold == number for number in folds]
        return round(float(np.mean([roc_auc_score(matrix.target[part], y_pred[part]) for part in parts])), 12)

    order = sorted(range(len(matrix.logits)), key=lambda one: -area([one]))
    best = order[:1]
    for count in range(2, len(order) + 1):
        if area(order[:count]) >= area(best):
            best = order[:count]
    bag = best
    for _ in range(rounds):
        candidates = [[*bag, one] for one in order]
        bag = candidates[int(np.argmax([area(candidate) for candidate in candidates]))]
        if area(bag) > area(best):
            best = bag
    return [Counter(best)[one] / len(best) for one in range(len(matrix.logits))]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.3, 0.6, 1.0]), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 2]),
)
def test_it_equals_a_plain_implementation(signals: list[float], seed: int, grain: int) -> None:
    members = make_matrix(np.random.default_rng(seed), signals, images=40, grain=grain)
    with patch.object(combine, "GREEDY_ROUNDS", 5):
        found = combine.fit_greedy(members, [0, 1]).weights
    assert found.tolist() == pytest.approx(slow(members, [0, 1], 5))


def test_no_bag_is_scored_twice() -> None:
    members = make_matrix(np.random.default_rng(0), [0.5, 0.6, 0.7])
    with patch.object(metrics, "auc", wraps=metrics.auc) as asked:
        combine.fit_greedy(members, [0, 1])
        first = asked.call_count
        assert first <= 2 * (3 + 2 + 3 * combine.GREEDY_ROUNDS)
        combine.fit_greedy(members, [0, 1])
        assert asked.call_count == first


def test_a_good_member_among_noise_is_found() -> None:
    weights = combine.fit_greedy(
        make_matrix(np.random.default_rng(1), [0.0, 0.0, 1.5, 0.0], 2000, 5), [0, 1, 2, 3, 4]
    ).weights
    assert weights.argmax() == 2
    assert weights[2] > 0.9


def test_images_of_other_folds_are_not_used() -> None:
    members = make_matrix(np.random.default_rng(2), [0.5, 0.7, 0.9], 200)
    changed = np.where(members.fold == 1, -members.logits, members.logits)
    assert combine.fit_greedy(members, [0]).weights.tolist() == (
        combine.fit_greedy(OofMatrix(changed, members.target, members.fold), [0]).weights.tolist()
    )


def test_perfect_members_have_equal_weights() -> None:
    target, fold = np.arange(40) % 2, np.arange(40) // 2 % 2
    perfect = 20.0 * target - 10 + np.random.default_rng(3).normal(size=(2, 40))
    noise = np.random.default_rng(4).normal(size=(1, 40))
    assert (
        combine.fit_greedy(OofMatrix(np.concatenate([perfect, 3 * noise]), target, fold), [0, 1]).weights[:2].min()
        > 0.3
    )


def test_a_constant_member_is_harmless() -> None:
    members = make_matrix(np.random.default_rng(5), [0.8, 0.8], 200)
    flat = OofMatrix(np.concatenate([members.logits, np.full((1, 200), 3.0)]), members.target, members.fold)
    assert flat.fold_aucs((0, 0, 1)) == {0: 0.5, 1: 0.5}
    weights = combine.fit_greedy(flat, [0, 1]).weights
    assert weights.sum() == pytest.approx(1)
    assert weights[2] < 0.5
