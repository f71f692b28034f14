"""Features of images on the disk, in blocks. A hash of all that a block depends on is its key.

`pack` holds the blocks one after the other, `index` holds one record for each. Both files only grow. A block is on the
disk before its record is: a process that is killed while it writes leaves fewer blocks, and no other damage. A block
whose checksum does not match counts as missing, and is written again behind the others.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Self

import numpy as np

from ffdi.core import files, links
from ffdi.core.errors import DataError
from ffdi.data.images import cache

RECORD = np.dtype(
    [
        ("key", "u1", 32),
        ("offset", "<i8"),
        ("rows", "<i4"),
        ("width", "<i4"),
        ("checksum", "<u4"),
        ("record_checksum", "<u4"),
    ]
)
"""A block: its key, its first number in the pack, its shape, and the checksum of its bytes."""
CHECKED_BYTES = RECORD.itemsize - 4
"""Bytes of a record that `record_checksum` covers."""
FLOAT = np.dtype("<f4")


class FeatureStore:
    """The blocks in a folder, as one process reads them. A pickled store is opened again by the receiver."""

    index_path = links.PathInFolder("index")
    pack_path = links.PathInFolder("pack")
    settings_path = links.PathInFolder("settings.json")
    """What the features are of; nothing reads it but people."""

    def __init__(self, folder: Path) -> None:
        """Opens a store. A store that does not exist is empty."""
        self.folder = folder
        records = cache.map_file(self.index_path, RECORD)
        self._pack = cache.map_file(self.pack_path, FLOAT)
        self._records = {record["key"].tobytes(): record for record in records if _is_intact(record)}
        self._checked: dict[bytes, np.ndarray] = {}
        self.count = len(records)

    def __getstate__(self) -> Path:
        return self.folder

    def __setstate__(self, folder: Path) -> None:
        FeatureStore.__init__(self, folder)

    @property
    def end(self) -> int:
        """The numbers of the pack that intact records name."""
        return max((_find_end(record) for record in self._records.values()), default=0)

    def has(self, key: bytes) -> bool:
        """Whether a block is there and undamaged; the first time it is read for that."""
        return key in self._checked or self._check(key)

    def read(self, key: bytes) -> np.ndarray:
        """A block: float32 [rows, width], read-only.

        Raises:
            DataError: it is missing or damaged.
        """
        if not self.has(key):
            raise DataError(
                f"{self.folder} has lost features since this training started, or they are damaged",
                hint="run the same command again: it computes them again",
            )
        return self._checked[key]

    def _check(self, key: bytes) -> bool:
        record = self._records.get(key)
        if record is None or _find_end(record) > len(self._pack):
            return False
        block = np.asarray(self._pack[record["offset"] : _find_end(record)])
        if zlib.crc32(block.data) != record["checksum"]:
            return False
        self._checked[key] = block.reshape(record["rows"], record["width"])
        return True


class FeatureWriter:
    """Adds blocks to a store, each of which is on the disk when `add` returns. One process may write at a time."""

    def __init__(self, store: FeatureStore) -> None:
        self._store, self._end = store, store.end
        self._pack = files.open_at(store.pack_path, self._end * FLOAT.itemsize)
        self._index = files.open_at(store.index_path, store.count * RECORD.itemsize)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pack.close()
        self._index.close()

    def add(self, key: bytes, block: np.ndarray) -> None:
        """Writes a block, float32 [rows, width].

        Raises:
            ExperimentError: the disk is full, or the folder cannot be written.
        """
        content = np.ascontiguousarray(block, FLOAT).tobytes()
        record = np.zeros((), RECORD)
        record["key"] = np.frombuffer(key, np.uint8)
        record["offset"], record["checksum"] = self._end, zlib.crc32(content)
        record["rows"], record["width"] = block.shape
        record["record_checksum"] = zlib.crc32(record.tobytes()[:CHECKED_BYTES])
        for file, path, part in (
            (self._pack, self._store.pack_path, content),
            (self._index, self._store.index_path, record.tobytes()),
        ):
            with files.explain_write_errors(path):
                file.write(part)
                file.flush()
                os.fsync(file.fileno())
        self._end += block.size


def _is_intact(record: np.void) -> bool:
    return zlib.crc32(record.tobytes()[:CHECKED_BYTES]) == record["record_checksum"]


def _find_end(record: np.void) -> int:
    return int(record["offset"]) + int(record["rows"]) * int(record["width"])
