"""The errors at each threshold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from ffdi.reporting import thresholds


@pytest.mark.parametrize("images", [40, 5000])
def test_counts_are_those_of_scikit_learn(images: int) -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, images)
    y_pred = np.round(1 / (1 + np.exp(-rng.normal(target, 1))), 3 if images == 40 else 9)
    found = thresholds.count_errors(target, y_pred)
    assert (found.real, found.fake) == ((target == 0).sum(), (target == 1).sum())
    assert len(found.threshold) <= thresholds.MOST + 2
    assert found.threshold[found.start] == 0.5
    assert found.threshold == sorted(set(found.threshold))
    for threshold, missed, alarms in zip(found.threshold, found.missed, found.alarms, strict=True):
        matrix = confusion_matrix(target, y_pred >= threshold, labels=[0, 1])
        assert (alarms, missed) == (matrix[0, 1], matrix[1, 0])
    assert (found.missed[0], found.alarms[-1]) == (0, 0)
    assert (found.alarms[0], found.missed[-1]) == (found.real, found.fake)
