"""The operations of the augmentation recipes, on one image; shrinking.

A step is the name of an operation and its numbers. Random numbers are drawn elsewhere, so that a step gives the same
result on any machine, one image at a time here or a batch at a time on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import cv2
import numpy as np

INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA)
"""A step has the position in this list."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness of a pixel (ITU-R BT.601)."""
NOISE_VALUES = 2**20
"""Length of the table of noise, of which each step takes a part: drawing takes ten times as long as adding."""
CLAHE_TILES = 8
JPEG_BLOCK = 16
SHARPEN = np.array([[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]], np.float32)
LEAST_RESAMPLING = 0.95
"""Resampling never leaves an image as it was, also where the image has been shrunk below the resolution drawn."""

NUMBERS = 12
"""The most numbers of a step: a matrix of colours, or the borders of three rectangles."""


class Step(NamedTuple):
    """An operation with its numbers."""

    name: str
    numbers: tuple[float, ...]


def pack_steps(steps: Sequence[Sequence[Step]]) -> np.ndarray:
    """The steps of a batch in one array, which is sent between processes at once.

    Args:
        steps: of each image, in their order.

    Returns:
        float64 [N, 2 + NUMBERS] for all N steps: the image, the position of the operation in OPERATIONS, and the
        numbers, with zeros behind them.
    """
    position = {name: place for place, name in enumerate(OPERATIONS)}
    packed = np.zeros((sum(map(len, steps)), 2 + NUMBERS))
    every = [(image, step) for image, several in enumerate(steps) for step in several]
    for row, (image, (name, numbers)) in zip(packed, every, strict=True):
        row[:2] = image, position[name]
        row[2 : 2 + len(numbers)] = numbers
    return packed


def apply_steps(image: np.ndarray, steps: Sequence[Step]) -> np.ndarray:
    """Applies operations in order: uint8 RGB [H, W, 3] -> the same shape; the argument stays as it is.

    An image of one row or column stays as it is: OpenCV cannot shrink it, and takes it for another shape.
    """
    if min(image.shape[:2]) > 1:
        for name, numbers in steps:
            image = OPERATIONS[name](image, *numbers)
    return image


def place_steps(steps: Sequence[Step], scale: float, corner: tuple[float, float]) -> list[Step]:
    """The steps for a resized part of an image: their effect is that of the same steps on the image, before all that.

    Args:
        steps: for the image at its own size.
        scale: the part's scale, 1 for the image's own; above 1 if it was enlarged.
        corner: column and row of the first pixel in the whole image at this scale.
    """
    return [
        Step(name, PLACEMENTS[name](scale, corner, *numbers)) if name in PLACEMENTS else Step(name, numbers)
        for name, numbers in steps
    ]


def mirror(image: np.ndarray, horizontally: float, vertically: float) -> np.ndarray:
    """Flips an image; each argument is 0 or 1."""
    if not horizontally and not vertically:
        return image
    return cv2.flip(image, -1 if horizontally and vertically else 1 if horizontally else 0)


def move(image: np.ndarray, degrees: float, right: float, down: float) -> np.ndarray:
    """Rotates around the middle and shifts, in parts of the width and height; the border is mirrored."""
    height, width = image.shape[:2]
    matrix = make_move_matrix(width, height, degrees, right, down)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def make_move_matrix(width: int, height: int, degrees: float, right: float, down: float) -> np.ndarray:
    """float64 [2, 3], from positions in the old image to positions in the new one."""
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    matrix[:, 2] += np.array([right * width, down * height])
    return matrix


def transform_colours(image: np.ndarray, *numbers: float) -> np.ndarray:
    """Brightness, contrast, hue and saturation in one: new = matrix x RGB + shift; see `make_colour_matrix`."""
    return cv2.transform(image, np.array(numbers).reshape(3, 4))


def change_gamma(image: np.ndarray, exponent: float) -> np.ndarray:
    return cv2.LUT(image, make_gamma_table(exponent))


def make_gamma_table(exponent: float) -> np.ndarray:
    """uint8 [256]."""
    return np.rint(255 * np.linspace(0, 1, 256) ** exponent).astype(np.uint8)


