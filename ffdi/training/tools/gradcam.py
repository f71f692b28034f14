"""Heat maps: the parts of an image that a network's score depends on."""

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

MIN_CELLS = 10
"""The smallest edge of the feature map to use, if the network has one: deeper maps are too coarse."""
EDGE = 56
"""The edge of a heat map."""


def compute_heat_map(network: Detector, images: np.ndarray, device: Device) -> np.ndarray:
    """The evidence in each image for the predicted class.

    HiResCAM (Draelos and Carin, arXiv 2011.08891): activations times gradients of the logit, summed over the channels,
    where positive, of the deepest layer with enough cells. The predicted class is fake if the logit is positive.

    Args:
        network: on the device.
        images: uint8 [B, S, S, 3], the network's input.
        device: of the network.

    Returns:
        float32 [B, 56, 56] from 0 to 1; zeros without evidence.
    """
    network.eval()
    activations: list[torch.Tensor] = []
    hook = _select_layer(network.backbone, images.shape[1]).register_forward_hook(
        lambda _, __, result: activations.append(result)
    )
    try:
        with torch.enable_grad(), devices.disable_tf32():
            logit = network(device.send(torch.from_numpy(images)))
            (gradients,) = torch.autograd.grad((logit * logit.detach().sign()).sum(), activations)
    finally:
        hook.remove()
    channels_last = getattr(network.backbone, "output_fmt", "NCHW") == "NHWC"  # such as swin
    return _compute_map(_to_planes(activations[0], channels_last), _to_planes(gradients, channels_last))


def _select_layer(backbone: Backbone, edge: int) -> nn.Module:
    """The deepest layer with `MIN_CELLS` along an edge; the first layer if none has as many.

    If the last layers have the same scale, as in transformers, the last but one: after the last layer a head may read
    the class token only, and the other tokens have no gradient.
    """
    info = backbone.feature_info
    scales = [(one["module"], edge / one["reduction"]) for one in (info if isinstance(info, list) else info.info)]
    fine = [scale for scale in scales if scale[1] >= MIN_CELLS] or scales[:1]
    place = -2 if len(fine) > 1 and fine[-1][1] == fine[-2][1] else -1
    return backbone.get_submodule(fine[place][0])


def _compute_map(activations: torch.Tensor, gradients: torch.Tensor) -> np.ndarray:
    """From [B, C, h, w] to float32 [B, 56, 56]."""
    weighted = (activations * gradients).sum(1).clamp(min=0)
    plain = weighted.detach().float().cpu().numpy()
    enlarged = np.stack([cv2.resize(one, (EDGE, EDGE), interpolation=cv2.INTER_LINEAR) for one in plain])
    return enlarged / np.maximum(enlarged.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)


def _to_planes(features: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """[B, C, h, w], from a layer's output: a feature map, or a grid of tokens after the class tokens."""
    if features.ndim == 4:
        return features.permute(0, 3, 1, 2) if channels_last else features
    side = int(features.shape[1] ** 0.5)
    return features[:, features.shape[1] - side * side :].transpose(1, 2).reshape(len(features), -1, side, side)
