"""Output: lines, tables and progress bars on a terminal, plain lines without a terminal, or JSON for a program."""

from __future__ import annotations

import io
import json
import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from ffdi.core import bars, heartbeat, hints, names
from ffdi.core.columns import choose_widths, count_columns, leave_out
from ffdi.core.errors import format_count, format_duration
from ffdi.core.heartbeat import Heart
from ffdi.core.translation import translate, translate_name

PLAIN_WIDTH = 120
"""The width in columns without a terminal."""
NOTEBOOK_WIDTH = 100
"""The width in columns below a cell of a notebook, which breaks longer lines."""
CAPTURED_WIDTH = 10_000
"""The width in columns of captured output: no column of a table is left out."""
LABELS = {"error:": "bold red", "stopped": "bold yellow", "warning:": "bold yellow", "next:": "bold cyan"}
"""The style of what a line starts with, on a terminal."""
LITERAL: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
"""Text without rich's markup: a folder may be called '[bold]' or ':smile:'."""


def as_json(**facts: object) -> str:
    """One line of JSON that a terminal shows unchanged.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return names.escape_json(json.dumps(facts, ensure_ascii=False, allow_nan=False))


@dataclass
class CapturedOutput:
    """The output of a command that prints at its end.

    Attributes:
        written: the paths of written files.
        next: the suggested commands.
        warnings: warnings with their problems.
        lines: all other lines.
        tables: the heading, columns and rows of each table; numbers are not rounded.
        values: the keys of config.toml that a search suggests, with their values.
    """

    written: list[str] = field(default_factory=list)
    next: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def json(self, **more: object) -> str:
        """The whole output in one line; a cell that is NaN or infinite is null."""
        return as_json(**more, **asdict(self))


Announce = Callable[[Mapping[str, str]], None]
"""Prints facts by name at once, while other output is captured."""
_heart = Heart()
_bar: Bar | None = None
"""The progress bar that is shown now."""
_captured: CapturedOutput | None = None
"""The output so far; None while output is only printed."""
_is_quiet = False
_announce: Announce | None = None


@contextmanager
def capture_output(announce: Announce | None = None) -> Iterator[CapturedOutput]:
    """Inside, output is captured and not printed; `announce` prints the facts of announcements."""
    with _collect(announce, is_quiet=True) as output:
        yield output


@contextmanager
def record_output() -> Iterator[CapturedOutput]:
    """Inside, output is printed, and captured too."""
    with _collect(None, is_quiet=False) as output:
        yield output


@contextmanager
def _collect(announce: Announce | None, *, is_quiet: bool) -> Iterator[CapturedOutput]:
    global _captured, _announce, _is_quiet
    before = _captured, _announce, _is_quiet
    _captured, _announce, _is_quiet = CapturedOutput(), announce, is_quiet
    try:
        yield _captured
    finally:
        _captured, _announce, _is_quiet = before


def _console() -> Console:
    if _is_quiet:
        return Console(**LITERAL, quiet=True, width=CAPTURED_WIDTH)
    console = Console(**LITERAL)
    if console.is_terminal:
        return console
    width = NOTEBOOK_WIDTH if console.is_jupyter else PLAIN_WIDTH
    # as plain text: rich would make an output of its own of each line in a notebook, and heed FORCE_COLOR
    return Console(**LITERAL, width=width, no_color=True, force_jupyter=False, force_terminal=False)


def say(line: str, *, style: str = "") -> None:
    """Prints one line without a change."""
    if _captured is not None:
        _captured.lines.append(line)
    _print(translate(line), style)


def title(line: str) -> None:
    """Prints the first line of a command."""
    say(line, style="bold")


def announce(line: str, **facts: str) -> None:
    """Prints one line; while output is captured, the facts are printed at once."""
    if _announce is not None:
        _announce(facts)
    say(line)


def warn(warning: str, problems: Sequence[str] = ()) -> None:
    """Prints a warning, with a line for each problem."""
    lines = [names.escape(line) for line in (warning, *problems)]
    if _captured is not None:
        _captured.warnings.append("\n  ".join(lines))
    for line in (f"warning: {lines[0]}", *(f"  {line}" for line in lines[1:])):
        _print(_translate_line(line))


def written(*paths: Path, about: str = "") -> None:
    """Prints the paths of written files; `about` follows them."""
    if _captured is not None:
        _captured.written.extend(map(str, paths))
    _print(f"{translate('written:')} {', '.join(map(str, paths))}{translate(about)}")


def advise(advice: str) -> None:
    """Prints the next step; its commands get the --data of this command."""
    advice = hints.complete(advice)
    if _captured is not None:
        _captured.next.append(advice)
    _print(_translate_line(f"next: {advice}"))


def show_failure(text: str) -> None:
    """Prints why a command ended early to the standard error; without colours, its bytes are those of the text."""
    console, lines = Console(**LITERAL, stderr=True), list(map(_translate_line, text.split("\n")))
    if console.color_system is None:
        print("\n".join(lines), file=sys.stderr)
    else:
        console.print(Text("\n").join(map(_paint, lines)), soft_wrap=True)


def can_ask() -> bool:
    """Whether a person can answer a question."""
    return _captured is None and sys.stdin.isatty()


@contextmanager
def show_signs_of_life() -> Iterator[None]:
    """Inside, a command that prints nothing for a while says that it works; a long one says how long it took."""
    global _heart
    _heart = heart = Heart()
    with heartbeat.watch(heart, _say_alive):
        yield
    if heart.seconds > heartbeat.LONG_SECONDS:
        _print(translate(f"took {format_duration(heart.seconds)}"))


def _say_alive() -> None:
    """Prints what is done now; a bar in a terminal shows that by itself."""
    if not _heart.printed:
        _print(translate(heartbeat.LOADING))
    elif _bar is None:
        _print(translate(f"still working, for {format_duration(_heart.seconds)} so far"))
    elif not _bar.is_visible:
        _print(translate(f"still working: {_bar.describe()}, {format_duration(_heart.seconds)} so far"))


def _print(line: str, style: str = "") -> None:
    _heart.beat()
    _console().print(_paint(names.escape(line), style), soft_wrap=True)


def _paint(line: str, style: str = "") -> Text:
    """A line with the style of its label."""
    text = Text(line, style)
    for label, of_label in LABELS.items():
        if line.startswith(shown := translate(label)):
            text.stylize(of_label, 0, len(shown))
    return text


def _translate_line(line: str) -> str:
    """A line of an error or a warning in the user's language: its label and its indent are no part of its message."""
    label = next((label for label in LABELS if line.startswith(label)), "")
    rest = line.removeprefix(label)
    text = rest.lstrip()
    return f"{translate(label)}{rest[: len(rest) - len(text)]}{translate(text)}"


