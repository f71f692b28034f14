"""The epochs that fit into a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ffdi.config.schema import MAX_EPOCHS, Config
from ffdi.data.labels import layout
from ffdi.data.loading import loader
from ffdi.models import detector
from ffdi.training import fold
from ffdi.training.runtime import device as devices
from ffdi.training.state import TrainingState
from ffdi.training.tools import budget
from ffdi.training.tools.budget import START_SECONDS, Costs, Forecast

FORECAST = Forecast(Costs({64: 0.5, 128: 2.0}, evaluation=0.1, scoring=0.2), steps=10, heldout=20, val=5, rounds=3)
CONFIG = Config.model_validate({"model": {"size": 128}})
EPOCH = 10 * 2 + 20 * 0.1
END = START_SECONDS + (20 + 5) * 0.2


def test_the_time_of_all_folds_is_that_of_their_steps_and_scores() -> None:
    assert FORECAST.estimate_seconds(CONFIG.with_epochs(7)) == pytest.approx(3 * (7 * EPOCH + END))


@pytest.mark.parametrize("epochs", [1, 2, 50, MAX_EPOCHS])
def test_the_most_epochs_that_fit_are_chosen(epochs: int) -> None:
    seconds = FORECAST.estimate_seconds(CONFIG.with_epochs(epochs))
    assert FORECAST.choose_epochs(CONFIG, seconds) == epochs
    assert FORECAST.choose_epochs(CONFIG, seconds - 1) == epochs - 1
    assert FORECAST.choose_epochs(CONFIG, seconds + 3 * EPOCH - 1) == epochs


def test_a_time_that_is_over_has_no_epochs() -> None:
    assert FORECAST.choose_epochs(CONFIG, -5) == 0


def test_epochs_of_growing_images_take_the_time_of_their_pixels() -> None:
    costs = FORECAST.costs
    assert costs.estimate_step(128) == 2
    assert costs.estimate_step(64) == 0.5
    assert costs.estimate_step(96) == pytest.approx(0.5 + 1.5 * (96**2 - 64**2) / (128**2 - 64**2))
    growing = Config.model_validate({"model": {"size": 128}, "train": {"start_size": 64, "epochs": 8}})
    edges = [64, 64, 96, 96, 96, 128, 128, 128]
    expected = 3 * (10 * sum(map(costs.estimate_step, edges)) + 8 * 20 * 0.1 + END)
    assert FORECAST.estimate_seconds(growing) == pytest.approx(expected)
    assert FORECAST.choose_epochs(growing, expected) == 8


def test_the_work_of_a_fold_is_counted_from_all_images(competition: Path) -> None:
    images = layout.find_dataset(competition, Config().data).split("train")
    batches = loader.make_train_loader(
        images, Config.model_validate({"train": {"batch_size": 6}}), fold=0, loader_config=loader.LoaderConfig()
    )
    assert (batches.rows, len(batches)) == (64, 11)
    counted = Forecast.count_work(FORECAST.costs, batches, k=5, val=32, rounds=2)
    assert counted == Forecast(FORECAST.costs, steps=9, heldout=13, val=32, rounds=2)


@pytest.mark.parametrize("start_size", [0, 32])
def test_steps_of_both_sizes_and_scores_are_measured(
    start_size: int, competition: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "ENOUGH_SECONDS", 0)
    device = replace(devices.choose_device("cpu", "fp32", 0), threads=1)
    config = Config.model_validate(
        {
            "model": {"backbone": "test_resnet", "pretrained": False, "size": 96},
            "train": {"start_size": start_size, "epochs": MAX_EPOCHS, "batch_size": 16, "precision": "fp32"},
            "predict": {"tta": "hflip+crops"},
        }
    )
    images = layout.find_dataset(competition, config.data).split("train")
    network = device.prepare(detector.build_initialized(config, None))
    costs = budget.measure_costs(
        TrainingState.create(network, config.train, device),
        loader.make_train_loader(images, config, fold=0, loader_config=device.loader_config),
        fold.make_eval_batches(images, config, device),
        config,
        device,
    )
    assert list(costs.step) == ([32, 96] if start_size else [96])
    assert all(seconds > 0 for seconds in costs.step.values())
    assert 0 < costs.evaluation < costs.scoring  # one view, and twelve
