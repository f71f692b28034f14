"""JPEG files with one or several pictures, recognised by their segments."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ffdi.data.images import decode


def encoded(*options: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    return cv2.imencode(".jpg", pixels, options)[1].tobytes()


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body


PLAIN = encoded()
SCAN = PLAIN.index(b"\xff\xda")
FRAME = PLAIN.index(b"\xff\xc0")
THREE = segment(0xC0, bytes([8, 0, 8, 0, 8, 3, *range(9)]))
"""A frame of three components."""


def one_by_one(*components: int) -> bytes:
    """A JPEG that has a scan of its own for each component, as T.81 allows it."""
    scans = (segment(0xDA, bytes([1, number, 0, 0, 63, 0])) + b"pixels\xff\x00\xff\xd0" for number in components)
    return b"\xff\xd8" + THREE + b"".join(scans) + b"\xff\xd9"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        encoded(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encoded(cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        one_by_one(1, 2, 3),
        PLAIN + PLAIN,
        PLAIN + b"\0" * 500,
        PLAIN[:FRAME] + segment(0xE1, b"Exif" + PLAIN) + PLAIN[FRAME:],
        PLAIN[:-2],
    ],
    ids=["plain", "progressive", "restarts", "scan by scan", "two files", "padded", "thumbnail", "no end"],
)
def test_a_whole_picture_passes(content: bytes) -> None:
    assert decode.is_one_picture(content)


@pytest.mark.parametrize(
    "content",
    [
        PLAIN[:-2] + PLAIN,
        PLAIN[:SCAN] + THREE + PLAIN[SCAN:],
        PLAIN[:FRAME] + PLAIN[SCAN:],
        PLAIN[:-2] + PLAIN[SCAN:],
        one_by_one(1, 2, 3, 3),
        PLAIN[: SCAN + 20] + b"\xff\x20" + PLAIN[SCAN + 20 :],
        PLAIN[:SCAN] + segment(0xF4, b"") + PLAIN[SCAN:],
        PLAIN[:SCAN] + b"\xff\xe1\xff\xff" + PLAIN[SCAN:],
        PLAIN[: FRAME + 6],
        PLAIN[: SCAN + 4],
    ],
    ids=[
        "second start",
        "second frame",
        "no frame",
        "second scan",
        "scan twice",
        "reserved marker",
        "extension",
        "segment beyond the end",
        "cut in the frame",
        "cut in the scan's header",
    ],
)
def test_more_or_less_than_a_picture_does_not(content: bytes) -> None:
    assert not decode.is_one_picture(content)
