"""Noise residuals: high-pass filters as further input channels, in which cameras and generators leave traces."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

SRM_CLIP = 3.0
"""Residuals are clipped at this many grey levels: larger ones are edges (Zhou et al., CVPR 2018, use 2)."""
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

    Always in float32: the seven bits of bf16 cannot hold the difference of two bright pixels.
    """

    kernels: torch.Tensor

    def __init__(self, kernels: torch.Tensor, groups: int, clip: float) -> None:
        super().__init__()
        self.register_buffer("kernels", kernels, persistent=False)
        self.groups, self.clip = groups, clip

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled(pixels.device.type):
            with torch.autocast(pixels.device.type, enabled=False):
                return self._filter(pixels)
        return self._filter(pixels)

    def _filter(self, pixels: torch.Tensor) -> torch.Tensor:
        border = self.kernels.shape[-1] // 2
        padded = functional.pad(pixels, (border,) * 4, mode="reflect")
        return functional.conv2d(padded, self.kernels, groups=self.groups).clamp(-self.clip, self.clip) / self.clip


def build_residual(name: str) -> NoiseResidual:
    return RESIDUALS[name]()


def _make_srm() -> NoiseResidual:
    """Three filters of the spatial rich model (Fridrich and Kodovsky, 2012), on the mean of the channels."""
    kernels = torch.stack([_SECOND, _SQUARE_3, _SQUARE_5])[:, None].expand(3, 3, 5, 5) / 3
    return NoiseResidual(kernels.contiguous(), 1, SRM_CLIP)


def _make_highpass() -> NoiseResidual:
    """A Laplace filter of each channel."""
    return NoiseResidual(_LAPLACE.expand(3, 1, 3, 3).contiguous(), 3, HIGHPASS_CLIP)


RESIDUALS = {"srm": _make_srm, "highpass": _make_highpass}
"""Residuals by name: three channels in addition to the three colours."""
