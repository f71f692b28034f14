"""CSV as ffdi reads and writes it everywhere: commas, quotes where they are needed, UTF-8."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ffdi.core.errors import FFDIError


def format_csv(rows: Iterable[Sequence[object]]) -> str:
    """Rows as the text of a CSV, each ending in a line feed."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def read_csv(path: Path, kind: type[FFDIError], hint: str = "") -> Iterator[tuple[int, list[str]]]:
    """Fields of a file with the number of the line that a row ends in; a byte-order mark and empty lines are fine.

    Args:
        path: the file.
        kind: the error that refuses it.
        hint: what to do then, where there is more to say than that a CSV is UTF-8.

    Raises:
        FFDIError: the file cannot be read, or is no CSV; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for fields in reader:
                if "\0" in "".join(fields):
                    raise kind(f"{path} line {reader.line_num}: a NUL byte; this is no text file", hint=hint)
                if fields:
                    yield reader.line_num, fields
    except OSError as error:
        raise kind(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    except UnicodeDecodeError:
        raise kind(f"{path} line {_foreign_line(path)}: no UTF-8 text", hint=hint or "save it as UTF-8") from None
    except csv.Error as error:
        raise kind(f"{path} line {reader.line_num}: {error}", hint=hint) from None


def _foreign_line(path: Path) -> int:
    """The first line that is no UTF-8: a decoder tells only the place in its buffer."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            line.decode()
        except UnicodeDecodeError:
            return number
    return 1
