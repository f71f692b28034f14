"""A file that exists is complete: written beside, flushed to the disk, then renamed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ffdi.errors import ExperimentError

BESIDE = re.compile(r"\..+\.[0-9]+\.tmp|\.tmp[A-Za-z0-9]{6}")
"""The names that are written under before they are published; safetensors writes under ones of the second kind."""
OLD = "old"
"""Where `together` moves what it replaces."""


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; what was written there becomes `path` on a clean exit.

    On an error nothing of `path` changes and the temporary file is removed.

    Raises:
        ExperimentError: the disk is full, or the place cannot be written.
    """
    beside = _beside(path)
    try:
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield beside
            _flush(beside)
            beside.replace(path)
            _flush(path.parent)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


@contextmanager
def together(folder: Path, name: str) -> Iterator[Path]:
    """Yields a temporary folder inside of another one; on a clean exit all that is in it takes the place of its like.

    On an error everything stands as it was.

    Args:
        folder: is made where there is none.
        name: of one of the files; whoever writes it alone holds the lock.

    Raises:
        ExperimentError: the disk is full, or the place cannot be written.
    """
    beside = _beside(folder / name)
    new, old = beside / "new", beside / OLD
    try:
        with explained(folder):
            new.mkdir(parents=True)
            old.mkdir()
        yield new
        with explained(folder):
            for path in sorted(new.rglob("*")):
                _flush(path)
            _exchange(folder, new, old)
            _flush(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _exchange(folder: Path, new: Path, old: Path) -> None:
    """Moves a folder's files to `old` and their like from `new` to it; on an error all of it back."""
    names = sorted(path.name for path in new.iterdir())
    try:
        for name in names:
            if (folder / name).exists():
                (folder / name).rename(old / name)
        for name in names:
            (new / name).rename(folder / name)
    except BaseException:
        for name in names:
            if not (new / name).exists():
                (folder / name).rename(new / name)
        _put_back(folder, old)
        raise


def _put_back(folder: Path, old: Path) -> None:
    for path in sorted(old.iterdir()):
        _remove(folder / path.name)
        path.rename(folder / path.name)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def sweep(folder: Path, name: str = "") -> None:
    """Removes what writers left that were killed, and puts back what they had moved away.

    Args:
        folder: with those below it; whoever calls this holds its lock.
        name: of the file that was written, where that is the only one that is meant.
    """
    own = rf"\.{re.escape(name)}\.[0-9]+\.tmp" if name else BESIDE
    for path in sorted(folder.glob("*") if name else folder.rglob("*")) if folder.is_dir() else []:
        if re.fullmatch(own, path.name):
            if (path / OLD).is_dir():
                _put_back(path.parent, path / OLD)
            _remove(path)


def check_writable(path: Path) -> None:
    """Refuses a place before hours are spent on what is to stand there.

    Raises:
        ExperimentError: it is a folder, or cannot be written.
    """
    if path.is_dir():
        raise ExperimentError(f"{path} is a folder", hint="name a file")
    beside = _beside(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.touch()
        beside.unlink()


@contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """As `writing`, for a whole folder; an old one of that name is replaced at the end."""
    with together(folder.parent, folder.name) as new, explained(folder):
        (new / folder.name).mkdir()
        yield new / folder.name


def text(path: Path, content: str) -> None:
    """Publishes `content` as UTF-8 with the line ends it has."""
    with writing(path) as beside:
        beside.write_bytes(content.encode("utf-8"))


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Says of what goes wrong inside that a path cannot be written.

    Raises:
        ExperimentError: the disk is full, or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise ExperimentError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="free the disk or name another place; what stood there is as it was",
        ) from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
