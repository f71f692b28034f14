"""A data folder's images in one file, each found by the state of the file that it came from.

`pack` holds images one after the other, `index` a record for each file that was seen. Both only grow, and what a record
points at is on the disk before the record is: whoever is killed while writing leaves a store that lacks images, no
more. Each image is proven by its checksum whenever it is read.
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
from ffdi.data.images.decode import DECODE, ResizePolicy
from ffdi.data.images.fingerprint import BYTES
from ffdi.data.images.keypoints import COUNT
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
        ("fingerprint", "u1", BYTES),
        ("keypoints", "<u8", COUNT),
        ("seal", "<u4"),
    ]
)
"""Of one file: what it was when it was read, where its image lies in the pack, and what was found in it."""
SEALED = RECORD.itemsize - 4
"""Bytes of a record that its last four are the checksum of."""
INDEX, PACK = "index", "pack"
NOWHERE = bytes(16)
"""The key of a file that is not there."""
VERSION = 2
"""Of the records and of what is packed; a store of another version is another folder."""


class Store:
    """The images of a data folder, as one process reads them; pickled, it is opened again where it arrives."""

    def __init__(self, folder: Path, framing: ResizePolicy | None = None) -> None:
        """Opens a store; one that is not there is empty.

        Args:
            folder: where it lies.
            framing: what images were brought to before they were packed; None packs files as they are.
        """
        self.folder, self.framing = folder, framing
        self.records = _mapped(self.index_path, RECORD)
        self._pack = _mapped(self.pack_path, np.dtype(np.uint8))
        self._identity = self._identified()

    @property
    def index_path(self) -> Path:
        """The records, one after the other."""
        return links.below(self.folder, INDEX)

    @property
    def pack_path(self) -> Path:
        """The images that the records point at."""
        return links.below(self.folder, PACK)

    def __getstate__(self) -> tuple[Path, ResizePolicy | None, object]:
        return self.folder, self.framing, self._identity

    def __setstate__(self, state: tuple[Path, ResizePolicy | None, object]) -> None:
        Store.__init__(self, *state[:2])
        if self._identity != state[2]:
            raise DataError(f"{self.folder} was made anew while it was read", hint="run the same command again")

    def attach(self, table: Table) -> Table:
        """The table with its rows' records, those whose files are as they were when they were packed."""
        number = np.full(len(table), -1)
        if len(self.records):
            number = _places(self.records["key"], keys(table))
            there = np.flatnonzero(number >= 0)
            number[there[~self.whole(number[there])]] = -1
        return replace(table, stored=Cached(self, number))

    def whole(self, numbers: np.ndarray) -> np.ndarray:
        """bool [M]: whether each record of these numbers (int [M]) is as it was written."""
        raw, seals = self.records.view(np.uint8).data, self.records["seal"][numbers].tolist()
        starts = (numbers * RECORD.itemsize).tolist()
        sound = (zlib.crc32(raw[at : at + SEALED]) == seal for at, seal in zip(starts, seals, strict=True))
        return np.fromiter(sound, bool, len(numbers))

    def packed(self, number: int) -> np.ndarray:
        """What was packed for a record, where it lies: uint8 [length].

        Raises:
            DataError: it is damaged.
        """
        record = self.records[number]
        start = int(record["offset"])
        packed = self._pack[start : start + int(record["length"])]
        if zlib.crc32(packed.data) != record["checksum"]:
            raise DataError(
                f"{self.pack_path} is damaged at byte {start}",
                hint="write it anew: invoke cache --restart",
            )
        return packed

    @property
    def size(self) -> int:
        """Bytes of all that was packed."""
        return len(self._pack)

    def used(self, numbers: np.ndarray) -> int:
        """Bytes of what these records (int [M]) point at, each place once."""
        _, first = np.unique(self.records["offset"][numbers], return_index=True)
        return int(self.records["length"][numbers[first]].sum())

    def _identified(self) -> tuple[int, int] | None:
        """Which file the index is; its records' numbers are of that one alone."""
        status = self.index_path.stat() if len(self.records) else None
        return status and (status.st_dev, status.st_ino)


