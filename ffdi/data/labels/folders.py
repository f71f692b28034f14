"""Image folders: which files are images, which are passed over, and which labels class folders give.

Links are followed. A folder is read once, even if several links lead to it; a link to a parent folder would never end,
and is passed over. Nothing is passed over silently: `ImageFolder.describe_passed_over` counts the files by kind.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ffdi.config.schema import DataConfig
from ffdi.core import names
from ffdi.core.errors import DataError, format_count
from ffdi.data.labels.classes import Classes, format_labels
from ffdi.data.labels.image_names import IMAGE_ENDINGS
from ffdi.data.labels.table import Table

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
MAX_KINDS = 100
"""Most folders of fakes that name their kinds: more are rather the persons or videos."""
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


def describe_unlisted(tables: Collection[Table]) -> list[str]:
    """Counts the images in the folders of label files that no label file lists: one line for each such folder."""
    listed = {f"{table.folder}/{name}" for table in tables for name in table.img_name.tolist()}
    lines = []
    for folder, sources in _group_sources(tables).items():
        try:
            images = list_images(folder).images
        except DataError as error:  # of a subfolder that may have nothing to do with the data, such as lost+found
            lines.append(f"images outside of {' or '.join(sources)} are not counted: {error.what}")
            continue
        if unlisted := [name for name in images if f"{folder}/{name}" not in listed]:
            lines.append(
                f"{len(unlisted)} of {format_count(len(images), 'image')} in {folder.name}/ are not in "
                f"{' or '.join(sources)}, and are not used: {unlisted[0]}{', ...' if len(unlisted) > 1 else ''}"
            )
    return lines


def _group_sources(tables: Collection[Table]) -> dict[Path, list[str]]:
    """The names of the label files of each image folder."""
    sources: dict[Path, list[str]] = {}
    for table in tables:
        if table.source != table.folder:
            sources.setdefault(table.folder, []).append(table.source.name)
    return sources


def list_folder(folder: Path) -> Table:
    """Lists all images below a folder, sorted by name, those included that cannot be read: all are to be scored.

    Raises:
        DataError: there is no image, or a name that a CSV cannot hold.
    """
    return make_folder_table("images", folder, list_images(folder, all_images=True))


def make_folder_table(name: str, folder: Path, found: ImageFolder) -> Table:
    """The images of a folder without labels; errors as for `list_folder`."""
    _check_images(folder, found)
    table = Table(name, folder, np.array(found.images), None, None, folder)
    return table.add_note(found.describe_passed_over())


def _check_images(folder: Path, found: ImageFolder) -> None:
    if not found.images:
        passed_over = f"; {found.describe_passed_over()}" if found.passed_over else ""
        raise DataError(f"no image in {folder}: looked for {', '.join(sorted(IMAGE_ENDINGS))}{passed_over}")
    if problems := [f"{names.quote(name)} {fault}" for name in found.images if (fault := names.find_fault(name))]:
        raise DataError(f"bad file names in {folder}: {len(problems)}", problems=problems, hint="rename these files")


def read_class_folders(name: str, folder: Path, found: ImageFolder, config: DataConfig) -> Table | None:
    """Reads class folders: `train/real/` and `train/fake/`, or one level deeper, `train/stylegan/fake/`.

    The kind of a fake is the folder next to its class folder on its path, as in `fake/stylegan/` or `stylegan/fake/`.

    Args:
        name: the split.
        folder: the image folder.
        found: its files.
        config: `labels` has the names of the class folders.

    Returns:
        None if no image is in a class folder.

    Raises:
        DataError: some images are in no class folder, or a class folder has no image.
    """
    classes = Classes(config.labels)
    targets = [_read_class(image, classes) for image in found.images]
    if all(target is None for target in targets):
        return None
    _check_images(folder, found)
    if None in targets:
        raise _refuse_folders(folder, found, targets, classes)
    used = {image.partition("/")[0] for image in found.images}
    for child in found.subfolders:
        if classes.read_folder(child) is not None and child not in used:
            raise DataError(f"no image in {folder / child}: looked for {', '.join(sorted(IMAGE_ENDINGS))}")
    kinds = [_read_kind(image, classes) if target else "" for image, target in zip(found.images, targets, strict=True)]
    kind = np.array(kinds, dtype=str) if 1 <= len({*kinds} - {""}) <= MAX_KINDS else None
    table = Table(name, folder, np.array(found.images), np.array(targets, dtype=np.int64), None, folder, kind=kind)
    return table.add_note(found.describe_passed_over())


def _refuse_folders(folder: Path, found: ImageFolder, targets: list[int | None], classes: Classes) -> DataError:
    """An error about images outside of the class folders."""
    paths = [image.split("/")[:-1] for image in found.images]
    with_classes = {path[0] for path, target in zip(paths, targets, strict=True) if target is not None}
    outside = Counter[str]()
    for path, target in zip(paths, targets, strict=True):
        if target is None:
            outside["/".join(path[:2] if path and path[0] in with_classes else path[:1])] += 1
    parts = sorted({part for path in paths for part in path[:2]})
    known = {part: target for part in parts if (target := classes.read_folder(part)) is not None}
    unknown = sorted(place.rpartition("/")[2] for place in outside if place and place not in with_classes)
    return DataError(
        f"{folder} has class folders, and {format_count(outside.total(), 'image')} outside of them",
        problems=[
            f"{names.quote(place or '.')}/: {format_count(count, 'image')}" for place, count in sorted(outside.items())
        ],
        hint="move them to another folder, or set in config.toml, with 0 (real) or 1 (fake) for each '?': "
        + format_labels({**known, **dict.fromkeys(unknown)}),
    )


def _read_class(image: str, classes: Classes) -> int | None:
    """The target of an image by the first or the second folder of its path; None for another folder."""
    for part in image.split("/")[:-1][:2]:
        if (target := classes.read_folder(part)) is not None:
            return target
    return None


def _read_kind(image: str, classes: Classes) -> str:
    """The folder above the class folder, or else the one below it; '' without one."""
    folders = image.split("/")[:-1]
    place = next(place for place, part in enumerate(folders) if classes.read_folder(part) is not None)
    return folders[0] if place else "".join(folders[1:2])
