"""Logits and features of a table of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn

from ffdi.core import signals
from ffdi.data.loading.loader import Batch, ScoredBatches
from ffdi.training.runtime.device import Device

ProgressCallback = Callable[[int], None]
"""Called after each batch with the number of its images."""


def ignore_progress(_images: int) -> None:
    """The default ProgressCallback."""


class PartwiseRunner:
    """Runs a function on batches, in smaller parts after the memory of the device was short.

    Scores have more views and larger activations than a training step of the same batch.
    """

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], device: Device) -> None:
        self._function, self._device = function, device
        self._most: int | None = None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """[B, ...] -> [B, ...].

        Raises:
            DeviceError: one image is too much for a GPU.
            RuntimeError, MemoryError: of the function; short memory only if one image is too much.
        """
        while True:
            size = self._most or len(images)
            try:
                with self._device.explain_memory("to score one image") if size == 1 else nullcontext():
                    return torch.cat([self._function(part) for part in images.split(size)])
            except (RuntimeError, MemoryError) as error:
                if size == 1 or not self._device.is_memory_error(error):
                    raise
            self._most = size // 2  # after the error, which keeps the tensors of the attempt
            self._device.free_cache()


def extract_features(
    embed: Callable[[torch.Tensor], torch.Tensor],
    batches: ScoredBatches,
    device: Device,
    advance: ProgressCallback = ignore_progress,
) -> np.ndarray:
    """The features of each image.

    Args:
        embed: of a detector on the device, such as `Detector.embed`: uint8 [B, S, S, 3] -> float [B, D].
        batches: in the table's order.
        device: where the detector is.
        advance: called after each batch.

    Returns:
        float32 [N, D], computed without TF32.

    Raises:
        DataError: an image is unreadable.
    """
    run = PartwiseRunner(embed, device)
    result = np.empty((0, 0), np.float32)
    for rows, batch in _iterate_batches(batches, device):
        part = run(device.send(batch.images)).cpu().numpy()
        if not len(result):
            result = np.empty((batches.rows, part.shape[1]), np.float32)
        result[rows] = part
        advance(len(part))
    return result


def predict_logits(
    networks: Sequence[nn.Module], batches: ScoredBatches, device: Device, advance: ProgressCallback = ignore_progress
) -> np.ndarray:
    """The logits of several networks; each batch is decoded once.

    Args:
        networks: on the device, in evaluation mode; each takes the images of a batch, or their features -> logit [B].
        batches: in the table's order.
        device: where the networks are.
        advance: called after each batch.

    Returns:
        float32 [M, N]: one row for each network, computed without TF32, as by an exported graph.

    Raises:
        DataError: an image is unreadable.
    """
    runners = [PartwiseRunner(network, device) for network in networks]
    result = torch.empty((len(networks), batches.rows), device=device.torch)
    for rows, batch in _iterate_batches(batches, device):
        images = device.send(batch.images)
        result[:, rows] = torch.stack([run(images) for run in runners])
        advance(len(batch.images))
    return result.cpu().numpy()


def _iterate_batches(batches: ScoredBatches, device: Device) -> Iterator[tuple[slice, Batch]]:
    """Yields each batch with its rows.

    The callers write into arrays that are allocated once: a small array per batch would be allocated between the large
    blocks that networks allocate and free, and the process would grow by 0.05 MB per batch.
    """
    start = 0
    with torch.inference_mode(), device.scoring():
        for batch in device.send_batches(batches):
            signals.raise_if_interrupted()
            stop = start + len(batch.images)
            yield slice(start, stop), batch
            start = stop
