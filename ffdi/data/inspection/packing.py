"""Fills a cache: every file is read once, looked at, and packed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np

from ffdi.core import files, links
from ffdi.core.errors import DataError
from ffdi.data.images import cache, decode
from ffdi.data.images.cache import Store
from ffdi.data.images.decode import ResizePolicy
from ffdi.data.inspection import scan
from ffdi.data.inspection.scan import ScannedImage
from ffdi.data.inspection.scan_store import ImageInfo, ScanStore
from ffdi.data.labels.table import Table

AT_ONCE = 256
"""Images that wait in memory."""
FLUSHED = 4096
"""Images that may have to be packed again after a kill."""


class Writer:
    """Adds images to a store; one process at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._new: list[bytes] = []
        self._place: dict[bytes, tuple[int, int, int]] = {}
        end = 0
        for record in store.records[store.whole(np.arange(len(store.records)))]:
            place = int(record["offset"]), int(record["length"]), int(record["checksum"])
            self._place[record["sha256"].tobytes()] = place
            end = max(end, place[0] + place[1])
        self._pack = _opened(store.pack_path, end)
        self._index = _opened(store.index_path, len(store.records) * cache.RECORD.itemsize)
        self._end = end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pack.close()
        self._index.close()

    def has(self, sha256: bytes) -> bool:
        """Whether a file of that hash is in the pack, whatever its name."""
        return sha256 in self._place

    def add(self, key: np.ndarray, sha256: bytes, size: int, finding: ImageInfo, packed: bytes) -> None:
        """Packs what a file came to; of files of the same bytes the first."""
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
            "format": finding.format.encode(),
            "mode": finding.mode.encode(),
            "width": finding.width,
            "height": finding.height,
            "fingerprint": np.frombuffer(finding.fingerprint, np.uint8),
            "keypoints": np.frombuffer(finding.keypoints, np.uint64),
        }
        for name, value in values.items():
            record[name] = value
        record["seal"] = zlib.crc32(record.tobytes()[: cache.SEALED])
        self._new.append(record.tobytes())

    @property
    def waiting(self) -> int:
        """Images that are not on the disk yet."""
        return len(self._new)

    def flush(self) -> None:
        """Puts on the disk what was added: the images first, then their records."""
        for file, path, content in (
            (self._pack, self._store.pack_path, b""),
            (self._index, self._store.index_path, b"".join(self._new)),
        ):
            with files.explain_write_errors(path):
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        self._new.clear()


class _Parcel(NamedTuple):
    """A file's state before it was read, what it came to, and what is packed of it."""

    key: np.ndarray
    look: ScannedImage
    packed: bytes


def fill(store: Store, tables: Sequence[Table], findings: ScanStore, threads: int) -> Iterator[int]:
    """Packs the images of tables that are not packed; those that cannot be used are left out.

    Args:
        store: one process at a time; whoever reads on opens it anew.
        tables: attached to it.
        findings: are asked, and get what is new.
        threads: that read and decode.

    Yields:
        How many more are done.

    Raises:
        ExperimentError: the disk is full, or the place cannot be written.
    """
    with Writer(store) as writer, ThreadPoolExecutor(threads) as pool:
        for table in tables:
            rows = cache.missing(table)
            for start in range(0, len(rows), AT_ONCE):
                part = rows[start : start + AT_ONCE].tolist()
                parcels = pool.map(partial(_parcel, table, findings, store.framing, writer), part)
                _pack([parcel for parcel in parcels if parcel is not None], findings, writer)
                yield len(part)
        writer.flush()


def _pack(parcels: list[_Parcel], findings: ScanStore, writer: Writer) -> None:
    findings.keep_images((look.sha256, look.finding) for _, look, _ in parcels if look.fresh)
    for key, look, packed in parcels:
        writer.add(key, look.sha256, look.size, look.finding, packed)
    if writer.waiting >= FLUSHED:
        writer.flush()


def _parcel(
    table: Table, findings: ScanStore, framing: ResizePolicy | None, writer: Writer, row: int
) -> _Parcel | None:
    """None where the image cannot be used."""
    path = table.path(row)
    try:
        key = cache.key(table, row)  # before the file is read: one that changes in between is another one then
        content = decode.read_bytes(path)
        look = scan.scan_image(row, content, findings)
        if key is None or look.finding.fault:
            return None
        if writer.has(look.sha256):
            return _Parcel(key, look, b"")
        if framing is None:
            return _Parcel(key, look, content)
        return _Parcel(key, look, framing.frame(decode.pixels(content, str(path))).tobytes())
    except DataError:
        return None


def _opened(path: Path, end: int) -> BinaryIO:
    """A file to go on with behind `end`; what a killed writer left there is cut off."""
    with files.explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | links.NOFOLLOW, 0o666)
        os.ftruncate(descriptor, end)
        os.lseek(descriptor, end, os.SEEK_SET)
        return os.fdopen(descriptor, "wb")
