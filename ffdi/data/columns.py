"""Columns of a CSV, row by row with their lines; what is no CSV is refused with file and line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from ffdi.config import DataConfig
from ffdi.errors import DataError


def header(path: Path, config: DataConfig) -> list[str]:
    """Column names, without reading further."""
    for _, fields in _lines(path):
        return [field.strip() for field in fields]
    raise DataError(f"{path} is empty", hint=f"it must begin with the header {_expected(config)}")


def read(
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
