"""Paths below a root folder that contain no links.

A root is a folder that the user names: the workspace, its experiments/, exports/ and data/, the folder of
--experiment PATH, or the folder of --output. A root may be reached through links, and is resolved once. Below a root
ffdi follows no links.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Protocol

from ffdi.core.errors import ExperimentError

NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
"""For `os.open`. Windows has no such flag, but a link needs special rights there."""
JUNCTION = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", 0)
"""Tag of a junction on Windows: a link to a folder that needs no special rights."""


def resolve_root(path: Path) -> Path:
    """Resolves all links of a root folder.

    Raises:
        ExperimentError: its links form a circle.
    """
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError):  # a circle; some versions of Python return the link instead
        resolved = path
    if is_link(resolved):
        raise ExperimentError(f"{path} is a link to itself", hint=f"rm {shlex.quote(str(path))}")
    return resolved


def join(folder: Path, *names: str, hint: str = "") -> Path:
    """Joins a folder and names, and refuses every link on the way; the result need not exist.

    Args:
        folder: a root, or a result of this function.
        names: of folders and files; a name may have several parts, such as 'golden/00.jpg'.
        hint: the next step in the error about a link.

    Raises:
        ExperimentError: the folder or a part below it is a link; or a name leads outside the folder.
    """
    path = folder
    refuse_link(path, hint)
    for name in names:
        if not is_inside(name):
            raise ExperimentError(
                f"{folder} names a file outside of itself: {name}",
                hint="do not use this folder: its files were manipulated",
            )
        for part in PurePath(name).parts:
            path = path / part
            refuse_link(path, hint)
    return path


class _HasFolder(Protocol):
    @property
    def folder(self) -> Path: ...


class PathInFolder:
    """An attribute: the path in its owner's `folder`, by `join`."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def __get__(self, owner: _HasFolder, _type: type | None = None) -> Path:
        return join(owner.folder, *self._names)


def glob(folder: Path, pattern: str) -> list[Path]:
    """Lists the paths in a folder that match a pattern, sorted.

    Raises:
        ExperimentError: the folder or one of the paths is a link.
    """
    return [join(folder, path.name) for path in sorted(join(folder).glob(pattern))]


def find_links(folder: Path) -> Iterator[Path]:
    """Yields every link below a folder, folder by folder, sorted within each."""
    for parent, folders, names in os.walk(folder):  # unlike rglob, without an error if a folder vanishes
        folders.sort()
        yield from (path for name in sorted([*folders, *names]) if is_link(path := Path(parent, name)))


def refuse_links_below(folder: Path) -> None:
    """Refuses a folder that is a link or contains one at any depth.

    Raises:
        ExperimentError: names the first link.
    """
    refuse_link(folder)
    for path in find_links(folder):
        refuse_link(path)


def refuse_link(path: Path, hint: str = "") -> None:
    """Refuses a link.

    Raises:
        ExperimentError: names its target.
    """
    if is_link(path):
        raise ExperimentError(
            f"{path} is a link to {read_target(path)}, and ffdi follows no links here",
            hint=hint or f"replace the link by its target, or remove it: rm {shlex.quote(str(path))}",
        )


def read_target(path: Path) -> str:
    """Returns the target of a link, unresolved."""
    return str(path.readlink())


def is_link(path: Path) -> bool:
    """True if the path itself is a symbolic link, or a junction on Windows."""
    try:
        status = path.lstat()
    except (OSError, ValueError):  # the path does not exist, or cannot exist
        return False
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", None) == JUNCTION


def is_inside(name: str) -> bool:
    """True if a relative name leads to a path below its folder."""
    parts = PurePath(name).parts
    return bool(parts) and not PurePath(name).anchor and ".." not in parts