def posterize(image: np.ndarray, bits: float) -> np.ndarray:
    """Keeps the highest bits of each value."""
    return image & np.uint8(256 - 2 ** (8 - int(bits)))


def stretch_contrast(image: np.ndarray) -> np.ndarray:
    """Stretches each channel from its smallest and largest value to 0 and 255."""
    low, high = (cv2.reduce(image, 0, way)[0].astype(float) for way in (cv2.REDUCE_MIN, cv2.REDUCE_MAX))
    low, high = low.min(0), high.max(0)
    gain = np.where(high > low, 255 / np.maximum(high - low, 1), 1)
    return cv2.transform(image, np.column_stack([np.diag(gain), np.where(high > low, -low * gain, 0)]))


def equalize(image: np.ndarray, clip_limit: float) -> np.ndarray:
    """CLAHE of the brightness (Zuiderveld, Graphics Gems IV, 1994)."""
    brightness = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    tiles = (CLAHE_TILES, CLAHE_TILES)
    brightness[..., 0] = cv2.createCLAHE(clip_limit, tiles).apply(np.ascontiguousarray(brightness[..., 0]))
    return cv2.cvtColor(brightness, cv2.COLOR_YCrCb2RGB)


def resample(image: np.ndarray, scale: float, down: float, up: float) -> np.ndarray:
    """Shrinks and enlarges, with two of INTERPOLATIONS."""
    height, width = image.shape[:2]
    rows, columns = measure_resampled(height, width, scale)
    shrunk = cv2.resize(image, (columns, rows), interpolation=INTERPOLATIONS[int(down)])
    return cv2.resize(shrunk, (width, height), interpolation=INTERPOLATIONS[int(up)])


def measure_resampled(height: int, width: int, scale: float) -> tuple[int, int]:
    """Rows and columns of an image while it is small."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def blur(image: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian blur; the standard deviation is in pixels."""
    kernel = make_blur_kernel(deviation)
    return cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)


@lru_cache(maxsize=4096)
def make_blur_kernel(deviation: float) -> np.ndarray:
    """float32 [K], K odd; the tails beyond three deviations are cut off."""
    reach = max(1, math.ceil(3 * deviation))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(deviation, 1e-3)) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def blur_motion(image: np.ndarray, length: float, degrees: float) -> np.ndarray:
    """Blurs along a line; the length is in pixels."""
    return cv2.filter2D(image, -1, make_motion_kernel(length, degrees), borderType=cv2.BORDER_REFLECT_101)


def make_motion_kernel(length: float, degrees: float) -> np.ndarray:
    """float32 [K, K], K odd: a line of this length through the middle, shared between the pixels next to it."""
    reach = max(1, math.ceil((length - 1) / 2))
    kernel = np.zeros((2 * reach + 2, 2 * reach + 2))
    along = np.linspace(-0.5, 0.5, 8 * reach + 1) * max(length - 1, 0)
    x, y = reach + along * math.cos(math.radians(degrees)), reach + along * math.sin(math.radians(degrees))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for right, below in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = np.abs(1 - right - (x - left)) * np.abs(1 - below - (y - top))
        np.add.at(kernel, (top + below, left + right), weight)
    return (kernel[:-1, :-1] / kernel[:-1, :-1].sum()).astype(np.float32)


def sharpen(image: np.ndarray, strength: float) -> np.ndarray:
    """Mixes an image with its sharpened copy."""
    return cv2.filter2D(image, -1, make_sharpen_kernel(strength), borderType=cv2.BORDER_REFLECT_101)


def make_sharpen_kernel(strength: float) -> np.ndarray:
    """float32 [3, 3]."""
    kernel = strength * SHARPEN
    kernel[1, 1] += 1 - strength
    return kernel


