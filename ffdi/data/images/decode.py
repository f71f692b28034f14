"""From a file's bytes to RGB pixels: the one decode and resize policy of training, scoring and serving."""

from __future__ import annotations

import io
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ffdi.core.errors import DataError

if TYPE_CHECKING:
    from ffdi.config.schema import ModelConfig
import re

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
"""What is decoded. A JPEG may have more pictures behind it (MPO), as cameras write it; the first one counts."""
MAX_PIXELS = 50_000_000
"""Width times height beyond which an image is refused before it is decoded (a bomb, or no face crop)."""
LONGEST = 4
"""Times the shorter side: what a strip has beyond is cut off before it is enlarged."""
MAX_BYTES = 200_000_000
"""Of a file, beyond which it is refused before it is read."""
DECODE = "EXIF orientation applied, alpha dropped, 16 bit to 8"
"""The policy in words, as a bundle keeps it, like those of RESIZES: whoever changes one changes every score."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself before it is decoded: Pillow's names of format and mode, and its pixels."""

    format: str
    mode: str
    width: int
    height: int


class CropBox(NamedTuple):
    """The part of an image that is looked at; as it stands here, all that a resize policy shows.

    Attributes:
        zoom: its edge, in parts of what the policy shows.
        ratio: of its width to its height, in parts of what the policy shows.
        x, y: where in what is left over it lies, from 0 to 1.
    """

    zoom: float = 1.0
    ratio: float = 1.0
    x: float = 0.5
    y: float = 0.5


WHOLE = CropBox()


class ResizePolicy(NamedTuple):
    """How an image becomes the square that a network takes: a key of RESIZES, and the square's edge in pixels."""

    size: int
    resize: str = "squash"

    @classmethod
    def of(cls, model: ModelConfig) -> ResizePolicy:
        """How a network takes its own images."""
        return cls(model.size, model.resize)

    def load(self, path: Path) -> np.ndarray:
        """Reads, decodes and frames one image; RGB, uint8 [size, size, 3].

        Raises:
            DataError: names the file and says why it cannot be used.
        """
        return self.frame(read(path))

    def frame(self, pixels: np.ndarray, view: CropBox = WHOLE) -> np.ndarray:
        """Frames the part of an image that a view shows: uint8 [H, W, 3] -> uint8 [size, size, 3]."""
        return _FRAMES[self.resize](pixels, self.size, view)


