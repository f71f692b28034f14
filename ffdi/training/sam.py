"""Sharpness-aware minimisation: the gradient is taken where the loss nearby is highest (Foret et al., ICLR 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def ascended(network: nn.Module, rho: float) -> Iterator[None]:
    """Moves the weights by `rho` along their gradient, for as long as what happens inside takes.

    BatchNorm does not count what it sees there, for those are not the weights that are kept.
    """
    moved = [one for one in network.parameters() if one.grad is not None]
    norm = torch.stack([one.grad.norm() for one in moved]).norm()  # type: ignore[union-attr]
    before = [one.detach().clone() for one in moved]
    paused = [one for one in network.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]
    with torch.no_grad():
        for one in moved:
            one.add_(one.grad * (rho / (norm + 1e-12)))
    for layer in paused:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in paused:
            layer.track_running_stats = True
        with torch.no_grad():
            for one, weights in zip(moved, before, strict=True):
                one.copy_(weights)