@dataclass(frozen=True)
class Cached:
    """A table's rows in a store.

    Attributes:
        number: int64 [N], each row's record; -1 where the file was not packed, or is another one now.
    """

    store: Store
    number: np.ndarray

    def take(self, index: np.ndarray) -> Cached:
        """The rows `index` (int [M]), in that order."""
        return replace(self, number=self.number[index])

    def has(self, row: int) -> bool:
        """Whether a row was packed."""
        return bool(self.number[row] >= 0)

    def content(self, row: int) -> bytes:
        """The file of a row, in a store of files."""
        return self.store.packed(int(self.number[row])).tobytes()

    def pixels(self, row: int) -> np.ndarray:
        """The framed image of a row, in a store of such; uint8 [S, S, 3], not to be written to."""
        assert self.store.framing is not None
        edge = self.store.framing.size
        return self.store.packed(int(self.number[row])).reshape(edge, edge, 3)

    def seen(self, name: str, rows: np.ndarray) -> np.ndarray:
        """A field of RECORD, of rows (int [M]) that were packed."""
        return self.store.records[name][self.number[rows]]


def discard(folder: Path) -> None:
    """Removes what is packed in a folder; who reads it goes on with what it has opened."""
    with files.explain_write_errors(folder):
        for name in (INDEX, PACK):
            links.below(folder, name).unlink(missing_ok=True)


def attach(found: Dataset, store: Store) -> Dataset:
    """A data set whose tables have their rows' records."""
    return replace(found, splits={name: store.attach(table) for name, table in found.splits.items()})


def kind(framing: ResizePolicy | None) -> str:
    """What a store holds, as a folder's name."""
    if framing is None:
        return f"bytes-{VERSION}"
    policy = blake2b(DECODE.encode(), digest_size=4).hexdigest()
    return f"pixels-{framing.resize}-{framing.size}-{policy}-{VERSION}"


def keys(table: Table) -> np.ndarray:
    """uint64 [N, 2]: the name and state of each row's file, as far as the system tells it without reading it.

    A file that changes has another size, or other times of its content or its entry; one that is not there has zeros.
    """
    folder = f"{table.folder}/"
    found = b"".join([_key(folder, name) or NOWHERE for name in table.img_name.tolist()])
    return np.frombuffer(found, np.uint64).reshape(-1, 2)


def key(table: Table, row: int) -> np.ndarray | None:
    """uint64 [2]: as `keys` has it; None where there is no such file."""
    found = _key(f"{table.folder}/", str(table.img_name[row]))
    return None if found is None else np.frombuffer(found, np.uint64)


def rows_of(table: Table) -> Cached | None:
    """A table's rows in the cache that it is attached to; None where there is none."""
    assert table.stored is None or isinstance(table.stored, Cached)
    return table.stored


def missing(table: Table) -> np.ndarray:
    """int64 [M]: rows of a table that its store does not have."""
    cached = rows_of(table)
    return np.arange(len(table)) if cached is None else np.flatnonzero(cached.number < 0)


def _key(folder: str, name: str) -> bytes | None:
    try:
        state = os.stat(folder + name)  # noqa: PTH116 a Path for each of half a million files takes seconds
    except OSError:
        return None
    told = f"{name}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}\0{state.st_ino}"
    return blake2b(told.encode(), digest_size=16).digest()


def _places(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int64 [N]: where in `known`, uint64 [M, 2], each key of `wanted`, uint64 [N, 2], stands; -1 where it does not."""
    order = np.argsort(known[:, 0], kind="stable")
    first = known[order, 0]
    place = np.searchsorted(first, wanted[:, 0], side="right") - 1  # the last of equal ones: the newest
    found = order[np.maximum(place, 0)]
    return np.where((known[found] == wanted).all(1), found, -1)


def _mapped(path: Path, kind: np.dtype) -> np.ndarray:
    """The whole items of a file, read where they are touched; none where there is no file."""
    try:
        count = path.stat().st_size // kind.itemsize
        return np.memmap(path, kind, mode="r", shape=count) if count else np.empty(0, kind)
    except FileNotFoundError:
        return np.empty(0, kind)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}", hint=f"remove the cache: rm {shlex.quote(str(path))}"
        ) from None


def read_pixels(table: Table, row: int) -> np.ndarray:
    """An image at its own size: RGB, uint8 [H, W, 3].

    Raises:
        DataError: names the file and says why it cannot be used.
    """
    cached = rows_of(table)
    if cached is not None and cached.store.framing is None and cached.has(row):
        return decode.pixels(cached.content(row), str(table.path(row)))  # its header was looked at when it was packed
    return decode.read(table.path(row))


def read_framed(table: Table, row: int, framing: ResizePolicy) -> np.ndarray:
    """An image as a network takes it: RGB, uint8 [size, size, 3], not to be written to.

    Raises:
        DataError: names the file and says why it cannot be used.
    """
    cached = rows_of(table)
    if cached is not None and cached.store.framing == framing and cached.has(row):
        return cached.pixels(row)
    return framing.frame(read_pixels(table, row))
