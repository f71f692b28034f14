"""Label tables: the images of a split with their labels and groups; a bad row is refused with its file and line."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ffdi.config.schema import DataConfig
from ffdi.core import csvs, names
from ffdi.core.errors import DataError

SPLITS = ("train", "val", "test")
CLASSES = {"real": 0, "0_real": 0, "fake": 1, "1_fake": 1}
"""Names of class folders in the folder-per-class layout."""
IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MEND = "mend these rows and run the same command again; nothing was written"


class StoredRows(Protocol):
    """A table's rows in an image cache, implemented by `ffdi.data.images.cache.CachedRows`."""

    def take(self, index: np.ndarray) -> StoredRows:
        """The rows `index` (int [M]), in that order."""


@dataclass(frozen=True)
class Table:
    """The images of one split, in the order of its label file.

    Attributes:
        split: 'train', 'val', 'test', or the name of another list of images.
        folder: the folder that `img_name` is relative to.
        img_name: str [N], unique.
        target: int64 [N], 1 = fake; None without labels.
        group: str [N]; images of one group are always in the same fold. None without groups.
        source: the label file, or the image folder if there is no label file.
        landmarks: float32 [N, L, 2], points of each face in parts of width and height, NaN for unknown ones; None
            without landmarks.
        stored: the rows in the image cache; None if the table is not attached to one.
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
        return self.folder / str(self.img_name[index])

    @property
    def has_both_classes(self) -> bool:
        """Whether there are labels of both classes, which the metrics need."""
        return self.target is not None and len(np.unique(self.target)) == 2

    def rows(self, names: np.ndarray) -> np.ndarray:
        """int64 [M]: the row of each image name (str [M]); -1 if the table does not have it."""
        return find_rows(self.img_name, names)

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


def find_rows(img_name: np.ndarray, names: np.ndarray) -> np.ndarray:
    """int64 [M]: the index in `img_name` (str [N], unique) of each of `names` (str [M]); -1 for unknown names."""
    rows = {name: row for row, name in enumerate(img_name.tolist())}
    return np.array([rows.get(name, -1) for name in names.tolist()], dtype=np.int64)


def read_list(file: Path, column: str = "img_name") -> Table:
    """Reads a CSV of image names. The images are in the CSV's folder, or next to it in a folder with the CSV's name.

    The images of `testset1_seen_nolabel.txt` may be in `testset1_seen/`.

    Raises:
        DataError: wrong header, or bad rows; the message has all bad rows.
    """
    stem = file.name.split(".")[0]
    beside = [file.parent / stem, file.parent / stem.removesuffix("_label").removesuffix("_nolabel")]
    problems: list[str] = []
    config = DataConfig(image_column=column)
    rows = list(read_columns(file, config, (column,), problems))
    folders = [file.parent, *(folder for folder in beside if folder.is_dir())]
    first = [name for _, (name,) in rows[:50]]
    folder = max(
        map(_FolderListing, folders), key=lambda place: sum(match_image(name, place) in place for name in first)
    )
    table = _make_table("images", folder.folder, file, [(line, name, None, None) for line, (name,) in rows], problems)
    if problems:
        raise DataError(f"bad rows in {file}: {len(problems)}", problems=problems, hint=MEND)
    return table


def list_folder(folder: Path, split: str = "images") -> Table:
    """Lists all images below a folder, sorted by name; other files are ignored.

    Raises:
        DataError: there is no image, or a name that a CSV cannot hold.
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


def read_labels(name: str, folder: Path, labels: Path, config: DataConfig, problems: list[str]) -> Table:
    """Reads a label file; the training split needs a label column, other splits do not.

    Args:
        name: the split.
        folder: the image folder.
        labels: the label file.
        config: has the names of the columns.
        problems: gets a line for each bad row; the table has the good rows.

    Raises:
        DataError: the file is not a CSV, or a column is missing.
    """
    wanted = [config.image_column]
    if name == "train" or config.target_column in read_header(labels, config):
        wanted.append(config.target_column)
    if name == "train" and config.group_column is not None and config.groups_file is None:
        wanted.append(config.group_column)
    image, target, group = (
        wanted.index(column) if column in wanted else len(wanted)
        for column in (config.image_column, config.target_column, config.group_column)
    )
    found = ((line, one, (*one, None)) for line, one in read_columns(labels, config, tuple(wanted), problems))
    rows = [(line, values[image], padded[target], padded[group]) for line, values, padded in found]
    return _make_table(name, folder, labels, rows, problems)


Row = tuple[int, str, str | None, str | None]
"""Line, img_name, target and group, as in the file."""


def _make_table(name: str, folder: Path, source: Path, rows: list[Row], problems: list[str]) -> Table:
    """Makes a table of the good rows; `problems` gets a line for each bad row."""
    first_line: dict[str, int] = {}
    listing = _FolderListing(folder)
    good = []
    for line, field, target, group in rows:
        image = match_image(field, listing)
        plain = names.normalize_path(image)
        fault = _find_row_fault(image, target, group, first_line.get(plain), listing)
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