def add_noise(image: np.ndarray, deviation: float, channels: float, offset: float) -> np.ndarray:
    """Adds Gaussian noise, the same in all channels or independent.

    Args:
        image: uint8 [H, W, 3].
        deviation: in grey levels; negative takes the negative noise.
        channels: 1 or 3.
        offset: the first value in `make_noise`.
    """
    shape = (*image.shape[:2], int(channels))
    noise = take_noise(int(offset), math.prod(shape)).reshape(shape)
    if channels == 1:
        noise = cv2.cvtColor(noise, cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, 1, noise, deviation, 0, dtype=cv2.CV_8U)


def take_noise(offset: int, count: int) -> np.ndarray:
    """float32 [count] from the table of noise, from `offset` on; the table is repeated."""
    table = make_noise()
    if count <= NOISE_VALUES:
        return table[offset : offset + count]
    return np.resize(table[offset : offset + NOISE_VALUES], count)


@cache
def make_noise() -> np.ndarray:
    """float32 [2 * NOISE_VALUES], standard normal, twice the same table: a part may start anywhere in the first."""
    table = np.random.Generator(np.random.SFC64(0)).standard_normal(NOISE_VALUES, np.float32)
    return np.concatenate([table, table])


def compress(image: np.ndarray, quality: float, left: float, top: float) -> np.ndarray:
    """JPEG compression with chroma at half size, as messengers and web sites do it.

    Args:
        image: uint8 [H, W, 3].
        quality: 1 to 100.
        left, top: position of the first pixel in its block of 16 x 16 pixels, which share 8 x 8 values of chroma.
    """
    return decode_jpeg(encode_jpeg(image, quality, left, top), left, top)


def decode_jpeg(content: np.ndarray, left: float, top: float) -> np.ndarray:
    """The image of a file of `encode_jpeg`, uint8 [H, W, 3], without the mirrored pixels."""
    decoded = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    return np.ascontiguousarray(decoded[int(top) :, int(left) :])


def encode_jpeg(image: np.ndarray, quality: float, left: float, top: float) -> np.ndarray:
    """The file of `compress`, with mirrored pixels to the left and above the image: uint8 [bytes]."""
    whole, rows, columns = cv2.cvtColor(image, cv2.COLOR_RGB2BGR), int(top), int(left)
    if rows or columns:
        whole = cv2.copyMakeBorder(whole, rows, 0, columns, 0, cv2.BORDER_REFLECT_101)
    return cv2.imencode(".jpg", whole, [cv2.IMWRITE_JPEG_QUALITY, round(quality)])[1]


def erase(image: np.ndarray, *borders: float) -> np.ndarray:
    """Makes rectangles black; left, top, right and bottom of each are in parts of the width and height."""
    erased, (height, width) = image.copy(), image.shape[:2]
    for left, top, right, bottom in np.reshape(borders, (-1, 4)).tolist():
        erased[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = 0
    return erased


def make_colour_matrix(
    *, brightness: float = 0, contrast: float = 1, hue: float = 0, saturation: float = 1, gain: float = 1
) -> np.ndarray:
    """The matrix of a change of colours.

    Args:
        brightness: grey levels that are added at the end.
        contrast: factor of all values.
        hue: rotation around the grey axis, in degrees.
        saturation: factor of the distance from grey of the same brightness; 0 makes the image grey.
        gain: another factor of all values.

    Returns:
        float64 [3, 4]: new RGB = matrix[:, :3] x RGB + matrix[:, 3].
    """
    angle = math.radians(hue)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    rotation = math.cos(angle) * np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) / 3
    vividness = saturation * np.eye(3) + (1 - saturation) * np.array([LUMA] * 3)
    return np.column_stack([contrast * gain * vividness @ rotation, np.full(3, brightness)])


def chain_colours(first: Sequence[float], then: Sequence[float]) -> tuple[float, ...]:
    """The numbers of one step that does what two steps of `transform_colours` do, without rounding in between."""
    one, other = (np.vstack([np.reshape(numbers, (3, 4)), [0, 0, 0, 1]]) for numbers in (first, then))
    return tuple((other @ one)[:3].ravel().tolist())


