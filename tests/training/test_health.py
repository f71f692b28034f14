from __future__ import annotations

import numpy as np
import pytest

from ffdi.config.schema import TrainConfig
from ffdi.core.errors import TrainingError
from ffdi.training import health

TARGET = np.arange(200) % 2
CONFIG = TrainConfig(epochs=8, lr=3e-3)
EVEN = 0.6931
"""The loss of a network that knows only that half of the images are fake."""
SLOWER = "lower train.lr (try 0.0003), raise train.warmup_epochs"
LEARNED = 0.5 * np.random.default_rng(0).random(200) + 0.5 * TARGET
BLIND = np.random.default_rng(1).random(200)


def kinds(epoch: int, train_loss: float, y_pred: np.ndarray, config: TrainConfig = CONFIG) -> list[str]:
    return list(symptoms(health.check_epoch(config, epoch, train_loss, EVEN, (TARGET, y_pred))))


def symptoms(verdict: health.HealthWarning | None) -> dict[str, str]:
    return verdict.symptoms if verdict else {}


def test_a_learning_network_is_healthy() -> None:
    assert all(kinds(epoch, 0.6, LEARNED) == [] for epoch in range(8))


def test_offsets_are_no_symptom() -> None:
    assert kinds(7, 0.6, LEARNED / 4) == []  # every image on one side of 0.5, in the right order


def test_the_first_epoch_and_the_warm_up_are_not_checked() -> None:
    assert kinds(0, 0.9, np.full(200, 0.4)) == []
    slow = TrainConfig(epochs=8, warmup_epochs=2.5)
    assert kinds(2, 0.9, np.full(200, 0.4), slow) == []
    assert kinds(3, 0.9, np.full(200, 0.4), slow) == ["constant"]


def test_a_training_of_one_epoch_is_checked() -> None:
    assert kinds(0, 0.6, BLIND, TrainConfig(epochs=1)) == ["at_chance", "majority_class", "worse_than_prior"]


def test_a_collapsed_network_is_reported_early() -> None:
    assert health.check_epoch(CONFIG, 1, 0.6, EVEN, (TARGET, np.full(200, 0.25))) == health.HealthWarning(
        {"constant": "all held-out images have nearly the same score, 0.250: the network has collapsed"}, SLOWER
    )


def test_chance_is_reported_after_half_of_the_epochs() -> None:
    assert [kinds(epoch, 0.6, BLIND) for epoch in (1, 2)] == [[], []]
    found = health.check_epoch(CONFIG, 3, 0.6, EVEN, (TARGET, BLIND))
    assert found is not None
    assert found.advice == f"{SLOWER}, or train longer"
    assert found.symptoms["at_chance"].startswith("the held-out AUC does not differ from chance (0.")


def test_chance_on_unseen_kinds_is_no_symptom() -> None:
    def check(train_loss: float) -> health.HealthWarning | None:
        return health.check_epoch(CONFIG, CONFIG.epochs - 1, train_loss, 0.69, (TARGET, BLIND), unseen_kinds=True)

    assert check(0.3) is None
    assert list(symptoms(check(0.7))) == ["underfit"]


def test_inverted_scores_are_reported() -> None:
    y_pred = 1 / (1 + np.exp(3.0 * TARGET - np.random.default_rng(2).normal(0, 1, len(TARGET))))
    found = symptoms(health.check_epoch(CONFIG, 7, 0.6, EVEN, (TARGET, y_pred)))
    assert list(found) == ["below_chance"]
    assert found["below_chance"].startswith("the held-out AUC is below chance (0.0")


def test_majority_class_accuracy_is_reported() -> None:
    target = (np.arange(200) % 5 > 0).astype(np.int64)
    found = health.check_epoch(CONFIG, 7, 0.4, 0.5, (target, 0.6 + 0.3 * BLIND))
    assert list(symptoms(found)) == ["at_chance", "majority_class"]
    assert symptoms(found)["majority_class"] == (
        "the held-out accuracy 0.800 (0.791 to 0.809) does not differ from 0.800, the fraction of the larger class"
    )


def test_a_loss_worse_than_the_prior_is_reported() -> None:
    hardly = 1 / (1 + np.exp(-np.random.default_rng(2).normal(0, 2.5, 200) - 1.5 * TARGET))
    found = symptoms(health.check_epoch(CONFIG, 7, 0.6, EVEN, (TARGET, hardly)))
    assert list(found) == ["worse_than_prior"]
    assert found["worse_than_prior"] == (
        "the held-out loss 0.9705 is above the loss of the prior, and the AUC is hardly better than chance "
        "(0.544 to 0.697)"
    )
    assert kinds(7, 0.6, 0.5 + (hardly - 0.5) / 4) == []  # as little, but not sure of it


def test_a_training_loss_of_the_prior_is_reported() -> None:
    config = TrainConfig(epochs=2, lr=3e-3)
    assert health.check_epoch(config, 1, 0.5, 0.5001, (TARGET, LEARNED)) is None
    assert symptoms(health.check_epoch(config, 1, 0.5, 0.5, (TARGET, LEARNED))) == {
        "underfit": "the training loss 0.5000 is not below 0.5000, the loss of the prior"
    }


def test_the_loss_of_hard_examples_is_not_compared_with_the_prior() -> None:
    config = TrainConfig(epochs=2, lr=3e-3, hard_example_fraction=0.5)
    assert health.check_epoch(config, 1, 0.9, 0.6931, (TARGET, LEARNED)) is None


def test_repeated_augmentation_is_refused() -> None:
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    health.check_draws(images, images[::-1])
    with pytest.raises(TrainingError) as caught:
        health.check_draws(images, images.copy())
    assert str(caught.value) == (
        "augmentation repeats itself: 2 images are the same in two epochs\n"
        "next: report this with the versions of albumentations and numpy; augment.recipe = 'none' trains "
        "without augmentation"
    )
