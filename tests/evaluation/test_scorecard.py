from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr
from sklearn.metrics import roc_auc_score

from ffdi.evaluation import metrics, scorecard
from ffdi.evaluation.predictions import OofPredictions


def test_score_without_intervals_has_the_same_auc_interval() -> None:
    target = np.arange(60) % 2
    y_pred = np.random.default_rng(5).uniform(0.2 * target, 0.8 + 0.2 * target)
    whole, glance = scorecard.score_predictions(target, y_pred), scorecard.score_without_intervals(target, y_pred)
    assert glance["intervals"] == {"auc": whole["intervals"]["auc"]}
    apart = {"intervals": None, "no_interval": None}
    assert {**glance, **apart} == {**whole, **apart}
    assert set(whole["no_interval"]) == set(metrics.METRICS) - set(whole["intervals"])


def asked(seed: int, count: int, fold: int, strength: float) -> OofPredictions:
    """Predictions of one fold's network for images of its own, the better the larger `strength` is."""
    rng = np.random.default_rng(seed)
    target = np.arange(count) % 2
    logit = (rng.normal(size=count) + strength * target).astype(np.float32)
    return OofPredictions(
        np.array([f"{seed}-{row}" for row in range(count)]), np.full(count, fold), target, logit, np.full(count, "aa")
    )


def together(parts: list[OofPredictions]) -> OofPredictions:
    columns = ("img_name", "fold", "target", "logit", "weights")
    return OofPredictions(*(np.concatenate([getattr(part, column) for part in parts]) for column in columns))


def test_the_gap_compares_each_network_with_itself() -> None:
    oof = together([asked(fold, 400, fold, 2.0) for fold in (0, 1)])
    val = [asked(9, 300, fold, 1.0 + fold) for fold in (0, 1)]
    scores = scorecard.make_scorecard(oof, None, val)["val"]
    held_out = [roc_auc_score(oof.target[oof.fold == fold], oof.logit[oof.fold == fold]) for fold in (0, 1)]
    on_val = [roc_auc_score(one.target, one.logit) for one in val]
    assert scores["gap"]["auc"] == pytest.approx(np.mean(held_out) - np.mean(on_val), abs=1e-12)
    assert [scores["folds"][fold]["auc"] for fold in "01"] == pytest.approx(on_val, abs=1e-12)
    assert scores["mean"]["auc"] == pytest.approx(np.mean(on_val), abs=1e-12)


def test_the_gaps_interval_has_its_coverage() -> None:
    held = 0
    for trial in range(60):  # both sets are as hard: the true gap is 0
        oof = together([asked(1000 * trial + fold, 200, fold, 1.5) for fold in (0, 1)])
        val = [asked(1000 * trial + 500, 200, fold, 1.5) for fold in (0, 1)]
        low, high = scorecard.make_scorecard(oof, None, val)["val"]["gap"]["intervals"]["auc"]
        held += low <= 0 <= high
    assert held >= 52  # of 60 at 95 %, fewer than 52 come by chance in 1 of 250


def test_a_gap_of_few_images_has_a_reason_instead_of_an_interval() -> None:
    oof = together([asked(fold, 40, fold, 2.0) for fold in (0, 1)])
    gap = scorecard.measure_val_gap(oof, None, [asked(9, 18, fold, 1.0) for fold in (0, 1)])
    assert gap["intervals"] == {}
    assert gap["no_interval"] == {"auc": "there are fewer than 10 real and fake images"}


def test_without_a_validation_split_there_is_no_gap() -> None:
    assert "val" not in scorecard.make_scorecard(asked(0, 50, 0, 1.0), None, [])


def with_kinds(folds: list[int], count: int = 200) -> tuple[OofPredictions, np.ndarray]:
    """Predictions of a network for each fold, whose fakes are of one kind each, and these kinds."""
    oof = together([asked(number, count, fold, 0.5 + number) for number, fold in enumerate(folds)])
    kind = np.repeat([f"kind {number}" for number in range(len(folds))], count)
    return oof, np.where(oof.target == 1, kind, "")


