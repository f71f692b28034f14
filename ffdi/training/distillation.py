"""Soft targets from teachers: Hinton et al., Distilling the Knowledge in a Neural Network (2015), for one logit."""

from __future__ import annotations

import torch
from torch.nn import functional

from ffdi.config.schema import DistillConfig
from ffdi.training.optim import Loss


def make_soft_targets(teacher: torch.Tensor, config: DistillConfig) -> torch.Tensor:
    """The teachers' probabilities at the temperature: logits float32 [B], NaN where there are none -> the same."""
    return torch.sigmoid(teacher / config.temperature)


def compute_loss(
    criterion: Loss, logits: torch.Tensor, target: torch.Tensor, soft: torch.Tensor, config: DistillConfig
) -> torch.Tensor:
    """The loss on labels and that on soft targets, in the shares of `distill.weight`; without a soft target, the first.

    The second is the cross entropy at the temperature T, times T ** 2, so that its gradients keep their size.

    Args:
        criterion: the loss on labels.
        logits: float32 [B].
        target: float32 [B] in [0, 1].
        soft: float32 [B], of `make_soft_targets`.
        config: has the weight and the temperature.

    Returns:
        float32 [].
    """
    known, temperature = ~soft.isnan(), config.temperature
    entropy = functional.binary_cross_entropy_with_logits(
        logits / temperature, torch.where(known, soft, target), reduction="none"
    )
    on_soft = torch.where(known, config.weight * temperature**2 * entropy, torch.zeros_like(entropy)).mean()
    return criterion(logits, target, torch.where(known, 1 - config.weight, 1.0)) + on_soft
