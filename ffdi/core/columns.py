"""The width of texts and tables in the columns of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

Cells = list[list[str]]


def measure_table(rows: Sequence[Sequence[str]]) -> int:
    """The width of a table whose cells take one line each."""
    return 1 + sum(max(map(cell_len, column)) + 3 for column in zip(*rows, strict=True))


def leave_out(rows: Cells, headings: Sequence[str], details: Sequence[str], width: int) -> tuple[Cells, list[str]]:
    """The rows without the columns of `details` that have no place, and the headings of these."""
    hidden: list[str] = []
    for detail in details:
        if measure_table(rows) > width:
            rows = [[cell for cell, heading in zip(row, headings, strict=True) if heading != detail] for row in rows]
            hidden, headings = [*hidden, detail], [heading for heading in headings if heading != detail]
    return rows, hidden


def choose_widths(rows: Cells, width: int) -> list[int]:
    """The width of each column. Too wide ones get narrower, down to their words; the first column last."""
    columns = [*zip(*rows, strict=True)]
    widths = [max(map(cell_len, column)) for column in columns]
    least = [max(cell_len(word) for cell in column for word in [*cell.split(), ""]) for column in columns]
    excess = measure_table(rows) - width
    while excess > 0 and widths != least:
        widest = max(range(len(widths)), key=lambda one: (widths[one] > least[one], one > 0, widths[one]))
        widths[widest] -= 1
        excess -= 1
    return widths


def count_columns(text: str) -> int:
    """The columns that a text takes in a terminal."""
    return cell_len(text)


def cut_end(text: str, width: int) -> str:
    """The start of a text that is too long for a number of columns."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1).rstrip()}…"


def cut_middle(text: str, width: int) -> str:
    """The start and the end of a text that is too long for a number of columns."""
    if cell_len(text) <= width:
        return text
    end = set_cell_size(text[::-1], width // 2)[::-1].lstrip()
    return f"{set_cell_size(text, width - 1 - cell_len(end)).rstrip()}…{end}"
