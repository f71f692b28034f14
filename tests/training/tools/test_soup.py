"""One network out of several."""

from __future__ import annotations

import numpy as np
import torch

from ffdi.config.schema import ModelConfig
from ffdi.data.loading.loader import Batch
from ffdi.models import detector
from ffdi.training.runtime import device
from ffdi.training.tools import soup

CPU = device.choose_device("cpu", None, 0)


def batches(count: int = 6) -> list[Batch]:
    """Batches of 16 images of 32 px."""
    rng = np.random.default_rng(0)
    pixels = [torch.from_numpy(rng.integers(0, 256, (16, 32, 32, 3), np.uint8)) for _ in range(count)]
    return [Batch(one, torch.zeros(16), torch.arange(16)) for one in pixels]


def network(seed: int) -> detector.Detector:
    """A small network with BatchNorm."""
    torch.manual_seed(seed)
    return detector.build_detector(ModelConfig(backbone="test_resnet", size=32), None).eval()


def test_weights_are_averaged_and_batch_norm_is_estimated_again() -> None:
    members = [network(seed) for seed in range(3)]
    made = soup.average_weights(members, batches(), CPU)
    assert not made.training
    for name, weight in made.named_parameters():
        mean = torch.stack([dict(one.named_parameters())[name] for one in members]).mean(0)
        assert torch.allclose(weight, mean, atol=1e-6), name
    first = next(module for module in made.modules() if isinstance(module, torch.nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    hook = first.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    with torch.inference_mode():
        for batch in batches():
            made(batch.images)
    hook.remove()
    assert torch.allclose(first.running_mean, torch.cat(seen).mean((0, 2, 3)), atol=1e-4)


def test_a_soup_of_equal_networks_is_that_network() -> None:
    one = network(1)
    for _ in range(3):
        for batch in batches():
            one.train()(batch.images)
    one.eval()
    weights = {name: weight.clone() for name, weight in one.named_parameters()}
    made = soup.average_weights([one, one], batches(), CPU)
    assert all(torch.equal(weight, weights[name]) for name, weight in made.named_parameters())