@contextmanager
def silence() -> Iterator[None]:
    """Hides the lines, logs and warnings of other libraries."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def width() -> int:
    return _console().width


def note_values(values: Mapping[str, Any]) -> None:
    """Captures keys of config.toml that a search suggests, with their values; prints nothing."""
    if _captured is not None:
        _captured.values |= values


def table(heading: str, columns: Sequence[str], rows: Sequence[Sequence[object]], details: Sequence[str] = ()) -> None:
    """Prints a table: the first column left-aligned, the others right-aligned, floats with four digits.

    Args:
        heading: the line above it.
        columns: their headings.
        rows: a cell for each column.
        details: headings of columns that a terminal may be too narrow for, the first to be left out first.
    """
    if _captured is not None:
        cells = [[_to_json_value(cell) for cell in row] for row in rows]
        _captured.tables.append({"heading": heading, "columns": list(columns), "rows": cells})
    headings = list(map(translate, columns))
    texts = ([translate_name(_format_number(cell)) for cell in row] for row in rows)
    shown = [list(map(_format_cell, headings)), *texts]
    console, hidden = _console(), list[str]()
    if console.is_terminal or console.width < PLAIN_WIDTH:  # a log has no width of its own
        shown, hidden = leave_out(shown, headings, list(map(translate, details)), console.width)
    sheet = Table(header_style="bold")
    for number, (column, wide) in enumerate(zip(shown[0], choose_widths(shown, console.width), strict=True)):
        side: Literal["left", "right"] = "right" if number else "left"
        sheet.add_column(column, justify=side, overflow="fold", width=wide)
    for row in shown[1:]:
        sheet.add_row(*row)
    _heart.beat()
    # rich would wrap a title of the table at the table's width
    console.print(Text(names.escape(translate(heading)), style="bold"))
    console.print(sheet)
    say_hidden(heading for heading in headings if heading in hidden)


def say_hidden(hidden: Iterable[str], where: str = "") -> None:
    """Names the columns of a table that the terminal is too narrow for.

    Args:
        hidden: their headings.
        where: what has them, such as ', but in leaderboard.csv'.
    """
    if shown := ", ".join(dict.fromkeys(hidden)):
        say(f"not shown in {format_count(width(), 'column')}{where}: {shown}")


def interval(ends: Sequence[float] | None, style: str = ".3f") -> str:
    """An interval for a table; each end in the format `style`."""
    return "no interval" if ends is None else f"{ends[0]:{style}} to {ends[1]:{style}}"


def _format_cell(cell: object) -> str:
    """A cell for the terminal; rich omits characters without width, such as a combining accent."""
    shown = names.escape(str(cell))
    return shown if count_columns(shown) else ascii(shown)[1:-1]


def _format_number(cell: object) -> str:
    return f"{cell:.4f}" if isinstance(cell, float) else _format_cell(cell)


def _to_json_value(cell: object) -> object:
    if isinstance(cell, float):
        return float(cell) if math.isfinite(cell) else None
    return cell if isinstance(cell, int) else str(cell)


class Bar:
    """A progress bar; prints nothing without a terminal."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    @property
    def is_visible(self) -> bool:
        return not self._progress.disable

    def describe(self) -> str:
        """Its label and how much is done."""
        task = next(one for one in self._progress.tasks if one.id == self._task)
        return f"{task.description}, {task.percentage:.0f} %"

    def advance(self, count: float = 1) -> None:
        self._progress.advance(self._task, count)

    def at(self, done: float, label: str) -> None:
        self._progress.update(self._task, completed=done, description=names.escape(label))

    def rename(self, label: str) -> None:
        """Says what is worked at from now on."""
        self._progress.update(self._task, description=names.escape(label))

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        if _captured is not None:
            _captured.lines.append(line)
        self._print(translate(line))

    def warn(self, line: str) -> None:
        """Prints a warning above the bar."""
        if _captured is not None:
            _captured.warnings.append(names.escape(line))
        self._print(translate(line), "yellow")

    def _print(self, line: str, style: str = "") -> None:
        _heart.beat()
        self._progress.console.print(_paint(names.escape(line), style), soft_wrap=True)


@contextmanager
def bar(label: str, total: float, *, counted: bool = True, unit: str = "") -> Iterator[Bar]:
    """A progress bar with the time left; it disappears at the end.

    Args:
        label: what is worked at.
        total: the whole amount.
        counted: whether to show a count such as '12/40'.
        unit: of the count, such as 'images'; with a unit, wide terminals show the speed too. '' shows a count alone.
    """
    global _bar
    console = _console()
    columns = bars.make_columns(total, unit if counted else None, console.width)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        before, _bar = _bar, Bar(progress, progress.add_task(names.escape(label), total=total))
        try:
            yield _bar
        finally:
            _bar = before
