"""What is left of an image without what it shows: noise, in which cameras and generators leave their traces."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ffdi.config.schema import ModelConfig
from ffdi.core.errors import ConfigError, nearest

SRM_CLIP = 3.0
"""Residuals beyond so many grey levels are edges (Zhou et al., Learning Rich Features, CVPR 2018, have 2)."""
HIGHPASS_CLIP = 16.0

_SECOND = torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, -2, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]) / 2
_SQUARE_3 = torch.tensor([[0, 0, 0, 0, 0], [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], [0, 0, 0, 0, 0]]) / 4
_SQUARE_5 = (
    torch.tensor([[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]])
    / 12
)
_LAPLACE = torch.tensor([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]) / 4


class NoiseResidual(nn.Module):
    """Pixels in grey levels, float32 [B, 3, S, S] -> residuals float32 [B, 3, S, S] of about [-1, 1].

    Exact in float32 whatever is trained in: seven bits do not hold the difference of two bright pixels.
    """

    kernels: torch.Tensor

    def __init__(self, kernels: torch.Tensor, groups: int, clip: float) -> None:
        super().__init__()
        self.register_buffer("kernels", kernels, persistent=False)
        self.groups, self.clip = groups, clip

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """float32 [B, 3, S, S] -> float32 of the same shape."""
        if torch.is_autocast_enabled(pixels.device.type):
            with torch.autocast(pixels.device.type, enabled=False):
                return self._filtered(pixels)
        return self._filtered(pixels)

    def _filtered(self, pixels: torch.Tensor) -> torch.Tensor:
        border = self.kernels.shape[-1] // 2
        padded = functional.pad(pixels, (border,) * 4, mode="reflect")
        return functional.conv2d(padded, self.kernels, groups=self.groups).clamp(-self.clip, self.clip) / self.clip


def build(name: str) -> NoiseResidual:
    """The residual of that name."""
    return RESIDUALS[name]()


def check_noise_residual(config: ModelConfig) -> None:
    """Refuses a residual that is not there.

    Raises:
        ConfigError: names the nearest one.
    """
    known = ["none", *RESIDUALS]
    if config.noise_residual not in known:
        raise ConfigError(
            f"unknown residual '{config.noise_residual}': {nearest(config.noise_residual, known)}",
            hint="correct model.noise_residual in config.toml",
        )


def _srm() -> NoiseResidual:
    """Three of the filters of the spatial rich model (Fridrich and Kodovsky, 2012), on the mean of the channels."""
    kernels = torch.stack([_SECOND, _SQUARE_3, _SQUARE_5])[:, None].expand(3, 3, 5, 5) / 3
    return NoiseResidual(kernels.contiguous(), 1, SRM_CLIP)


def _highpass() -> NoiseResidual:
    """Each channel against its neighbours (Laplace)."""
    return NoiseResidual(_LAPLACE.expand(3, 1, 3, 3).contiguous(), 3, HIGHPASS_CLIP)


RESIDUALS = {"srm": _srm, "highpass": _highpass}
"""What stands beside the three colours as three more channels."""
