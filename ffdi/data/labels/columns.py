"""The columns of a label file: its separator, its header, and which column has the images and the labels.

A file is read if only one reading is possible. Otherwise the error names the key of config.toml that decides.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffdi.config.schema import DataConfig
from ffdi.core import csvs, names
from ffdi.core.errors import DataError, format_count

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", " ": "spaces"}
IMAGE_COLUMNS = ("img_name", "image", "image_name", "image_id", "filename", "file_name", "file", "name", "path",
                 "image_path", "file_path", "filepath", "img", "img_path", "id")  # fmt: skip
"""Usual names of the column of images; the first one is `data.image_column`'s default."""
TARGET_COLUMNS = ("target", "label", "labels", "class", "is_fake", "fake", "y")
"""Usual names of the column of labels; the first one is `data.target_column`'s default."""


SAMPLED_ROWS = 50
"""Rows that decide which column of a file without a header has the images."""


@dataclass(frozen=True)
class Header:
    """The columns of a file.

    Attributes:
        separator: a key of SEPARATORS.
        columns: the names of all columns.
        image: the name of the column of images; None if there is no such column.
        is_row: whether the file has no header: its first line is a row.
    """

    separator: str
    columns: tuple[str, ...]
    image: str | None
    is_row: bool = False

    def find_target(self, path: Path, config: DataConfig, *, usual: bool) -> str | None:
        """The name of the column of labels; None if there is no such column.

        Args:
            path: the file, for errors.
            config: has the name of the column.
            usual: whether the default name stands for all usual names.

        Raises:
            DataError: several columns may have the labels.
        """
        others = [column for column in self.columns if column != self.image]
        return _find_column(path, others, "target_column", config, TARGET_COLUMNS if usual else ())

    def describe(self, file: str, target: str | None = None) -> str:
        """A line for the terminal if the file is not `img_name,target` with commas; else empty."""
        found = [f"images in column '{self.image}'"] if self.image != IMAGE_COLUMNS[0] else []
        if target not in (None, TARGET_COLUMNS[0]):
            found.append(f"labels in column '{target}'")
        if self.is_row:
            found = ["no header"]
        if self.separator != ",":
            found.append(f"separated by {SEPARATORS[self.separator]}")
        return f"{file}: {', '.join(found)}" if found else ""


def read_header(
    path: Path,
    config: DataConfig,
    is_image: Callable[[str], bool] = lambda _: False,
    is_label: Callable[[str], bool] = lambda _: False,
) -> Header:
    """Finds the columns of a file.

    Args:
        path: the file.
        config: has the names of the columns. A default name stands for all usual names.
        is_image: whether a field names a known image. A first line of an image, alone or with another field, is a row.
        is_label: whether a field is a known label: an image may have the name '0' too.

    Raises:
        DataError: the file is empty or not a CSV, a column has a forbidden name, or several may have the images.
    """
    readings: dict[str, tuple[str, ...]] = {}
    fault: DataError | None = None
    for separator in SEPARATORS:
        try:
            readings[separator] = _read_first_row(path, config, separator)
        except DataError as error:  # the error of the usual separator, which comes first
            fault = fault or error
    for usual in (False, True):
        for separator, columns in readings.items():
            image = _find_column(path, columns, "image_column", config, IMAGE_COLUMNS if usual else ())
            if image is not None:
                return Header(separator, columns, image)
    for separator, fields in readings.items():
        if len(fields) <= 2 and any(map(is_image, fields)):
            both = (config.image_column, config.target_column)[: len(fields)]
            first, second = (_count_rows(path, separator, place, is_image, is_label) for place in (0, 1))
            if first == second != (0, 0):
                raise DataError(
                    f"{path} line 1: there is no header, and both columns may have the images",
                    hint=f"begin it with the header {_format_expected_header(config)}, in the order of its columns",
                )
            if first != second:
                return Header(separator, both if first > second else both[::-1], config.image_column, is_row=True)
    for separator in (",", "\t"):  # a header with tabs is a fault of names for any other separator
        if separator in readings:
            return Header(separator, readings[separator], None)
    assert fault is not None
    raise fault


def _count_rows(
    path: Path, separator: str, place: int, is_image: Callable[[str], bool], is_label: Callable[[str], bool]
) -> tuple[int, int]:
    """Of the first rows, those with an image at `place` and a label beside it, and those with an image alone.

    A label alone in its row is no image, even if one has this name.
    """
    rows = [fields for _, fields in itertools.islice(csvs.read_csv(path, DataError, separator=separator), SAMPLED_ROWS)]
    labelled = unlabelled = 0
    for fields in rows:
        if place < len(fields) and is_image(fields[place]):
            if len(fields) == 2 and is_label(fields[1 - place]):
                labelled += 1
            else:
                unlabelled += not is_label(fields[place])
    return labelled, unlabelled


def _read_first_row(path: Path, config: DataConfig, separator: str) -> tuple[str, ...]:
    for line, fields in csvs.read_csv(path, DataError, separator=separator):
        named = tuple(field.strip(names.BLANKS) for field in fields)
        if faults := [f"the column {names.quote(name)} {fault}" for name in named if (fault := names.find_fault(name))]:
            raise DataError(f"{path} line {line}: {faults[0]}", hint="mend the header")
        return named
    raise DataError(f"{path} is empty", hint=f"it must begin with the header {_format_expected_header(config)}")


def _format_expected_header(config: DataConfig) -> str:
    return f"'{config.image_column},{config.target_column}'"


def _find_column(path: Path, columns: Sequence[str], key: str, config: DataConfig, usual: Sequence[str]) -> str | None:
    """The configured column, or the only one with a usual name if the configured name is the default."""
    configured = getattr(config, key)
    if configured in columns:
        return str(configured)
    found = [column for column in columns if column.casefold() in usual] if configured in usual[:1] else []
    if len(found) > 1:
        raise DataError(
            f"{path} line 1: the columns {' and '.join(found)} may both be meant",
            hint=f"choose one with data.{key} in config.toml",
        )
    return found[0] if found else None


def read_columns(
    path: Path, header: Header, columns: Sequence[str], problems: list[str]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Reads columns of a file.

    Args:
        path: the file.
        header: from `read_header`.
        columns: the columns to read, the image column first.
        problems: gets a line for each row with a wrong number of fields.

    Yields:
        The line number and the fields; all fields but the first are stripped of blanks.

    Raises:
        DataError: a column is missing or duplicate.
    """
    missing = [column for column in columns if column not in header.columns]
    repeated = [column for column in columns if header.columns.count(column) > 1]
    if missing or repeated:
        fault = f"no column {', '.join(missing)}" if missing else f"duplicate column {', '.join(repeated)}"
        raise DataError(
            f"{path} line 1: {fault}; the header is '{','.join(header.columns)}', expected '{','.join(columns)}'",
            hint="mend the header, or name the columns with data.image_column and data.target_column in config.toml",
        )
    first, *others = (header.columns.index(column) for column in columns)
    lines = csvs.read_csv(path, DataError, separator=header.separator)
    if not header.is_row:
        next(lines)  # the header, which empty lines may precede
    for line, fields in lines:
        if len(fields) != len(header.columns):
            problems.append(
                f"{path.name} line {line}: {format_count(len(fields), 'field')}, the header has {len(header.columns)}"
            )
        else:
            yield line, (fields[first], *[fields[place].strip(names.BLANKS) for place in others])
