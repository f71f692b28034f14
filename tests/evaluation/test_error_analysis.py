"""Labels that out-of-fold scores and similar images contradict; examples of slices."""

from __future__ import annotations

import numpy as np

from ffdi.evaluation import error_analysis


def test_images_scored_as_the_other_class_among_images_of_that_class_are_label_errors() -> None:
    target = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    y_pred = np.array([0.1, 0.1, 0.2, 0.9, 0.9, 0.9, 0.8, 0.1])
    features = np.array([0, 0, 0, 1, 1, 1, 1, 0], np.float32)[:, None]
    assert error_analysis.find_label_errors(target, y_pred, features).tolist() == [
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
    assert not error_analysis.find_label_errors(target, y_pred, 1.0 - target[:, None]).any()


def test_wrong_labels_are_found_among_right_ones() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 4000)
    y_pred = 1 / (1 + np.exp(-(truth * 6 - 3 + rng.normal(0, 1.2, 4000))))
    wrong = rng.random(4000) < 0.05
    target, features = np.where(wrong, 1 - truth, truth), truth[:, None] + rng.normal(0, 0.2, (4000, 1))
    found = error_analysis.find_label_errors(target, y_pred, features)
    assert (found & wrong).sum() / wrong.sum() > 0.6
    assert (found & wrong).sum() / found.sum() > 0.9


def test_an_error_among_images_of_its_own_label_is_none_of_the_label() -> None:
    rng = np.random.default_rng(0)
    target = np.arange(400) % 2
    y_pred = np.where(rng.random(400) < 0.1, 1 - target, target) * 0.8 + 0.1
    assert (np.abs(y_pred - target) > 0.5).sum() > 20
    assert not error_analysis.find_label_errors(target, y_pred, target[:, None] + rng.normal(0, 0.1, (400, 1))).any()


def test_examples_are_spread_over_the_list() -> None:
    names, value = np.array([f"{number}.jpg" for number in range(20)]), np.array(["a"] * 9 + ["", "b"] + ["a"] * 9)
    assert error_analysis.pick_examples(names, value) == {
        "a": ["0.jpg", "5.jpg", "12.jpg", "17.jpg"],
        "b": ["10.jpg"],
    }
