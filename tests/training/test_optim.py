"""Optimisers, schedules, losses, averages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ffdi.config.schema import ModelConfig, TrainConfig
from ffdi.models import detector
from ffdi.training import optim


def rates(schedule: str, warmup_epochs: float = 0, steps: int = 100) -> list[float]:
    """The learning rate of each of 100 steps, ten to an epoch, from 1."""
    config = TrainConfig(lr=1, schedule=schedule, warmup_epochs=warmup_epochs)
    return [optim.compute_learning_rate(config, step, steps, 10) for step in range(steps)]


def test_cosine_decays_to_almost_zero() -> None:
    rate = rates("cosine")
    assert rate[0] == 1
    assert rate[50] == pytest.approx(0.5)
    assert 0 < rate[-1] < 1e-3
    assert rate == sorted(rate, reverse=True)


def test_step_decays_twice_by_ten() -> None:
    rate = rates("step")
    assert [rate[59], rate[60], rate[79], rate[80]] == pytest.approx([1, 0.1, 0.1, 0.01])


def test_constant_does_not_decay() -> None:
    assert set(rates("constant")) == {1.0}


def test_a_linear_warm_up_precedes_the_schedule() -> None:
    rate = rates("cosine", warmup_epochs=2)
    assert rate[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rate[20] == 1
    assert rate[60] == pytest.approx(0.5)


def test_a_long_warm_up_leaves_one_step() -> None:
    assert optim.compute_learning_rate(TrainConfig(lr=1, warmup_epochs=50), 9, 10, 10) == 1


def test_label_smoothing_moves_targets() -> None:
    logits, target = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0])
    smooth = optim.create_loss(TrainConfig(label_smoothing=0.1), 0.5)(logits, target)
    moved = nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([0.95, 0.05]))
    assert torch.allclose(smooth, moved)


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_biases_and_normalization_have_no_weight_decay(name: str, kind: type[torch.optim.Optimizer]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = optim.create_optimizer(TrainConfig(optimizer=name, weight_decay=0.1), network)
    assert type(optimizer) is kind
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in network.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
    }


def test_ema_is_between_the_start_and_the_weights() -> None:
    network = detector.build_detector(ModelConfig(backbone="test_resnet", pretrained=False, size=32), None)
    bias = network.backbone.get_classifier().bias
    average = optim.create_ema(TrainConfig(ema_decay=0.9), network)
    assert average is not None
    nn.init.ones_(bias)
    seen = []
    for step in range(1, 200):
        average.update(network, step=step)
        seen.append(average.module.backbone.get_classifier().bias.item())
    assert 0 < seen[0] <= seen[50] <= seen[-1] <= 1
    assert seen[-1] == pytest.approx(1, abs=1e-3)


def test_ema_decay_zero_disables_ema() -> None:
    assert optim.create_ema(TrainConfig(ema_decay=0), nn.Linear(1, 1)) is None


# --- losses ----------------------------------------------------------------------------------------------------------

LOGITS = torch.tensor([3.0, -0.5, 0.2, -2.0])
TARGET = torch.tensor([1.0, 1.0, 0.0, 0.0])


def of_batch(fakes: float = 0.5, target: torch.Tensor = TARGET, **config: object) -> float:
    return optim.create_loss(TrainConfig(**config), fakes)(LOGITS, target).item()  # type: ignore[arg-type]


def test_focal_loss_ignores_easy_examples() -> None:
    probability = torch.where(TARGET == 1, LOGITS.sigmoid(), 1 - LOGITS.sigmoid())
    expected = (-((1 - probability) ** 2) * probability.log()).mean().item()
    assert of_batch(loss="focal") == pytest.approx(expected, rel=1e-5)


def test_class_weights_balance_the_classes() -> None:
    """A batch with the shares of the epoch: each class contributes half of a balanced mean."""
    each = nn.functional.binary_cross_entropy_with_logits(LOGITS, torch.tensor([1.0, 1, 1, 0]), reduction="none")
    expected = 0.5 * each[:3].mean() + 0.5 * each[3:].mean()
    uneven = of_batch(0.75, torch.tensor([1.0, 1, 1, 0]), class_weights=True)
    assert uneven == pytest.approx(expected.item(), rel=1e-5)
    assert of_batch(0.5, class_weights=True) == pytest.approx(of_batch(), rel=1e-6)


def test_only_the_hardest_fraction_counts() -> None:
    each = nn.functional.binary_cross_entropy_with_logits(LOGITS, TARGET, reduction="none")
    assert of_batch(hard_example_fraction=0.5) == pytest.approx(each.sort().values[2:].mean().item(), rel=1e-6)
    assert of_batch(hard_example_fraction=0.01) == pytest.approx(each.max().item(), rel=1e-6)


@pytest.mark.parametrize(("fakes", "smoothing"), [(0.5, 0.0), (0.8, 0.0), (0.8, 0.1), (0.2, 0.3)])
def test_the_prior_loss_is_the_entropy_of_the_fraction(fakes: float, smoothing: float) -> None:
    soft = torch.tensor(fakes * (1 - smoothing) + smoothing / 2, dtype=torch.float64)
    entropy = -(soft * soft.log() + (1 - soft) * (1 - soft).log()).item()
    assert optim.compute_prior_loss(TrainConfig(label_smoothing=smoothing), fakes) == pytest.approx(entropy, abs=2e-4)


def test_the_prior_loss_uses_the_configured_loss() -> None:
    assert optim.compute_prior_loss(TrainConfig(class_weights=True), 0.8) == pytest.approx(0.6931, abs=2e-4)
    assert optim.compute_prior_loss(TrainConfig(loss="focal"), 0.5) == pytest.approx(0.6931 / 4, abs=2e-4)
    assert optim.compute_prior_loss(TrainConfig(hard_example_fraction=0.5), 0.5) == pytest.approx(0.6931, abs=2e-4)


# --- layers ----------------------------------------------------------------------------------------------------------


def test_learning_rates_decay_from_the_head() -> None:
    config = ModelConfig(backbone="test_resnet", pretrained=False, size=32)
    backbone = detector.build_detector(config, None).backbone
    optimizer = optim.create_optimizer(TrainConfig(layer_decay=0.5, weight_decay=0.1), backbone)
    optim.set_learning_rate(optimizer, 0.01)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    rates = [rate[id(parameter)] for parameter in backbone.parameters()]
    assert len(rates) == len(rate)
    assert rates[-1] == pytest.approx(0.01)
    assert rates[0] < 0.002
    assert rates == sorted(rates)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert all(decay[id(one)] == (0.1 if one.ndim > 1 else 0) for one in backbone.parameters())
