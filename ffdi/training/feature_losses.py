"""Losses on the features before the head, and between the two views of an image; each is added with its weight."""

from __future__ import annotations

import torch
from torch.nn import functional

from ffdi.config.schema import TrainConfig

SHARPNESS = 2.0
"""The factor t of the uniformity loss."""


def compute_feature_losses(
    config: TrainConfig, features: torch.Tensor, logits: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """The weighted sum of the losses that the config asks for.

    Args:
        config: has the weights.
        features: float [B, D] of a batch or of its part; with `consistency`, two views of each image side by side.
        logits: float32 [B].
        target: float32 [B], 0 or 1.

    Returns:
        float32 [].
    """
    features, total = features.float(), logits.new_zeros(())
    if config.alignment or config.uniformity:
        distances, alike = _measure_distances(features, target)
        if config.alignment and alike.any():
            total = total + config.alignment * distances[alike].mean()
        if config.uniformity and len(distances):
            total = total + config.uniformity * distances.mul(-SHARPNESS).exp().mean().log()
    if config.consistency:
        total = total + config.consistency * measure_inconsistency(features, logits)
    return total


def _measure_distances(features: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The squared distance of each pair on the unit sphere, float32 [P], and whether both have one label, bool [P].

    Alignment and uniformity on the sphere: Wang and Isola (ICML 2020); for detectors of fakes with labels as classes,
    GenD (Yermakov et al., 2025).
    """
    directions = functional.normalize(features, dim=1)
    first, second = torch.triu_indices(len(target), len(target), offset=1, device=target.device)
    return (directions[first] - directions[second]).square().sum(1), target[first] == target[second]


def measure_inconsistency(features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The mean over images of 1 - cosine of the features of both views, and of the symmetric KL of their scores.

    Args:
        features: float32 [2 B, D], both views of an image side by side.
        logits: float32 [2 B].
    """
    cosine = functional.cosine_similarity(features[::2], features[1::2], dim=1)
    # KL(p, q) + KL(q, p) of two Bernoulli distributions
    divergence = (logits[::2].sigmoid() - logits[1::2].sigmoid()) * (logits[::2] - logits[1::2])
    return (1 - cosine + divergence).mean()
