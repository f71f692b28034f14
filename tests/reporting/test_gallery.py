"""Which images a report shows."""

from __future__ import annotations

import numpy as np

from ffdi.reporting import gallery


def test_errors_uncertain_images_label_suspects_and_chosen_ones_are_picked() -> None:
    target = np.arange(1000) % 2
    y_pred = np.where(target == 1, 0.9, 0.1) + np.linspace(0, 0.05, 1000) * np.where(target == 1, -1, 1)
    y_pred[[10, 11]], y_pred[[20, 21]], y_pred[30] = [0.99, 0.02], [0.501, 0.498], 0.7
    suspect = np.zeros(1000, bool)
    suspect[[10, 11]] = True
    picked = gallery.pick_images(target, y_pred, suspect, {"gained b": np.array([500, 11])})
    assert list(picked)[:5] == [11, 21, 10, 30, 20]
    assert picked[11] == ["missed", "suspect", "gained b"]
    assert picked[10] == ["alarm", "suspect"]
    assert picked[500] == ["gained b"]
    assert "uncertain" in picked[20]
    assert "uncertain" in picked[21]
    counts = {kind: sum(kind in kinds for kinds in picked.values()) for kind in gallery.KINDS}
    assert counts == {"missed": 2, "alarm": 3, "uncertain": gallery.MAX_IMAGES, "suspect": 2}
