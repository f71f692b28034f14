"""Names of images, relative to their folder: one spelling for each file, and what none may be."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

SIMPLE = re.compile(r"\w[\w.-]*", re.ASCII)
"""Names that mean one file of one folder, whatever the system; to take a path apart takes twenty times as long."""


def plain(name: str) -> str:
    """One spelling for './a.jpg', 'b//a.jpg' and the like: two rows must not mean one file."""
    return name if SIMPLE.fullmatch(name) else PurePosixPath(name).as_posix()


def leaves(name: str) -> bool:
    """Whether a name means a file outside of its folder, on any system."""
    if SIMPLE.fullmatch(name):
        return False
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return posix.is_absolute() or bool(windows.anchor) or ".." in posix.parts or ".." in windows.parts


def is_unwritable(name: str) -> bool:
    """Whether a name cannot stand in a line of a UTF-8 CSV: control characters, and bytes that are no UTF-8."""
    return not name.isprintable() and any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)


def is_formula(name: str) -> bool:
    """Whether a spreadsheet that opens a CSV with this name would run something (CWE-1236)."""
    return name.startswith(("=", "+", "-", "@")) and any(letter in name for letter in "(|!")
