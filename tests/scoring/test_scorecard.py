from __future__ import annotations

import numpy as np

from ffdi.scoring import scorecard


def test_a_glance_says_what_the_whole_score_says_of_the_auc() -> None:
    target = np.arange(60) % 2
    y_pred = np.random.default_rng(5).uniform(0.2 * target, 0.8 + 0.2 * target)
    whole, glance = scorecard.score(target, y_pred), scorecard.glance(target, y_pred)
    assert glance["intervals"] == {"auc": whole["intervals"]["auc"]}
    assert {**glance, "intervals": None} == {**whole, "intervals": None}
