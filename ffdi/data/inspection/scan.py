"""The scan of a data set: reads and decodes every image once and collects its properties by column."""

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
from ffdi.data.images.cache import CachedRows, get_cached_rows
from ffdi.data.images.descriptors import COUNT, FINGERPRINT_BYTES
from ffdi.data.inspection.scan_store import ImageInfo, ScanStore, inspect_image
from ffdi.data.labels.table import Table

AT_ONCE = 2048
"""Images whose results are saved together."""
TASK = 16
"""Images of one task of a thread: single images would cost a twelfth more time."""


class ScannedImage(NamedTuple):
    """The scan result of one file.

    Attributes:
        row: its row in the table.
        sha256: hash of its bytes.
        size: in bytes.
        info: what the image is.
        fresh: whether the image was decoded now; False if the store had the result.
    """

    row: int
    sha256: bytes
    size: int
    info: ImageInfo
    fresh: bool


@dataclass
class ScanResult:
    """The properties of a table's images, in its order. It starts with the images that the cache has.

    Attributes:
        table: the images.
        sha256: uint8 [N, 32], hashes of the files' bytes.
        size: int64 [N], size of each file in bytes.
        format, mode: str [N], Pillow's names.
        width, height: int32 [N], pixels.
        quantization: int32 [N], of `decode.sum_quantization`.
        fingerprint: uint8 [N, `BYTES`].
        keypoints: uint64 [N, `COUNT`], only of images that the cache does not have.
        faults: why an image cannot be used, by row.
    """

    table: Table
    sha256: np.ndarray = field(init=False)
    size: np.ndarray = field(init=False)
    format: np.ndarray = field(init=False)
    mode: np.ndarray = field(init=False)
    width: np.ndarray = field(init=False)
    height: np.ndarray = field(init=False)
    quantization: np.ndarray = field(init=False)
    fingerprint: np.ndarray = field(init=False)
    keypoints: np.ndarray = field(init=False)
    faults: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.table)
        self.sha256 = np.zeros((count, 32), np.uint8)
        self.size = np.zeros(count, np.int64)
        self.format, self.mode = np.zeros(count, "U8"), np.zeros(count, "U8")
        self.width, self.height, self.quantization = (np.zeros(count, np.int32) for _ in range(3))
        self.fingerprint = np.zeros((count, FINGERPRINT_BYTES), np.uint8)
        self.keypoints = np.zeros((count, COUNT), np.uint64)
        if (cached := get_cached_rows(self.table)) is not None:
            self._copy_cached(cached)

    def _copy_cached(self, cached: CachedRows) -> None:
        rows = np.flatnonzero(cached.number >= 0)
        for name in ("sha256", "size", "format", "mode", "width", "height", "quantization", "fingerprint"):
            getattr(self, name)[rows] = cached.get_field(name, rows)

    def record(self, image: ScannedImage) -> None:
        row, info = image.row, image.info
        if info.fault:
            self.faults[row] = info.fault
        else:
            self.fingerprint[row] = np.frombuffer(info.fingerprint, np.uint8)
            self.keypoints[row] = np.frombuffer(info.keypoints, np.uint64)
        self.sha256[row] = np.frombuffer(image.sha256, np.uint8)
        self.size[row] = image.size
        self.format[row], self.mode[row] = info.format, info.mode
        self.width[row], self.height[row], self.quantization[row] = info.width, info.height, info.quantization

    def load_keypoints(self) -> np.ndarray:
        """uint64 [N, `COUNT`], of all images; reads those of the cache, which only the search for duplicates needs."""
        if (cached := get_cached_rows(self.table)) is None:
            return self.keypoints
        whole, rows = self.keypoints.copy(), np.flatnonzero(cached.number >= 0)
        whole[rows] = cached.get_field("keypoints", rows)
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

    def list_problems(self) -> list[str]:
        """A line for each image that cannot be used."""
        return [f"{self.table.path(row)} {fault}" for row, fault in sorted(self.faults.items())]


def scan_images(table: Table, scan_store: ScanStore, threads: int) -> Iterator[ScannedImage]:
    """Reads every image that the cache does not have; decodes the images whose bytes are not in the store.

    Args:
        table: the images.
        scan_store: has old results and gets the new ones.
        threads: images that are read and decoded at a time.
    """
    rows = cache.list_missing_rows(table)
    with ThreadPoolExecutor(threads) as pool:
        saving = pool.submit(scan_store.save_images, ())
        for start in range(0, len(rows), AT_ONCE):  # bounded: map() would queue all of them at once
            part = rows[start : start + AT_ONCE].tolist()
            tasks = [part[first : first + TASK] for first in range(0, len(part), TASK)]
            fresh = []
            for image in chain.from_iterable(pool.map(lambda task: _scan_rows(table, scan_store, task), tasks)):
                if image.fresh:
                    fresh.append((image.sha256, image.info))
                yield image
            saving.result()
            saving = pool.submit(scan_store.save_images, fresh)  # while the next images are decoded
        saving.result()


def _scan_rows(table: Table, scan_store: ScanStore, rows: list[int]) -> list[ScannedImage]:
    return [_scan_row(table, scan_store, row) for row in rows]


def _scan_row(table: Table, scan_store: ScanStore, row: int) -> ScannedImage:
    path = table.path(row)
    try:
        content = decode.read_bytes(path)
    except DataError as error:
        return ScannedImage(row, bytes(32), 0, ImageInfo(fault=error.what.removeprefix(f"{path} ")), fresh=False)
    return scan_image(row, content, scan_store)


def scan_image(row: int, content: bytes, scan_store: ScanStore) -> ScannedImage:
    """The result for a file's bytes: from the store, or decoded now."""
    sha256 = hashlib.sha256(content).digest()
    known = scan_store.get_image(sha256)
    return ScannedImage(row, sha256, len(content), known or inspect_image(content), fresh=known is None)
