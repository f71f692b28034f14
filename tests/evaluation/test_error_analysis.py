"""Labels that out-of-fold scores contradict."""

from __future__ import annotations

import numpy as np

from ffdi.evaluation import error_analysis


def test_images_scored_as_the_other_class_are_label_errors() -> None:
    target = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    y_pred = np.array([0.1, 0.1, 0.2, 0.9, 0.9, 0.9, 0.8, 0.1])
    assert error_analysis.find_label_errors(target, y_pred).tolist() == [
        False,
        False,
        False,
        True,
        False,
        False,
        False,
        True,
    ]


def test_an_image_between_the_classes_is_no_label_error() -> None:
    target = np.array([0, 0, 0, 1, 1, 1])
    y_pred = np.array([0.1, 0.1, 0.6, 0.9, 0.9, 0.4])
    assert not error_analysis.find_label_errors(target, y_pred).any()


def test_wrong_labels_are_found_among_right_ones() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 4000)
    y_pred = 1 / (1 + np.exp(-(truth * 6 - 3 + rng.normal(0, 1.2, 4000))))
    wrong = rng.random(4000) < 0.05
    found = error_analysis.find_label_errors(np.where(wrong, 1 - truth, truth), y_pred)
    assert (found & wrong).sum() / wrong.sum() > 0.6
    assert (found & wrong).sum() / found.sum() > 0.9
