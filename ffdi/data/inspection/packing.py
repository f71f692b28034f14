"""Fills an image cache: every file is read, scanned and packed once."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np

from ffdi.core import files
from ffdi.core.errors import DataError
from ffdi.data.images import cache, decode
from ffdi.data.images.cache import ImageStore
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.inspection import scan
from ffdi.data.inspection.scan import ScannedImage
from ffdi.data.inspection.scan_store import ImageInfo, ScanStore
from ffdi.data.labels.table import Table

AT_ONCE = 256
"""Images in memory at a time."""
FLUSH_EVERY = 4096
"""Images between two flushes: so many may have to be packed again after a kill."""


class CacheWriter:
    """Adds images to a store. Only one process may write at a time."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._new: list[bytes] = []
        self._place: dict[bytes, tuple[int, int, int]] = {}
        end = 0
        for record in store.records[store.verify_records(np.arange(len(store.records)))]:
            place = int(record["offset"]), int(record["length"]), int(record["checksum"])
            self._place[record["sha256"].tobytes()] = place
            end = max(end, place[0] + place[1])
        self._pack = files.open_at(store.pack_path, end)
        self._index = files.open_at(store.index_path, len(store.records) * cache.RECORD.itemsize)
        self._end = end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pack.close()
        self._index.close()

    def has(self, sha256: bytes) -> bool:
        """Whether a file with that hash is packed, under any name."""
        return sha256 in self._place

    def add(self, key: np.ndarray, sha256: bytes, size: int, info: ImageInfo, packed: bytes) -> None:
        """Adds a file's record, and its image unless a file with the same bytes is packed."""
        if sha256 not in self._place:
            with files.explain_write_errors(self._store.pack_path):
                self._pack.write(packed)
            self._place[sha256] = self._end, len(packed), zlib.crc32(packed)
            self._end += len(packed)
        offset, length, checksum = self._place[sha256]
        record = np.zeros((), cache.RECORD)
        values: dict[str, Any] = {
            "key": key,
            "sha256": np.frombuffer(sha256, np.uint8),
            "offset": offset,
            "length": length,
            "checksum": checksum,
            "size": size,
            "format": info.format.encode(),
            "mode": info.mode.encode(),
            "width": info.width,
            "height": info.height,
            "fingerprint": np.frombuffer(info.fingerprint, np.uint8),
            "keypoints": np.frombuffer(info.keypoints, np.uint64),
            "quantization": info.quantization,
        }
        for name, value in values.items():
            record[name] = value
        record["record_checksum"] = zlib.crc32(record.tobytes()[: cache.CHECKED_BYTES])
        self._new.append(record.tobytes())

    @property
    def waiting(self) -> int:
        """Records that are not on the disk yet."""
        return len(self._new)

    def flush(self) -> None:
        """Writes what was added to the disk: first the images, then their records."""
        for file, path, content in (
            (self._pack, self._store.pack_path, b""),
            (self._index, self._store.index_path, b"".join(self._new)),
        ):
            with files.explain_write_errors(path):
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        self._new.clear()


class _PackedImage(NamedTuple):
    """A file's key before it was read, its scan result, and the bytes to pack."""

    key: np.ndarray
    image: ScannedImage
    packed: bytes


def fill_cache(store: ImageStore, tables: Sequence[Table], scan_store: ScanStore, threads: int) -> Iterator[int]:
    """Packs the images of tables that are not packed yet; images that cannot be used are skipped.

    Args:
        store: written by one process at a time; readers have to open it again afterwards.
        tables: attached to the store.
        scan_store: has old scan results and gets the new ones.
        threads: images that are read and decoded at a time.

    Yields:
        How many more images are done.

    Raises:
        ExperimentError: the disk is full, or the folder cannot be written.
    """
    with CacheWriter(store) as writer, ThreadPoolExecutor(threads) as pool:
        for table in tables:
            rows = cache.list_missing_rows(table)
            for start in range(0, len(rows), AT_ONCE):
                part = rows[start : start + AT_ONCE].tolist()
                images = pool.map(partial(_load_image, table, scan_store, store.resize_policy, writer), part)
                _write_images([image for image in images if image is not None], scan_store, writer)
                yield len(part)
        writer.flush()


def _write_images(images: list[_PackedImage], scan_store: ScanStore, writer: CacheWriter) -> None:
    scan_store.save_images((image.sha256, image.info) for _, image, _ in images if image.fresh)
    for key, image, packed in images:
        writer.add(key, image.sha256, image.size, image.info, packed)
    if writer.waiting >= FLUSH_EVERY:
        writer.flush()


def _load_image(
    table: Table, scan_store: ScanStore, resize_policy: ResizePolicy | None, writer: CacheWriter, row: int
) -> _PackedImage | None:
    """None if the image cannot be used."""
    path = table.path(row)
    try:
        key = cache.compute_key(table, row)  # before the file is read: a file that changes meanwhile has another key
        content = decode.read_bytes(path)
        image = scan.scan_image(row, content, scan_store)
        if key is None or image.info.fault:
            return None
        if writer.has(image.sha256):
            return _PackedImage(key, image, b"")
        if resize_policy is None:
            return _PackedImage(key, image, content)
        return _PackedImage(key, image, resize_policy.apply(decode.decode_rgb(content, str(path))).tobytes())
    except DataError:
        return None
