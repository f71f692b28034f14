"""Decoding and resizing of images: one policy for training, scoring and serving."""

from __future__ import annotations

import io
import re
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ffdi.core.errors import DataError

if TYPE_CHECKING:
    from ffdi.config.schema import ModelConfig

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

    def load(self, path: Path) -> np.ndarray:
        """Reads, decodes and resizes one image; RGB, uint8 [size, size, 3].

        Raises:
            DataError: the file cannot be used; the message has its path.
        """
        return self.apply(read_image(path))

    def apply(self, pixels: np.ndarray, box: CropBox = WHOLE_IMAGE) -> np.ndarray:
        """Resizes the part of an image in the box: uint8 [H, W, 3] -> uint8 [size, size, 3]."""
        return _RESIZE_FUNCTIONS[self.resize](pixels, self.size, box)


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


def _squash(pixels: np.ndarray, size: int, box: CropBox) -> np.ndarray:
    height, width = pixels.shape[:2]
    return _scale(_cut(pixels, height, width, box), size, size)


def _crop(pixels: np.ndarray, size: int, box: CropBox) -> np.ndarray:
    height, width = pixels.shape[:2]
    if (missing := size / min(height, width)) > 1:
        longest = MAX_ASPECT_RATIO * min(height, width)
        pixels = _cut(pixels, longest, longest, CropBox(x=box.x, y=box.y))
        height, width = pixels.shape[:2]
        pixels = _scale(pixels, max(size, round(height * missing)), max(size, round(width * missing)))
    return _scale(_cut(pixels, size, size, box), size, size)


def _pad(pixels: np.ndarray, size: int, box: CropBox) -> np.ndarray:
    height, width = pixels.shape[:2]
    part = _cut(pixels, height, width, box)
    height, width = part.shape[:2]
    scale = size / max(height, width)
    scaled = _scale(part, max(1, round(height * scale)), max(1, round(width * scale)))
    padded = np.zeros((size, size, 3), np.uint8)
    top, left = (size - scaled.shape[0]) // 2, (size - scaled.shape[1]) // 2
    padded[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return padded


def _cut(pixels: np.ndarray, height: int, width: int, box: CropBox) -> np.ndarray:
    """The part in the box, if the whole were `height` x `width`."""
    rows = min(max(1, round(height * box.zoom / box.ratio**0.5)), pixels.shape[0])
    columns = min(max(1, round(width * box.zoom * box.ratio**0.5)), pixels.shape[1])
    top, left = round(box.y * (pixels.shape[0] - rows)), round(box.x * (pixels.shape[1] - columns))
    return pixels[top : top + rows, left : left + columns]


def _scale(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes by area when shrinking (no aliasing), else by cubic interpolation."""
    if pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels)
    shrinks = pixels.shape[0] >= height and pixels.shape[1] >= width
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def cut_window(pixels: np.ndarray, edge: int, x: float, y: float) -> np.ndarray:
    """Cuts out a square at position (x, y), each from 0 to 1: uint8 [S, S, 3] -> uint8 [edge, edge, 3]."""
    return np.ascontiguousarray(_cut(pixels, edge, edge, CropBox(x=x, y=y)))


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
_RESIZE_FUNCTIONS = {"squash": _squash, "crop": _crop, "pad": _pad}


_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
"""A JPEG marker that starts a segment; zeros and restart markers occur inside the coded pixels."""
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FOREIGN = frozenset({_START, *range(0x02, 0xC0), *range(0xF0, 0xFE)})
"""Markers that a single picture does not have: a second start, reserved markers and extensions."""
_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC3, 0xC5, 0xC7, 0xC9, 0xCB, 0xCD, 0xCF}) | _PROGRESSIVE


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
