"""Label tables: the images of a split with their labels and groups; bad rows are refused by file and line."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from ffdi.config import DataConfig
from ffdi.errors import DataError

CLASSES = {"real": 0, "0_real": 0, "fake": 1, "1_fake": 1}
"""Names of class folders in the folder-per-class layout."""
IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MEND = "mend these rows and run the same command again; nothing was written"


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
    """

    split: str
    folder: Path
    img_name: np.ndarray
    target: np.ndarray | None
    group: np.ndarray | None
    source: Path

    def __len__(self) -> int:
        return len(self.img_name)

    def path(self, index: int) -> Path:
        """Where image `index` lies."""
        return self.folder / str(self.img_name[index])

    def take(self, index: np.ndarray) -> Table:
        """The rows `index` (int [M]), in that order."""
        return replace(
            self,
            img_name=self.img_name[index],
            target=None if self.target is None else self.target[index],
            group=None if self.group is None else self.group[index],
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
    rows = list(read_columns(file, config, (column,), problems))
    folders = [file.parent, *(folder for folder in beside if folder.is_dir())]
    folder = max(folders, key=lambda place: sum((place / name).is_file() for _, (name,) in rows[:50]))
    table = _table("images", folder, file, [(line, name, None, None) for line, (name,) in rows], problems)
    if problems:
        raise DataError(f"bad rows in {file}: {len(problems)}", problems=problems, hint=MEND)
    return table


def in_folder(folder: Path, split: str = "images") -> Table:
    """Every image below a folder, sorted by name; other files are passed over.

    Raises:
        DataError: there is no image in it.
    """
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_ENDINGS and path.is_file()
    )
    if not names:
        raise DataError(f"no image in {folder}: looked for {', '.join(sorted(IMAGE_ENDINGS))}")
    return Table(split, folder, np.array(names), None, None, folder)


def labelled(name: str, folder: Path, labels: Path, config: DataConfig, problems: list[str]) -> Table:
    columns = [config.image_column]
    header = _header(labels, config)
    if name == "train" or config.target_column in header:
        columns.append(config.target_column)
    if name == "train" and config.group_column is not None and config.groups_file is None:
        columns.append(config.group_column)
    rows = []
    for line, values in read_columns(labels, config, tuple(columns), problems):
        value = dict(zip(columns, values, strict=True))
        target, group = value.get(config.target_column), value.get(config.group_column or "")
        rows.append((line, value[config.image_column], target, group))
    return _table(name, folder, labels, rows, problems)


Row = tuple[int, str, str | None, str | None]
"""Line, img_name, target and group as they stand in the file."""


def _table(name: str, folder: Path, source: Path, rows: list[Row], problems: list[str]) -> Table:
    """Checks rows and makes arrays of the good ones; what is wrong with the others goes to `problems`."""
    first_line: dict[str, int] = {}
    present = _Present(folder)
    good = []
    for line, image, target, group in rows:
        fault = _fault(image, target, first_line, present)
        if fault:
            problems.append(f"{source.name} line {line}: {fault}")
        else:
            good.append((image, target, group))
        first_line.setdefault(image, line)
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


def _fault(image: str, target: str | None, first_line: dict[str, int], present: _Present) -> str:
    if not image:
        return "the image name is empty"
    if image in first_line:
        return f"{image} stands on line {first_line[image]} already"
    if target is not None and target not in ("0", "1"):
        return f"label '{target}' of {image} is neither 0 nor 1"
    if _leaves(image):
        return f"{image} leaves the folder {present.folder.name}/"
    if image not in present:
        return f"{image} is not in {present.folder.name}/"
    return ""


def _leaves(image: str) -> bool:
    posix, windows = PurePosixPath(image), PureWindowsPath(image)
    return posix.is_absolute() or bool(windows.anchor) or ".." in posix.parts or ".." in windows.parts


class _Present:
    """Which files a folder holds: each of its folders is listed once, not asked for every name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[str, set[str]] = {}

    def __contains__(self, image: str) -> bool:
        parent, _, name = image.rpartition("/")
        if parent not in self._names:
            place = self.folder / parent
            entries = os.scandir(place) if place.is_dir() else ()
            self._names[parent] = {entry.name for entry in entries if entry.is_file()}
        return name in self._names[parent]


def _header(path: Path, config: DataConfig) -> list[str]:
    """Column names, without reading further."""
    for _, fields in _lines(path):
        return [field.strip() for field in fields]
    raise DataError(f"{path} is empty", hint=f"it must begin with the header {_expected(config)}")


def read_columns(
    path: Path, config: DataConfig, columns: tuple[str, ...], problems: list[str]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line numbers and the wanted columns of a CSV."""
    header = _header(path, config)
    missing = [column for column in columns if column not in header]
    repeated = [column for column in columns if header.count(column) > 1]
    if missing or repeated:
        fault = f"no column {', '.join(missing)}" if missing else f"column {', '.join(repeated)} stands twice"
        raise DataError(
            f"{path} line 1: {fault}; the header is '{','.join(header)}', expected '{','.join(columns)}'",
            hint="mend the header, or name the columns with data.image_column and data.target_column in config.toml",
        )
    wanted = [header.index(column) for column in columns]
    for line, fields in _lines(path):
        if line == 1:
            continue
        if len(fields) != len(header):
            problems.append(f"{path.name} line {line}: {len(fields)} fields, the header has {len(header)}")
        else:
            yield line, tuple(fields[place].strip() for place in wanted)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Numbered rows of a CSV; a byte-order mark, CRLF and empty lines are fine."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for fields in reader:
                if any("\0" in field for field in fields):
                    raise DataError(f"{path} line {reader.line_num}: a NUL byte; this is no text file")
                if fields:
                    yield reader.line_num, fields
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: byte {error.start} cannot be read") from None
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: {error}") from None


def _expected(config: DataConfig) -> str:
    return f"'{config.image_column},{config.target_column}'"


def class_folders(name: str, folder: Path) -> Table:
    """The folder-per-class layout: `train/real/...`, `train/fake/...`."""
    names, targets = [], []
    for child in sorted(folder.iterdir()):
        if child.is_dir() and child.name.lower() in CLASSES:
            images = in_folder(child).img_name
            names += [f"{child.name}/{image}" for image in images]
            targets += [CLASSES[child.name.lower()]] * len(images)
    return Table(name, folder, np.array(names), np.array(targets, dtype=np.int64), None, folder)
