"""A store of scan results by the hash of an image's bytes: the same bytes are never decoded twice."""

from __future__ import annotations

import hashlib
import shlex
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from ffdi.core import links
from ffdi.core.errors import DataError, ExperimentError
from ffdi.data.images import decode, descriptors

SQLITE_SUFFIXES = ("-journal", "-wal", "-shm")
"""Endings of SQLite's temporary files."""
VERSION = 6
"""Version of the scan and of the tables; a store of another version is emptied and made again."""
SCHEMA = (
    "DROP TABLE IF EXISTS image",
    "DROP TABLE IF EXISTS pair",
    "DROP TABLE IF EXISTS twins",
    "DROP TABLE IF EXISTS duplicates",
    "CREATE TABLE image (sha256 BLOB PRIMARY KEY, fault TEXT, format TEXT, mode TEXT, width INTEGER, height INTEGER, "
    "fingerprint BLOB, keypoints BLOB, quantization INTEGER, checksum BLOB) WITHOUT ROWID",
    "CREATE TABLE pair (first BLOB, second BLOB, kind TEXT, checksum BLOB, PRIMARY KEY (first, second)) WITHOUT ROWID",
    "CREATE TABLE duplicates (images BLOB PRIMARY KEY, cluster BLOB, near BLOB, scene BLOB, checksum BLOB)",
)


class ImageInfo(NamedTuple):
    """The scan result of one image.

    Attributes:
        fault: why it cannot be used, without its name; '' if it can be used. Only then the other fields are set.
        format, mode: Pillow's names ('JPEG', 'RGB').
        width, height: in pixels, from the header.
        fingerprint: `descriptors.compute_fingerprint` of the grey image.
        keypoints: `descriptors.compute_keypoints` of the grey image.
        quantization: of `decode.sum_quantization`.
    """

    fault: str = ""
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    fingerprint: bytes = b""
    keypoints: bytes = b""
    quantization: int = 0


def inspect_image(content: bytes) -> ImageInfo:
    """Decodes an image once and computes all that later steps need."""
    try:
        header = decode.read_header(content, "")
        grey = decode.decode_grey(content, "")
    except DataError as error:
        return ImageInfo(fault=error.what.strip())
    fingerprint = descriptors.compute_fingerprint(grey).tobytes()
    keypoints = descriptors.compute_keypoints(grey).tobytes()
    return ImageInfo(
        "",
        header.format,
        header.mode,
        header.width,
        header.height,
        fingerprint,
        keypoints,
        decode.sum_quantization(content),
    )


class ScanStore:
    """A SQLite file; any number of threads and processes may use it."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the store.

        Raises:
            ExperimentError: the folder cannot be written, the file is not such a store, or it or one of SQLite's
                temporary files is a link.
        """
        for ending in ("", *SQLITE_SUFFIXES):
            links.join(path.parent, f"{path.name}{ending}")
        self._path, self._lock = path, Lock()
        self._hashes: set[bytes] | None = None
        with self._explain_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._store = sqlite3.connect(path, timeout=60, check_same_thread=False)
            if self._version() != VERSION:
                self._create_tables()

    def close(self) -> None:
        self._store.close()

    def get_image(self, sha256: bytes) -> ImageInfo | None:
        """The scan result of the bytes with that hash; None if there was none when the store was opened."""
        if sha256 not in self._load_hashes():  # a new image must not wait for the file
            return None
        row = self._select_row("SELECT * FROM image WHERE sha256 = ?", (sha256,))
        return ImageInfo(*row[1:]) if row else None

    def save_images(self, images: Iterable[tuple[bytes, ImageInfo]]) -> None:
        """Saves scan results, each with the hash of its bytes."""
        rows = [(sha256, *info) for sha256, info in images]
        self._insert("INSERT OR REPLACE INTO image VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._load_hashes().update(row[0] for row in rows)

    def get_pair(self, first: bytes, second: bytes) -> str | None:
        """The result of a comparison: 'exact', 'near', 'scene' or ''; None if the two were never compared."""
        row = self._select_row("SELECT * FROM pair WHERE first = ? AND second = ?", tuple(sorted((first, second))))
        return row[2] if row else None

    def save_pairs(self, pairs: Iterable[tuple[bytes, bytes, str]]) -> None:
        """Saves results of comparisons: two hashes and the kind."""
        rows = [(*sorted((first, second)), kind) for first, second, kind in pairs]
        self._insert("INSERT OR REPLACE INTO pair VALUES (?, ?, ?, ?)", rows)

    def get_duplicates(self, images: bytes) -> tuple[bytes, bytes, bytes] | None:
        """The arguments of `save_duplicates` for these images; None if just these were never searched."""
        row = self._select_row("SELECT * FROM duplicates WHERE images = ?", (images,))
        return (row[1], row[2], row[3]) if row else None

    def save_duplicates(self, images: bytes, cluster: bytes, near: bytes, scene: bytes) -> None:
        """Saves the result of a search: the digest of all images, and the arrays of `DuplicateGroups`."""
        self._insert("INSERT OR REPLACE INTO duplicates VALUES (?, ?, ?, ?, ?)", [(images, cluster, near, scene)])

    def _load_hashes(self) -> set[bytes]:
        """Hashes of the scanned images; loaded at the first request."""
        with self._explain_errors(), self._lock:
            if self._hashes is None:
                self._hashes = {sha256 for (sha256,) in self._store.execute("SELECT sha256 FROM image")}
            return self._hashes

    def _version(self) -> int:
        return self._store.execute("PRAGMA user_version").fetchone()[0]

    def _create_tables(self) -> None:
        with self._store:
            self._store.execute("BEGIN IMMEDIATE")
            if self._version() != VERSION:  # another process may have created them in the meantime
                for command in SCHEMA:
                    self._store.execute(command)
                self._store.execute(f"PRAGMA user_version = {VERSION}")

    def _select_row(self, query: str, values: tuple[bytes, ...]) -> tuple[Any, ...] | None:
        """The row without its checksum; None if there is no row, or if its checksum is wrong."""
        with self._explain_errors(), self._lock:
            *row, checksum = self._store.execute(query, values).fetchone() or (None,)
        return tuple(row) if row and checksum == _compute_checksum(row) else None

    def _insert(self, command: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            with self._explain_errors(), self._lock, self._store:
                self._store.executemany(command, [(*row, _compute_checksum(row)) for row in rows])

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise ExperimentError(
                f"{self._path}, the store of scan results, cannot be used: {error}",
                hint="free some disk space; if the file is damaged, remove it, it will be made again: "
                f"rm {shlex.quote(str(self._path))}",
            ) from None


def _compute_checksum(row: Sequence[Any]) -> bytes:
    """Eight bytes: a bit that the disk has changed must not change a result."""
    return hashlib.blake2b(repr(tuple(row)).encode(), digest_size=8).digest()
