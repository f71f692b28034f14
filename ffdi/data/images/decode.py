"""Reading and decoding of image files, the same for training, scoring and serving."""

from __future__ import annotations

import io
import re
import stat
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ffdi.core.errors import DataError, format_count

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
"""Accepted formats. Cameras write JPEG files with several pictures (MPO); the first picture is used."""
SET_LOG_LEVEL: Callable[[int], int] = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
"""Before OpenCV 4.13 the function had another place."""
MAX_PIXELS = 120_000_000
"""Limit of width times height; a larger image is refused before it is decoded (a decompression bomb).

Phones take photos of up to 108 million pixels. Each image at the limit takes 360 MB while it is decoded.
"""
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
            raise DataError(f"{path} has {format_count(status.st_size, 'byte')}; the limit is {MAX_BYTES}")
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
        raise DataError(f"{name} is truncated or damaged: {format_count(len(content), 'byte')} cannot be decoded")
    return decoded


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
        raise DataError(f"{name} has more than {format_count(most, 'pixel')}, the limit") from None
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


def sum_quantization(content: bytes) -> int:
    """The sum of the steps by which a JPEG quantizes brightness, lower for a higher quality; 0 for other files.

    Args:
        content: the file's bytes.
    """
    if not content.startswith(b"\xff\xd8"):
        return 0
    for marker, body in _list_segments(content):
        if marker == _TABLES and len(body) >= 65 and not body[0] & 15:  # the first table is that of brightness
            wide = body[0] >> 4  # whether it has 16 bits for each step
            return sum(body[1:65]) if not wide else sum(struct.unpack(">64H", body[1:129].ljust(128, b"\0")))
    return 0


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
_ADOBE, _APP1, _TABLES, _ORIENTATION = 0xEE, 0xE1, 0xDB, 0x0112


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
