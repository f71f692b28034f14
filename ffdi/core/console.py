"""What a person sees, lines, tables and bars on a terminal or plain lines where there is none; or a program reads."""

from __future__ import annotations

import io
import json
import logging
import math
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ffdi.core import hints, names

PLAIN_WIDTH = 120
"""Columns of a table where no terminal says how many there are."""
ENDLESS = 10_000
"""Columns for a program, to which every column of a table is told."""
LITERAL: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
"""Words are shown as they are: a folder may be called '[bold]' or ':smile:'."""


def as_json(**facts: object) -> str:
    """One line of JSON, which a terminal shows as it is; ValueError for what is no number (NaN)."""
    return names.in_json(json.dumps(facts, ensure_ascii=False, allow_nan=False))


@dataclass
class CapturedOutput:
    """What a verb has said, where it is not printed as it is said.

    Attributes:
        written: files.
        next: commands that go on from here.
        warnings: what is not as it should be.
        lines: all else.
        tables: each with its heading, its columns and its rows, numbers as they are.
    """

    written: list[str] = field(default_factory=list)
    next: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)

    def json(self, **more: object) -> str:
        """All of it in one line, names as they are; what is no number (NaN) is null."""
        return as_json(**more, **asdict(self))


Announce = Callable[[Mapping[str, str]], None]
"""Prints at once what is announced, by name, where all else is kept."""
_heard: CapturedOutput | None = None
"""Where nothing is printed, what was to be."""
_announce: Announce | None = None


@contextmanager
def capture_output(announce: Announce | None = None) -> Iterator[CapturedOutput]:
    """Inside, nothing is printed but what is announced; what is said is kept."""
    global _heard, _announce
    before = _heard, _announce
    _heard, _announce = CapturedOutput(), announce
    try:
        yield _heard
    finally:
        _heard, _announce = before


def _console() -> Console:
    if _heard is not None:
        return Console(**LITERAL, quiet=True, width=ENDLESS)
    console = Console(**LITERAL)
    return console if console.is_terminal else Console(**LITERAL, width=PLAIN_WIDTH, no_color=True)


def say(line: str, *, style: str = "") -> None:
    """Prints one line, as it is."""
    if _heard is not None:
        _heard.lines.append(line)
    _print(line, style)


def title(line: str) -> None:
    """Prints the line that opens a verb."""
    say(line, style="bold")


def announce(line: str, **facts: str) -> None:
    """Prints one line; where a program listens, it is given the facts now and not at the end."""
    if _announce is not None:
        _announce(facts)
    say(line)


def warn(what: str, problems: Sequence[str] = ()) -> None:
    """Prints what is not as it should be, with a line for each problem."""
    lines = [names.escape(line) for line in (what, *problems)]
    if _heard is not None:
        _heard.warnings.append("\n  ".join(lines))
    _print(f"warning: {lines[0]}")
    for line in lines[1:]:
        _print(f"  {line}")


def written(*paths: Path, about: str = "") -> None:
    """Prints which files there are now, and something about them."""
    if _heard is not None:
        _heard.written.extend(map(str, paths))
    _print(f"written: {', '.join(map(str, paths))}{about}")


def advise(what: str) -> None:
    """Prints what to do next: a command where there is one, on the same data."""
    what = hints.complete(what)
    if _heard is not None:
        _heard.next.append(what)
    _print(f"next: {what}")


def answers() -> bool:
    """Whether somebody is there to be asked."""
    return _heard is None and sys.stdin.isatty()


def _print(line: str, style: str = "") -> None:
    _console().print(names.escape(line), style=style or None, soft_wrap=True)


@contextmanager
def silence() -> Iterator[None]:
    """Keeps other libraries' lines, logs and warnings from the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def width() -> int:
    """Letters in a line."""
    return _console().width


def fitting(columns: Mapping[str, str], details: Collection[str], wide: int) -> dict[str, str]:
    """Headings by key: all of them where a line has so many letters, else those that are no details."""
    return {key: heading for key, heading in columns.items() if width() >= wide or key not in details}


def table(heading: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table: the first column to the left, numbers to the right with four digits."""
    if _heard is not None:
        cells = [[_plain(cell) for cell in row] for row in rows]
        _heard.tables.append({"heading": heading, "columns": list(columns), "rows": cells})
    sheet = Table(header_style="bold")
    for number, column in enumerate(columns):
        side: Literal["left", "right"] = "right" if number else "left"
        sheet.add_column(_word(column), justify=side, no_wrap=not number, overflow="fold")
    for row in rows:
        sheet.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else _word(cell) for cell in row))
    _console().print(Text(names.escape(heading), style="bold"))  # its own title is broken at the table's width
    _console().print(sheet)


def interval(ends: Sequence[float] | None, style: str = ".3f") -> str:
    """An interval as a table shows it; each end in the format `style`."""
    return "no interval" if ends is None else f"{ends[0]:{style}} to {ends[1]:{style}}"


def _word(cell: object) -> str:
    """A cell as a terminal shows it; rich leaves out what has no width, such as a lone accent."""
    shown = names.escape(str(cell))
    return shown if cell_len(shown) else ascii(shown)[1:-1]


def _plain(cell: object) -> object:
    """A cell as JSON has it."""
    if isinstance(cell, float):
        return float(cell) if math.isfinite(cell) else None
    return cell if isinstance(cell, int) else str(cell)


class Bar:
    """A running count; silent where there is no terminal."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, count: float = 1) -> None:
        """So much more is done."""
        self._progress.advance(self._task, count)

    def at(self, done: float, label: str) -> None:
        """So much is done, and this is what is being done."""
        self._progress.update(self._task, completed=done, description=names.escape(label))

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        if _heard is not None:
            _heard.lines.append(line)
        self._print(line)

    def warn(self, line: str) -> None:
        """Prints a line above the bar that says what is not as it should be."""
        if _heard is not None:
            _heard.warnings.append(names.escape(line))
        self._print(line)

    def _print(self, line: str) -> None:
        self._progress.console.print(names.escape(line), soft_wrap=True)


class _Speed(ProgressColumn):
    """How many of them a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} {self._unit}/s" if task.speed else "")


@contextmanager
def bar(label: str, total: float, *, counted: bool = True, unit: str = "") -> Iterator[Bar]:
    """A progress bar with the time left, gone when it is done.

    Args:
        label: what is being done.
        total: how much there is to do.
        counted: whether '12/40' says more than the bar does.
        unit: of what so many a second are told; nothing is where it is empty.
    """
    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *([MofNCompleteColumn()] if counted else []),
    ]
    columns += [_Speed(unit)] if unit else []
    columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    console = _console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress, progress.add_task(names.escape(label), total=total))
