"""CSV files in UTF-8: every error names the line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ffdi.core.errors import FFDIError


def format_csv(rows: Iterable[Sequence[object]]) -> str:
    """Formats rows as CSV: commas, quotes where needed, a line feed after each row."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


CSV_HINT = "correct that line and run the same command again"


def read_csv(
    path: Path, kind: type[FFDIError], hint: str = "", separator: str = ","
) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of each row's last line, and the row's fields; skips a byte-order mark and empty lines.

    Args:
        path: the file, in UTF-8.
        kind: the class of the errors.
        hint: the next step in the errors; '' for one that fits the error.
        separator: of the fields.

    Raises:
        FFDIError: the file cannot be read, or is not CSV; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            for fields in reader:
                if "\0" in "".join(fields):
                    raise kind(
                        f"{path} line {reader.line_num}: a NUL byte; this is not a text file", hint=hint or CSV_HINT
                    )
                if fields:
                    yield reader.line_num, fields
    except OSError as error:
        raise kind(f"{path} cannot be read: {error.strerror}", hint=hint or "name a file that can be read") from None
    except UnicodeDecodeError:
        raise kind(f"{path} line {_find_bad_line(path)}: not UTF-8 text", hint=hint or "save it as UTF-8") from None
    except csv.Error as error:
        raise kind(f"{path} line {reader.line_num}: {error}", hint=hint or CSV_HINT) from None


def _find_bad_line(path: Path) -> int:
    """Finds the first line that is not UTF-8; the error of a decoder has only a position in its buffer."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            line.decode()
        except UnicodeDecodeError:
            return number
    return 1
