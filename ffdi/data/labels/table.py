"""Label tables: the images of a split with their labels and groups; bad rows are refused by file and line."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ffdi.config.schema import DataConfig
from ffdi.core import names
from ffdi.core.errors import DataError
from ffdi.data.labels import columns

CLASSES = {"real": 0, "0_real": 0, "fake": 1, "1_fake": 1}
"""Names of class folders in the folder-per-class layout."""
IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MEND = "mend these rows and run the same command again; nothing was written"


class StoredRows(Protocol):
    """Rows whose images lie in a store as well, as `ffdi.data.images.cache.Cached` has them."""

    def take(self, index: np.ndarray) -> StoredRows:
        """The rows `index` (int [M]), in that order."""


@dataclass(frozen=True)
class Table:
    """The images of one split, in the order of its label file.

    Attributes:
        split: 'train', 'val', 'test', or what a person called it.
        folder: the folder that `img_name` is relative to.
        img_name: str [N], unique.
        target: int64 [N], 1 = fake; None where there are no labels.
        group: str [N], images of one group never stand in two folds; None where there are no groups.
        source: the label file, or the folder where there is none.
        landmarks: float32 [N, L, 2], points of each face in parts of width and height, NaN where there are none;
            None where nobody has looked for any.
        stored: which rows lie in a store as well, and where; None where none was looked for.
    """

    split: str
    folder: Path
    img_name: np.ndarray
    target: np.ndarray | None
    group: np.ndarray | None
    source: Path
    landmarks: np.ndarray | None = None
    stored: StoredRows | None = None

    def __len__(self) -> int:
        return len(self.img_name)

    def path(self, index: int) -> Path:
        """Where image `index` lies."""
        return self.folder / str(self.img_name[index])

    @property
    def both_classes(self) -> bool:
        """Whether there are labels of both classes, so that scores can be judged."""
        return self.target is not None and len(np.unique(self.target)) == 2

    def take(self, index: np.ndarray) -> Table:
        """The rows `index` (int [M]), in that order."""
        return replace(
            self,
            img_name=self.img_name[index],
            target=None if self.target is None else self.target[index],
            group=None if self.group is None else self.group[index],
            landmarks=None if self.landmarks is None else self.landmarks[index],
            stored=None if self.stored is None else self.stored.take(index),
        )


def listed(file: Path, column: str = "img_name") -> Table:
    """The images that a CSV names, relative to the CSV's folder or to a folder of the same name beside it.

    `testset1_seen_nolabel.txt` finds its images in `testset1_seen/`.

    Raises:
        DataError: wrong header, or rows that are refused, all at once.
    """
    stem = file.name.split(".")[0]
    beside = [file.parent / stem, file.parent / stem.removesuffix("_label").removesuffix("_nolabel")]
    problems: list[str] = []
    config = DataConfig(image_column=column)
    rows = list(columns.read(file, config, (column,), problems))
    folders = [file.parent, *(folder for folder in beside if folder.is_dir())]
    first = [name for _, (name,) in rows[:50]]
    folder = max(map(_Present, folders), key=lambda place: sum(columns.image(name, place) in place for name in first))
    table = _table("images", folder.folder, file, [(line, name, None, None) for line, (name,) in rows], problems)
    if problems:
        raise DataError(f"bad rows in {file}: {len(problems)}", problems=problems, hint=MEND)
    return table


def in_folder(folder: Path, split: str = "images") -> Table:
    """Every image below a folder, sorted by name; other files are passed over.

    Raises:
        DataError: there is no image in it, or a name that no CSV can hold.
    """
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_ENDINGS and path.is_file()
    )
    if not found:
        raise DataError(f"no image in {folder}: looked for {', '.join(sorted(IMAGE_ENDINGS))}")
    if problems := [f"{names.quote(name)} {fault}" for name in found if (fault := names.find_fault(name))]:
        raise DataError(f"bad file names in {folder}: {len(problems)}", problems=problems, hint="rename these files")
    return Table(split, folder, np.array(found), None, None, folder)


def labelled(name: str, folder: Path, labels: Path, config: DataConfig, problems: list[str]) -> Table:
    """The images of a label file, or of a list without labels (never of the training split).

    Args:
        name: the split.
        folder: where its images lie.
        labels: the file.
        config: what its columns are called.
        problems: gets a line for each bad row; the table has the good ones.

    Raises:
        DataError: the file is no CSV, or its header lacks a column.
    """
    wanted = [config.image_column]
    if name == "train" or config.target_column in columns.header(labels, config):
        wanted.append(config.target_column)
    if name == "train" and config.group_column is not None and config.groups_file is None:
        wanted.append(config.group_column)
    image, target, group = (
        wanted.index(column) if column in wanted else len(wanted)
        for column in (config.image_column, config.target_column, config.group_column)
    )
    found = ((line, one, (*one, None)) for line, one in columns.read(labels, config, tuple(wanted), problems))
    rows = [(line, values[image], padded[target], padded[group]) for line, values, padded in found]
    return _table(name, folder, labels, rows, problems)


Row = tuple[int, str, str | None, str | None]
"""Line, img_name, target and group as they stand in the file."""


def _table(name: str, folder: Path, source: Path, rows: list[Row], problems: list[str]) -> Table:
    """Checks rows and makes arrays of the good ones; what is wrong with the others goes to `problems`."""
    first_line: dict[str, int] = {}
    present = _Present(folder)
    good = []
    for line, field, target, group in rows:
        image = columns.image(field, present)
        plain = names.plain(image)
        fault = _fault(image, target, group, first_line.get(plain), present)
        if fault:
            problems.append(f"{source.name} line {line}: {fault}")
        else:
            good.append((image, target, group))
        first_line.setdefault(plain, line)
    if not rows and not problems:
        problems.append(f"{source.name}: no image is listed")
    images, targets, groups = zip(*good, strict=True) if good else ((), (), ())
    return Table(
        name,
        folder,
        np.array(images, dtype=str),
        None if None in targets else np.array(targets, dtype=np.int64),
        None if None in groups else np.array(groups, dtype=str),
        source,
    )


def _fault(image: str, target: str | None, group: str | None, before: int | None, present: _Present) -> str:
    """What is wrong with a row whose image stands on line `before` already; empty where nothing is."""
    if not image:
        return "the image name is empty"
    if fault := names.find_fault(image):
        return f"the image name {names.quote(image)} {fault}"
    if before is not None:
        return f"{names.quote(image)} stands on line {before} already"
    if target is not None and target not in ("0", "1"):
        return f"label '{target}' of {names.quote(image)} is neither 0 nor 1"
    if group == "":
        return f"{names.quote(image)} has no group"
    if group is not None and (fault := names.find_fault(group)):
        return f"the group {names.quote(group)} of {names.quote(image)} {fault}"
    if names.leaves(image):
        return f"{names.quote(image)} leaves the folder {present.folder.name}/"
    if image not in present:
        return f"{names.quote(image)} is not in {present.folder.name}/{present.twin(image)}"
    return ""


class _Present:
    """Which files a folder holds: each of its folders is listed once, not asked for every name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[str, set[str]] = {}
        self._composed: dict[str, set[str]] = {}

    def __contains__(self, image: object) -> bool:
        parent, _, name = str(image).rpartition("/")
        if parent not in self._names:
            self._names[parent] = self._files(self.folder / parent)
        return name in self._names[parent]

    def twin(self, image: str) -> str:
        """What `names.twin` says of an image that was looked for."""
        parent, _, name = image.rpartition("/")
        if parent not in self._composed:
            self._composed[parent] = names.normalize_all(self._names[parent])
        return names.twin(name, self._composed[parent])

    def _files(self, place: Path) -> set[str]:
        try:
            return {entry.name for entry in os.scandir(place) if entry.is_file()}
        except OSError:  # no such folder, no folder, a name that is too long
            return set()


def class_folders(name: str, folder: Path) -> Table:
    """The folder-per-class layout: `train/real/...`, `train/fake/...`."""
    found, targets = [], []
    for child in sorted(folder.iterdir()):
        if child.is_dir() and child.name.lower() in CLASSES:
            images = in_folder(child).img_name
            found += [f"{child.name}/{image}" for image in images]
            targets += [CLASSES[child.name.lower()]] * len(images)
    return Table(name, folder, np.array(found), np.array(targets, dtype=np.int64), None, folder)
