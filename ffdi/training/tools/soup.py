"""One network out of several: the mean of their weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch.optim.swa_utils import AveragedModel, update_bn

from ffdi.data.loading.loader import Batch
from ffdi.models.detector import Detector
from ffdi.training.runtime import device as devices
from ffdi.training.runtime.device import Device

IMAGES = 512
"""Training images from which BatchNorm is estimated anew: the mean of weights sees other activations."""


def average_weights(detectors: Sequence[Detector], batches: Iterable[Batch], device: Device) -> Detector:
    """The mean of the weights of networks that began from the same ones (Wortsman et al., ICML 2022).

    Args:
        detectors: of one architecture.
        batches: training images without augmentation.
        device: where BatchNorm is estimated.

    Returns:
        On the CPU, in evaluation mode.
    """
    averaged = AveragedModel(detectors[0])
    for detector in detectors:
        averaged.update_parameters(detector)
    soup = averaged.module
    assert isinstance(soup, Detector)
    device.prepare(soup)
    with torch.inference_mode(), devices.exact():
        update_bn((device.send(batch.images) for batch in batches), soup)
    return soup.cpu().eval()
