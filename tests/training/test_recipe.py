"""Optimisers, schedules, losses, averages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ffdi.config import TrainConfig
from ffdi.errors import ConfigError
from ffdi.training import recipe


def rates(schedule: str, warmup_epochs: float = 0, steps: int = 100) -> list[float]:
    """The learning rate of each of 100 steps, ten to an epoch, from 1."""
    config = TrainConfig(lr=1, schedule=schedule, warmup_epochs=warmup_epochs)
    return [recipe.learning_rate(config, step, steps, 10) for step in range(steps)]


def test_cosine_falls_from_the_rate_to_almost_nothing() -> None:
    rate = rates("cosine")
    assert rate[0] == 1
    assert rate[50] == pytest.approx(0.5)
    assert 0 < rate[-1] < 1e-3
    assert rate == sorted(rate, reverse=True)


def test_step_falls_twice_to_a_tenth() -> None:
    rate = rates("step")
    assert [rate[59], rate[60], rate[79], rate[80]] == pytest.approx([1, 0.1, 0.1, 0.01])


def test_constant_stays() -> None:
    assert set(rates("constant")) == {1.0}


def test_warm_up_rises_in_a_line_and_the_schedule_follows() -> None:
    rate = rates("cosine", warmup_epochs=2)
    assert rate[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rate[20] == 1
    assert rate[60] == pytest.approx(0.5)


def test_a_warm_up_longer_than_training_leaves_a_step() -> None:
    assert recipe.learning_rate(TrainConfig(lr=1, warmup_epochs=50), 9, 10, 10) == 1


def test_label_smoothing_is_the_loss_at_moved_targets() -> None:
    logits, target = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0])
    smooth = recipe.loss(TrainConfig(label_smoothing=0.1))(logits, target)
    moved = nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([0.95, 0.05]))
    assert torch.allclose(smooth, moved)


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_weight_decay_spares_biases_and_normalisation(name: str, kind: type[torch.optim.Optimizer]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = recipe.optimizer(TrainConfig(optimizer=name, weight_decay=0.1), network)
    assert type(optimizer) is kind
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in network.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
    }


def test_the_average_lies_between_the_start_and_the_weights() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = recipe.average(TrainConfig(ema=0.9), network)
    assert average is not None
    nn.init.ones_(network.weight)
    seen = []
    for step in range(1, 200):
        average.update(network, step=step)
        seen.append(average.module.weight.item())
    assert 0 < seen[0] <= seen[50] <= seen[-1] <= 1
    assert seen[-1] == pytest.approx(1, abs=1e-3)


def test_no_average_is_kept_at_zero() -> None:
    assert recipe.average(TrainConfig(ema=0), nn.Linear(1, 1)) is None


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("optimizer", "unknown optimizer 'x': known: adam, adamw\nnext: correct train.optimizer in config.toml"),
        (
            "schedule",
            "unknown schedule 'x': known: cosine, step, constant\nnext: correct train.schedule in config.toml",
        ),
        ("loss", "unknown loss 'x': known: bce\nnext: correct train.loss in config.toml"),
    ],
)
def test_an_unknown_name_is_refused(key: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe.check(TrainConfig(**{key: "x"}))
    assert str(caught.value) == expected
