"""The augmentation on the device: each image of a batch gets its own steps of `operations`, by tensor operations.

The result of an image is a function of its pixels and steps alone, whatever the rest of the batch: all sums are sums of
integers or of multiples of a power of two, which float32 holds exactly in any order, or they are added in a fixed
order, value by value. The host knows all steps, so it never waits for the device.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ffdi.data.loading.augment import Augmentation
from ffdi.synthetic import operations
from ffdi.synthetic.operations import CLAHE_TILES, INTERPOLATIONS, NOISE_VALUES
from ffdi.training import jpeg, resize
from ffdi.training.jpeg import count_up
from ffdi.training.runtime import device as devices
from ffdi.training.runtime.device import Device

NAMES = tuple(operations.OPERATIONS)
PIXELS = 2**23
"""Limit of an operation at a time: it takes up to about 100 bytes of the device's memory for each pixel."""
PROBED = 256
"""Draws of a recipe that contain all of its operations: the rarest is in one image of 25."""


class Operation(NamedTuple):
    """The batched counterpart of one of `operations.OPERATIONS`.

    Attributes:
        prepare: on the host, (numbers float64 [K, NUMBERS], height, width) -> arguments of `apply`, int32 or float32.
        apply: on the device, (pixels uint8 [K, H, W, 3], *arguments) -> the same shape.
    """

    prepare: Callable[[np.ndarray, int, int], Sequence[np.ndarray]]
    apply: Callable[..., Tensor]


class Group(NamedTuple):
    """Images that get the same operation at the same time.

    Attributes:
        name: a key of OPERATIONS.
        images: int32 [K], positions in the batch.
        numbers: float64 [K, NUMBERS].
    """

    name: str
    images: np.ndarray
    numbers: np.ndarray

    def split(self, most: int) -> list[Group]:
        """Groups of at most so many images."""
        starts = range(0, len(self.images), most)
        return [Group(self.name, self.images[at : at + most], self.numbers[at : at + most]) for at in starts]


