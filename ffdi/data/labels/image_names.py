"""The image that a field of a table names: tables from other machines spell names in other ways.

A field names an image by its path below the image folder. It may also have

- Windows separators: `fake\\a.jpg`;
- the image folder in front: `trainset/a.jpg`;
- an absolute path that starts with `data.prefix`: `/kaggle/input/faces/trainset/a.jpg`;
- no ending: `a`, if one image alone has this name. A label file has endings or has none: one name without an ending
  among others is a name that was cut off.

The field itself comes first: a spelling is changed only if there is no image of that name.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from ffdi.core import names

IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff"})


class KnownImages(ABC):
    """Images that fields of a table are looked up in.

    Args:
        folder: the name of the image folder.
        prefix: `data.prefix`.
    """

    def __init__(self, folder: str, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix

    @abstractmethod
    def __contains__(self, name: object) -> bool: ...

    @abstractmethod
    def list_by_stem(self, name: str) -> list[str]:
        """The images whose names are `name` and an ending."""

    def find(self, field: str, *, stems: bool = True) -> str | None:
        """The image that a field names; None if there is none, or several.

        Args:
            field: as in the table.
            stems: whether the name may lack its ending.
        """
        bare = field.strip(names.BLANKS)
        if bare == field and not names.is_outside(bare) and bare in self:
            return bare
        spellings = [name for name in (field, *self._respell(bare)) if not names.is_outside(name)]
        for name in spellings:
            if name in self:
                return name
        for name in filter(None, spellings if stems else ()):
            if found := self.list_by_stem(name):
                return found[0] if len(found) == 1 else None
        return None

    def _respell(self, bare: str) -> Iterator[str]:
        slashes = bare.replace("\\", "/")
        yield from (bare, slashes)
        start = self._prefix.replace("\\", "/").rstrip("/") + "/"
        below = slashes[len(start) :] if self._prefix and slashes.startswith(start) else slashes
        if below != slashes:
            yield below
        if self._folder and below.startswith(f"{self._folder}/"):
            yield below[len(self._folder) + 1 :]


class ListedImages(KnownImages):
    """The images of a table, also by the names in its label file."""

    def __init__(self, img_name: Sequence[str], listed: Sequence[str], folder: str, prefix: str) -> None:
        """Args:
        img_name, listed: as in a `Table`.
        folder, prefix: as for all `KnownImages`.
        """
        super().__init__(folder, prefix)
        self._image = dict(zip(listed, img_name, strict=True)) | dict(zip(img_name, img_name, strict=True))
        self._by_stem: dict[str, list[str]] | None = None

    def find(self, field: str, *, stems: bool = True) -> str | None:
        """The `img_name` of the image that a field names."""
        found = super().find(field, stems=stems)
        return None if found is None else self._image[found]

    def __contains__(self, name: object) -> bool:
        return name in self._image

    def list_by_stem(self, name: str) -> list[str]:
        if self._by_stem is None:
            self._by_stem = _group_by_stem(dict.fromkeys(self._image.values()))
        return self._by_stem.get(name, [])


class FolderImages(KnownImages):
    """The files in a folder. Each subfolder is listed once: a look-up of every single name would be slow."""

    def __init__(self, folder: Path, prefix: str = "") -> None:
        super().__init__(folder.name, prefix)
        self.folder = folder
        self._names: dict[str, set[str]] = {}
        self._composed: dict[str, set[str]] = {}
        self._by_stem: dict[str, dict[str, list[str]]] = {}

    def __contains__(self, name: object) -> bool:
        parent, _, last = str(name).rpartition("/")
        return last in self._list_files(parent)

    def list_by_stem(self, name: str) -> list[str]:
        parent, slash, last = name.rpartition("/")
        if parent not in self._by_stem:
            self._by_stem[parent] = _group_by_stem(self._list_files(parent))
        return [f"{parent}{slash}{file}" for file in self._by_stem[parent].get(last, [])]

    def describe_lookalike(self, image: str) -> str:
        """A hint if the folder has the same name in another Unicode normalisation."""
        parent, _, name = image.rpartition("/")
        if parent not in self._composed:
            self._composed[parent] = names.normalize_names(self._list_files(parent))
        return names.describe_lookalike(name, self._composed[parent])

    def _list_files(self, parent: str) -> set[str]:
        if parent not in self._names:
            try:
                files = {entry.name for entry in os.scandir(self.folder / parent) if entry.is_file()}
            except OSError:  # not found, not a folder, or a name that is too long
                files = set()
            self._names[parent] = files
        return self._names[parent]


def _group_by_stem(files: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in sorted(files):
        path = PurePosixPath(name)
        if path.suffix.lower() in IMAGE_ENDINGS:
            found.setdefault(str(path.with_suffix("")), []).append(name)
    return found


def has_image_ending(field: str) -> bool:
    return field[field.rfind(".") :].rstrip(names.BLANKS).lower() in IMAGE_ENDINGS
