"""Label tables: the images of a split with their labels and groups; bad rows are refused by file and line."""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np

from ffdi.config import DataConfig
from ffdi.errors import DataError

if TYPE_CHECKING:
    from ffdi.data.cache import Cached

CLASSES = {"real": 0, "0_real": 0, "fake": 1, "1_fake": 1}
"""Names of class folders in the folder-per-class layout."""
IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
SIMPLE = re.compile(r"\w[\w.-]*", re.ASCII)
"""Names that mean one file of one folder, whatever the system; to take a path apart takes twenty times as long."""
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
        landmarks: float32 [N, L, 2], points of each face in parts of width and height, NaN where there are none;
            None where nobody has looked for any.
        cached: which rows are packed in one file, and where; None where none was looked for.
    """

    split: str
    folder: Path
    img_name: np.ndarray
    target: np.ndarray | None
    group: np.ndarray | None
    source: Path
    landmarks: np.ndarray | None = None
    cached: Cached | None = None

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
            cached=None if self.cached is None else self.cached.take(index),
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
    names = [name for _, (name,) in rows[:50]]
    folder = max(folders, key=lambda place: sum(map(_Present(place).__contains__, names)))
    table = _table("images", folder, file, [(line, name, None, None) for line, (name,) in rows], problems)
    if problems:
        raise DataError(f"bad rows in {file}: {len(problems)}", problems=problems, hint=MEND)
    return table


def in_folder(folder: Path, split: str = "images") -> Table:
    """Every image below a folder, sorted by name; other files are passed over.

    Raises:
        DataError: there is no image in it, or a name that no CSV can hold.
    """
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_ENDINGS and path.is_file()
    )
    if not names:
        raise DataError(f"no image in {folder}: looked for {', '.join(sorted(IMAGE_ENDINGS))}")
    problems = [f"{name!r} is no UTF-8 or has a control character" for name in names if _unwritable(name)]
    problems += [f"{name} is a formula to a spreadsheet" for name in names if _formula(name)]
    if problems:
        raise DataError(f"bad file names in {folder}: {len(problems)}", problems=problems, hint="rename these files")
    return Table(split, folder, np.array(names), None, None, folder)


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
    columns = [config.image_column]
    named = header(labels, config)
    if name == "train" or config.target_column in named:
        columns.append(config.target_column)
    if name == "train" and config.group_column is not None and config.groups_file is None:
        columns.append(config.group_column)
    image, target, group = (
        columns.index(column) if column in columns else len(columns)
        for column in (config.image_column, config.target_column, config.group_column)
    )
    found = ((line, (*values, None)) for line, values in read_columns(labels, config, tuple(columns), problems))
    rows = [(line, values[image], values[target], values[group]) for line, values in found]
    return _table(name, folder, labels, rows, problems)


Row = tuple[int, str, str | None, str | None]
"""Line, img_name, target and group as they stand in the file."""


def _table(name: str, folder: Path, source: Path, rows: list[Row], problems: list[str]) -> Table:
    """Checks rows and makes arrays of the good ones; what is wrong with the others goes to `problems`."""
    first_line: dict[str, int] = {}
    present = _Present(folder)
    good = []
    for line, image, target, group in rows:
        plain = _plain(image)
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
    simple = SIMPLE.fullmatch(image) is not None
    if not image:
        return "the image name is empty"
    if not simple and _unwritable(image):
        return f"the image name {image!r} has a control character"
    if not simple and _formula(image):
        return f"the image name {image} is a formula to a spreadsheet"
    if before is not None:
        return f"{image} stands on line {before} already"
    if target is not None and target not in ("0", "1"):
        return f"label '{target}' of {image} is neither 0 nor 1"
    if group == "":
        return f"{image} has no group"
    if not simple and _leaves(image):
        return f"{image} leaves the folder {present.folder.name}/"
    if image not in present:
        return f"{image} is not in {present.folder.name}/"
    return ""


def _plain(image: str) -> str:
    """One spelling for './a.jpg', 'b//a.jpg' and the like: two rows must not mean one file."""
    return image if SIMPLE.fullmatch(image) else PurePosixPath(image).as_posix()


def _unwritable(name: str) -> bool:
    """Whether a name cannot stand in a line of a UTF-8 CSV: control characters, and bytes that are no UTF-8."""
    return not name.isprintable() and any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)


def _formula(name: str) -> bool:
    """Whether a spreadsheet that opens a CSV with this name would run something (CWE-1236)."""
    return name.startswith(("=", "+", "-", "@")) and any(letter in name for letter in "(|!")


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
            self._names[parent] = self._files(self.folder / parent)
        return name in self._names[parent]

    def _files(self, place: Path) -> set[str]:
        try:
            return {entry.name for entry in os.scandir(place) if entry.is_file()}
        except OSError:  # no such folder, no folder, a name that is too long
            return set()


def header(path: Path, config: DataConfig) -> list[str]:
    """Column names, without reading further."""
    for _, fields in _lines(path):
        return [field.strip() for field in fields]
    raise DataError(f"{path} is empty", hint=f"it must begin with the header {_expected(config)}")


def read_columns(
    path: Path, config: DataConfig, columns: tuple[str, ...], problems: list[str]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line numbers and the wanted columns of a CSV."""
    named = header(path, config)
    missing = [column for column in columns if column not in named]
    repeated = [column for column in columns if named.count(column) > 1]
    if missing or repeated:
        fault = f"no column {', '.join(missing)}" if missing else f"column {', '.join(repeated)} stands twice"
        raise DataError(
            f"{path} line 1: {fault}; the header is '{','.join(named)}', expected '{','.join(columns)}'",
            hint="mend the header, or name the columns with data.image_column and data.target_column in config.toml",
        )
    wanted = [named.index(column) for column in columns]
    lines = _lines(path)
    next(lines)  # the header, which empty lines may precede
    for line, fields in lines:
        if len(fields) != len(named):
            problems.append(f"{path.name} line {line}: {len(fields)} fields, the header has {len(named)}")
        else:
            yield line, tuple([fields[place].strip() for place in wanted])


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Numbered rows of a CSV; a byte-order mark, CRLF and empty lines are fine."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for fields in reader:
                if "\0" in "".join(fields):
                    raise DataError(f"{path} line {reader.line_num}: a NUL byte; this is no text file")
                if fields:
                    yield reader.line_num, fields
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} line {_foreign_line(path)}: no UTF-8 text", hint="save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: {error}") from None


def _foreign_line(path: Path) -> int:
    """The first line that is no UTF-8: a decoder tells only the place in its buffer."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            line.decode()
        except UnicodeDecodeError:
            return number
    return 1


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
