"""Atomic publication of files.

A reader never sees a half-written file. A writer publishes a file in four steps:

1. write the content to a temporary file in the same folder, `.NAME.PID.tmp`;
2. fsync the temporary file, so that its content is on the disk;
3. rename it to its final name: a rename within a folder is atomic;
4. fsync the folder, so that the new name is on the disk too.

Files that belong together are published together. They are written to `.NAME.PID.tmp/new`; then the old files move to
`.NAME.PID.tmp/old`, and the new files take their places. After an error the old files move back.

A killed writer leaves its temporary files. The next writer, which holds the lock of the folder, removes them and moves
the old files back.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ffdi.core import links
from ffdi.core.errors import ExperimentError

TEMPORARY = re.compile(r"\..+\.[0-9]+\.tmp|\.tmp[A-Za-z0-9]{6}")
"""Names of temporary files: ours, and those of safetensors."""
NEW, OLD = "new", "old"
"""Folders of `publish_together`: for the new files, and for the files that they replace."""


@contextmanager
def open_atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; on a clean exit the file there becomes `path`.

    On an error `path` does not change, and the temporary file is removed.

    Raises:
        ExperimentError: the disk is full, or the folder cannot be written.
    """
    temporary = _temporary_path(path)
    try:
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            create(temporary)
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def publish_together(folder: Path, name: str) -> Iterator[Path]:
    """Yields a temporary folder; on a clean exit each file in it replaces the file of the same name in `folder`.

    On an error no file of `folder` changes.

    Args:
        folder: created if it does not exist.
        name: of one of the files. Two writers of the same name need a lock.

    Raises:
        ExperimentError: the disk is full, or the folder cannot be written.
    """
    temporary = _temporary_path(folder / name)
    new, old = temporary / NEW, temporary / OLD
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(temporary) and is_own(temporary):  # of a killed process with the same pid
            _restore_unfinished(folder, temporary)
            remove(temporary)
        temporary.mkdir(0o700)
    try:
        with explain_write_errors(folder):
            new.mkdir()
            old.mkdir()
        yield new
        with explain_write_errors(folder):
            for path in sorted(new.rglob("*")):
                _sync(path)
            _swap_files(folder, new, old)
            _sync(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap_files(folder: Path, new: Path, old: Path) -> None:
    """Moves the old files of `folder` to `old`, and those of `new` to `folder`; undoes both on an error."""
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
        _restore(folder, old)
        raise


def _restore(folder: Path, old: Path) -> None:
    for path in sorted(old.iterdir()):
        remove(folder / path.name)
        path.rename(folder / path.name)


def _restore_unfinished(folder: Path, temporary: Path) -> None:
    """Moves the old files back, unless all new files have been moved: then the killed writer had finished."""
    new, old = temporary / NEW, temporary / OLD
    if _is_folder(temporary) and _is_folder(old) and _is_folder(new) and any(new.iterdir()):
        _restore(folder, old)


def remove(path: Path) -> None:
    """Removes a file, a folder with its content, or a link without its target, if it exists."""
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def create(path: Path, content: bytes = b"") -> None:
    """Writes a new file in place of a file or a link of that name; never writes through a link.

    Raises:
        OSError: it cannot be written.
    """
    if os.path.lexists(path):
        path.unlink()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | links.NOFOLLOW, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of killed writers, and moves the old files back.

    Args:
        folder: a folder of ffdi, with its subfolders. The caller holds its lock.

    Raises:
        ExperimentError: the folder contains a link; nothing was removed.
    """
    links.refuse_links_below(folder)
    for path in sorted(folder.rglob("*")):
        if TEMPORARY.fullmatch(path.name):
            _restore_unfinished(path.parent, path)
            remove(path)


def remove_leftovers_next_to(path: Path, names: Collection[str]) -> None:
    """Does the same for the leftovers of one `publish_together`, in a folder that may belong to other users.

    Leftovers of other users stay, and so does every file that `publish_together` does not write.

    Args:
        path: the folder and the name that `publish_together` got. The caller holds a lock for it.
        names: of all files that are published together.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9]+\.tmp")
    for temporary in sorted(path.parent.iterdir()):
        if pattern.fullmatch(temporary.name) and _is_leftover(temporary, names):
            _restore_unfinished(path.parent, temporary)
            remove(temporary)


def _is_leftover(temporary: Path, names: Collection[str]) -> bool:
    """True for a folder with `new` and `old` alone, which contain only regular files of these names."""
    folders = (temporary / NEW, temporary / OLD)

    def is_expected(path: Path) -> bool:
        if path in folders:
            return _is_folder(path)
        unfinished = path.parent == temporary / NEW and TEMPORARY.fullmatch(path.name)
        return path.parent in folders and stat.S_ISREG(path.lstat().st_mode) and bool(path.name in names or unfinished)

    return (
        _is_folder(temporary)
        and is_own(temporary)
        and all(is_own(path) and is_expected(path) for path in temporary.rglob("*"))
    )


def is_own(path: Path) -> bool:
    """True if this user owns a path; always true on Windows, which has no simple test."""
    return not hasattr(os, "geteuid") or path.lstat().st_uid == os.geteuid()


def _is_folder(path: Path) -> bool:
    """True for a folder, false for a link to a folder."""
    return path.is_dir() and not links.is_link(path)


def check_writable(path: Path) -> None:
    """Refuses the path of a result before hours of work.

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
def publish_folder(folder: Path) -> Iterator[Path]:
    """Publishes a whole folder as `open_atomic` publishes a file; replaces an old folder of that name."""
    with publish_together(folder.parent, folder.name) as new, explain_write_errors(folder):
        (new / folder.name).mkdir()
        yield new / folder.name


def write_text(path: Path, content: str) -> None:
    """Publishes a text as UTF-8; its line ends do not change."""
    with open_atomic(path) as temporary:
        temporary.write_bytes(content.encode("utf-8"))


def copy(path: Path, other: Path) -> None:
    """Copies a file, atomically; errors as in `open_atomic`."""
    with open_atomic(other) as beside:
        shutil.copyfile(path, beside)


def open_at(path: Path, end: int) -> BinaryIO:
    """Opens a file that only grows for writing at byte `end`; removes what a killed writer has left behind `end`.

    Raises:
        ExperimentError: it cannot be written.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | links.NOFOLLOW, 0o666)
        os.ftruncate(descriptor, end)
        os.lseek(descriptor, end, os.SEEK_SET)
        return os.fdopen(descriptor, "wb")


def share_file(path: Path, other: Path) -> None:
    """Makes a file a hard link to another one with the same content; both stay where that is not possible.

    Neither is written to again: ffdi replaces files, and does not change them.
    """
    temporary = _temporary_path(path)
    with suppress(OSError):  # a file system without hard links, or another one
        os.link(other, temporary)
        temporary.replace(path)
        _sync(path.parent)


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turns an OSError of its block into an error that names `path`.

    Raises:
        ExperimentError: the disk is full, or the path cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise ExperimentError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="free the disk or name another path; the file of that name has not changed",
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
