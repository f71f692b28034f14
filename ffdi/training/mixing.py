"""Images of a batch mixed with each other, and their labels with them."""

from __future__ import annotations

import torch
from torchvision.transforms import v2

from ffdi.config.schema import AugmentConfig


def mix_batch(images: torch.Tensor, target: torch.Tensor, config: AugmentConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup (Zhang et al., ICLR 2018), CutMix (Yun et al., ICCV 2019), or either, as torch's stream decides.

    Args:
        images: uint8 [B, S, S, 3].
        target: float32 [B], 0 or 1.
        config: the parameter of each one's Beta distribution; 0 is off.

    Returns:
        uint8 or float32 [B, S, S, 3] in grey levels, and float32 [B] in [0, 1].
    """
    ways = [
        *([v2.MixUp(alpha=config.mixup, num_classes=2)] if config.mixup else []),
        *([v2.CutMix(alpha=config.cutmix, num_classes=2)] if config.cutmix else []),
    ]
    if not ways:
        return images, target
    way = ways[int(torch.randint(len(ways), ()))]
    pixels = images.permute(0, 3, 1, 2)
    mixed, shares = way(pixels.float() if isinstance(way, v2.MixUp) else pixels, target.long())
    return mixed.permute(0, 2, 3, 1), shares[:, 1].float()
