"""Decoding and resizing of images: one policy for training, scoring and serving."""

from __future__ import annotations

import io
import math
import re
import stat
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ffdi.core.errors import DataError
from ffdi.synthetic.operations import shrink, shrink_in_steps

if TYPE_CHECKING:
    from ffdi.config.schema import Config, ModelConfig

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
"""Accepted formats. Cameras write JPEG files with several pictures (MPO); the first picture is used."""
SET_LOG_LEVEL: Callable[[int], int] = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
"""Before OpenCV 4.13 the function had another place."""
MAX_PIXELS = 120_000_000
"""Limit of width times height; a larger image is refused before it is decoded (a decompression bomb).

Phones take photos of up to 108 million pixels. Each image at the limit takes 360 MB while it is decoded.
"""
MAX_ASPECT_RATIO = 4
"""Limit of the aspect ratio: the ends of a longer strip are cut off before it is enlarged."""
MAX_BYTES = 200_000_000
"""Limit of a file's size; a larger file is refused before it is read."""
DECODE_POLICY = "EXIF orientation applied, alpha dropped, 16 bit to 8"
"""The decode policy in words. Bundles store it, like RESIZES: a change of either changes every score."""


@dataclass(frozen=True)
class Header:
    """The header of an image file: Pillow's names of format and mode, width and height in pixels."""

    format: str
    mode: str
    width: int
    height: int


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
SHARES = 16
"""Lengths before and after a shrinking are made multiples of such a part of the other one, for `shrink_in_steps`."""
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
        return self.apply(read_image(path))

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


