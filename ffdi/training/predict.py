"""Logits, or what leads to them, for a table of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from ffdi import stopping
from ffdi.data.loader import Batches
from ffdi.training import device as devices
from ffdi.training.detector import Detector
from ffdi.training.device import Device


def features(detector: Detector, batches: Batches, device: Device) -> Iterator[np.ndarray]:
    """What a detector's head would see of each image.

    Args:
        detector: on the device.
        batches: in the table's order.
        device: where the detector is.

    Yields:
        float32 [B, D], exact fp32.

    Raises:
        DataError: an image cannot be read; it is named.
    """
    detector.eval()
    with torch.inference_mode(), devices.exact():
        for batch in batches:
            stopping.check()
            yield detector.embed(device.send(batch.images)).cpu().numpy()


def logits(networks: Sequence[nn.Module], batches: Batches, device: Device) -> Iterator[np.ndarray]:
    """The logits of several networks, each batch decoded once for all of them.

    Args:
        networks: on the device, in evaluation mode; each uint8 [B, S, S, 3] -> logit [B].
        batches: in the table's order.
        device: where the networks are.

    Yields:
        float32 [M, B]: one row a network; exact fp32, so that an exported graph gives the same.

    Raises:
        DataError: an image cannot be read; it is named.
    """
    with torch.inference_mode(), devices.exact():
        for batch in batches:
            stopping.check()
            images = device.send(batch.images)
            yield torch.stack([network(images) for network in networks]).float().cpu().numpy()
