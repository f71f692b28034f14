"""Heat maps: the parts of an image that a network's score depends on."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import nn

from ffdi.models.detector import Detector
from ffdi.training.predict import PartwiseRunner
from ffdi.training.runtime.device import Device

MIN_CELLS = 10
"""The smallest edge of the feature map to use, if the network has one: deeper maps are too coarse."""
EDGE = 56
"""The edge of a heat map."""
BLUR = 32
"""The edge of an image in standard deviations of the blur of gradient times input."""


def find_layer(network: Detector, edge: int) -> nn.Module | None:
    """The layer of HiResCAM: the deepest with `MIN_CELLS` along an edge, or with the most cells if none has as many.

    If the last layers have the same scale, as in transformers, the last but one: after the last layer a head may read
    the class token only, and the other tokens have no gradient.

    Args:
        network: on the CPU or a GPU.
        edge: of the images in pixels.

    Returns:
        None if the network has no layer with one map of features, such as HRNet, which has several scales at once.
    """
    info = network.backbone.feature_info
    listed = info if isinstance(info, list) else info.info
    scales = [(one["module"], edge / one["reduction"]) for one in listed]
    cells = min(MIN_CELLS, max((scale[1] for scale in scales), default=0))
    fine = [scale for scale in scales if scale[1] >= cells]
    place = -2 if len(fine) > 1 and fine[-1][1] == fine[-2][1] else -1
    results: list[object] = []
    try:
        layer = network.backbone.get_submodule(fine[place][0])
    except (AttributeError, IndexError):  # timm names no module there
        return None
    hook = layer.register_forward_hook(lambda _, __, result: results.append(result))
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros((1, edge, edge, 3), dtype=torch.uint8, device=network.mean.device))
    finally:
        hook.remove()
    return layer if len(results) == 1 and torch.is_tensor(results[0]) and results[0].ndim in (3, 4) else None


def compute_heat_map(network: Detector, images: np.ndarray, device: Device, layer: nn.Module | None) -> np.ndarray:
    """The evidence in each image for the predicted class, which is fake if the logit is positive.

    HiResCAM (Draelos and Carin, arXiv 2011.08891): activations times gradients of the logit, summed over the channels,
    where positive, of a layer. Without a layer, the normalised pixels take the place of the activations (gradient times
    input; Shrikumar et al., ICML 2017), smoothed.

    Args:
        network: on the device.
        images: uint8 [B, S, S, 3], the network's input.
        device: of the network.
        layer: the result of `find_layer`.

    Returns:
        float32 [B, 56, 56], 0 without evidence; images of one network have one scale.
    """
    network.eval()
    compute = PartwiseRunner(lambda part: torch.from_numpy(_compute(network, part, device, layer)), device)
    return compute(device.send(torch.from_numpy(images))).numpy()


def _compute(network: Detector, batch: torch.Tensor, device: Device, layer: nn.Module | None) -> np.ndarray:
    """float32 [B, 56, 56] for uint8 [B, S, S, 3]."""
    with torch.enable_grad(), device.scoring():
        if layer is None:
            pixels = network.normalize(batch).requires_grad_()
            weighted = _weight(network.backbone(pixels).squeeze(1).float(), pixels)
            blurred = [cv2.GaussianBlur(one, (0, 0), batch.shape[1] / BLUR) for one in weighted]
            return _enlarge(np.stack(blurred), cv2.INTER_AREA)
        activations: list[torch.Tensor] = []
        hook = layer.register_forward_hook(lambda _, __, result: activations.append(result))
        try:
            logit = network(batch)
        finally:
            hook.remove()
        channels_last = getattr(network.backbone, "output_fmt", "NCHW") == "NHWC"  # such as swin
        return _enlarge(_weight(logit, activations[0], channels_last), cv2.INTER_LINEAR)


def _weight(logit: torch.Tensor, activations: torch.Tensor, channels_last: bool = False) -> np.ndarray:
    """Activations times gradients, where positive: float32 [B, h, w]."""
    (gradients,) = torch.autograd.grad((logit * logit.detach().sign()).sum(), activations)
    planes, slopes = (_to_planes(one, channels_last) for one in (activations, gradients))
    return (planes * slopes).sum(1).clamp(min=0).detach().float().cpu().numpy()


def _enlarge(maps: np.ndarray, interpolation: int) -> np.ndarray:
    """From [B, h, w] to float32 [B, 56, 56]."""
    return np.stack([cv2.resize(one, (EDGE, EDGE), interpolation=interpolation) for one in maps])


def _to_planes(features: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """[B, C, h, w], from a layer's output: a feature map, or a grid of tokens after the class tokens."""
    if features.ndim == 4:
        return features.permute(0, 3, 1, 2) if channels_last else features
    side = int(features.shape[1] ** 0.5)
    return features[:, features.shape[1] - side * side :].transpose(1, 2).reshape(len(features), -1, side, side)
