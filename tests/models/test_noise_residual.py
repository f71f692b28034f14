"""Noise residuals: nothing of what an image shows, all of its grain."""

from __future__ import annotations

import pytest
import torch

from ffdi.config.schema import ModelConfig
from ffdi.models import detector as detectors
from ffdi.models import noise_residual

NAMES = sorted(noise_residual.RESIDUALS)


def ramp(size: int = 24) -> torch.Tensor:
    """float32 [1, 3, size, size]: brightness that changes evenly."""
    across = torch.arange(size).float().view(1, 1, 1, -1) * 3 + torch.arange(size).float().view(1, 1, -1, 1)
    return across.expand(1, 3, -1, -1).contiguous()


@pytest.mark.parametrize("name", NAMES)
def test_even_changes_leave_nothing(name: str) -> None:
    inner = noise_residual.build_residual(name)(ramp())[..., 3:-3, 3:-3]
    assert inner.abs().max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_grain_is_kept_and_edges_are_clipped(name: str) -> None:
    residual = noise_residual.build_residual(name)
    grain = residual(ramp() + torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)))
    assert grain.shape == (1, 3, 24, 24)
    assert 0.05 < grain.std() < 1
    edge = torch.zeros(1, 3, 24, 24)
    edge[..., 12:] = 255
    assert residual(edge).abs().max() == 1


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_does_not_touch_the_difference_of_bright_pixels(name: str) -> None:
    residual, bright = noise_residual.build_residual(name), 240 + ramp(8) / 40
    exact = residual(bright)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(residual(bright), exact)


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_sees_them_beside_the_colours(name: str) -> None:
    config = ModelConfig(backbone="test_resnet", pretrained=False, size=32, noise_residual=name)
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    detector = detectors.build_detector(config, None).eval()
    assert detector.normalize(images).shape == (2, 6, 32, 32)
    assert detector(images).shape == (2,)
    assert not [key for key in detector.state_dict() if "kernels" in key]
