"""Weights that are moved along their gradient for a moment."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ffdi.training import optim


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 1))


def test_weights_are_moved_by_rho_and_restored_exactly() -> None:
    net = network()
    before = [one.detach().clone() for one in net.parameters()]
    net(torch.rand(2, 3, 4, 4)).sum().backward()
    gradient = torch.cat([one.grad.flatten() for one in net.parameters()])  # type: ignore[union-attr]
    with optim.perturb_weights(net, 0.1):
        moved = torch.cat([(one - two).flatten() for one, two in zip(net.parameters(), before, strict=True)])
        assert moved.norm().item() == pytest.approx(0.1, rel=1e-4)
        assert torch.cosine_similarity(moved, gradient, dim=0).item() == pytest.approx(1, abs=1e-4)
    assert all(torch.equal(one, two) for one, two in zip(net.parameters(), before, strict=True))


def test_weights_are_moved_as_by_the_formula_bit_by_bit() -> None:
    net = network().to(memory_format=torch.channels_last)
    net(torch.rand(2, 3, 4, 4)).sum().backward()
    with torch.no_grad():
        norm = torch.stack([one.grad.norm() for one in net.parameters()]).norm()  # type: ignore[union-attr]
        expected = [one + one.grad * (0.1 / (norm + 1e-12)) for one in net.parameters()]  # type: ignore[operator]
    with optim.perturb_weights(net, 0.1):
        assert all(torch.equal(one, two) for one, two in zip(net.parameters(), expected, strict=True))


def test_batchnorm_statistics_do_not_change_at_moved_weights() -> None:
    net = network()
    net(torch.rand(2, 3, 4, 4)).sum().backward()
    before = {name: value.clone() for name, value in net.named_buffers()}
    with optim.perturb_weights(net, 0.1):
        net(5 * torch.rand(2, 3, 4, 4))
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
    net(torch.rand(2, 3, 4, 4))
    assert int(net[1].num_batches_tracked) == 2  # type: ignore[arg-type]


def test_frozen_weights_are_not_moved() -> None:
    net = network()
    net[0].requires_grad_(False)
    before = net[0].weight.detach().clone()
    net(torch.rand(2, 3, 4, 4)).sum().backward()
    with optim.perturb_weights(net, 0.1):
        assert torch.equal(net[0].weight, before)


def test_weights_are_restored_after_an_infinite_gradient() -> None:
    net = network()
    before = [one.detach().clone() for one in net.parameters()]
    net(torch.rand(2, 3, 4, 4)).sum().backward()
    net[3].weight.grad.fill_(torch.inf)  # type: ignore[union-attr]
    with optim.perturb_weights(net, 0.1):
        pass
    assert all(torch.equal(one, two) for one, two in zip(net.parameters(), before, strict=True))