@torch.no_grad()
def apply_steps(images: Tensor, steps: Tensor | None, device: Device) -> Tensor:
    """Applies to each image its steps, in their order.

    Args:
        images: uint8 [B, H, W, 3], on the device; H and W are larger than JPEG_BLOCK.
        steps: of `operations.pack_steps`, on the host; None if there is nothing to do.
        device: of the images.

    Returns:
        uint8 [B, H, W, 3] on the device, in memory as the images are, which stay as they were.
    """
    if steps is None or not len(steps):
        return images
    height, width = images.shape[1:3]
    groups = [part for group in group_steps(steps.numpy()) for part in group.split(max(1, PIXELS // (height * width)))]
    arguments = [[one.images, *OPERATIONS[one.name].prepare(one.numbers, height, width)] for one in groups]
    sent = iter(device.send_arrays([array for arrays in arguments for array in arrays]))
    changed = images.clone()
    with devices.disable_tf32(), torch.autocast(images.device.type, enabled=False):
        for group, arrays in zip(groups, arguments, strict=True):
            rows, *tensors = (next(sent) for _ in arrays)
            pixels = OPERATIONS[group.name].apply(changed.index_select(0, rows), *tensors)
            changed.index_copy_(0, rows.long(), pixels)
    return changed


def draw_probe(recipe: str) -> Tensor:
    """A step of each operation of a recipe, for a batch of one image, as `operations.pack_steps` returns them."""
    draws = Augmentation(recipe)
    steps = {step.name: step for row in range(PROBED) for step in draws.draw_steps((0, 0, 0, row))}
    return torch.from_numpy(operations.pack_steps([list(steps.values())]))


def group_steps(steps: np.ndarray) -> list[Group]:
    """Orders the steps of a batch in few groups; each image's own order stays.

    Args:
        steps: float64 [N, 2 + NUMBERS], of `operations.pack_steps`.
    """
    waiting: dict[int, list[int]] = defaultdict(list)  # rows of an image's steps, the next one at the end
    for row, image in zip(range(len(steps) - 1, -1, -1), steps[::-1, 0].tolist(), strict=True):
        waiting[int(image)].append(row)
    operation = steps[:, 1].astype(int).tolist()
    heads: dict[int, list[int]] = defaultdict(list)
    later = Counter(operation)

    def advance(image: int) -> None:
        if waiting[image]:
            following = operation[waiting[image][-1]]
            heads[following].append(image)
            later[following] -= 1

    for image in sorted(waiting):
        advance(image)
    groups = []
    while heads:  # first what the fewest images need again later
        chosen = min(heads, key=lambda one: (later[one], -len(heads[one]), one))
        images = sorted(heads.pop(chosen))
        rows = [waiting[image].pop() for image in images]
        groups.append(Group(NAMES[chosen], np.array(images, np.int32), steps[rows, 2:]))
        for image in images:
            advance(image)
    return groups


def _round(values: Tensor) -> Tensor:
    """To grey levels, halves to even as OpenCV does it."""
    return values.round().clamp(0, 255).to(torch.uint8)


def _spread(values: Tensor) -> Tensor:
    """[K] -> [K, 1, 1, 1]."""
    return values.view(-1, 1, 1, 1)


def _reflect(place: Tensor, size: int) -> Tensor:
    """Positions outside of an axis, mirrored at its first and last pixel as often as needed (BORDER_REFLECT_101)."""
    period = 2 * (size - 1)
    place = place.remainder(period)
    return torch.minimum(place, period - place)


# --- geometry ------------------------------------------------------------------------------------------------------


def _mirror(pixels: Tensor, flags: Tensor) -> Tensor:
    across, down = (_spread(flag) > 0 for flag in flags.unbind(1))
    pixels = torch.where(across, pixels.flip(2), pixels)
    return torch.where(down, pixels.flip(1), pixels)


def _prepare_move(numbers: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """float32 [K, 2, 3], from positions in the new image to positions in the old one."""
    matrices = [operations.make_move_matrix(width, height, *row) for row in numbers[:, :3].tolist()]
    return [np.stack([cv2.invertAffineTransform(matrix) for matrix in matrices]).astype(np.float32)]


def _move(pixels: Tensor, matrices: Tensor) -> Tensor:
    height, width = pixels.shape[1:3]
    column, row = (
        count_up(width, pixels).float().view(1, 1, -1, 1),
        count_up(height, pixels).float().view(1, -1, 1, 1),
    )
    right, down, start = (part.view(-1, 1, 1, 2) for part in matrices.unbind(2))
    place = right * column + down * row + start
    grid = torch.stack([place[..., 0] * (2 / (width - 1)) - 1, place[..., 1] * (2 / (height - 1)) - 1], -1)
    # with align_corners, the border is mirrored at the first and last pixel
    moved = functional.grid_sample(
        pixels.permute(0, 3, 1, 2).float(), grid, padding_mode="reflection", align_corners=True
    )
    return _round(moved.permute(0, 2, 3, 1))


def _prepare_resampling(numbers: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """Positions int32 [K, L, T] and weights float32 [K, L, T] along four axes: rows and columns, columns and rows."""
    axes: list[list[tuple[np.ndarray, np.ndarray]]] = [[], [], [], []]
    for factor, down, up in numbers[:, :3].tolist():
        rows, columns = operations.measure_resampled(height, width, factor)
        ways = (height, rows, down), (width, columns, down), (columns, width, up), (rows, height, up)
        for axis, (old, new, way) in zip(axes, ways, strict=True):
            axis.append(_list_taps(old, new, int(way)))
    return [_pad_to_largest(part) for axis in axes for part in zip(*axis, strict=True)]


@lru_cache(maxsize=4096)
def _list_taps(old: int, new: int, way: int) -> tuple[np.ndarray, np.ndarray]:
    """The old pixels of each new one, int32 [new, T], and their weights, float32 [new, T], as OpenCV has them."""
    unit = np.eye(old, dtype=np.float32)
    matrix = cv2.resize(unit, (old, new), interpolation=INTERPOLATIONS[way]) if new != old else unit
    rows, columns = matrix.nonzero()
    counts = np.bincount(rows, minlength=new)
    place = np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)
    taps, weights = np.zeros((new, counts.max()), np.int32), np.zeros((new, counts.max()), np.float32)
    taps[rows, place], weights[rows, place] = columns, matrix[rows, columns]
    return taps, weights


def _pad_to_largest(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of different shapes in one, with zeros behind them."""
    padded = np.zeros((len(arrays), *np.max([array.shape for array in arrays], 0)), arrays[0].dtype)
    for place, array in zip(padded, arrays, strict=True):
        place[tuple(map(slice, array.shape))] = array
    return padded


def _resample(pixels: Tensor, *taps: Tensor) -> Tensor:
    """The result is rounded at the smaller size, as in `operations.resample`."""
    rows, columns, wide, high = zip(taps[::2], taps[1::2], strict=True)
    shrunk = _weigh_rows(_weigh_rows(pixels.float(), *rows).transpose(1, 2), *columns)
    shrunk = shrunk.round().clamp(0, 255)
    return _round(_weigh_rows(_weigh_rows(shrunk, *wide).transpose(1, 2), *high))


def _weigh_rows(values: Tensor, taps: Tensor, weights: Tensor) -> Tensor:
    """Makes each new row from some old ones: float32 [K, L, M, 3], and [K, N, T] -> [K, N, M, 3]."""
    count, length, *rest = values.shape
    pairs = zip(taps.unbind(2), weights.unbind(2), strict=True)
    summed = resize.sum_taps(values.reshape(count * length, -1), pairs, count_up(count, values) * length)
    return summed.view(count, -1, *rest)


# --- colours -------------------------------------------------------------------------------------------------------


def _transform_colours(pixels: Tensor, numbers: Tensor) -> Tensor:
    matrix, values = numbers.view(-1, 1, 1, 3, 4), pixels.float()
    total = matrix[..., 0] * values[..., :1] + matrix[..., 1] * values[..., 1:2]
    return _round(total + matrix[..., 2] * values[..., 2:] + matrix[..., 3])


def _prepare_gamma(numbers: np.ndarray, _height: int, _width: int) -> list[np.ndarray]:
    return [np.stack([operations.make_gamma_table(exponent) for exponent in numbers[:, 0].tolist()]).astype(np.int32)]


def _change_gamma(pixels: Tensor, tables: Tensor) -> Tensor:
    return tables.gather(1, pixels.flatten(1).long()).view(pixels.shape).to(torch.uint8)


def _posterize(pixels: Tensor, bits: Tensor) -> Tensor:
    return pixels & _spread(256 - (1 << (8 - bits))).to(torch.uint8)


def _stretch_contrast(pixels: Tensor) -> Tensor:
    values = pixels.float()
    low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
    stretched = (values - low) * (255 / (high - low).clamp(min=1))
    return _round(torch.where(high > low, stretched, values))


def _prepare_equalization(numbers: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """The largest count of a grey level in a tile, int32 [K]."""
    rows, columns = _measure_tiles(height, width)
    return [np.maximum(numbers[:, 0] * rows * columns / 256, 1).astype(np.int32)]


def _measure_tiles(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a tile; OpenCV enlarges the image unless both of its edges are multiples."""
    if height % CLAHE_TILES or width % CLAHE_TILES:
        return height // CLAHE_TILES + 1, width // CLAHE_TILES + 1
    return height // CLAHE_TILES, width // CLAHE_TILES


def _equalize(pixels: Tensor, limits: Tensor) -> Tensor:
    """In the integers of OpenCV's YCrCb; brightness by `_equalize_brightness`."""
    red, green, blue = pixels.int().unbind(3)
    brightness = (4899 * red + 9617 * green + 1868 * blue + 2**13) >> 14
    cr = ((11682 * (red - brightness) + 2**13) >> 14).clamp(-128, 127)
    cb = ((9241 * (blue - brightness) + 2**13) >> 14).clamp(-128, 127)
    equalized = _equalize_brightness(brightness, limits)
    shifts = 22987 * cr, -5636 * cb - 11698 * cr, 29049 * cb
    return _round(torch.stack([equalized + ((shift + 2**13) >> 14) for shift in shifts], 3).float())


def _equalize_brightness(brightness: Tensor, limits: Tensor) -> Tensor:
    """CLAHE as in OpenCV's clahe.cpp: int32 [K, H, W], and int32 [K] -> int32 [K, H, W]."""
    count, height, width = brightness.shape
    rows, columns = _measure_tiles(height, width)
    row, column = count_up(rows * CLAHE_TILES, brightness), count_up(columns * CLAHE_TILES, brightness)
    whole = brightness.index_select(1, _reflect(row, height)).index_select(2, _reflect(column, width))
    tiles = whole.view(count, CLAHE_TILES, rows, CLAHE_TILES, columns).transpose(2, 3)
    tiles = tiles.reshape(count, -1, rows * columns)
    levels = count_up(256, brightness)
    # a sorted tile has its histogram; counting would add in any order, which deterministic algorithms refuse
    below = torch.searchsorted(tiles.sort(-1).values, levels.expand(*tiles.shape[:2], 256).contiguous(), right=True)
    histogram = below.diff(dim=-1, prepend=torch.zeros_like(below[..., :1]))
    limit = limits.view(-1, 1, 1)
    excess = (histogram - limit).clamp(min=0).sum(-1, keepdim=True)
    rest = excess % 256
    step = (256 // rest.clamp(min=1)).clamp(min=1)
    extra = (levels % step == 0) & (levels // step < rest)
    clipped = torch.minimum(histogram, limit) + excess // 256 + extra
    sums = clipped.float() @ torch.ones(256, 256, device=brightness.device).triu()  # counts: exact below 2**24
    tables = (sums * (255 / (rows * columns))).round().clamp(0, 255).flatten()

    def find_tiles(size: int, edge: int) -> tuple[Tensor, Tensor, Tensor]:
        place = count_up(size, brightness).float() * (1 / edge) - 0.5
        first = place.floor()
        return first.clamp(min=0).int(), (first + 1).clamp(max=CLAHE_TILES - 1).int(), place - first

    upper, lower, down = find_tiles(height, rows)
    left, right, across = find_tiles(width, columns)

    def look_up(tile_row: Tensor, tile_column: Tensor) -> Tensor:
        tile = tile_row.view(1, -1, 1) * CLAHE_TILES + tile_column
        tile = tile + (count_up(count, brightness) * CLAHE_TILES**2).view(-1, 1, 1)
        return tables.index_select(0, (tile * 256 + brightness).flatten()).view(brightness.shape)

    down = down.view(-1, 1)
    top = look_up(upper, left) * (1 - across) + look_up(upper, right) * across
    bottom = look_up(lower, left) * (1 - across) + look_up(lower, right) * across
    return (top * (1 - down) + bottom * down).round().int()


# --- filters and noise ---------------------------------------------------------------------------------------------

FILTER_STEPS = 2**13
"""A filter's weights are rounded to multiples of its inverse: float32 then holds every sum of grey levels exactly."""
BETWEEN_STEPS = 2**3
"""The same for the values between the rows and the columns of a blur, in parts of a grey level."""


def _round_kernels(kernels: Sequence[np.ndarray]) -> np.ndarray:
    """Kernels of odd sizes, with zeros around them up to the largest: float32 [K, ...]."""
    edge = max(len(kernel) for kernel in kernels)
    padded = [np.pad(kernel, (edge - len(kernel)) // 2) for kernel in kernels]
    return (np.rint(np.stack(padded) * FILTER_STEPS) / FILTER_STEPS).astype(np.float32)


def _prepare_blur(numbers: np.ndarray, _height: int, _width: int) -> list[np.ndarray]:
    return [_round_kernels([operations.make_blur_kernel(one) for one in numbers[:, 0].tolist()])]


def _prepare_motion(numbers: np.ndarray, _height: int, _width: int) -> list[np.ndarray]:
    return [_round_kernels([operations.make_motion_kernel(*row) for row in numbers[:, :2].tolist()])]


def _prepare_sharpening(numbers: np.ndarray, _height: int, _width: int) -> list[np.ndarray]:
    return [_round_kernels([operations.make_sharpen_kernel(one) for one in numbers[:, 0].tolist()])]


def _blur(pixels: Tensor, kernels: Tensor) -> Tensor:
    values = _filter(pixels.float().permute(3, 0, 1, 2), kernels.unsqueeze(1))
    values = (values * BETWEEN_STEPS).round() / BETWEEN_STEPS
    return _round(_filter(values, kernels.unsqueeze(2)).permute(1, 2, 3, 0))


def _filter_pixels(pixels: Tensor, kernels: Tensor) -> Tensor:
    return _round(_filter(pixels.float().permute(3, 0, 1, 2), kernels).permute(1, 2, 3, 0))


def _filter(values: Tensor, kernels: Tensor) -> Tensor:
    """Filters each image with its kernel: float32 [3, K, H, W], and [K, R, C] -> [3, K, H, W]."""
    for axis, reach in ((2, kernels.shape[1] // 2), (3, kernels.shape[2] // 2)):
        size = values.shape[axis]
        values = values.index_select(axis, _reflect(count_up(size + 2 * reach, values) - reach, size))
    return functional.conv2d(values, kernels.unsqueeze(1), groups=len(kernels))


def _prepare_noise(numbers: np.ndarray, _height: int, _width: int) -> list[np.ndarray]:
    return [numbers[:, 0].astype(np.float32), numbers[:, 1].astype(np.int32), numbers[:, 2].astype(np.int32)]


def _add_noise(pixels: Tensor, deviation: Tensor, channels: Tensor, offset: Tensor) -> Tensor:
    """The values of `operations.take_noise`."""
    height, width = pixels.shape[1:3]
    place = count_up(height * width, pixels).view(1, height, width, 1) * _spread(channels)
    place = (place + torch.minimum(count_up(3, pixels), _spread(channels) - 1)) % NOISE_VALUES + _spread(offset)
    noise = _send_noise(pixels.device).index_select(0, place.flatten()).view(pixels.shape)
    return _round(pixels.float() + noise * _spread(deviation))


@cache
def _send_noise(device: torch.device) -> Tensor:
    """The table of noise, float32 [2 * NOISE_VALUES], which stays on the device."""
    return torch.from_numpy(operations.make_noise()).to(device)


# --- patches -------------------------------------------------------------------------------------------------------


def _prepare_rectangles(numbers: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """int32 [K, R, 4]: left, top, right and bottom in pixels; unused ones are empty."""
    return [np.rint(numbers.reshape(len(numbers), -1, 4) * [width, height, width, height]).astype(np.int32)]


def _erase(pixels: Tensor, rectangles: Tensor) -> Tensor:
    row, column = (
        count_up(pixels.shape[1], pixels).view(1, -1, 1, 1),
        count_up(pixels.shape[2], pixels).view(1, 1, -1, 1),
    )
    for rectangle in rectangles.unbind(1):
        left, top, right, bottom = map(_spread, rectangle.unbind(1))
        pixels = pixels.masked_fill((row >= top) & (row < bottom) & (column >= left) & (column < right), 0)
    return pixels


def _take_integers(count: int) -> Callable[[np.ndarray, int, int], list[np.ndarray]]:
    return lambda numbers, _height, _width: [numbers[:, :count].astype(np.int32)]


OPERATIONS = {
    "mirror": Operation(_take_integers(2), _mirror),
    "move": Operation(_prepare_move, _move),
    "colours": Operation(lambda numbers, *_: [numbers.astype(np.float32)], _transform_colours),
    "gamma": Operation(_prepare_gamma, _change_gamma),
    "posterize": Operation(_take_integers(1), _posterize),
    "contrast": Operation(lambda *_: [], _stretch_contrast),
    "equalize": Operation(_prepare_equalization, _equalize),
    "resample": Operation(_prepare_resampling, _resample),
    "blur": Operation(_prepare_blur, _blur),
    "motion": Operation(_prepare_motion, _filter_pixels),
    "sharpen": Operation(_prepare_sharpening, _filter_pixels),
    "noise": Operation(_prepare_noise, _add_noise),
    "compress": Operation(jpeg.prepare_compression, jpeg.compress),
    "erase": Operation(_prepare_rectangles, _erase),
}