def test_a_kind_is_scored_against_the_real_images_of_its_fold() -> None:
    oof, kind = with_kinds([0, 1, 2])
    oof = OofPredictions(oof.img_name, oof.fold, oof.target, oof.logit + 10 * oof.fold, oof.weights)
    found = scorecard.score_kinds(oof, kind, None)
    own = [roc_auc_score(oof.target[oof.fold == fold], oof.logit[oof.fold == fold]) for fold in range(3)]
    assert [one["auc"] for one in found["scores"].values()] == pytest.approx(own, abs=1e-12)
    assert [one["fake"] for one in found["scores"].values()] == [100, 100, 100]
    assert found["mean"]["auc"] == pytest.approx(np.mean(own), abs=1e-12)
    assert (found["worst"], found["left_out"]) == ("kind 0", True)
    half = [one["intervals"]["auc"][1] - one["auc"] for one in found["scores"].values()]
    assert found["mean"]["intervals"]["auc"][1] == pytest.approx(np.mean(own) + np.hypot.reduce(half) / 3, abs=1e-12)


def test_kinds_with_the_same_real_images_make_the_means_interval_longer() -> None:
    oof, kind = with_kinds([0, 0])
    found = scorecard.score_kinds(oof, kind, None)
    reals = oof.target == 0
    for name, one in found["scores"].items():
        rows = reals | (kind == name)
        assert one["auc"] == pytest.approx(roc_auc_score(oof.target[rows], oof.logit[rows]), abs=1e-12)
    ends = np.array([one["intervals"]["auc"] for one in found["scores"].values()])
    assert found["mean"]["intervals"]["auc"] == pytest.approx(ends.mean(0), abs=1e-12)


def test_kinds_in_all_folds_are_not_left_out_and_are_scored_by_ranks() -> None:
    oof, _ = with_kinds([0, 1])
    kind = np.where(oof.target == 1, np.where(np.arange(len(oof.target)) % 4 == 1, "a", ""), "")
    found = scorecard.score_kinds(oof, kind, None)
    assert found["left_out"] is False
    assert set(found["scores"]) == {"a", "(no kind)"}
    rows = (oof.target == 0) | (kind == "a")
    assert found["scores"]["a"]["auc"] == pytest.approx(roc_auc_score(oof.target[rows], oof.ranks[rows]), abs=1e-12)


def test_a_kind_of_few_fakes_has_no_auc_and_few_images_no_interval() -> None:
    oof, kind = with_kinds([0, 1], 18)
    assert scorecard.score_kinds(oof, kind, None) == {
        "scores": {"kind 0": {"fake": 9}, "kind 1": {"fake": 9}}, "mean": None, "worst": None, "left_out": True
    }  # fmt: skip
    oof, kind = with_kinds([0, 1], 20)
    group = np.repeat(np.arange(20), 2).astype(str)
    found = scorecard.score_kinds(oof, kind, group)
    assert found["mean"]["intervals"] == {}
    assert "groups of equal size" in found["mean"]["no_interval"]["auc"]


def test_the_intervals_of_a_mean_over_kinds_have_their_coverage() -> None:
    held = 0
    for trial in range(60):  # true AUCs of 0.64 and 0.86, twice each
        parts = [asked(1000 * trial + number, 120, number // 2, 0.5 + number % 2) for number in range(4)]
        oof, kind = together(parts), np.repeat(["a", "b", "c", "d"], 120)
        low, high = scorecard.score_kinds(oof, np.where(oof.target == 1, kind, ""), None)["mean"]["intervals"]["auc"]
        held += low <= (ndtr(0.5 / 2**0.5) + ndtr(1.5 / 2**0.5)) / 2 <= high
    assert held >= 52  # of 60 at 95 %, fewer than 52 come by chance in 1 of 250