def shrink(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shrinks uint8 [H, W, 3] by area to a height and a width."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


MOST_WEIGHTS = 48
"""With more weights than this along an axis, OpenCV's resizing by area is as fast as steps."""


def shrink_in_steps(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shrinks by area in a third of the time where the sizes have a large common divisor, such as 512 and 320.

    OpenCV resizes by area pixel by pixel, unless the ratio is a whole number. With the ratio p : q, each q-th new row
    has the same weights. So p + q sums of whole blocks of rows do the same; then the columns follow in the same way.
    The result differs from OpenCV's by two grey levels at most, because it is rounded in between.

    Args:
        pixels: uint8 [H, W, 3].
        height, width: at most H and W.
    """
    rows, columns = pixels.shape[:2]
    weights = _list_weights(rows, height), _list_weights(columns, width)
    if (rows % height == 0 and columns % width == 0) or max(sum(map(len, axis)) for axis in weights) > MOST_WEIGHTS:
        return shrink(pixels, height, width)
    shrunk = _shrink_rows(pixels, height, weights[0])
    return cv2.transpose(_shrink_rows(cv2.transpose(shrunk), width, weights[1]))


def _shrink_rows(pixels: np.ndarray, height: int, weights: list[list[tuple[int, float]]]) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [height, W, 3]."""
    blocks = np.ascontiguousarray(pixels).reshape(height // len(weights), -1, pixels.shape[1] * 3)
    shrunk = np.empty((blocks.shape[0], len(weights), blocks.shape[2]), np.uint8)
    for place, parts in enumerate(weights):
        (first, known), *others = parts
        total, new = blocks[:, first], shrunk[:, place]
        if not others:
            new[:] = total
        for row, weight in others:
            known += weight
            target = new if row == others[-1][0] else None
            total = cv2.addWeighted(total, 1 - weight / known, blocks[:, row], weight / known, 0, dst=target)
    return shrunk.reshape(height, *pixels.shape[1:])


@lru_cache(maxsize=256)
def _list_weights(large: int, small: int) -> list[list[tuple[int, float]]]:
    """For each new pixel of a period: the old pixels in its area, and their shares."""
    period = math.gcd(large, small)
    wide, narrow = large // period, small // period
    return [
        [
            (pixel, (min((new + 1) * wide, (pixel + 1) * narrow) - max(new * wide, pixel * narrow)) / wide)
            for pixel in range(new * wide // narrow, -(-(new + 1) * wide // narrow))
        ]
        for new in range(narrow)
    ]


OPERATIONS: dict[str, Callable[..., np.ndarray]] = {
    "mirror": mirror,
    "move": move,
    "colours": transform_colours,
    "gamma": change_gamma,
    "posterize": posterize,
    "contrast": stretch_contrast,
    "equalize": equalize,
    "resample": resample,
    "blur": blur,
    "motion": blur_motion,
    "sharpen": sharpen,
    "noise": add_noise,
    "compress": compress,
    "erase": erase,
}


def _place_compression(
    scale: float, corner: tuple[float, float], quality: float, _left: float, _top: float
) -> tuple[float, ...]:
    """The JPEG quality whose quantisation steps are `scale` times as large, by the formula of libjpeg, and the block.

    Shrinking by area averages the error of a compression, like any noise. Blocks start at the whole image's corner.
    """
    steps = (5000 / quality if quality < 50 else 200 - 2 * quality) * min(1, scale)
    placed = max(1, min(100, 5000 / steps if steps > 100 else 100 - steps / 2))
    return placed, *(round(place) % JPEG_BLOCK for place in corner)


PLACEMENTS: dict[str, Callable[..., tuple[float, ...]]] = {
    "resample": lambda scale, _, factor, *ways: (min(factor / scale, LEAST_RESAMPLING), *ways),
    "blur": lambda scale, _, deviation: (deviation * scale,),
    "motion": lambda scale, _, length, degrees: (length * scale, degrees),
    "sharpen": lambda scale, _, strength: (strength * min(1, scale) ** 2,),
    "noise": lambda scale, _, deviation, *rest: (deviation * min(1, scale), *rest),
    "compress": _place_compression,
}
"""(scale, corner, numbers of a step) -> the numbers for the resized part: where it was shrunk, a filter reaches less
far, and noise is averaged."""
