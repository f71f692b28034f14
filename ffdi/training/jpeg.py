"""JPEG compression of a batch on the device, in the integers of libjpeg-turbo."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ffdi.synthetic.operations import JPEG_BLOCK

LUMA_STEPS = """
16 11 10 16 24 40 51 61    12 12 14 19 26 58 60 55    14 13 16 24 40 57 69 56    14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99
"""
CHROMA_STEPS = """
17 18 24 47 99 99 99 99    18 21 26 66 99 99 99 99    24 26 56 99 99 99 99 99    47 66 99 99 99 99 99 99
"""
"""Quantisation steps at quality 50 (ITU-R T.81, annex K.1). In the lower half of the table for chroma, all are 99."""
PASS_SHIFTS = 11, 15, 11, 18
"""Bits that libjpeg drops after rows and columns, when transforming and back (jfdctint.c, jidctint.c)."""


def count_up(size: int, like: Tensor) -> Tensor:
    """int32 [size]: 0, 1, 2, ..."""
    return torch.arange(size, dtype=torch.int32, device=like.device)


def _make_quantisation_steps() -> np.ndarray:
    """int [2, 8, 8], of luma and chroma, at quality 50."""
    chroma = f"{CHROMA_STEPS} {'99 ' * 32}"
    return np.stack([np.array(one.split(), int).reshape(8, 8) for one in (LUMA_STEPS, chroma)])


def _make_transform() -> np.ndarray:
    """The matrix of libjpeg's integer DCT, float32 [frequency, pixel], in parts of 1 / 8192.

    Its constants are sums of rounded ones, so they differ from rounded cosines in the last bit.
    """
    matrix = np.zeros((8, 8), np.float32)
    matrix[0], matrix[4] = 8192, 8192 * np.array([1, -1, -1, 1, 1, -1, -1, 1])
    half = np.array([[4433 + 6270, 4433], [4433, 4433 - 15137]])  # frequencies 2 and 6; pixels 0 and 1
    matrix[[2, 6]] = half[:, [0, 1, 1, 0, 0, 1, 1, 0]] * np.array([1, 1, -1, -1, -1, -1, 1, 1])
    odd = np.diag([2446, 16819, 25172, 12299]) + 9633  # frequencies 7, 5, 3, 1; pixels 3, 2, 1, 0
    for pair, constant in (((0, 3), -7373), ((1, 2), -20995), ((0, 2), -16069), ((1, 3), -3196)):
        odd[np.ix_(pair, pair)] += constant
    matrix[[7, 5, 3, 1], :4] = odd[:, ::-1]
    matrix[[7, 5, 3, 1], 4:] = -odd
    return matrix


def prepare_compression(numbers: np.ndarray, _height: int, _width: int) -> list[np.ndarray]:
    """Quantisation steps as libjpeg scales them, int32 [K, 2, 8, 8], columns first; the corners; the transform."""
    base, tables = _make_quantisation_steps().transpose(0, 2, 1), []
    for quality in (max(1, round(one)) for one in numbers[:, 0].tolist()):
        percent = 5000 // quality if quality < 50 else 200 - 2 * quality
        tables.append(np.clip((base * percent + 50) // 100, 1, 255))
    matrix = _make_transform()
    return [np.stack(tables).astype(np.int32), numbers[:, 1:3].astype(np.int32), matrix]


def compress(pixels: Tensor, tables: Tensor, corners: Tensor, matrix: Tensor) -> Tensor:
    """JPEG there and back in the integers of libjpeg-turbo, with 4:2:0 chroma and its fancy upsampling."""
    count, height, width, _ = pixels.shape
    left, top = (corner.view(-1, 1) for corner in corners.unbind(1))
    high, wide = height + top, width + left  # of the image with the part of the first block outside of it
    red, green, blue = pixels.int().unbind(3)
    luma = (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16
    cb = (-11059 * red - 21709 * green + 32768 * blue + 2**23 + 2**15 - 1) >> 16
    cr = (32768 * red - 27439 * green - 5329 * blue + 2**23 + 2**15 - 1) >> 16

    # behind its end, an image has copies of its last row and column; chroma has copies of its last halved row
    row, column = (count_up(-(-(size + JPEG_BLOCK - 1) // JPEG_BLOCK) * JPEG_BLOCK, pixels) for size in (height, width))
    pair = torch.minimum(row // 2, (high + 1) // 2 - 1)
    columns = (torch.minimum(column, wide - 1) - left).abs()
    luma = _take(luma, (torch.minimum(row, high - 1) - top).abs(), columns)
    rows = (torch.minimum(2 * pair + row % 2, high - 1) - top).abs()
    chroma = _take(torch.cat([cb, cr]), rows.repeat(2, 1), columns.repeat(2, 1))
    sums = chroma.view(2 * count, len(row) // 2, 2, len(column) // 2, 2).sum((2, 4), dtype=torch.int32)
    chroma = (sums + 1 + count_up(len(column) // 2, pixels) % 2) >> 2

    luma = _quantise(luma, tables[:, 0], matrix)
    chroma = _quantise(chroma, tables[:, 1].repeat(2, 1, 1), matrix)
    rows, columns = count_up(height, pixels) + top, count_up(width, pixels) + left
    luma = _take(luma, rows, columns)
    near_rows = rows // 2, torch.minimum((rows // 2 - 1 + 2 * (rows % 2)).clamp(min=0), (high + 1) // 2 - 1)
    near_columns = columns // 2, torch.minimum((columns // 2 - 1 + 2 * (columns % 2)).clamp(min=0), (wide + 1) // 2 - 1)
    total = (8 - columns % 2).unsqueeze(1).repeat(2, 1, 1)
    for near_row, row_weight in zip(near_rows, (3, 1), strict=True):
        for near_column, column_weight in zip(near_columns, (3, 1), strict=True):
            taken = _take(chroma, near_row.repeat(2, 1), near_column.repeat(2, 1))
            total = total + row_weight * column_weight * taken
    cb, cr = ((total >> 4) - 128).chunk(2)
    shifts = 91881 * cr, -22554 * cb - 46802 * cr, 116130 * cb
    return torch.stack([luma + ((shift + 2**15) >> 16) for shift in shifts], 3).clamp(0, 255).to(torch.uint8)


def _take(planes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rows and columns of each plane: [K, H, W], and int [K, R] and [K, C] -> [K, R, C]."""
    count, height, width = planes.shape
    start = (count_up(count, planes) * height).view(-1, 1)
    place = ((rows + start) * width).unsqueeze(2) + columns.unsqueeze(1)
    return planes.reshape(-1).index_select(0, place.flatten()).view(place.shape)


