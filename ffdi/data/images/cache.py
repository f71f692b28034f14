"""The image cache: the images of a data folder in one file. The state of an image's file is the key to its entry.

`pack` holds the images one after the other, `index` holds one record for each file. Both files only grow. An image is
on the disk before its record is: a process that is killed while it writes leaves a cache with fewer images, and no
other damage. The checksum of an image is compared whenever the image is read.
"""

from __future__ import annotations

import os
import shlex
import zlib
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from ffdi.core import files, links
from ffdi.core.errors import DataError
from ffdi.data.images import decode
from ffdi.data.images.decode import DECODE_POLICY
from ffdi.data.images.descriptors import COUNT, FINGERPRINT_BYTES
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.table import Table

RECORD = np.dtype(
    [
        ("key", "<u8", 2),
        ("sha256", "u1", 32),
        ("offset", "<i8"),
        ("length", "<i8"),
        ("checksum", "<u4"),
        ("size", "<i8"),
        ("format", "S8"),
        ("mode", "S8"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("fingerprint", "u1", FINGERPRINT_BYTES),
        ("keypoints", "<u8", COUNT),
        ("quantization", "<i4"),
        ("record_checksum", "<u4"),
    ]
)
"""One file: its state when it was read, the place and the checksum of its image in the pack, and the image's scan."""
CHECKED_BYTES = RECORD.itemsize - 4
"""Bytes of a record that `record_checksum` covers."""
INDEX, PACK = "index", "pack"
MISSING_FILE_KEY = bytes(16)
"""The key of a file that does not exist."""
VERSION = 3
"""Version of the records and the packed images. Each version has its own folder."""


class ImageStore:
    """The cache of a data folder, as one process reads it. A pickled store is opened again by the receiver."""

    def __init__(self, folder: Path, resize_policy: ResizePolicy | None = None) -> None:
        """Opens a store. A store that does not exist is empty.

        Args:
            folder: the folder of `index` and `pack`.
            resize_policy: how images were resized before they were packed; None if the files were packed as they are.
        """
        self.folder, self.resize_policy = folder, resize_policy
        self.records = map_file(self.index_path, RECORD)
        self._pack = map_file(self.pack_path, np.dtype(np.uint8))
        self._identity = self._identify_index()

    @property
    def index_path(self) -> Path:
        return links.join(self.folder, INDEX)

    @property
    def pack_path(self) -> Path:
        return links.join(self.folder, PACK)

    def __getstate__(self) -> tuple[Path, ResizePolicy | None, object]:
        return self.folder, self.resize_policy, self._identity

    def __setstate__(self, state: tuple[Path, ResizePolicy | None, object]) -> None:
        ImageStore.__init__(self, *state[:2])
        if self._identity != state[2]:
            raise DataError(f"{self.folder} was made again while it was read", hint="run the same command again")

    def attach(self, table: Table) -> Table:
        """Adds to each row of a table its record, if the row's file has not changed since it was packed."""
        number = np.full(len(table), -1)
        if len(self.records):
            number = _find_positions(self.records["key"], compute_keys(table))
            packed = np.flatnonzero(number >= 0)
            number[packed[~self.verify_records(number[packed])]] = -1
        return replace(table, stored=CachedRows(self, number))

    def verify_records(self, numbers: np.ndarray) -> np.ndarray:
        """bool [M]: compares the checksums of the records `numbers` (int [M])."""
        raw, checksums = self.records.view(np.uint8).data, self.records["record_checksum"][numbers].tolist()
        starts = (numbers * RECORD.itemsize).tolist()
        intact = (zlib.crc32(raw[at : at + CHECKED_BYTES]) == one for at, one in zip(starts, checksums, strict=True))
        return np.fromiter(intact, bool, len(numbers))

    def read_packed(self, number: int) -> np.ndarray:
        """The packed bytes of a record, without a copy: uint8 [length].

        Raises:
            DataError: the bytes are damaged.
        """
        record = self.records[number]
        start = int(record["offset"])
        packed = self._pack[start : start + int(record["length"])]
        if zlib.crc32(packed.data) != record["checksum"]:
            raise DataError(
                f"{self.pack_path} is damaged at byte {start}",
                hint="write it again: invoke cache --restart",
            )
        return packed

    @property
    def size(self) -> int:
        """Bytes of all packed images."""
        return len(self._pack)

    def count_used_bytes(self, numbers: np.ndarray) -> int:
        """Bytes of the images of these records (int [M]); an image that several records share counts once."""
        _, first = np.unique(self.records["offset"][numbers], return_index=True)
        return int(self.records["length"][numbers[first]].sum())

    def _identify_index(self) -> tuple[int, int] | None:
        """Device and inode of the index: record numbers are only valid for this file."""
        status = self.index_path.stat() if len(self.records) else None
        return status and (status.st_dev, status.st_ino)


@dataclass(frozen=True)
class CachedRows:
    """A table's rows in a store.

    Attributes:
        number: int64 [N], each row's record; -1 if the file was not packed or has changed since.
    """

    store: ImageStore
    number: np.ndarray

    def take(self, index: np.ndarray) -> CachedRows:
        """The rows `index` (int [M]), in that order."""
        return replace(self, number=self.number[index])

    def extend(self, count: int) -> CachedRows:
        """The rows, and behind them `count` rows that are not in the store."""
        return replace(self, number=np.concatenate([self.number, np.full(count, -1)]))

    def has(self, row: int) -> bool:
        return bool(self.number[row] >= 0)

    def read_file(self, row: int) -> bytes:
        """The bytes of a row's file, from a store of files."""
        return self.store.read_packed(int(self.number[row])).tobytes()

    def read_pixels(self, row: int) -> np.ndarray:
        """The resized image of a row, from a store of resized images: uint8 [S, S, 3], read-only."""
        assert self.store.resize_policy is not None
        edge = self.store.resize_policy.size
        return self.store.read_packed(int(self.number[row])).reshape(edge, edge, 3)

    def get_field(self, name: str, rows: np.ndarray | int) -> np.ndarray:
        """A field of RECORD for packed rows (int [M]) or one of them."""
        return self.store.records[name][self.number[rows]]


def discard(folder: Path) -> None:
    """Removes the cache in a folder. A process that has opened the cache can read on."""
    with files.explain_write_errors(folder):
        for name in (INDEX, PACK):
            links.join(folder, name).unlink(missing_ok=True)


def attach(dataset: Dataset, store: ImageStore) -> Dataset:
    """The data set with `ImageStore.attach` applied to each table."""
    return replace(dataset, splits={name: store.attach(table) for name, table in dataset.splits.items()})


def get_folder_name(resize_policy: ResizePolicy | None) -> str:
    """The folder name of a store with this content."""
    if resize_policy is None:
        return f"bytes-{VERSION}"
    policy = blake2b(DECODE_POLICY.encode(), digest_size=4).hexdigest()
    return f"pixels-{resize_policy.resize}-{resize_policy.size}-{policy}-{VERSION}"


def compute_keys(table: Table) -> np.ndarray:
    """uint64 [N, 2]: a hash of the name and the state of each row's file, without reading the file.

    A changed file has another size, inode or time of change. A missing file has zeros.
    """
    folder = f"{table.folder}/"
    keys = b"".join([_hash_state(folder, name) or MISSING_FILE_KEY for name in table.img_name.tolist()])
    return np.frombuffer(keys, np.uint64).reshape(-1, 2)


def compute_key(table: Table, row: int) -> np.ndarray | None:
    """uint64 [2]: one row of `compute_keys`; None if the file does not exist."""
    key = _hash_state(f"{table.folder}/", str(table.img_name[row]))
    return None if key is None else np.frombuffer(key, np.uint64)


def get_cached_rows(table: Table) -> CachedRows | None:
    """The rows of a table in the store that it is attached to; None without a store."""
    assert table.stored is None or isinstance(table.stored, CachedRows)
    return table.stored


def list_missing_rows(table: Table) -> np.ndarray:
    """int64 [M]: the rows of a table that are not in its store."""
    cached = get_cached_rows(table)
    return np.arange(len(table)) if cached is None else np.flatnonzero(cached.number < 0)


def _hash_state(folder: str, name: str) -> bytes | None:
    try:
        state = os.stat(folder + name)  # noqa: PTH116 a Path for each of half a million files takes seconds
    except OSError:
        return None
    text = f"{name}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}\0{state.st_ino}"
    return blake2b(text.encode(), digest_size=16).digest()


def _find_positions(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int64 [N]: the position in `known`, uint64 [M, 2], of each key of `wanted`, uint64 [N, 2]; -1 if not found."""
    order = np.argsort(known[:, 0], kind="stable")
    first = known[order, 0]
    place = np.searchsorted(first, wanted[:, 0], side="right") - 1  # the last of equal ones: the newest
    found = order[np.maximum(place, 0)]
    return np.where((known[found] == wanted).all(1), found, -1)


def map_file(path: Path, dtype: np.dtype) -> np.ndarray:
    """The complete items of a file, memory-mapped; empty if the file does not exist."""
    try:
        count = path.stat().st_size // dtype.itemsize
        return np.memmap(path, dtype, mode="r", shape=count) if count else np.empty(0, dtype)
    except FileNotFoundError:
        return np.empty(0, dtype)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}", hint=f"remove the cache: rm {shlex.quote(str(path))}"
        ) from None


def read_pixels(table: Table, row: int) -> np.ndarray:
    """An image at its own size: RGB, uint8 [H, W, 3].

    Raises:
        DataError: the image cannot be used; the message has its path.
    """
    cached = get_cached_rows(table)
    if cached is not None and cached.store.resize_policy is None and cached.has(row):
        return decode.decode_rgb(cached.read_file(row), str(table.path(row)))  # its header is valid
    return decode.read_image(table.path(row))


def read_file(table: Table, row: int) -> bytes:
    """The bytes of an image's file, which nobody may have checked.

    Raises:
        DataError: the file cannot be read; the message has its path.
    """
    cached = get_cached_rows(table)
    if cached is not None and cached.store.resize_policy is None and cached.has(row):
        return cached.read_file(row)
    return decode.read_bytes(table.path(row))


def read_resized(table: Table, row: int, resize_policy: ResizePolicy) -> np.ndarray:
    """An image at a network's input size: RGB, uint8 [size, size, 3], read-only.

    Raises:
        DataError: the image cannot be used; the message has its path.
    """
    return read_resized_and_scale(table, row, resize_policy)[0]


def read_resized_and_scale(table: Table, row: int, resize_policy: ResizePolicy) -> tuple[np.ndarray, float]:
    """The same, and the square root of the number of its pixels in parts of the original's."""
    cached = get_cached_rows(table)
    if cached is not None and cached.store.resize_policy == resize_policy and cached.has(row):
        original = int(cached.get_field("width", row)) * int(cached.get_field("height", row))
        resized = cached.read_pixels(row)
    else:
        pixels = read_pixels(table, row)
        original, resized = pixels.shape[0] * pixels.shape[1], resize_policy.apply(pixels)
    return resized, resize_policy.size / original**0.5
