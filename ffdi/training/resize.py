"""Resizing on the device: the images of a batch, each of its own size, get the network's size.

The result of an image is a function of its own pixels alone, as in `training.augment`: its weights are computed from
integers, and weighted pixels are added in a fixed order. The host knows all sizes, so it never waits for the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from ffdi.data.images import deferred
from ffdi.data.images.deferred import Axis, Resize
from ffdi.training.runtime.device import Device

PIXELS = 2**23
"""Limit of the pixels at a time after the columns were resized; each takes about 50 bytes of the device's memory."""
HELD, WANTED = map(Axis._fields.index, ("held", "wanted"))
CUBIC_TAPS = 4
SHARPNESS = -0.75
"""The free number of cubic interpolation (Keys 1981), as in OpenCV."""
Tap = tuple[Tensor, Tensor]
"""int32 and float32 of one shape: the place of an old pixel for each new one, and its weight."""


@torch.no_grad()
def resize_images(pixels: Tensor, resizes: Tensor | None, device: Device) -> Tensor:
    """Gives all images of a batch the network's size.

    Args:
        pixels: uint8 [P, 3] on the device, the pixels of all images one after the other; [B, S, S, 3] without resizes.
        resizes: of `deferred.pack_resizes`, on the host; None if there is nothing to do.
        device: of the pixels.

    Returns:
        uint8 [B, S, S, 3] on the device, in the layout of `Device.arrange`.
    """
    if resizes is None:
        return pixels
    table = resizes.numpy()
    shape = -1, *table[0, :, WANTED].tolist(), 3
    if _is_trivial(table[:, 0]) and _is_trivial(table[:, 1]):
        return device.arrange(pixels.view(shape))
    parts, start = [], 0
    with torch.autocast(pixels.device.type, enabled=False):
        for part in _split(table):
            stop = start + int(part[..., HELD].prod(1).sum())
            parts.append(_resize(pixels[start:stop], part, device))
            start = stop
    return device.arrange(torch.cat(parts).view(shape))


def make_probe(edge: int) -> tuple[Tensor, Tensor]:
    """The arguments of `resize_images`, on the host, for an image that is shrunk and one that is enlarged."""
    axes = [Axis(old, 0, old, edge, 0, edge, cubic=old < edge) for old in (edge + 1, edge - 1)]
    pixels = torch.zeros((sum(axis.held**2 for axis in axes), 3), dtype=torch.uint8)
    return pixels, torch.from_numpy(deferred.pack_resizes([Resize(axis, axis) for axis in axes]))


def _is_trivial(axes: np.ndarray) -> bool:
    """Whether the pixels stay as they are along an axis: int64 [B, 7]."""
    held, _, old, new, _, wanted, _ = axes.T
    return bool((held == wanted).all() and (old == new).all())


def _split(table: np.ndarray) -> Iterator[np.ndarray]:
    """Parts of a batch that fit into memory, of one image at least: int64 [K, 2, 7]."""
    ends, start = (table[:, 0, HELD] * table[:, 1, WANTED]).cumsum(), 0
    while start < len(table):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + PIXELS, side="right")))
        yield table[start:stop]
        start = stop


def _resize(pixels: Tensor, table: np.ndarray, device: Device) -> Tensor:
    """First the columns, then the rows: uint8 [P, 3] and int64 [K, 2, 7] -> uint8 [K * S, S * 3]."""
    height, width = table[..., HELD].T
    image = np.repeat(np.arange(len(table)), height)  # of each old row
    widths = width[image]
    arrays = image, widths.cumsum() - widths, height.cumsum() - height, table
    images, row_starts, first_rows, axes = device.send_arrays([array.astype(np.int32) for array in arrays])
    rows, columns = (
        _list_taps(axes[:, axis].long(), _count_taps(table[:, axis]), int(table[0, axis, WANTED])) for axis in (0, 1)
    )
    of_rows = ((place.index_select(0, images), weight.index_select(0, images)) for place, weight in columns)
    narrow = sum_taps(pixels, of_rows, row_starts).view(len(image), -1)
    return sum_taps(narrow, rows, first_rows).round_().clamp_(0, 255).to(torch.uint8)


def sum_taps(values: Tensor, taps: Iterable[Tap], starts: Tensor) -> Tensor:
    """Makes each new row of some old ones.

    Args:
        values: uint8 or float32 [P, C].
        taps: of shape [K, N], with places behind `starts`.
        starts: int32 [K].

    Returns:
        float32 [K * N, C].
    """
    total: Tensor | None = None
    for place, weight in taps:
        taken = values.index_select(0, (place + starts.view(-1, 1)).flatten())
        weighted = taken.float().mul_(weight.reshape(-1, 1))
        total = weighted if total is None else total.add_(weighted)
    assert total is not None
    return total


def _count_taps(axes: np.ndarray) -> int:
    """The most old pixels that a new one is made of: int64 [K, 7]."""
    _, _, old, new, _, _, cubic = axes.T
    by_area = old // new + np.where(old % new == 0, 0, 2)
    return int(np.where(cubic, CUBIC_TAPS, by_area).max())


def _list_taps(axes: Tensor, count: int, wanted: int) -> list[Tap]:
    """The old pixels of each new one along an axis.

    Args:
        axes: int64 [K, 7], the numbers of an `Axis`.
        count: taps, the most that a new pixel has; the others get the weight 0.
        wanted: new pixels.

    Returns:
        Taps of shape [K, wanted], with places among the pixels that are held.
    """
    held, first_held, old, new, first, _, cubic = (part.view(-1, 1) for part in axes.unbind(1))
    place, by_curve = first + torch.arange(wanted, device=axes.device), cubic > 0
    middle = (2 * place + 1) * old - new  # of a new pixel, from that of the first old one; 2 * new is an old one's edge
    before = torch.div(middle, 2 * new, rounding_mode="floor")
    curve = _weigh_cubic((middle - before * 2 * new) / (2 * new))
    start = torch.where(by_curve, before - 1, torch.div(place * old, new, rounding_mode="floor"))
    taps = []
    for tap in range(count):
        pixel = start + tap
        covered = torch.minimum((place + 1) * old, (pixel + 1) * new) - torch.maximum(place * old, pixel * new)
        area = covered.clamp(min=0) / old
        weight = torch.where(by_curve, curve[tap] if tap < CUBIC_TAPS else torch.zeros_like(area), area)
        inside = torch.minimum(pixel.clamp(min=0), old - 1) - first_held  # the border is repeated
        taps.append((torch.minimum(inside.clamp(min=0), held - 1).int(), weight))
    return taps


def _weigh_cubic(away: Tensor) -> list[Tensor]:
    """The weights of four pixels for a place that is `away` behind the second one: float32 [K, N] from 0 to 1."""

    def weigh_near(distance: Tensor) -> Tensor:
        return ((SHARPNESS + 2) * distance - (SHARPNESS + 3)) * distance * distance + 1

    far = away + 1
    first = ((SHARPNESS * far - 5 * SHARPNESS) * far + 8 * SHARPNESS) * far - 4 * SHARPNESS
    second, third = weigh_near(away), weigh_near(1 - away)
    return [first, second, third, 1 - first - second - third]
