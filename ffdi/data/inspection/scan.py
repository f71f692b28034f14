"""One look at every image of a table: what they are, column by column."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np

from ffdi.core.errors import DataError
from ffdi.data.images import cache, decode
from ffdi.data.images.cache import Cached, rows_of
from ffdi.data.images.fingerprint import BYTES
from ffdi.data.images.keypoints import COUNT
from ffdi.data.inspection.scan_store import ImageInfo, ScanStore, inspect_image
from ffdi.data.labels.table import Table

AT_ONCE = 2048
"""Images whose findings wait for the store."""
HANDFUL = 16
"""Images that a thread takes at a time: handing them over one by one costs a twelfth of decoding them."""


class ScannedImage(NamedTuple):
    """What one file came to; `fresh` where its bytes had to be decoded for it."""

    row: int
    sha256: bytes
    size: int
    finding: ImageInfo
    fresh: bool


@dataclass
class ScanResult:
    """What was found in the images of a table, in its order; at first in those that are packed already.

    Attributes:
        table: the images.
        sha256: uint8 [N, 32], of the files' bytes.
        size: int64 [N], bytes of the file.
        format, mode: str [N], Pillow's names.
        width, height: int32 [N], pixels.
        fingerprint: uint8 [N, `BYTES`].
        keypoints: uint64 [N, `COUNT`], of images that are not packed.
        faults: why an image cannot be used, by its row.
    """

    table: Table
    sha256: np.ndarray = field(init=False)
    size: np.ndarray = field(init=False)
    format: np.ndarray = field(init=False)
    mode: np.ndarray = field(init=False)
    width: np.ndarray = field(init=False)
    height: np.ndarray = field(init=False)
    fingerprint: np.ndarray = field(init=False)
    keypoints: np.ndarray = field(init=False)
    faults: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.table)
        self.sha256 = np.zeros((count, 32), np.uint8)
        self.size = np.zeros(count, np.int64)
        self.format, self.mode = np.zeros(count, "U8"), np.zeros(count, "U8")
        self.width, self.height = np.zeros(count, np.int32), np.zeros(count, np.int32)
        self.fingerprint = np.zeros((count, BYTES), np.uint8)
        self.keypoints = np.zeros((count, COUNT), np.uint64)
        if (cached := rows_of(self.table)) is not None:
            self._recall(cached)

    def _recall(self, cached: Cached) -> None:
        rows = np.flatnonzero(cached.number >= 0)
        for name in ("sha256", "size", "format", "mode", "width", "height", "fingerprint"):
            getattr(self, name)[rows] = cached.seen(name, rows)

    def record(self, seen: ScannedImage) -> None:
        """Writes down what was found in one image."""
        row, found = seen.row, seen.finding
        if found.fault:
            self.faults[row] = found.fault
        else:
            self.fingerprint[row] = np.frombuffer(found.fingerprint, np.uint8)
            self.keypoints[row] = np.frombuffer(found.keypoints, np.uint64)
        self.sha256[row] = np.frombuffer(seen.sha256, np.uint8)
        self.size[row] = seen.size
        self.format[row], self.mode[row] = found.format, found.mode
        self.width[row], self.height[row] = found.width, found.height

    def all_keypoints(self) -> np.ndarray:
        """uint64 [N, `COUNT`]; those of packed images are read for it, as only a search for copies needs them."""
        if (cached := rows_of(self.table)) is None:
            return self.keypoints
        whole, rows = self.keypoints.copy(), np.flatnonzero(cached.number >= 0)
        whole[rows] = cached.seen("keypoints", rows)
        return whole

    @property
    def brightness(self) -> np.ndarray:
        """float32 [N]: the mean grey of each image's fingerprint, 0 to 255."""
        return self.fingerprint.mean(axis=1, dtype=np.float32)

    @property
    def usable(self) -> np.ndarray:
        """bool [N]: whether each image can be used."""
        usable = np.ones(len(self.table), bool)
        usable[list(self.faults)] = False
        return usable

    def problems(self) -> list[str]:
        """A line for each image that cannot be used."""
        return [f"{self.table.path(row)} {fault}" for row, fault in sorted(self.faults.items())]


def scan_images(table: Table, findings: ScanStore, threads: int) -> Iterator[ScannedImage]:
    """Reads every image that is not packed, `threads` at a time, and decodes those whose bytes are new."""
    unpacked = cache.missing(table)
    with ThreadPoolExecutor(threads) as pool:
        kept = pool.submit(findings.keep_images, ())
        for start in range(0, len(unpacked), AT_ONCE):  # bounded: map() would queue all of them at once
            part = unpacked[start : start + AT_ONCE].tolist()
            handfuls = [part[first : first + HANDFUL] for first in range(0, len(part), HANDFUL)]
            fresh = []
            for seen in chain.from_iterable(pool.map(lambda rows: _looks(table, findings, rows), handfuls)):
                if seen.fresh:
                    fresh.append((seen.sha256, seen.finding))
                yield seen
            kept.result()
            kept = pool.submit(findings.keep_images, fresh)  # beside the next looks
        kept.result()


def _looks(table: Table, findings: ScanStore, rows: list[int]) -> list[ScannedImage]:
    return [_look(table, findings, row) for row in rows]


def _look(table: Table, findings: ScanStore, row: int) -> ScannedImage:
    path = table.path(row)
    try:
        content = decode.read_bytes(path)
    except DataError as error:
        return ScannedImage(row, bytes(32), 0, ImageInfo(fault=error.what.removeprefix(f"{path} ")), fresh=False)
    return scan_image(row, content, findings)


def scan_image(row: int, content: bytes, findings: ScanStore) -> ScannedImage:
    """What a file of these bytes comes to; it is decoded where that is not known."""
    sha256 = hashlib.sha256(content).digest()
    known = findings.image(sha256)
    return ScannedImage(row, sha256, len(content), known or inspect_image(content), fresh=known is None)
