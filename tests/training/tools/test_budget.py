"""The epochs that fit into a time."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ffdi.config.schema import MAX_EPOCHS, Config
from ffdi.data.labels import layout
from ffdi.data.loading import loader
from ffdi.models import detector
from ffdi.training import fold
from ffdi.training.runtime import device as devices
from ffdi.training.state import TrainingState
from ffdi.training.tools import budget
from ffdi.training.tools.budget import START_SECONDS, Costs, Forecast

FORECAST = Forecast(Costs(2.0, evaluation=0.1, scoring=0.2), steps=10, heldout=20, val=5, rounds=3)
EPOCH = 10 * 2 + 20 * 0.1
END = START_SECONDS + (20 + 5) * 0.2


def test_the_time_of_all_folds_is_that_of_their_steps_and_scores() -> None:
    assert FORECAST.estimate_seconds(7) == pytest.approx(3 * (7 * EPOCH + END))


@pytest.mark.parametrize("epochs", [1, 2, 50, MAX_EPOCHS])
def test_the_most_epochs_that_fit_are_chosen(epochs: int) -> None:
    seconds = FORECAST.estimate_seconds(epochs)
    assert FORECAST.choose_epochs(seconds) == epochs
    assert FORECAST.choose_epochs(seconds - 1) == epochs - 1
    assert FORECAST.choose_epochs(seconds + 3 * EPOCH - 1) == epochs


def test_a_time_that_is_over_has_no_epochs() -> None:
    assert FORECAST.choose_epochs(-5) == 0


def test_the_work_of_a_fold_is_counted_from_all_images(competition: Path) -> None:
    images = layout.find_dataset(competition, Config().data).split("train")
    batches = loader.make_train_loader(
        images, Config.model_validate({"train": {"batch_size": 6}}), fold=0, loader_config=loader.LoaderConfig()
    )
    assert (batches.rows, len(batches)) == (64, 11)
    counted = Forecast.count_work(FORECAST.costs, batches, k=5, val=32, rounds=2)
    assert counted == Forecast(FORECAST.costs, steps=9, heldout=13, val=32, rounds=2)


def test_steps_and_scores_are_measured(competition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views: list[str] = []
    measure = budget._measure_scoring
    monkeypatch.setattr(budget, "ENOUGH_SECONDS", 0)
    monkeypatch.setattr(
        budget, "_measure_scoring", lambda scorer, *others: (views.append(scorer.tta), measure(scorer, *others))[1]
    )
    device = replace(devices.choose_device("cpu", "fp32", 0), threads=1)
    config = Config.model_validate(
        {
            "model": {"backbone": "test_resnet", "pretrained": False, "size": 96},
            "train": {"batch_size": 16, "precision": "fp32"},
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
    assert views == ["none", "hflip+crops"]
    assert min(costs.step, costs.evaluation, costs.scoring) > 0


def test_other_networks_compute_while_costs_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    device = replace(devices.choose_device("cpu", "fp32", 0), threads=1)
    config = Config.model_validate(
        {"model": {"backbone": "test_resnet", "pretrained": False, "size": 32}, "train": {"batch_size": 2}}
    )
    network = device.prepare(detector.build_initialized(config, None))
    working, backward = threading.Event(), torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: (backward(loss), working.set())[0])
    before = threading.active_count()
    with budget.keep_cores_busy(3, network, config, device):
        assert threading.active_count() == before + 3
        assert working.wait(60)
    assert threading.active_count() == before
    assert all(parameter.grad is None for parameter in network.parameters())
    with budget.keep_cores_busy(3, network, config, replace(device, name="cuda:0")):
        assert threading.active_count() == before
