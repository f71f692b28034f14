"""What a look at an image's bytes found, remembered by their hash: the same bytes are never decoded twice."""

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
from ffdi.data.images import decode, fingerprint, keypoints

BESIDE = ("-journal", "-wal", "-shm")
"""Endings of the files that SQLite writes beside its own."""
VERSION = 4
"""Of what a finding holds and how it is found; a store of another version is begun anew."""
LAYOUT = (
    "DROP TABLE IF EXISTS image",
    "DROP TABLE IF EXISTS pair",
    "DROP TABLE IF EXISTS twins",
    "CREATE TABLE image (sha256 BLOB PRIMARY KEY, fault TEXT, format TEXT, mode TEXT, width INTEGER, height INTEGER, "
    "fingerprint BLOB, keypoints BLOB, seal BLOB) WITHOUT ROWID",
    "CREATE TABLE pair (first BLOB, second BLOB, kind TEXT, seal BLOB, PRIMARY KEY (first, second)) WITHOUT ROWID",
    "CREATE TABLE twins (images BLOB PRIMARY KEY, cluster BLOB, near BLOB, scene BLOB, seal BLOB)",
)


class ImageInfo(NamedTuple):
    """What one image is.

    Attributes:
        fault: why it cannot be used, to be read after its name; '' where it can, and only then the rest is set.
        format, mode: Pillow's names ('JPEG', 'RGB').
        width, height: in pixels, as the header has them.
        fingerprint: `fingerprint.compute_fingerprint` of the decoded greys.
        keypoints: `keypoints.compute_keypoints` of them.
    """

    fault: str = ""
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    fingerprint: bytes = b""
    keypoints: bytes = b""


def inspect_image(content: bytes) -> ImageInfo:
    """Decodes all of an image's bytes once and keeps what later questions need."""
    try:
        header = decode.header(content, "")
        grey = decode.grey(content, "")
    except DataError as error:
        return ImageInfo(fault=error.what.strip())
    print_, points = fingerprint.compute_fingerprint(grey).tobytes(), keypoints.compute_keypoints(grey).tobytes()
    return ImageInfo("", header.format, header.mode, header.width, header.height, print_, points)


class ScanStore:
    """A store of findings in one file; any number of threads and processes may use it."""

    def __init__(self, path: Path) -> None:
        """Opens the store, or begins it.

        Raises:
            ExperimentError: the place cannot be written, or the file is no such store, or it or what SQLite writes
                beside it is a link.
        """
        for ending in ("", *BESIDE):
            links.below(path.parent, f"{path.name}{ending}")
        self._path, self._lock = path, Lock()
        self._hashes: set[bytes] | None = None
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._store = sqlite3.connect(path, timeout=60, check_same_thread=False)
            if self._version() != VERSION:
                self._begin()

    def close(self) -> None:
        """Closes the file."""
        self._store.close()

    def image(self, sha256: bytes) -> ImageInfo | None:
        """What was found in the bytes of that hash; None where nobody had looked when the store was opened."""
        if sha256 not in self._known():  # a new image must not wait for the file
            return None
        row = self._one("SELECT * FROM image WHERE sha256 = ?", (sha256,))
        return ImageInfo(*row[1:]) if row else None

    def keep_images(self, found: Iterable[tuple[bytes, ImageInfo]]) -> None:
        """Keeps what was found in the bytes of each hash."""
        rows = [(sha256, *finding) for sha256, finding in found]
        self._insert("INSERT OR REPLACE INTO image VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._known().update(row[0] for row in rows)

    def pair(self, first: bytes, second: bytes) -> str | None:
        """How alike two images are: 'exact', 'near', 'scene' or ''; None where nobody has compared them."""
        row = self._one("SELECT * FROM pair WHERE first = ? AND second = ?", tuple(sorted((first, second))))
        return row[2] if row else None

    def keep_pairs(self, found: Iterable[tuple[bytes, bytes, str]]) -> None:
        """Keeps how alike the images of two hashes are."""
        rows = [(*sorted((first, second)), kind) for first, second, kind in found]
        self._insert("INSERT OR REPLACE INTO pair VALUES (?, ?, ?, ?)", rows)

    def twins(self, images: bytes) -> tuple[bytes, bytes, bytes] | None:
        """What `keep_twins` was given for images of that digest; None where nobody has compared just these."""
        row = self._one("SELECT * FROM twins WHERE images = ?", (images,))
        return (row[1], row[2], row[3]) if row else None

    def keep_twins(self, images: bytes, cluster: bytes, near: bytes, scene: bytes) -> None:
        """Keeps which of many images show the same picture, nearly the same, and the same scene."""
        self._insert("INSERT OR REPLACE INTO twins VALUES (?, ?, ?, ?, ?)", [(images, cluster, near, scene)])

    def _known(self) -> set[bytes]:
        """Hashes of the images that had been looked at; read when the first one is asked for."""
        with self._explained(), self._lock:
            if self._hashes is None:
                self._hashes = {sha256 for (sha256,) in self._store.execute("SELECT sha256 FROM image")}
            return self._hashes

    def _version(self) -> int:
        return self._store.execute("PRAGMA user_version").fetchone()[0]

    def _begin(self) -> None:
        with self._store:
            self._store.execute("BEGIN IMMEDIATE")
            if self._version() != VERSION:  # else another process has begun it in the meantime
                for command in LAYOUT:
                    self._store.execute(command)
                self._store.execute(f"PRAGMA user_version = {VERSION}")

    def _one(self, question: str, values: tuple[bytes, ...]) -> tuple[Any, ...] | None:
        """The row without its seal; None where there is none, or one that was not written so."""
        with self._explained(), self._lock:
            *row, seal = self._store.execute(question, values).fetchone() or (None,)
        return tuple(row) if row and seal == _seal(row) else None

    def _insert(self, command: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            with self._explained(), self._lock, self._store:
                self._store.executemany(command, [(*row, _seal(row)) for row in rows])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise ExperimentError(
                f"{self._path}, the store of what was found in images, cannot be used: {error}",
                hint="free the disk; if the file is damaged, remove it, for it can be made again: "
                f"rm {shlex.quote(str(self._path))}",
            ) from None


def _seal(row: Sequence[Any]) -> bytes:
    """Eight bytes that a row has beside it: a disk that changes a bit must not change a verdict."""
    return hashlib.blake2b(repr(tuple(row)).encode(), digest_size=8).digest()
