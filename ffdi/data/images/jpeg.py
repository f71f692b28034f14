"""The segments of a JPEG, without decoding it."""

from __future__ import annotations

import re

_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
"""Of a JPEG: what begins a segment; zeros and restarts stand inside the coded pixels."""
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FOREIGN = frozenset({_START, *range(0x02, 0xC0), *range(0xF0, 0xFE)})
"""A second start, and what no picture has: reserved ones, and those of extensions."""
_FRAMES = frozenset({0xC0, 0xC1, 0xC3, 0xC5, 0xC7, 0xC9, 0xCB, 0xCD, 0xCF}) | _PROGRESSIVE


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
        if marker in _FRAMES:
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
