"""Logits, or what leads to them, for a table of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from ffdi.core import signals
from ffdi.data.loading.loader import Batch, Batches
from ffdi.models.detector import Detector
from ffdi.training.runtime import device as devices
from ffdi.training.runtime.device import Device

Advance = Callable[[int], None]
"""Is called after each batch with the number of its images."""


def ignore(_images: int) -> None:
    """Shows no progress."""


def features(detector: Detector, batches: Batches, device: Device, advance: Advance = ignore) -> np.ndarray:
    """What a detector's head would see of each image.

    Args:
        detector: on the device.
        batches: in the table's order.
        device: where the detector is.
        advance: shows progress.

    Returns:
        float32 [N, D], exact fp32.

    Raises:
        DataError: an image cannot be read; it is named.
    """
    detector.eval()
    found = np.empty((0, 0), np.float32)
    for rows, batch in _evaluate(batches):
        part = detector.embed(device.send(batch.images)).cpu().numpy()
        if not len(found):
            found = np.empty((batches.rows, part.shape[1]), np.float32)
        found[rows] = part
        advance(len(part))
    return found


def logits(networks: Sequence[nn.Module], batches: Batches, device: Device, advance: Advance = ignore) -> np.ndarray:
    """The logits of several networks, each batch decoded once for all of them.

    Args:
        networks: on the device, in evaluation mode; each uint8 [B, S, S, 3] -> logit [B].
        batches: in the table's order.
        device: where the networks are.
        advance: shows progress.

    Returns:
        float32 [M, N]: one row a network; exact fp32, so that an exported graph gives the same.

    Raises:
        DataError: an image cannot be read; it is named.
    """
    found = np.empty((len(networks), batches.rows), np.float32)
    for rows, batch in _evaluate(batches):
        images = device.send(batch.images)
        found[:, rows] = torch.stack([network(images) for network in networks]).float().cpu().numpy()
        advance(len(batch.images))
    return found


def _evaluate(batches: Batches) -> Iterator[tuple[slice, Batch]]:
    """Each batch, and where its results belong: in arrays that are there from the start. A small one kept of each batch
    would lie between the large blocks that networks take and free, which grew by 0.05 MB with each."""
    start = 0
    with torch.inference_mode(), devices.exact():
        for batch in batches:
            signals.raise_if_interrupted()
            stop = start + len(batch.images)
            yield slice(start, stop), batch
            start = stop
