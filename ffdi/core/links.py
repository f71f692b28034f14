"""Paths below a folder, none of whose parts is a link.

Folders that a person names are roots: the workspace, its experiments/, exports/ and data/, a --experiment PATH, the
folder of an --output. A root may be reached through links, and is resolved once. Below it ffdi goes through none.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath

from ffdi.core.errors import ExperimentError

NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
"""For `os.open`; Windows has no such flag, and takes rights to make a link there."""
JUNCTION = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", 0)
"""What Windows calls a link to a folder that needs no rights."""


def root(path: Path) -> Path:
    """A folder that a person named, as it is called without links.

    Raises:
        ExperimentError: its links lead in a circle.
    """
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError):  # of a circle; what becomes of it hangs on Python's version
        resolved = path
    if is_link(resolved):
        raise ExperimentError(f"{path} is a link that leads to itself", hint=f"rm {shlex.quote(str(path))}")
    return resolved


def below(folder: Path, *names: str, hint: str = "") -> Path:
    """The path of `names` below a folder, whether there is anything or not.

    Args:
        folder: a root, or what this has given.
        names: of folders and files; one may hold several parts, as 'golden/00.jpg'.
        hint: the next command where one of the parts is a link.

    Raises:
        ExperimentError: the folder or a part below it is a link; or a name leaves the folder.
    """
    path = folder
    refuse_link(path, hint)
    for name in names:
        if not is_inside(name):
            raise ExperimentError(
                f"{folder} names a file outside of itself: {name}",
                hint="do not use this folder; somebody has tampered with it",
            )
        for part in PurePath(name).parts:
            path = path / part
            refuse_link(path, hint)
    return path


def matching(folder: Path, pattern: str) -> list[Path]:
    """What a pattern finds in a folder, sorted.

    Raises:
        ExperimentError: the folder is a link, or something found is.
    """
    return [below(folder, path.name) for path in sorted(below(folder).glob(pattern))]


def found(folder: Path) -> Iterator[Path]:
    """Every link below a folder, by name."""
    yield from (path for path in sorted(folder.rglob("*")) if is_link(path))


def check_path(folder: Path) -> None:
    """Refuses a folder that is a link or holds one, however deep.

    Raises:
        ExperimentError: names the first one.
    """
    refuse_link(folder)
    for path in found(folder):
        refuse_link(path)


def refuse_link(path: Path, hint: str = "") -> None:
    """Refuses a link.

    Raises:
        ExperimentError: says where it leads.
    """
    if is_link(path):
        raise ExperimentError(
            f"{path} is a link to {target(path)}, and ffdi follows no links here",
            hint=hint or f"put what it leads to in its place, or remove it: rm {shlex.quote(str(path))}",
        )


def target(path: Path) -> str:
    """Where a link leads, as it says itself."""
    return str(path.readlink())


def is_link(path: Path) -> bool:
    """Whether a path itself is a symbolic link, or on Windows a junction."""
    try:
        status = path.lstat()
    except (OSError, ValueError):  # nothing there, or no name for a file
        return False
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", None) == JUNCTION


def is_inside(name: str) -> bool:
    """Whether a name means something below the folder that it is relative to."""
    parts = PurePath(name).parts
    return bool(parts) and not PurePath(name).anchor and ".." not in parts
