"""A file that exists is complete: written beside, flushed to the disk, then renamed."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ffdi.core import links
from ffdi.core.errors import ExperimentError

BESIDE = re.compile(r"\..+\.[0-9]+\.tmp|\.tmp[A-Za-z0-9]{6}")
"""The names that are written under before they are published; safetensors writes under ones of the second kind."""
NEW, OLD = "new", "old"
"""Where `publish_together` writes, and where it moves what it replaces."""


@contextmanager
def open_atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; what was written there becomes `path` on a clean exit.

    On an error nothing of `path` changes and the temporary file is removed.

    Raises:
        ExperimentError: the disk is full, or the place cannot be written.
    """
    beside = _beside(path)
    try:
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            create(beside)
            yield beside
            _flush(beside)
            beside.replace(path)
            _flush(path.parent)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


@contextmanager
def publish_together(folder: Path, name: str) -> Iterator[Path]:
    """Yields a temporary folder inside of another one; on a clean exit all that is in it takes the place of its like.

    On an error everything stands as it was.

    Args:
        folder: is made where there is none.
        name: of one of the files; whoever writes it alone holds the lock.

    Raises:
        ExperimentError: the disk is full, or the place cannot be written.
    """
    beside = _beside(folder / name)
    new, old = beside / NEW, beside / OLD
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if links.is_link(beside):
            beside.unlink()
        beside.mkdir(0o700)
    try:
        with explain_write_errors(folder):
            new.mkdir()
            old.mkdir()
        yield new
        with explain_write_errors(folder):
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
            if os.path.lexists(folder / name):
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
        remove(folder / path.name)
        path.rename(folder / path.name)


def remove(path: Path) -> None:
    """Removes a file, a folder with all that is in it, or a link alone; nothing where nothing is."""
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def create(path: Path, content: bytes = b"") -> None:
    """Writes a new file, in place of a file or a link of that name, never through it.

    Raises:
        OSError: it cannot be written.
    """
    if os.path.lexists(path):
        path.unlink()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | links.NOFOLLOW, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def remove_leftovers(folder: Path) -> None:
    """Removes what writers left that were killed, and puts back what they had moved away.

    Args:
        folder: one of ffdi's own, with those below it; whoever calls this holds its lock.

    Raises:
        ExperimentError: there is a link in it; nothing was removed.
    """
    links.check_path(folder)
    for path in sorted(folder.rglob("*")):
        if BESIDE.fullmatch(path.name):
            if _is_folder(path / OLD):
                _put_back(path.parent, path / OLD)
            remove(path)


def remove_leftovers_beside(path: Path, names: Collection[str]) -> None:
    """As `remove_leftovers`, for what `publish_together` has left of some files, in a folder that may be anybody's.

    What another user owns stays, and what `publish_together` cannot have left.

    Args:
        path: the file that `publish_together` was given the name of; whoever calls this holds a lock for it.
        names: of all the files that are written together.
    """
    writers = re.compile(rf"\.{re.escape(path.name)}\.[0-9]+\.tmp")
    for beside in sorted(path.parent.iterdir()):
        if writers.fullmatch(beside.name) and _was_left(beside, names):
            for old in sorted((beside / OLD).glob("*")):
                old.replace(path.parent / old.name)
            remove(beside)


def _was_left(beside: Path, names: Collection[str]) -> bool:
    """Whether `publish_together` can have left this: `new` and `old`, and in them plain files of these names."""
    rooms = (beside / NEW, beside / OLD)

    def fits(one: Path) -> bool:
        if one in rooms:
            return _is_folder(one)
        unfinished = one.parent == beside / NEW and BESIDE.fullmatch(one.name)
        return one.parent in rooms and stat.S_ISREG(one.lstat().st_mode) and bool(one.name in names or unfinished)

    return _is_folder(beside) and is_own(beside) and all(is_own(one) and fits(one) for one in beside.rglob("*"))


def is_own(path: Path) -> bool:
    """Whether this user owns a path itself; on Windows, where that takes more to know, any path."""
    return not hasattr(os, "geteuid") or path.lstat().st_uid == os.geteuid()


def _is_folder(path: Path) -> bool:
    """Whether a path is a folder itself, and no link to one."""
    return path.is_dir() and not links.is_link(path)


def check_writable(path: Path) -> None:
    """Refuses a place before hours are spent on what is to stand there.

    Raises:
        ExperimentError: it is a folder, or cannot be written.
    """
    if path.is_dir():
        raise ExperimentError(f"{path} is a folder", hint="name a file")
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


@contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """As `open_atomic`, for a whole folder; an old one of that name is replaced at the end."""
    with publish_together(folder.parent, folder.name) as new, explain_write_errors(folder):
        (new / folder.name).mkdir()
        yield new / folder.name


def write_text(path: Path, content: str) -> None:
    """Publishes `content` as UTF-8 with the line ends it has."""
    with open_atomic(path) as beside:
        beside.write_bytes(content.encode("utf-8"))


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
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
