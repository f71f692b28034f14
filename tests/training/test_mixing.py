"""Mixup and CutMix: pixels and labels move together."""

from __future__ import annotations

import pytest
import torch

from ffdi.config.schema import AugmentConfig
from ffdi.training import loop

LEVELS = torch.tensor([0, 255] * 8, dtype=torch.uint8)
IMAGES = LEVELS.view(-1, 1, 1, 1).expand(-1, 16, 16, 3).contiguous()
TARGET = (LEVELS > 0).float()


def mixed(seed: int = 0, **config: float) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return loop.mix_batch(IMAGES, TARGET, None, AugmentConfig(**config))[:2]  # type: ignore[arg-type]


def test_disabled_mixing_changes_nothing() -> None:
    images, target = mixed()
    assert images is IMAGES
    assert target is TARGET


@pytest.mark.parametrize("config", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}])
def test_the_label_is_the_fraction_of_fake_pixels(config: dict[str, float]) -> None:
    for seed in range(10):
        images, target = mixed(seed, **config)
        assert images.shape == IMAGES.shape
        assert target.dtype == torch.float32
        assert torch.allclose(images.float().mean((1, 2, 3)) / 255, target, atol=1e-5)


def test_mixup_and_cutmix_are_both_drawn() -> None:
    kinds = {mixed(seed, mixup=1.0, cutmix=1.0)[0].dtype for seed in range(20)}
    assert kinds == {torch.uint8, torch.float32}


def test_the_seed_decides() -> None:
    assert torch.equal(mixed(3, mixup=1.0)[0], mixed(3, mixup=1.0)[0])
    assert not torch.equal(mixed(3, mixup=1.0)[0], mixed(4, mixup=1.0)[0])