def read(path: Path) -> np.ndarray:
    """Reads and decodes one image at its own size; RGB, uint8 [H, W, 3]."""
    return decode(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        DataError: it cannot be read, is no file (but a pipe or a device, which never end), or is too large.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path} is no file")
        if status.st_size > MAX_BYTES:
            raise DataError(f"{path} has {status.st_size} bytes; the limit is {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def decode(content: bytes, name: str, most: int = MAX_PIXELS) -> np.ndarray:
    """Decodes an encoded image.

    EXIF orientation is applied; grey and palette images become RGB; alpha is dropped; CMYK is converted;
    16 bit becomes 8. A truncated file is refused: `cv2.imdecode` refuses it, where `cv2.imread` fills it up.

    Args:
        content: the file's bytes.
        name: what an error calls the image.
        most: width times height beyond which it is refused.

    Returns:
        RGB, uint8 [H, W, 3].

    Raises:
        DataError: empty, no image, a format that is not decoded, too large, truncated or damaged.
    """
    header(content, name, most)
    return pixels(content, name)


def pixels(content: bytes, name: str) -> np.ndarray:
    """Decodes what has passed `header`; RGB, uint8 [H, W, 3].

    Raises:
        DataError: truncated or damaged.
    """
    return _decoded(content, name, cv2.IMREAD_COLOR_RGB)


def grey(content: bytes, name: str) -> np.ndarray:
    """The greys alone of what has passed `header`, for a third less time; uint8 [H, W].

    What `pixels` refuses is refused, and nothing else: the whole file is read by the same decoder.

    Raises:
        DataError: truncated or damaged.
    """
    return _decoded(content, name, cv2.IMREAD_GRAYSCALE)


def _decoded(content: bytes, name: str, flag: int) -> np.ndarray:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it would print lines beside ours
    if content.startswith(b"RIFF"):  # where a WebP is damaged, libwebp would read on behind its end
        content = content[: 8 + int.from_bytes(content[4:8], "little")]
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise DataError(f"{name} is truncated or damaged: {len(content)} bytes cannot be decoded")
    return decoded


def _squash(pixels: np.ndarray, size: int, view: CropBox) -> np.ndarray:
    height, width = pixels.shape[:2]
    return _scaled(_cut(pixels, height, width, view), size, size)


def _crop(pixels: np.ndarray, size: int, view: CropBox) -> np.ndarray:
    height, width = pixels.shape[:2]
    if (missing := size / min(height, width)) > 1:
        longest = LONGEST * min(height, width)
        pixels = _cut(pixels, longest, longest, CropBox(x=view.x, y=view.y))
        height, width = pixels.shape[:2]
        pixels = _scaled(pixels, max(size, round(height * missing)), max(size, round(width * missing)))
    return _scaled(_cut(pixels, size, size, view), size, size)


def _pad(pixels: np.ndarray, size: int, view: CropBox) -> np.ndarray:
    height, width = pixels.shape[:2]
    part = _cut(pixels, height, width, view)
    height, width = part.shape[:2]
    scale = size / max(height, width)
    scaled = _scaled(part, max(1, round(height * scale)), max(1, round(width * scale)))
    padded = np.zeros((size, size, 3), np.uint8)
    top, left = (size - scaled.shape[0]) // 2, (size - scaled.shape[1]) // 2
    padded[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return padded


def _cut(pixels: np.ndarray, height: int, width: int, view: CropBox) -> np.ndarray:
    """The part that a view shows, where the whole would be `height` x `width`."""
    rows = min(max(1, round(height * view.zoom / view.ratio**0.5)), pixels.shape[0])
    columns = min(max(1, round(width * view.zoom * view.ratio**0.5)), pixels.shape[1])
    top, left = round(view.y * (pixels.shape[0] - rows)), round(view.x * (pixels.shape[1] - columns))
    return pixels[top : top + rows, left : left + columns]


def _scaled(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """By area when shrinking (no aliasing), else cubic."""
    if pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels)
    shrinks = pixels.shape[0] >= height and pixels.shape[1] >= width
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def crop_box(pixels: np.ndarray, edge: int, x: float, y: float) -> np.ndarray:
    """A square part of an image as it is, from its left to its right end as x and y go from 0 to 1; uint8
    [S, S, 3] -> uint8 [edge, edge, 3]."""
    return np.ascontiguousarray(_cut(pixels, edge, edge, CropBox(x=x, y=y)))


def area(large: int, small: int) -> np.ndarray:
    """What 'squash' does along one axis when it shrinks: each pixel becomes the mean of the area it covers.

    Returns:
        float32 [small, large], each row of sum 1.
    """
    edges = np.arange(small + 1) * large / small
    pixels = np.arange(large)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(covered, 0) * small / large).astype(np.float32)


def header(content: bytes, name: str, most: int = MAX_PIXELS) -> Header:
    """Reads a file's header, and refuses what is not to be decoded.

    Raises:
        DataError: empty, no image, a format that is not decoded, or too large.
    """
    if not content:
        raise DataError(f"{name} is empty")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of bombs and bad tags; our limits follow; threads share it
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise DataError(f"{name} is no image that ffdi reads ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise DataError(f"{name} has more than {most} pixels, the limit") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{name} has a damaged header: {error}") from None
    if image.format in ("JPEG", "MPO") and not is_one_picture(content):
        raise DataError(f"{name} is damaged: its JPEG segments do not belong to one picture")
    width, height = image.size
    if width * height > most:
        raise DataError(f"{name} has {width} x {height} pixels; the limit is {most}")
    return Header(str(image.format), image.mode, width, height)


def enlarging(small: int, large: int) -> np.ndarray:
    """What cubic interpolation does along one axis; float32 [large, small]."""
    return cv2.resize(np.eye(small, dtype=np.float32), (small, large), interpolation=cv2.INTER_CUBIC)


RESIZES = {
    "squash": "the whole image to the square, by area when shrinking, cubic when growing",
    "crop": "the middle at its own scale; enlarged by cubic interpolation where the image is smaller",
    "pad": "as wide or as high as the square, by area when shrinking, cubic when growing; black beside it",
}
"""How an image gets a network's size."""
_FRAMES = {"squash": _squash, "crop": _crop, "pad": _pad}


_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
"""Of a JPEG: what begins a segment; zeros and restarts stand inside the coded pixels."""
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FOREIGN = frozenset({_START, *range(0x02, 0xC0), *range(0xF0, 0xFE)})
"""A second start, and what no picture has: reserved ones, and those of extensions."""
_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC3, 0xC5, 0xC7, 0xC9, 0xCB, 0xCD, 0xCF}) | _PROGRESSIVE


def is_one_picture(content: bytes) -> bool:
    """Whether a JPEG has one frame, and of each of its components one scan unless it is progressive (ITU-T T.81, B.2).

    Where there is more, decoders disagree on what to take. What lies behind the end of the image, as cameras put more
    pictures there, does not count.

    Args:
        content: the file's bytes, which begin as a JPEG does.
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
