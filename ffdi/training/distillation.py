"""Soft targets from teachers and pseudo-labels, for one logit; and a teacher's features.

Hinton et al., Distilling the Knowledge in a Neural Network (2015).
"""

from __future__ import annotations

import torch
from torch.nn import functional

from ffdi.config.schema import Config
from ffdi.training.optim import Loss


def make_soft_targets(logits: torch.Tensor, target: torch.Tensor, config: Config) -> torch.Tensor:
    """The probabilities of other networks, those of teachers at the temperature.

    Args:
        logits: of these networks, float32 [B]; NaN where there are none.
        target: labels float32 [B], NaN for images without labels, whose logits are pseudo-labels.
        config: has the temperature.

    Returns:
        float32 [B], NaN where there are none.
    """
    return torch.sigmoid(logits / _choose_temperature(target, config))


def compute_loss(
    criterion: Loss, logits: torch.Tensor, target: torch.Tensor, soft: torch.Tensor, config: Config
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss on labels, and the loss to be minimized.

    Of an image with both targets, the second has the two losses in the shares of `distill.weight`; without a soft
    target, that on the label; without a label, that on the pseudo-label times `pseudo_labels.weight`. The loss on a
    teacher's score is the cross entropy at the temperature T, times T ** 2, so that its gradients keep their size.

    Args:
        criterion: the loss on labels.
        logits: float32 [B].
        target: float32 [B] in [0, 1]; NaN without a label.
        soft: float32 [B], of `make_soft_targets`.
        config: has the weights and the temperature.

    Returns:
        Two float32 []: the mean over images with labels, and over all images.
    """
    known, labelled, temperature = ~soft.isnan(), ~target.isnan(), _choose_temperature(target, config)
    label = torch.where(labelled, target, soft)
    entropy = functional.binary_cross_entropy_with_logits(
        logits / temperature, torch.where(known, soft, label), reduction="none"
    )
    weight = torch.where(labelled, config.distill.weight, config.pseudo_labels.weight)
    on_soft = torch.where(known, weight * temperature**2 * entropy, torch.zeros_like(entropy)).mean()
    share = torch.where(known, 1 - config.distill.weight, 1.0) * labelled
    on_labels = criterion(logits, label, labelled.float()) / labelled.float().mean().clamp(min=1 / len(logits))
    return on_labels, criterion(logits, label, share) + on_soft


def compute_feature_loss(
    features: torch.Tensor, taught: torch.Tensor, target: torch.Tensor, soft: torch.Tensor
) -> torch.Tensor:
    """1 - cosine of the features of both networks.

    Args:
        features: of the student, float [B, D].
        taught: of the teacher, float [B, D].
        target: labels float32 [B]; NaN without a label.
        soft: float32 [B], of `make_soft_targets`; NaN for images that the teacher has not seen, such as pseudo-fakes.

    Returns:
        float32 [], the sum over images that the teacher has scored, divided by the number of all images.
    """
    known = ~(target.isnan() | soft.isnan())
    distance = 1 - functional.cosine_similarity(features.float(), taught.float(), dim=1)
    return torch.where(known, distance, torch.zeros_like(distance)).mean()


def _choose_temperature(target: torch.Tensor, config: Config) -> torch.Tensor:
    """That of the teachers for images with labels, else 1: float32 [B]."""
    return torch.where(target.isnan(), 1.0, config.distill.temperature)
