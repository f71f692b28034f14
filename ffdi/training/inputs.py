"""From a batch of the loader to the input of a network, on the device: sent, decoded, resized and augmented."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from ffdi.config.schema import Config
from ffdi.core.errors import DataError
from ffdi.data.images import decode
from ffdi.data.loading.loader import Batch, Batches
from ffdi.training import augment, health, resize
from ffdi.training.runtime.device import Device

SENDING, DECODING, RESIZING = "sending the batch", "decoding on the device", "resizing on the device"
AUGMENTATION = "augmentation on the device"
PARTS = SENDING, DECODING, RESIZING, AUGMENTATION
"""The parts of the way, by their names in a profile; a batch has those that its loader has left to the device."""


def make_images(batch: Batch, device: Device) -> Tensor:
    """Does what a batch's loader has left to the device.

    Args:
        batch: as the loader makes it, or with its images on the device.
        device: of the network.

    Returns:
        uint8 [B, S, S, 3] on the device.

    Raises:
        DataError: an image is damaged; the message has its path.
    """
    with record_function(SENDING):
        images = device.send(batch.images)
    if batch.encoded is not None:  # else a profile would have a part that takes no time
        with record_function(DECODING):
            images = _decode_images(images, batch, device)
    if batch.resizes is not None:
        with record_function(RESIZING):
            images = resize.resize_images(images, batch.resizes, device)
    if batch.steps is not None:
        with record_function(AUGMENTATION):
            images = augment.apply_steps(images, batch.steps, device)
    return images


def check_augmentation(batches: Batches, device: Device) -> None:
    """Checks that training images differ between two epochs.

    Raises:
        TrainingError: the augmentation draws the same in both.
    """
    if batches.changes_images and batches.rows >= health.PROBED:
        first, second = (make_images(batch, device) for batch in batches.load_two_epochs(health.PROBED))
        health.check_draws(first.cpu().numpy(), second.cpu().numpy())


def make_probe(config: Config) -> Batch:
    """A batch of two black images that needs all operations of a training: they are shrunk, enlarged and augmented."""
    edge = config.training_size
    images, resizes, steps = torch.zeros((2, edge, edge, 3), dtype=torch.uint8), None, None
    if config.augment.device:
        images, resizes = resize.make_probe(edge)
        steps = augment.draw_probe(config.augment.recipe)
    return Batch(images, torch.zeros(2), torch.arange(2), steps=steps, resizes=resizes)


@torch.no_grad()
def _decode_images(pixels: Tensor, batch: Batch, device: Device) -> Tensor:
    """Puts the pixels of encoded images between those of the others: uint8 [P, 3] -> uint8 [Q, 3], on the device."""
    assert batch.encoded is not None
    assert batch.resizes is not None
    contents, cuts, names = batch.encoded
    held, table = batch.resizes[..., 0].tolist(), cuts.tolist()
    encoded = list(contents.split([row[1] for row in table]))
    parts: dict[int, Tensor] = {}
    decoded = _decode(encoded, names, device)
    for picture, name, (place, _, height, width, top, left) in zip(decoded, names, table, strict=True):
        if picture.shape != (3, height, width):
            raise DataError(f"{name} is damaged: its header has another size than its picture")
        rows, columns = held[place]
        cut = picture[:, top : top + rows, left : left + columns]
        parts[place] = cut.permute(1, 2, 0).reshape(-1, 3)
    sizes = [0 if place in parts else rows * columns for place, (rows, columns) in enumerate(held)]
    given = pixels.split(sizes)
    return torch.cat([parts.get(place, given[place]) for place in range(len(held))])


def _decode(contents: list[Tensor], names: list[str], device: Device) -> list[Tensor]:
    """uint8 [3, H, W] each; if the device refuses one, OpenCV decodes it, or names it in an error."""
    try:
        return device.decode_jpegs(contents)
    except RuntimeError as error:
        if device.is_memory_error(error):
            raise
    decoded = []
    for content, name in zip(contents, names, strict=True):
        try:
            decoded += device.decode_jpegs([content])
        except RuntimeError as error:
            if device.is_memory_error(error):
                raise
            picture = decode.decode_rgb(content.numpy().tobytes(), name)
            decoded.append(device.send(torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))))
    return decoded
