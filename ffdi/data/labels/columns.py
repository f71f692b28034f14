"""Columns of a CSV, row by row with their lines; what is no CSV is refused with file and line."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

from ffdi.config.schema import DataConfig
from ffdi.core import csvs, names
from ffdi.core.errors import DataError


def header(path: Path, config: DataConfig) -> list[str]:
    """Column names, without reading further.

    Raises:
        DataError: the file is empty or no CSV, or a column's name is refused.
    """
    for line, fields in csvs.read_csv(path, DataError):
        named = [field.strip(names.BLANKS) for field in fields]
        if faults := [f"the column {names.quote(name)} {fault}" for name in named if (fault := names.find_fault(name))]:
            raise DataError(f"{path} line {line}: {faults[0]}", hint="mend the header")
        return named
    raise DataError(f"{path} is empty", hint=f"it must begin with the header {_expected(config)}")


def read(
    path: Path, config: DataConfig, columns: tuple[str, ...], problems: list[str]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line numbers and the wanted columns of a CSV, the first one as it stands, the others without blanks around."""
    named = header(path, config)
    missing = [column for column in columns if column not in named]
    repeated = [column for column in columns if named.count(column) > 1]
    if missing or repeated:
        fault = f"no column {', '.join(missing)}" if missing else f"column {', '.join(repeated)} stands twice"
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


def image(field: str, known: Container[str]) -> str:
    """The image that a field names: one that is called exactly so, else the one without the blanks around it."""
    bare = field.strip(names.BLANKS)
    return field if field != bare and field in known else bare


def _expected(config: DataConfig) -> str:
    return f"'{config.image_column},{config.target_column}'"
