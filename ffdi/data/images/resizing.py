"""Resizing of images to a network's input: one policy for training, scoring and serving."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from ffdi.data.images import decode
from ffdi.synthetic.operations import MOST_WEIGHTS, shrink, shrink_in_steps

if TYPE_CHECKING:
    from ffdi.config.schema import Config, ModelConfig

MAX_ASPECT_RATIO = 4
"""Limit of the aspect ratio: the ends of a longer strip are cut off before it is enlarged."""


class CropBox(NamedTuple):
    """A part of an image; by default the whole part that a resize policy uses.

    Attributes:
        zoom: edge, in parts of the policy's part.
        ratio: aspect ratio, in parts of the policy's.
        x, y: position, from 0 (left, top) to 1 (right, bottom).
    """

    zoom: float = 1.0
    ratio: float = 1.0
    x: float = 0.5
    y: float = 0.5


WHOLE_IMAGE = CropBox()
SHARES = 16, 8, 4, 2
"""A crop that is shrunk has a length in such parts of the network's size, the finest that `shrink_in_steps` can use."""
Shrink = Callable[[np.ndarray, int, int], np.ndarray]
"""Shrinks uint8 [H, W, 3] by area to a height and a width."""


class View(NamedTuple):
    """The part of an image that a network sees, where it has the fewest pixels.

    Attributes:
        pixels: uint8 [H, W, 3], at its own size or the network's, whichever is smaller.
        scale: edge of the pixels in parts of the edge in the original image; at most 1.
        corner: column and row of the first pixel in the original image.
        finish: enlarges and pads pixels of this shape to uint8 [size, size, 3].
        growth: how much `finish` enlarges an edge; the square root, where two edges grow differently.
    """

    pixels: np.ndarray
    scale: float
    corner: tuple[int, int]
    finish: Callable[[np.ndarray], np.ndarray]
    growth: float = 1.0


class Geometry(NamedTuple):
    """Where the part of an image that a network sees is, and how it gets the network's size.

    Attributes:
        part: its rows and columns in the image.
        height, width: the size that the whole part gets, by area if neither edge grows, else by cubic interpolation.
        window: the rows and columns of the resized part that are used; enlarged where they are not of the network's
            size, or, if `padded`, with black around them.
    """

    part: tuple[slice, slice]
    height: int
    width: int
    window: tuple[slice, slice]
    padded: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the part."""
        return measure(self.part)

    @property
    def shrinks(self) -> bool:
        return self.shape[0] >= self.height and self.shape[1] >= self.width

    @property
    def scale(self) -> float:
        """The scale of the shrunk part, see `View`."""
        return (self.height * self.width / math.prod(self.shape)) ** 0.5 if self.shrinks else 1.0

    @property
    def corner(self) -> tuple[int, int]:
        """Column and row of the part's first pixel in the image."""
        return self.part[1].start, self.part[0].start

    def compute_growth(self, size: int) -> float:
        """How much an edge is enlarged up to the network's size, see `View`."""
        growth = 1.0 if self.shrinks else (self.height * self.width / math.prod(self.shape)) ** 0.5
        return growth if self.padded else growth * size / math.prod(measure(self.window)) ** 0.5


