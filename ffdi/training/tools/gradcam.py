"""Where in an image a network finds what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import nn

from ffdi.models.detector import Detector
from ffdi.training.runtime import device as devices
from ffdi.training.runtime.device import Device

if TYPE_CHECKING:
    from ffdi.models.weights import Backbone

CELLS = 10
"""Along an edge of the map that is taken, at least, where a network has such a one: deeper maps say what, not where."""
EDGE = 56
"""Cells along an edge of what is given."""


def compute_heat_map(network: Detector, images: np.ndarray, device: Device) -> np.ndarray:
    """What in each image speaks for the side that the network takes.

    HiResCAM (Draelos and Carin, arXiv 2011.08891): activations times the logit's slopes, cell by cell, where their sum
    is positive, of the deepest layer with enough cells. The side is a fake's where the logit is positive, else a real
    image's.

    Args:
        network: on the device.
        images: uint8 [B, S, S, 3], as the network takes them.
        device: where the network is.

    Returns:
        float32 [B, 56, 56] from 0 to 1; zeros where nothing speaks for it.
    """
    network.eval()
    seen: list[torch.Tensor] = []
    hook = _layer(network.backbone, images.shape[1]).register_forward_hook(lambda _, __, result: seen.append(result))
    try:
        with torch.enable_grad(), devices.exact():
            logit = network(device.send(torch.from_numpy(images)))
            (slopes,) = torch.autograd.grad((logit * logit.detach().sign()).sum(), seen)
    finally:
        hook.remove()
    last = getattr(network.backbone, "output_fmt", "NCHW") == "NHWC"  # swin and its like
    return _map(_planes(seen[0], last), _planes(slopes, last))


def _layer(backbone: Backbone, edge: int) -> nn.Module:
    """The deepest layer with `CELLS` along an edge; the first where none has as many.

    Of layers of one scale, as transformers have them, the last but one: behind the last one a head may read the token
    of the whole image alone, and no other has a slope.
    """
    info = backbone.feature_info
    scales = [(one["module"], edge / one["reduction"]) for one in (info if isinstance(info, list) else info.info)]
    fine = [scale for scale in scales if scale[1] >= CELLS] or scales[:1]
    place = -2 if len(fine) > 1 and fine[-1][1] == fine[-2][1] else -1
    return backbone.get_submodule(fine[place][0])


def _map(seen: torch.Tensor, slopes: torch.Tensor) -> np.ndarray:
    """Of planes [B, C, h, w]: float32 [B, 56, 56]."""
    weighted = (seen * slopes).sum(1).clamp(min=0)
    plain = weighted.detach().float().cpu().numpy()
    enlarged = np.stack([cv2.resize(one, (EDGE, EDGE), interpolation=cv2.INTER_LINEAR) for one in plain])
    return enlarged / np.maximum(enlarged.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)


def _planes(seen: torch.Tensor, last: bool) -> torch.Tensor:
    """[B, C, h, w], of what a layer gives: planes, or a grid of tokens behind those that stand for the whole image."""
    if seen.ndim == 4:
        return seen.permute(0, 3, 1, 2) if last else seen
    side = int(seen.shape[1] ** 0.5)
    return seen[:, seen.shape[1] - side * side :].transpose(1, 2).reshape(len(seen), -1, side, side)
