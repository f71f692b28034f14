"""The loss on soft targets, and its way through a step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ffdi.config.schema import AugmentConfig, Config, DistillConfig, PseudoLabelsConfig, TrainConfig
from ffdi.training import distillation, loop, optim

CRITERION = optim.create_loss(TrainConfig(), 0.5)
LOGITS = torch.tensor([0.3, -1.2, 2.0, 0.1])
TARGET = torch.tensor([1.0, 0.0, 0.0, 1.0])
TEACHER = torch.tensor([1.5, -0.5, 0.7, -2.0])


def make_config(weight: float, temperature: float) -> Config:
    return Config(distill=DistillConfig(teachers=["a"], weight=weight, temperature=temperature))


def cross_entropy(logit: float, probability: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -probability * math.log(p) - (1 - probability) * math.log(1 - p)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_labels_and_soft_targets_have_their_shares(weight: float, temperature: float) -> None:
    config = make_config(weight, temperature)
    soft = distillation.make_soft_targets(TEACHER, TARGET, config)
    on_labels, found = (one.item() for one in distillation.compute_loss(CRITERION, LOGITS, TARGET, soft, config))
    assert on_labels == pytest.approx(CRITERION(LOGITS, TARGET).item())
    hard = [cross_entropy(z, y) for z, y in zip(LOGITS.tolist(), TARGET.tolist(), strict=True)]
    tempered = [
        temperature**2 * cross_entropy(z / temperature, 1 / (1 + math.exp(-t / temperature)))
        for z, t in zip(LOGITS.tolist(), TEACHER.tolist(), strict=True)
    ]
    expected = np.mean([(1 - weight) * one + weight * other for one, other in zip(hard, tempered, strict=True)])
    assert found == pytest.approx(expected, rel=1e-5)


def test_without_a_soft_target_the_label_counts_alone() -> None:
    config = make_config(0.7, 3.0)
    logits = LOGITS.clone().requires_grad_()
    none = torch.full_like(TEACHER, math.nan)
    soft = distillation.make_soft_targets(none, TARGET, config)
    _, loss = distillation.compute_loss(CRITERION, logits, TARGET, soft, config)
    assert loss.item() == pytest.approx(CRITERION(LOGITS, TARGET).item())
    some = torch.where(torch.tensor([True, False, False, True]), TEACHER, none)
    soft = distillation.make_soft_targets(some, TARGET, config)
    distillation.compute_loss(CRITERION, logits, TARGET, soft, config)[1].backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[1].item() == pytest.approx((torch.sigmoid(LOGITS[1]) - TARGET[1]).item() / 4)


def test_a_student_that_agrees_has_no_gradient() -> None:
    config = make_config(1.0, 2.0)
    logits = TEACHER.clone().requires_grad_()
    soft = distillation.make_soft_targets(TEACHER, TARGET, config)
    distillation.compute_loss(CRITERION, logits, TARGET, soft, config)[1].backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-7


def test_soft_targets_are_mixed_as_labels_are() -> None:
    levels = torch.tensor([0, 255] * 8, dtype=torch.uint8)
    images, target = levels.view(-1, 1, 1, 1).expand(-1, 16, 16, 3).contiguous(), (levels > 0).float()
    soft = 0.2 + 0.6 * target
    soft[3] = math.nan
    for config in (AugmentConfig(mixup=1.0), AugmentConfig(cutmix=1.0)):
        torch.manual_seed(5)
        _, labels, mixed = loop.mix_batch(images, target, soft, config)
        torch.manual_seed(5)
        assert torch.equal(loop.mix_batch(images, target, None, config)[1], labels)
        assert mixed is not None
        known = ~mixed.isnan()
        assert known.sum() in (14, 15)  # its partner has no soft target either
        assert torch.allclose(mixed[known], 0.2 + 0.6 * labels[known], atol=1e-6)


def test_a_pseudo_label_counts_with_its_weight() -> None:
    config = Config(pseudo_labels=PseudoLabelsConfig(name="a", weight=0.5), distill=DistillConfig(temperature=4.0))
    target = torch.tensor([1.0, 0.0, math.nan, math.nan])
    teacher = torch.tensor([math.nan, math.nan, 0.7, -2.0])
    soft = distillation.make_soft_targets(teacher, target, config)
    on_labels, found = (one.item() for one in distillation.compute_loss(CRITERION, LOGITS, target, soft, config))
    hard = [cross_entropy(z, y) for z, y in zip(LOGITS[:2].tolist(), [1.0, 0.0], strict=True)]
    pseudo = [
        cross_entropy(z, 1 / (1 + math.exp(-t))) for z, t in zip(LOGITS[2:].tolist(), teacher[2:].tolist(), strict=True)
    ]
    assert on_labels == pytest.approx(np.mean(hard), rel=1e-5)  # without the images that have no label
    assert found == pytest.approx((sum(hard) + 0.5 * sum(pseudo)) / 4, rel=1e-5)


def test_features_count_only_where_a_teacher_has_seen_a_labelled_image() -> None:
    taught = torch.tensor([[1.0, 0.0], [0.0, 3.0], [1.0, 1.0], [0.0, 1.0]])
    features = torch.tensor([[2.0, 0.0], [1.0, 0.0], [-1.0, -1.0], [1.0, 0.0]], requires_grad=True)
    target = torch.tensor([1.0, 0.0, math.nan, 1.0])
    soft = torch.tensor([0.9, 0.2, 0.4, math.nan])
    loss = distillation.compute_feature_loss(features, taught, target, soft)
    assert loss.item() == pytest.approx((0 + 1) / 4)  # same direction, right angle, no label, no score
    loss.backward()
    assert features.grad is not None
    assert features.grad[1].abs().sum() > 0
    assert features.grad[[0, 2, 3]].abs().sum() == 0
