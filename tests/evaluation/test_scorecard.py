from __future__ import annotations

import numpy as np
import pytest
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
