"""Optional files beside the labels: attributes of images (kinds of fakes, sources, ...)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ffdi.config.schema import DataConfig
from ffdi.core import names
from ffdi.core.errors import DataError, format_count
from ffdi.data.labels.columns import Header, read_columns, read_header
from ffdi.data.labels.image_names import ListedImages
from ffdi.data.labels.table import MEND, SPLITS, Table

MAX_KINDS = 1000
"""Most kinds of fakes: a column with more values, such as an ID, names no kinds."""


def read_kinds(root: Path, train: Table, config: DataConfig, problems: list[str]) -> np.ndarray:
    """Reads the kind of each fake from `data.kind_column` of the label file, or else of one of `FILES`.

    Args:
        root: the data folder, with the files.
        train: the N images with their labels.
        config: has the name of the column.
        problems: gets a line for each bad row.

    Returns:
        str [N]; '' for real images, and for fakes without a value.

    Raises:
        DataError: no file has the column, or it has too many values.
    """
    assert train.target is not None
    column = config.kind_column or ""
    path, value = _read_fakes_column(root, train, config, "kind_column", "the kinds of fakes", problems)
    if (count := len(np.unique(value))) > MAX_KINDS:
        raise DataError(
            f"the column {names.quote(column)} of {path} has {format_count(count, 'value')} for the "
            "fakes: these are no kinds",
            hint="name another column with data.kind_column in config.toml",
        )
    return value


def read_pairs(root: Path, train: Table, config: DataConfig, problems: list[str]) -> np.ndarray:
    """Reads which real image each fake was made from, from `data.pair_column`, found as for `read_kinds`.

    Returns:
        str [N], an `img_name` of the table; '' for real images, and for fakes without a value.

    Raises:
        DataError: no file has the column.
    """
    assert train.target is not None
    path, value = _read_fakes_column(root, train, config, "pair_column", "the real images of fakes", problems)
    images, real = train.index_names(config), set(train.img_name[train.target == 0].tolist())
    found = {text: images.find(text) for text in np.unique(value).tolist() if text}
    for fake, text in zip(train.img_name.tolist(), value.tolist(), strict=True):
        if text and found[text] not in real:
            fault = "is no training image" if found[text] is None else "is a fake"
            problems.append(f"{path.name}: {names.quote(text)}, from which {names.quote(fake)} was made, {fault}")
    return np.array([found.get(text) or "" for text in value.tolist()], dtype=str)


def _read_fakes_column(
    root: Path, train: Table, config: DataConfig, key: str, what: str, problems: list[str]
) -> tuple[Path, np.ndarray]:
    """The file that has a column, and the column's value for each fake, str [N]; '' for real images.

    Args:
        root, train, config, problems: as for `read_kinds`.
        key: of [data], has the name of the column.
        what: words for its values.

    Raises:
        DataError: no file has the column.
    """
    column, images = getattr(config, key), train.index_names(config)
    for path in (files := _list_files(root, train)):
        header = read_header(path, _get_columns(path, train, config))
        if header.image is not None and column in header.columns:
            found = _read_values(path, header, column, images, train, problems)
            problems += found.problems
            return path, np.where(train.target == 1, found.value, "")
    looked = ", ".join(path.name for path in files) or " and ".join(FILES)
    raise DataError(
        f"no column {names.quote(column)} with {what}: looked in {looked}",
        hint=f"correct data.{key} in config.toml, or remove it",
    )


FILES = ("families.csv", "attributes.csv")
"""Files next to the label files, with a column of image names."""
SPLIT = "split"
"""The column that names an image's split."""
MOST_VALUES = 50
"""Most values of a column that groups images; a column with more values, such as an ID, is ignored."""


def read_attributes(root: Path, table: Table, config: DataConfig) -> dict[str, np.ndarray]:
    """Reads all other columns of a split's label file and of `FILES` that have 2 to `MOST_VALUES` different values.

    Returns:
        str [N] by column, in the table's order; '' for unknown values.

    Raises:
        DataError: a file cannot be read, or rows are bad; the message has all bad rows.
    """
    problems, images = list[str](), table.index_names(config)
    found: dict[str, np.ndarray] = {}
    for path in _list_files(root, table):
        keys = _get_columns(path, table, config)
        header = read_header(path, keys)
        if header.image is None:
            continue
        target = header.find_target(path, keys, usual=True) if path == table.source else config.target_column
        known, names_of = {header.image, target, config.group_column}, header.columns
        for column in [name for name in names_of if name and name not in known and names_of.count(name) == 1]:
            read = _read_values(path, header, column, images, table, problems)
            if (count := len(np.unique(read.value))) <= MOST_VALUES:
                problems += read.problems
                if count > 1:
                    found[column] = read.value
    if problems:
        unique = list(dict.fromkeys(problems))  # a bad row is met again with each column
        raise DataError(f"bad rows in {root}: {len(unique)}", problems=unique, hint=MEND)
    return found


def _list_files(root: Path, table: Table) -> list[Path]:
    """The label file of a table and `FILES`, those that there are."""
    return [path for path in (table.source, *(root / name for name in FILES)) if path.is_file()]


def _get_columns(path: Path, table: Table, config: DataConfig) -> DataConfig:
    """The names of the columns of a file: its split's own in a label file."""
    return config.for_split(table.split) if path == table.source else config


class _Values(NamedTuple):
    """The value of each image, str [N], '' without one; and a line for each bad value."""

    value: np.ndarray
    problems: list[str]


def _read_values(
    path: Path, header: Header, column: str, images: ListedImages, table: Table, problems: list[str]
) -> _Values:
    """Reads a column; `problems` gets a line for each row with a wrong number of fields.

    Rows of other images are ignored, and so are rows of other splits: several splits may have an image of one name.

    Args:
        path: the file.
        header: its columns.
        column: the column of the values.
    """
    assert header.image is not None
    value, faults = dict[str, str](), list[str]()
    by_split = (SPLIT,) if header.columns.count(SPLIT) == 1 else ()
    for line, (field, text, *split) in read_columns(path, header, (header.image, column, *by_split), problems):
        image = images.find(field)
        if image is None or any(one in SPLITS and one != table.split for one in split):
            continue
        if fault := names.find_fault(text):
            faults.append(f"{path.name} line {line}: the {column} {names.quote(text)} {fault}")
        if value.setdefault(image, text) != text:
            faults.append(f"{path.name} line {line}: {names.quote(image)} has another {column} already")
    return _Values(np.array([value.get(image, "") for image in table.img_name.tolist()], dtype=str), faults)
