"""Image folders: which files are images, and which files are passed over.

Links are followed. A folder is read once, even if several links lead to it; a link to a parent folder would never end,
and is passed over. Nothing is passed over silently: `ImageFolder.describe_passed_over` counts the files by kind.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ffdi.core.errors import DataError, format_count

IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff"})
UNREAD_ENDINGS = frozenset(
    {".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".ico", ".svg", ".psd", ".tga", ".dng", ".cr2", ".nef",
     ".arw", ".ppm", ".pgm", ".exr", ".hdr"}
)  # fmt: skip
"""Endings of images that ffdi does not read."""
SYSTEM_FOLDERS = frozenset({"__MACOSX", ".ipynb_checkpoints", "@eaDir", ".git"})
SYSTEM_FILES = frozenset({"Thumbs.db", "ehthumbs.db", "desktop.ini", ".DS_Store"})
SYSTEM, BROKEN, SPECIAL, REPEATED, NO_ENDING = (
    "system file", "broken link", "special file", "repeated folder", "without an ending",
)  # fmt: skip
"""Kinds of files that are passed over: left behind by systems and editors, links to nothing, pipes and devices, links
to folders that are read already. Other kinds are the endings of files."""
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*")
"""First bytes of JPEG, PNG and TIFF; see `has_image_signature`."""


@dataclass
class ImageFolder:
    """The files below a folder.

    Attributes:
        images: names relative to the folder, sorted.
        subfolders: the names of the folders in it.
        passed_over: the number of other files by kind, such as '.txt'.
        places: the folders of the other files.
    """

    images: list[str] = field(default_factory=list)
    subfolders: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    places: set[str] = field(default_factory=set)

    def pass_over(self, name: str, kind: str, count: int = 1) -> None:
        if count:
            self.passed_over[kind] += count
            self.places.add(name.rstrip("/").rpartition("/")[0])

    def describe_passed_over(self) -> str:
        """Counts the other files: '12 files in 2 folders are not read: 7 .heic, 5 .txt'; empty if there are none."""
        if not self.passed_over:
            return ""
        files = self.passed_over.total()
        kinds = ", ".join(
            format_count(count, kind) if kind in (SYSTEM, BROKEN, SPECIAL, REPEATED) else f"{count} {kind}"
            for kind, count in sorted(self.passed_over.items())
        )
        where = f"{format_count(files, 'file')} in {format_count(len(self.places), 'folder')}"
        return f"{where} {'is' if files == 1 else 'are'} not read: {kinds}"


def list_images(folder: Path, *, all_images: bool = False) -> ImageFolder:
    """Lists the files below a folder, through links.

    A file is an image if its ending is one of IMAGE_ENDINGS, or if it has another ending, or none, and starts like an
    image.

    Args:
        folder: the folder.
        all_images: list images too that cannot be read: those with one of UNREAD_ENDINGS, and links to a missing image.
            A split whose images must all be scored needs them: reading them is an error.

    Raises:
        DataError: a folder cannot be read.
    """
    found = ImageFolder()
    root = folder.resolve()
    visited = {_identify(place) for place in (root, *root.parents)}
    folders, links = [""], list[str]()  # relative to the folder, each with a '/' at its end
    while folders or links:
        if not folders:
            links.sort(reverse=True)
            link = links.pop()
            if not _mark_visited(visited, folder / link):
                found.pass_over(link, REPEATED)
                continue
            folders.append(link)
        place = folders.pop()
        for entry in _scan(folder / place):
            name = f"{place}{entry.name}"
            if not _ask(entry.is_dir):
                if kind := _find_kind(entry, all_images):
                    found.pass_over(name, kind)
                else:
                    found.images.append(name)
                continue
            if entry.name in SYSTEM_FOLDERS:
                found.pass_over(name, SYSTEM, sum(len(files) for _, _, files in os.walk(entry.path)))
                continue
            if not place:
                found.subfolders.append(name)
            if entry.is_symlink():
                links.append(f"{name}/")
            elif _mark_visited(visited, folder / name):
                folders.append(f"{name}/")
            else:
                found.pass_over(name, REPEATED)
    found.images.sort()
    found.subfolders.sort()
    return found


@contextmanager
def _explain_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the folder {place} cannot be read: {error.strerror}", hint="correct its permissions, or move it"
        ) from None


def _scan(place: Path) -> list[os.DirEntry[str]]:
    with _explain_errors(place), os.scandir(place) as entries:
        return list(entries)


def _identify(place: Path) -> tuple[int, int]:
    with _explain_errors(place):
        status = place.stat()
    return status.st_dev, status.st_ino


def _mark_visited(visited: set[tuple[int, int]], place: Path) -> bool:
    """False for a folder that was visited before."""
    identity = _identify(place)
    if identity in visited:
        return False
    visited.add(identity)
    return True


def _ask(question: Callable[[], bool]) -> bool:
    """The answer of an entry; False for a link in a circle."""
    try:
        return question()
    except OSError:
        return False


def _find_kind(entry: os.DirEntry[str], all_images: bool) -> str:
    """The kind of a file that is passed over; empty for an image."""
    ending = Path(entry.name).suffix.lower()
    if entry.name in SYSTEM_FILES or entry.name.startswith("._"):
        return SYSTEM
    if ending in UNREAD_ENDINGS:
        return "" if all_images else ending
    if not _ask(entry.is_file):
        if entry.is_symlink():
            return "" if all_images and ending in IMAGE_ENDINGS else BROKEN
        return SPECIAL
    return "" if ending in IMAGE_ENDINGS or has_image_signature(Path(entry.path)) else ending or NO_ENDING


def has_image_signature(path: Path) -> bool:
    """Whether a file starts like an image of a format that ffdi reads."""
    try:
        with path.open("rb") as file:
            start = file.read(18)
    except OSError:
        return False
    bmp = start.startswith(b"BM") and start[6:10] == bytes(4) and start[14:18] in _BMP_HEADERS
    return start.startswith(SIGNATURES) or (start.startswith(b"RIFF") and start[8:12] == b"WEBP") or bmp


_BMP_HEADERS = frozenset(size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124))
