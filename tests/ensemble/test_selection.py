from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffdi.core.errors import ConfigError, ExperimentError
from ffdi.ensemble import selection
from ffdi.ensemble.combine import METHODS, OofMatrix
from ffdi.ensemble.selection import Choice, choose_method
from ffdi.evaluation import differences, metrics

Ledgers = tuple[np.ndarray, np.ndarray, np.ndarray]
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "nested_choice.py"


def ledgers(seed: int, signals: list[float], images: int = 600, folds: int = 3) -> Ledgers:
    """logits [E, N] with noise in common and offsets of the folds, target, fold."""
    rng = np.random.default_rng(seed)
    target, fold = np.arange(images) % 2, np.arange(images) // 2 % folds
    noise = 0.6 * rng.normal(size=images) + 0.8 * rng.normal(size=(len(signals), images))
    offset = rng.normal(size=(len(signals), folds))[:, fold]
    return np.array(signals)[:, None] * (2 * target - 1) + noise + offset, target, fold


def table(choice: Choice) -> dict[str, tuple[object, ...]]:
    return {row.method: (row.auc, row.difference, row.interval) for row in choice.rows}


def chosen(choice: Choice) -> list[str]:
    return [row.method for row in choice.rows if row.chosen]


# --- what is chosen ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grouped", [False, True])
def test_a_good_member_among_noise_is_found(grouped: bool) -> None:
    logits, target, fold = ledgers(0, [0.0, 1.0, 0.0, 0.0])
    choice = choose_method(logits, target, fold, np.arange(600).astype(str) if grouped else None)
    assert chosen(choice) in (["greedy"], ["stacking"])
    assert choice.combination.method == chosen(choice)[0]
    assert choice.combination.weights.argmax() == 1
    assert choice.combination.weights[1] > 0.8 * choice.combination.weights.sum()
    assert choice.rule == differences.RULES["groups" if grouped else "images"]


def test_equal_members_keep_the_plain_mean() -> None:
    choice = choose_method(*ledgers(1, [0.8, 0.8, 0.8]))
    assert chosen(choice) == ["mean"]
    assert choice.combination.weights.tolist() == [1 / 3] * 3


def test_a_gain_from_few_groups_is_not_significant() -> None:
    logits, target, fold = ledgers(2, [0.8, 0.55, 0.55], 120, 3)
    copied = [np.repeat(part, 8, axis=-1) for part in (logits, target, fold)]
    group = np.repeat(np.arange(120).astype(str), 8)
    alone, grouped = choose_method(*copied), choose_method(*copied, group)
    assert chosen(alone) != ["mean"]
    assert chosen(grouped) == ["mean"]
    assert [one.auc for one in alone.rows] == [one.auc for one in grouped.rows]


def test_the_rank_mean_is_scored_but_not_chosen() -> None:
    logits, target, fold = ledgers(3, [0.9, 0.9])
    logits[1] = 300 * np.sign(logits[1]) * np.abs(logits[1]) ** 0.1  # saturated: its probabilities are 0 or 1
    choice = choose_method(logits, target, fold, None, ["rank_mean"])
    assert [row.method for row in choice.rows] == ["mean", "rank_mean"]
    assert choice.rows[1].interval is not None
    assert choice.rows[1].interval[0] > 0
    assert chosen(choice) == ["mean"]


def test_with_one_experiment_there_is_no_choice() -> None:
    logits, target, fold = ledgers(4, [0.8])
    choice = choose_method(logits, target, fold)
    areas = [
        metrics.auc(metrics.count_scores(target[fold == number], logits[0, fold == number])) for number in range(3)
    ]
    assert table(choice) == {"mean": (pytest.approx(np.mean(areas)), 0, (0, 0))}
    assert (choice.combination.method, choice.combination.weights.tolist()) == ("mean", [1.0])


def test_with_one_fold_there_is_no_nesting() -> None:
    logits, target, _ = ledgers(4, [0.8, 0.1])
    assert chosen(choose_method(logits, target, np.zeros(600, int))) == ["mean"]


def test_few_images_keep_the_plain_mean() -> None:
    choice = choose_method(*ledgers(5, [2.0, 0.0, 0.0], images=54))
    assert chosen(choice) == ["mean"]
    assert {row.interval for row in choice.rows[1:]} == {None}


def test_a_perfect_and_a_constant_member() -> None:
    logits, target, fold = ledgers(6, [0.2, 0.2, 0.2])
    logits[0], logits[1] = 0.5 * target - 0.25, 3.0
    choice = choose_method(logits, target, fold)
    assert chosen(choice) in (["greedy"], ["stacking"])
    assert table(choice)[chosen(choice)[0]][0] == 1
    assert choice.combination.weights[0] > 0.9 * choice.combination.weights.sum()


def test_identical_experiments_have_identical_bits() -> None:
    logits, target, fold = ledgers(7, [0.8])
    choice = choose_method(logits[[0, 0, 0]], target, fold)
    assert chosen(choice) == ["mean"]
    assert all(row.difference == pytest.approx(0, abs=1e-6) for row in choice.rows)


# --- how it is scored ----------------------------------------------------------------------------------------------