def _quantise(planes: Tensor, tables: Tensor, matrix: Tensor) -> Tensor:
    """Transforms blocks of 8 x 8, rounds, and transforms back: int32 [K, H, W] and [K, 8, 8] -> [K, H, W]."""
    count, height, width = planes.shape
    blocks = planes.view(count, height // 8, 8, width // 8, 8).transpose(2, 3) - 128
    steps = tables.view(count, 1, 1, 8, 8)
    numbers = _transform(blocks, matrix.T, PASS_SHIFTS[0]).transpose(-1, -2)
    numbers = _transform(numbers, matrix.T, PASS_SHIFTS[1])
    numbers = numbers.sign() * torch.div(numbers.abs() + 4 * steps, 8 * steps, rounding_mode="floor") * steps
    numbers = _transform(numbers, matrix, PASS_SHIFTS[2]).transpose(-1, -2)
    blocks = (_transform(numbers, matrix, PASS_SHIFTS[3]) + 128).clamp(0, 255)
    return blocks.transpose(2, 3).reshape(count, height, width)


def _transform(numbers: Tensor, matrix: Tensor, shift: int) -> Tensor:
    """The product of integers and a matrix, int32 [..., 8], rounded.

    float32 holds integers below 2**24: products of seven bits each are exact.
    """
    upper, lower = ((part.float() @ matrix).int() for part in (numbers >> 7, numbers & 127))
    return ((upper << 7) + lower + (1 << (shift - 1))) >> shift
