"""Measures the traces in an image's pixels that tell how its file was made: marks at fixed positions, and JPEG blocks.

Positions. A watermark or a border is at one place in all images of a class. `detail` is a high-pass residual at each
position of a fixed grid, `brightness` the mean grey of coarse cells, `edges` the steps from each row of pixels to the
next one along the four sides, at the image's own scale: a border of one pixel is a step.

Encoding. JPEG rounds the cosine waves of blocks of 8 x 8 pixels to multiples of a step, and this survives in the pixels
if they are saved as PNG or again as JPEG (Fan and de Queiroz, Identification of Bitmap Compression History, IEEE
Transactions on Image Processing 2003). The trace is the periodicity of each wave's values, for every step, and the
contrast across the edges of blocks. From both, the same in blocks that are moved by half a block is subtracted: what an
image shows, and a generator's pattern of period two or four, is alike in both.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ffdi.data.images.resizing import ResizePolicy

EDGE = 240
"""Width and height of the grid of `detail`: a stroke of one pixel in a photograph of 256 px keeps its contrast."""
COARSE = 30
"""Width and height of the grid of `brightness`, and cells along each side of `edges`."""
STEPS = 7
"""Steps between the outermost rows of pixels, for each side."""
SIDES = ("top", "right", "bottom", "left")
BLUR, MOST_DETAIL = 2.0, 8.0
"""Standard deviation of the blur that the residual lacks, in pixels of the grid; larger residuals are clipped, in grey
levels: hair and eyes would add noise."""
MOST_STEP = 20.0
"""Larger steps are clipped, in grey levels."""
BLOCK, HALF = 8, 4
MOST_BLOCKS = 128
"""Most blocks along an axis that are read, from the left and the top."""
WAVES = 15
"""The lowest waves of a block, without the mean; higher ones are mostly zero."""
PERIODS = np.arange(2, 21, dtype=np.float32)
"""Steps of the rounding that are tried: qualities of about 50 and more."""

SHAPES = {"detail": (EDGE, EDGE), "brightness": (COARSE, COARSE), "edges": (len(SIDES) * STEPS, COARSE)}
"""Rows and columns of the positions of each kind."""


class PixelTraces(NamedTuple):
    """The traces of one image.

    Attributes:
        detail: int8 [EDGE^2], the residual in parts of `MOST_DETAIL` / 127.
        brightness: int8 [COARSE^2], grey levels minus 128.
        edges: int8 [4 * STEPS * COARSE], in the order of `SIDES`, the outermost step first; parts of `MOST_STEP` / 127.
        encoding: float32 [F].
    """

    detail: np.ndarray
    brightness: np.ndarray
    edges: np.ndarray
    encoding: np.ndarray


def measure(pixels: np.ndarray) -> PixelTraces:
    """Measures an image of any size, uint8 [H, W, 3] RGB."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    square = cv2.cvtColor(ResizePolicy(EDGE).apply(pixels), cv2.COLOR_RGB2GRAY).astype(np.float32)
    residual = square - cv2.GaussianBlur(square, (0, 0), BLUR)
    coarse = cv2.resize(square, (COARSE, COARSE), interpolation=cv2.INTER_AREA)
    return PixelTraces(
        _to_int8(residual, MOST_DETAIL), _to_int8(coarse - 128, 127), _measure_edges(grey), _measure_encoding(grey)
    )


def _to_int8(values: np.ndarray, most: float) -> np.ndarray:
    return np.rint(np.clip(values * (127 / most), -127, 127)).astype(np.int8).ravel()


def _measure_edges(grey: np.ndarray) -> np.ndarray:
    least = 2 * (STEPS + 1)
    height, width = (max(length, least) for length in grey.shape)
    if grey.shape != (height, width):
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_NEAREST)
    found = []
    for turns in range(len(SIDES)):  # each turn is to the left: the right side comes to the top
        rows = np.ascontiguousarray(np.rot90(grey, turns)[: STEPS + 1]).astype(np.float32)
        cells = cv2.resize(rows, (COARSE, len(rows)), interpolation=cv2.INTER_AREA)
        found.append(_to_int8(cells[:-1] - cells[1:], MOST_STEP))
    return np.concatenate(found)


def _measure_encoding(grey: np.ndarray) -> np.ndarray:
    if min(grey.shape) < BLOCK + HALF:
        return np.zeros(WAVES * len(PERIODS) + BLOCK, np.float32)
    part = grey[: MOST_BLOCKS * BLOCK, : MOST_BLOCKS * BLOCK].astype(np.float32)
    combs = [_measure_periodicity(_transform_blocks(part[start:, start:])) for start in (0, HALF)]
    return np.concatenate([combs[0] - combs[1], _measure_contrast(part), _measure_contrast(part.T)])


def _transform_blocks(grey: np.ndarray) -> np.ndarray:
    """The lowest waves of all whole blocks: float32 [N, WAVES]."""
    down, across = (length // BLOCK for length in grey.shape)
    blocks = grey[: down * BLOCK, : across * BLOCK].reshape(down, BLOCK, across, BLOCK).transpose(0, 2, 1, 3)
    return (COSINES @ blocks.reshape(-1, BLOCK, BLOCK) @ COSINES.T).reshape(-1, BLOCK * BLOCK)[:, LOWEST]


def _measure_periodicity(waves: np.ndarray) -> np.ndarray:
    """The mean cosine of each wave's values at each period, 1 if all are multiples of it: float32 [WAVES * periods]."""
    return np.cos(waves[:, :, None] * (2 * np.pi / PERIODS)).mean(0).ravel()


def _measure_contrast(grey: np.ndarray) -> np.ndarray:
    """The logarithm of the mean step between rows, for rows half a block apart: float32 [HALF]."""
    steps = np.abs(np.diff(grey, axis=0)).mean(1)
    mean = np.array([steps[first::BLOCK].mean() for first in range(BLOCK)], np.float32)
    logarithm = np.log(mean + 0.05)
    return logarithm[:HALF] - logarithm[HALF:]


def _make_cosines() -> np.ndarray:
    """The orthonormal matrix of the cosine transform of a block's axis: float32 [BLOCK, BLOCK]."""
    wave, place = np.mgrid[:BLOCK, :BLOCK]
    matrix = np.cos(np.pi * wave * (2 * place + 1) / (2 * BLOCK)) * np.sqrt(2 / BLOCK)
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)


COSINES = _make_cosines()
LOWEST = sorted(range(1, BLOCK * BLOCK), key=lambda place: (sum(divmod(place, BLOCK)), place))[:WAVES]
"""The places of the lowest waves in a block that was transformed."""