def test_nested_scores_use_weights_of_the_other_folds() -> None:
    logits, target, fold = ledgers(8, [0.9, 0.5, 0.3])
    matrix = OofMatrix(logits, target, fold)
    choice = choose_method(logits, target, fold, None, ["stacking"])
    assert chosen(choice) == ["stacking"]
    for number in range(3):
        rows = fold == number
        honest = selection.fit_method("stacking", matrix, [other for other in range(3) if other != number])
        assert choice.y_pred[rows] == pytest.approx(honest.combine(logits[:, rows], [1, 1, 1]), abs=1e-9)


def test_nested_scores_do_not_depend_on_the_folds_labels() -> None:
    logits, target, fold = ledgers(9, [1.0, 0.5, 0.0])
    turned = np.where(fold == 2, 1 - target, target)
    for name in METHODS:
        whole, other = (choose_method(logits, labels, fold, None, [name]) for labels in (target, turned))
        assert len(whole.rows) == len(other.rows)
    one, two = (OofMatrix(logits, labels, fold) for labels in (target, turned))
    for name in METHODS:
        assert (
            selection.fit_method(name, one, [0, 1]).weights.tolist()
            == selection.fit_method(name, two, [0, 1]).weights.tolist()
        )


def test_more_methods_widen_the_intervals() -> None:
    case = ledgers(10, [0.8, 0.7])
    few, many = choose_method(*case, None, ["logit_mean"]), choose_method(*case)
    half = [np.ptp(table(choice)["logit_mean"][2]) / 2 for choice in (few, many)]
    assert half[1] / half[0] == pytest.approx(2.497705 / 1.959964, rel=0.01)  # quantiles of 0.05 / 8, 0.05 / 2


@pytest.mark.parametrize("grouped", [False, True])
def test_the_order_of_the_images_changes_nothing(grouped: bool) -> None:
    logits, target, fold = ledgers(11, [0.9, 0.6, 0.3])
    logits = np.round(logits, 1)  # ties
    group = (np.arange(600) // 2 // 3 % 100 * 3 + fold).astype(str) if grouped else None
    turn = np.random.default_rng(0).permutation(600)
    one = choose_method(logits, target, fold, group)
    two = choose_method(logits[:, turn], target[turn], fold[turn], None if group is None else group[turn])
    assert one.rows == two.rows
    assert one.combination.weights.tolist() == two.combination.weights.tolist()
    assert one.y_pred[turn].tolist() == two.y_pred.tolist()


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 1000))
def test_the_order_of_the_experiments_changes_the_order_of_the_weights(turn: list[int], seed: int) -> None:
    logits, target, fold = ledgers(seed, [0.9, 0.6, 0.3, 0.0], 300)
    one, two = choose_method(logits, target, fold), choose_method(logits[turn], target, fold)
    assert one.rows == two.rows
    assert one.combination.weights[turn].tolist() == two.combination.weights.tolist()
    assert one.y_pred.tolist() == two.y_pred.tolist()


def test_the_choice_is_reproducible() -> None:
    one, two = (choose_method(*ledgers(12, [0.9, 0.6])) for _ in range(2))
    assert one.rows == two.rows
    assert one.y_pred.tolist() == two.y_pred.tolist()


def test_float32_logits_are_scored_in_float64() -> None:
    logits, target, fold = ledgers(13, [0.9, 0.6])
    halved = logits.astype(np.float32)
    assert choose_method(halved, target, fold).rows == choose_method(halved.astype(np.float64), target, fold).rows


# --- what is refused -----------------------------------------------------------------------------------------------


def test_an_unknown_candidate_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        choose_method(*ledgers(0, [1.0, 1.0], 60), None, ["mean", "greddy"])
    assert str(caught.value) == (
        "unknown ensemble.method 'greddy': did you mean 'greedy'?\nnext: correct ensemble.method in config.toml"
    )


def test_logits_that_are_not_finite_are_refused() -> None:
    logits, target, fold = ledgers(0, [1.0, 1.0, 1.0], 60)
    logits[1:, 3] = np.nan, np.inf
    with pytest.raises(ExperimentError) as caught:
        choose_method(logits, target, fold)
    assert str(caught.value) == (
        "the out-of-fold logits of 2 of 3 experiments are not all finite, first those of experiment 2\n"
        "next: train that experiment again, or leave it out"
    )


def test_a_fold_of_one_class_is_refused() -> None:
    logits, target, _ = ledgers(0, [1.0, 1.0], 60)
    with pytest.raises(ExperimentError) as caught:
        choose_method(logits, target, target)
    assert str(caught.value) == (
        "fold 0 has held-out images of one class only, so it has no AUC\n"
        "next: set a smaller folds.k, and train the experiments again"
    )


# --- what it is worth on fresh images ------------------------------------------------------------------------------


def _benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nested_choice", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["nested_choice"] = importlib.util.module_from_spec(spec)  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


BENCH = _benchmark()


@pytest.mark.parametrize("scenario", BENCH.SCENARIOS)
def test_the_choice_does_not_lose_by_more_than_its_interval(scenario: str) -> None:
    rng = np.random.default_rng(100)
    trials = [BENCH.trial(rng, BENCH.SCENARIOS[scenario], images=1000, fresh=10_000) for _ in range(20)]
    assert [one.gain for one in trials if one.gain < -one.slack] == []
    if scenario == "equal members":
        assert sum(one.method == "mean" for one in trials) >= 15
    else:
        assert min(one.gain for one in trials) > 0