def _find_row_fault(
    image: str, target: str | None, group: str | None, before: int | None, listing: _FolderListing
) -> str:
    """What is wrong with a row; empty if nothing is. `before` is an earlier line with the same image."""
    if not image:
        return "the image name is empty"
    if fault := names.find_fault(image):
        return f"the image name {names.quote(image)} {fault}"
    if before is not None:
        return f"{names.quote(image)} is on line {before} already"
    if target is not None and target not in ("0", "1"):
        return f"label '{target}' of {names.quote(image)} is neither 0 nor 1"
    if group == "":
        return f"{names.quote(image)} has no group"
    if group is not None and (fault := names.find_fault(group)):
        return f"the group {names.quote(group)} of {names.quote(image)} {fault}"
    if names.is_outside(image):
        return f"{names.quote(image)} leaves the folder {listing.folder.name}/"
    if image not in listing:
        return f"{names.quote(image)} is not in {listing.folder.name}/{listing.describe_lookalike(image)}"
    return ""


class _FolderListing:
    """The files in a folder. Each subfolder is listed once: a look-up of every single name would be slow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[str, set[str]] = {}
        self._composed: dict[str, set[str]] = {}

    def __contains__(self, image: object) -> bool:
        parent, _, name = str(image).rpartition("/")
        if parent not in self._names:
            self._names[parent] = self._list_files(self.folder / parent)
        return name in self._names[parent]

    def describe_lookalike(self, image: str) -> str:
        """A hint if the folder has the same name in another Unicode normalisation."""
        parent, _, name = image.rpartition("/")
        if parent not in self._composed:
            self._composed[parent] = names.normalize_names(self._names[parent])
        return names.describe_lookalike(name, self._composed[parent])

    def _list_files(self, place: Path) -> set[str]:
        try:
            return {entry.name for entry in os.scandir(place) if entry.is_file()}
        except OSError:  # not found, not a folder, or a name that is too long
            return set()


def list_class_folders(name: str, folder: Path) -> Table:
    """Reads the folder-per-class layout: `train/real/...`, `train/fake/...`."""
    found, targets = [], []
    for child in sorted(folder.iterdir()):
        if child.is_dir() and child.name.lower() in CLASSES:
            images = list_folder(child).img_name
            found += [f"{child.name}/{image}" for image in images]
            targets += [CLASSES[child.name.lower()]] * len(images)
    return Table(name, folder, np.array(found), np.array(targets, dtype=np.int64), None, folder)


def read_header(path: Path, config: DataConfig) -> list[str]:
    """Reads the column names of a CSV.

    Raises:
        DataError: the file is empty or not a CSV, or a column has a forbidden name.
    """
    for line, fields in csvs.read_csv(path, DataError):
        named = [field.strip(names.BLANKS) for field in fields]
        if faults := [f"the column {names.quote(name)} {fault}" for name in named if (fault := names.find_fault(name))]:
            raise DataError(f"{path} line {line}: {faults[0]}", hint="mend the header")
        return named
    raise DataError(f"{path} is empty", hint=f"it must begin with the header {_format_expected_header(config)}")


def read_columns(
    path: Path, config: DataConfig, columns: tuple[str, ...], problems: list[str]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Reads columns of a CSV.

    Args:
        path: the file.
        config: has the names of the columns.
        columns: the columns to read, the image column first.
        problems: gets a line for each row with a wrong number of fields.

    Yields:
        The line number and the fields; all fields but the first are stripped of blanks.

    Raises:
        DataError: a column is missing or duplicate.
    """
    named = read_header(path, config)
    missing = [column for column in columns if column not in named]
    repeated = [column for column in columns if named.count(column) > 1]
    if missing or repeated:
        fault = f"no column {', '.join(missing)}" if missing else f"duplicate column {', '.join(repeated)}"
        raise DataError(
            f"{path} line 1: {fault}; the header is '{','.join(named)}', expected '{','.join(columns)}'",
            hint="mend the header, or name the columns with data.image_column and data.target_column in config.toml",
        )
    first, *others = (named.index(column) for column in columns)
    lines = csvs.read_csv(path, DataError)
    next(lines)  # the header, which empty lines may precede
    for line, fields in lines:
        if len(fields) != len(named):
            problems.append(f"{path.name} line {line}: {len(fields)} fields, the header has {len(named)}")
        else:
            yield line, (fields[first], *[fields[place].strip(names.BLANKS) for place in others])


def match_image(field: str, known: Container[str]) -> str:
    """The image name in a field: the field itself if there is such an image, else the field without outer blanks."""
    bare = field.strip(names.BLANKS)
    return field if field != bare and field in known else bare


def _format_expected_header(config: DataConfig) -> str:
    return f"'{config.image_column},{config.target_column}'"
