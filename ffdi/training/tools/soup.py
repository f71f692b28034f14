"""Model soups: the mean of the weights of several networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch.optim.swa_utils import AveragedModel, update_bn

from ffdi.data.loading.loader import Batch
from ffdi.models.detector import Detector
from ffdi.training.runtime.device import Device

IMAGES = 512
"""Training images for the new BatchNorm statistics: mean weights have other activations."""


def average_weights(detectors: Sequence[Detector], batches: Iterable[Batch], device: Device) -> Detector:
    """The mean of the weights of networks with the same starting weights (Wortsman et al., ICML 2022).

    Args:
        detectors: of one architecture.
        batches: training images without augmentation.
        device: for the BatchNorm statistics.

    Returns:
        A network on the CPU, in evaluation mode.
    """
    averaged = AveragedModel(detectors[0])
    for detector in detectors:
        averaged.update_parameters(detector)
    soup = averaged.module
    assert isinstance(soup, Detector)
    device.prepare(soup)
    with torch.inference_mode(), device.scoring(), device.explain_memory("for new BatchNorm statistics"):
        update_bn((device.send(batch.images) for batch in device.send_batches(batches)), soup)
    return soup.cpu().eval()