class ResizePolicy(NamedTuple):
    """How an image gets a network's square input size.

    Attributes:
        size: edge of the square in pixels.
        resize: a key of RESIZES.
    """

    size: int
    resize: str = "squash"

    @classmethod
    def from_config(cls, model: ModelConfig) -> ResizePolicy:
        return cls(model.size, model.resize)

    @classmethod
    def from_cache(cls, config: Config) -> ResizePolicy:
        """How images are resized before they are cached."""
        return cls(config.cache.size or config.model.size, config.model.resize)

    def load(self, path: Path) -> np.ndarray:
        """Reads, decodes and resizes one image; RGB, uint8 [size, size, 3].

        Raises:
            DataError: the file cannot be used; the message has its path.
        """
        return self.apply(decode.read_image(path))

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Resizes an image: uint8 [H, W, 3] -> uint8 [size, size, 3]."""
        view = self._view(pixels, self.locate(pixels.shape, WHOLE_IMAGE), shrink)
        return view.finish(view.pixels)

    def locate(self, shape: tuple[int, ...], box: CropBox) -> Geometry:
        """The part in the box of an image of this shape."""
        return _GEOMETRIES[self.resize]((shape[0], shape[1]), self.size, box)

    def crop(self, pixels: np.ndarray, box: CropBox) -> View:
        """Shrinks the part of an image in the box for training, where a grey level more or less does not count."""
        return self._view(pixels, self.locate(pixels.shape, box), shrink_in_steps)

    def _view(self, pixels: np.ndarray, geometry: Geometry, shrink: Shrink) -> View:
        part, size = pixels[geometry.part], self.size
        shrunk = shrink(part, geometry.height, geometry.width) if geometry.shrinks else part

        def finish(pixels: np.ndarray) -> np.ndarray:
            window = enlarge(pixels, geometry.height, geometry.width)[geometry.window]
            return _pad_to_square(window, size) if geometry.padded else enlarge(window, size, size)

        return View(shrunk, geometry.scale, geometry.corner, finish, geometry.compute_growth(size))

    def shrink_around(self, pixels: np.ndarray, box: CropBox) -> np.ndarray:
        """Shrinks a whole image, so that its part in the box has about the size that `crop` would give it."""
        if self.resize == "crop":
            return pixels
        height, width = pixels.shape[:2]
        rows, columns = _measure_box(height, width, box)
        scale_rows, scale_columns = min(1, self.size / rows), min(1, self.size / columns)
        if self.resize == "pad":
            scale_rows = scale_columns = min(scale_rows, scale_columns)
            return shrink_in_steps(pixels, round(height * scale_rows), round(width * scale_columns))
        pairs = (height, scale_rows), (width, scale_columns)
        return shrink_in_steps(pixels, *(_round_to_divisible(length, scale) for length, scale in pairs))


def _squash(shape: tuple[int, int], size: int, box: CropBox) -> Geometry:
    rows, columns = (_choose_divisible(*pair, size) for pair in zip(_measure_box(*shape, box), shape, strict=True))
    return _make_geometry(_locate(shape, rows, columns, box), size, size)


def _crop(shape: tuple[int, int], size: int, box: CropBox) -> Geometry:
    rows, columns = _measure_box(size, size, box)
    if (missing := size / min(shape)) <= 1:
        return _make_geometry(_locate(shape, rows, columns, box), size, size)
    longest = MAX_ASPECT_RATIO * min(shape)
    part = _locate(shape, longest, longest, CropBox(x=box.x, y=box.y))
    height, width = (max(size, round(length * missing)) for length in measure(part))
    return Geometry(part, height, width, _locate((height, width), rows, columns, box))


def _pad(shape: tuple[int, int], size: int, box: CropBox) -> Geometry:
    part = _locate(shape, *_measure_box(*shape, box), box)
    lengths = measure(part)
    height, width = (max(1, round(length * size / max(lengths))) for length in lengths)
    return _make_geometry(part, height, width)._replace(padded=True)


def _make_geometry(part: tuple[slice, slice], height: int, width: int) -> Geometry:
    """The whole part, resized."""
    return Geometry(part, height, width, (slice(0, height), slice(0, width)))


def _pad_to_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Black around the pixels: uint8 [size, size, 3]."""
    padded = np.zeros((size, size, 3), np.uint8)
    top, left = (size - pixels.shape[0]) // 2, (size - pixels.shape[1]) // 2
    padded[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return padded


def _measure_box(height: int, width: int, box: CropBox) -> tuple[int, int]:
    """Rows and columns of the part in the box, if the whole were `height` x `width`."""
    return max(1, round(height * box.zoom / box.ratio**0.5)), max(1, round(width * box.zoom * box.ratio**0.5))


def _choose_divisible(length: int, whole: int, size: int) -> int:
    """The nearest length of a crop that `shrink_in_steps` shrinks to the network's size in less time.

    The whole edge, and lengths that grow, stay as they are.
    """
    shares = next((one for one in SHARES if one * (length + size) <= MOST_WEIGHTS * size), 0)
    if length >= whole or length <= size or not shares or size % shares:
        return length
    step = size // shares
    return min(round(length / step) * step, whole // step * step)


def _round_to_divisible(length: int, scale: float) -> int:
    """The shrunk length, rounded up to one that has a large common divisor with the old one, if it has one."""
    if length % SHARES[0]:
        return round(length * scale)
    step = length // SHARES[0]
    return math.ceil(length * scale / step - 1e-9) * step


def measure(part: tuple[slice, slice]) -> tuple[int, int]:
    """The number of rows and columns."""
    rows, columns = part
    return rows.stop - rows.start, columns.stop - columns.start


def _locate(shape: tuple[int, int], rows: int, columns: int, box: CropBox) -> tuple[slice, slice]:
    """A part of at most `rows` x `columns` of an image of this shape, at the position of the box."""
    rows, columns = min(rows, shape[0]), min(columns, shape[1])
    top, left = round(box.y * (shape[0] - rows)), round(box.x * (shape[1] - columns))
    return slice(top, top + rows), slice(left, left + columns)


def enlarge(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes uint8 [H, W, 3] by cubic interpolation; the same pixels in one piece if the size is right."""
    if pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels)
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)


def locate_window(size: int, edge: int, x: float, y: float) -> tuple[slice, slice]:
    """The rows and columns of a square of edge `edge` in one of edge `size`, at position (x, y), each from 0 to 1."""
    return _locate((size, size), edge, edge, CropBox(x=x, y=y))


def make_area_matrix(large: int, small: int) -> np.ndarray:
    """The matrix of 'squash' along one axis when shrinking: each new pixel is the mean of its area.

    Returns:
        float32 [small, large]; each row has the sum 1.
    """
    edges = np.arange(small + 1) * large / small
    pixels = np.arange(large)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(covered, 0) * small / large).astype(np.float32)


def make_cubic_matrix(small: int, large: int) -> np.ndarray:
    """The matrix of cubic interpolation along one axis: float32 [large, small]."""
    return cv2.resize(np.eye(small, dtype=np.float32), (small, large), interpolation=cv2.INTER_CUBIC)


RESIZES = {
    "squash": "the whole image to the square, by area when shrinking, cubic when growing",
    "crop": "the middle at its own scale; enlarged by cubic interpolation where the image is smaller",
    "pad": "as wide or as high as the square, by area when shrinking, cubic when growing; black beside it",
}
"""How an image gets a network's size."""
_GEOMETRIES = {"squash": _squash, "crop": _crop, "pad": _pad}