def read_image(path: Path) -> np.ndarray:
    """Reads and decodes one image at its own size; RGB, uint8 [H, W, 3]."""
    return decode(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """Reads a file.

    Raises:
        DataError: it cannot be read, is too large, or is not a regular file (a pipe or a device may never end).
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path} is not a regular file")
        if status.st_size > MAX_BYTES:
            raise DataError(f"{path} has {status.st_size} bytes; the limit is {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def decode(content: bytes, name: str, most: int = MAX_PIXELS) -> np.ndarray:
    """Decodes an encoded image.

    EXIF orientation is applied; grey and palette images become RGB; alpha is dropped; CMYK is converted;
    16 bit becomes 8. A truncated file is refused: `cv2.imdecode` refuses it, `cv2.imread` would fill it up.

    Args:
        content: the file's bytes.
        name: the image's name in errors.
        most: limit of width times height.

    Returns:
        RGB, uint8 [H, W, 3].

    Raises:
        DataError: empty, not an image, another format, too large, truncated or damaged.
    """
    read_header(content, name, most)
    return decode_rgb(content, name)


def decode_rgb(content: bytes, name: str) -> np.ndarray:
    """Decodes an image whose header `read_header` has accepted; RGB, uint8 [H, W, 3].

    Raises:
        DataError: truncated or damaged.
    """
    return _decode_with(content, name, cv2.IMREAD_COLOR_RGB)


def decode_grey(content: bytes, name: str) -> np.ndarray:
    """Decodes to grey, in a third less time than `decode_rgb`; uint8 [H, W].

    Refuses exactly the files that `decode_rgb` refuses: the same decoder reads the whole file.

    Raises:
        DataError: truncated or damaged.
    """
    return _decode_with(content, name, cv2.IMREAD_GRAYSCALE)


def _decode_with(content: bytes, name: str, flag: int) -> np.ndarray:
    SET_LOG_LEVEL(0)  # OpenCV would print lines between ours
    if content.startswith(b"RIFF"):  # libwebp would read on behind the end of a damaged WebP
        content = content[: 8 + int.from_bytes(content[4:8], "little")]
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise DataError(f"{name} is truncated or damaged: {len(content)} bytes cannot be decoded")
    return decoded


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
    """The nearest length of a crop that has a large common divisor with the network's size: it is shrunk in less time.

    It differs by a thirty-second of the size at most. The whole edge, and lengths that grow, stay as they are.
    """
    step = size // SHARES
    if length >= whole or length <= size or size % SHARES:
        return length
    return min(round(length / step) * step, whole // step * step)


def _round_to_divisible(length: int, scale: float) -> int:
    """The shrunk length, rounded up to one that has a large common divisor with the old one, if it has one."""
    if length % SHARES:
        return round(length * scale)
    step = length // SHARES
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


def read_header(content: bytes, name: str, most: int = MAX_PIXELS) -> Header:
    """Reads a file's header.

    Raises:
        DataError: empty, not an image, another format, or too large.
    """
    if not content:
        raise DataError(f"{name} is empty")
    # Pillow warns about bombs and bad tags, and our own limits follow; threads share the filters: no context manager
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        if content.startswith(_TIFF):
            raise DataError(
                f"{name} is a TIFF that is damaged, or of a kind that ffdi does not read; {_DEPTHS}"
            ) from None
        raise DataError(f"{name} is not an image that ffdi reads ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise DataError(f"{name} has more than {most} pixels, the limit") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{name} has a damaged header: {error}") from None
    if image.format == "TIFF" and image.mode in ("F", "I"):
        numbers = "fractions" if image.mode == "F" else "32-bit numbers"
        raise DataError(f"{name} is a TIFF of {numbers}; {_DEPTHS}")
    if image.format in ("JPEG", "MPO") and not is_one_picture(content):
        raise DataError(f"{name} is damaged: its JPEG segments do not belong to one picture")
    width, height = image.size
    if width * height > most:
        raise DataError(f"{name} has {width} x {height} pixels; the limit is {most}")
    return Header(str(image.format), image.mode, width, height)


_TIFF = (b"II*\0", b"MM\0*")
_DEPTHS = "save it with 8 or 16 bits for each channel"


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


_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
"""A JPEG marker that starts a segment; zeros and restart markers occur inside the coded pixels."""
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FOREIGN = frozenset({_START, *range(0x02, 0xC0), *range(0xF0, 0xFE)})
"""Markers that a single picture does not have: a second start, reserved markers and extensions."""
_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC3, 0xC5, 0xC7, 0xC9, 0xCB, 0xCD, 0xCF}) | _PROGRESSIVE


def is_plain_jpeg(content: bytes, header: Header) -> bool:
    """Whether every decoder gives the same picture of a JPEG: YCbCr in 8 bits by Huffman codes, not to be rotated.

    Args:
        content: the file's bytes.
        header: accepted by `read_header`.
    """
    if header.format != "JPEG" or header.mode != "RGB":
        return False
    segments = _list_segments(content)
    frames = [body for marker, body in segments if marker in _PLAIN_FRAMES]
    if len(frames) != 1 or frames[0][:1] != b"\x08" or frames[0][6:15:3] == b"RGB" or _ADOBE in dict(segments):
        return False
    if not any(marker == _APP1 and body.startswith(b"Exif") for marker, body in segments):
        return True
    with suppress(OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error):  # of a damaged EXIF header
        return bool(Image.open(io.BytesIO(content), formats=["JPEG"]).getexif().get(_ORIENTATION, 1) == 1)
    return False


def _list_segments(content: bytes) -> list[tuple[int, bytes]]:
    """Markers and contents of a JPEG's segments before its coded pixels; none if they do not follow each other."""
    segments: list[tuple[int, bytes]] = []
    at = 2
    while content[at : at + 1] == b"\xff" and at + 4 <= len(content):
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4])
        if marker == _SCAN:
            return segments
        segments.append((marker, content[at + 4 : at + 2 + length]))
        at += 2 + length
    return []


_PLAIN_FRAMES = frozenset({0xC0, 0xC2})
"""Baseline and progressive."""
_ADOBE, _APP1, _ORIENTATION = 0xEE, 0xE1, 0x0112


def is_one_picture(content: bytes) -> bool:
    """Whether a JPEG has one frame and, unless it is progressive, one scan for each component (ITU-T T.81, B.2).

    With more frames or scans, decoders disagree about the picture. Data behind the end of the image does not count:
    cameras write further pictures there.

    Args:
        content: the file's bytes, with the first bytes of a JPEG.
    """
    at, left, progressive = 2, None, False
    while found := _MARKER.search(content, at):
        marker, body = found[0][-1], content[found.end() + 2 : found.end() + 8]
        if marker == _END:
            return True
        if marker in _FRAME_MARKERS:
            if left is not None or len(body) < 6:
                return False
            left, progressive = body[5], marker in _PROGRESSIVE
        elif marker == _SCAN:
            if left is None or not body:
                return False
            left -= 0 if progressive else body[0]
            if left < 0:
                return False
        elif marker in _FOREIGN:
            return False
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2])
    return at <= len(content)
