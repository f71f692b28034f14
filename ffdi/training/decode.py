"""Decoding on the device: the JPEGs of a batch get their pixels, before the images are resized."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ffdi.core.errors import DataError
from ffdi.data.images import decode
from ffdi.data.loading.loader import Batch
from ffdi.training.runtime.device import Device


@torch.no_grad()
def decode_images(pixels: Tensor, batch: Batch, device: Device) -> Tensor:
    """Puts the pixels of encoded images between those of the others.

    Args:
        pixels: uint8 [P, 3] on the device, of the images that a worker has decoded.
        batch: with `encoded` and `resizes` on the host.
        device: of the pixels.

    Returns:
        uint8 [Q, 3] on the device, the pixels of all images one after the other.

    Raises:
        DataError: an image is damaged; the message has its path.
    """
    if batch.encoded is None:
        return pixels
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
