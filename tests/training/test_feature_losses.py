"""Losses on features and on two views of an image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from ffdi.config.schema import Config, ModelConfig, TrainConfig
from ffdi.data.loading.loader import Batch
from ffdi.models import detector
from ffdi.training import feature_losses, loop, optim
from ffdi.training.runtime import device as devices
from ffdi.training.state import TrainingState

WHERE = devices.choose_device("cpu", "fp32", 0)


def losses(features: torch.Tensor, target: torch.Tensor, **weights: float) -> float:
    config = TrainConfig(**weights)  # type: ignore[arg-type]
    return feature_losses.compute_feature_losses(config, features, torch.zeros(len(target)), target).item()


def test_alignment_and_uniformity_are_those_of_all_pairs() -> None:
    torch.manual_seed(0)
    features, target = 3 * torch.randn(7, 5), torch.tensor([0.0, 1, 1, 0, 1, 0, 1])
    unit = features / features.norm(dim=1, keepdim=True)
    pairs = [(a, b) for a in range(7) for b in range(a + 1, 7)]
    squares = {pair: (unit[pair[0]] - unit[pair[1]]).square().sum().item() for pair in pairs}
    alike = [squares[a, b] for a, b in pairs if target[a] == target[b]]
    assert losses(features, target, alignment=2.0) == pytest.approx(2 * np.mean(alike), abs=1e-6)
    spread = math.log(np.mean([math.exp(-2 * one) for one in squares.values()]))
    assert losses(features, target, uniformity=0.5) == pytest.approx(0.5 * spread, abs=1e-6)


def test_a_batch_without_pairs_has_no_such_loss() -> None:
    features = torch.randn(2, 3)
    assert losses(features[:1], torch.zeros(1), alignment=1, uniformity=1) == 0
    assert losses(features, torch.tensor([0.0, 1.0]), alignment=1) == 0


def test_consistency_is_the_cosine_and_the_symmetric_divergence_of_views() -> None:
    torch.manual_seed(1)
    features, logits = torch.randn(6, 4), torch.randn(6)
    p, q = (torch.stack([1 - one.sigmoid(), one.sigmoid()], 1).double() for one in (logits[::2], logits[1::2]))
    divergence = functional.kl_div(q.log(), p, reduction="batchmean") + functional.kl_div(
        p.log(), q, reduction="batchmean"
    )
    cosine = functional.cosine_similarity(features[::2], features[1::2]).mean()
    found = feature_losses.measure_inconsistency(features, logits).item()
    assert found == pytest.approx((1 - cosine + divergence).item(), abs=1e-5)
    same = feature_losses.measure_inconsistency(features.repeat_interleave(2, 0), logits.repeat_interleave(2, 0))
    assert same.item() == pytest.approx(0, abs=1e-6)


def step(network: detector.Detector, config: Config, images: torch.Tensor, target: torch.Tensor) -> loop.StepResult:
    state = TrainingState.create(network, config.train, WHERE)
    batch = Batch(images, target, torch.arange(len(target)))
    return loop.train_step(network, state, batch, optim.create_loss(config.train, 0.5), config, WHERE)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "test_convnext"])
def test_features_are_what_the_head_gets(backbone: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(backbone=backbone, pretrained=False, size=160, normalize_features=True)
    network = detector.build_detector(config, None).eval()
    images = torch.randint(0, 256, (3, 160, 160, 3), dtype=torch.uint8)
    logits, features = network(images, features=True)
    assert torch.equal(logits, network(images))
    assert torch.allclose(features.norm(dim=1), torch.ones(3), atol=1e-5)
    head = detector.starting.list_last_layers(network.backbone)[0]
    with torch.no_grad():
        assert torch.allclose(features @ head.weight.flatten(1).T + head.bias, logits[:, None], atol=1e-5)


def test_the_losses_change_the_step_but_not_the_loss_that_is_reported() -> None:
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    target, reported, weights = torch.tensor([0.0, 0.0, 1.0, 1.0]), [], []
    for more in ({}, {"alignment": 1.0, "uniformity": 1.0}, {"consistency": 5.0}):
        config = Config(
            model={"backbone": "test_resnet", "pretrained": False, "size": 32},
            train={"clip_grad": 0.0, **more},
        )
        network = detector.build_initialized(config, None).train()
        result = step(network, config, images, target)
        reported.append(result.loss.item())
        weights.append(network.backbone.get_parameter("conv1.0.weight").detach().clone())
        assert result.images == (2 if "consistency" in more else 4)
    assert reported[0] == reported[1] == reported[2]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_micro_batches_keep_both_views_of_an_image(count: int) -> None:
    parts = loop._split_batch(14, count, 14, 2)
    assert [one.start % 2 for one in parts] == [0] * len(parts)
    assert [index for one in parts for index in range(one.start, one.stop)] == list(range(14))
