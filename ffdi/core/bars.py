"""The parts of a progress bar, in the width of a terminal."""

from __future__ import annotations

from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from ffdi.core.columns import cut_end
from ffdi.core.translation import translate

BAR_WIDTH, DETAILED_WIDTH = 40, 80
"""The most columns of a bar, and the fewest of a terminal that shows its speed and the time since its start."""


class _Label(ProgressColumn):
    """What is worked at, without the end that a narrow terminal has no place for.

    It is translated here, a few times in a second, and not at each step of the work.
    """

    def __init__(self, width: int) -> None:
        super().__init__(Column(no_wrap=True))
        self._width = width

    def render(self, task: Task) -> Text:
        return Text(cut_end(translate(task.description), self._width))


class _Count(ProgressColumn):
    """The number of finished units, and of all: '12/1,200 images'."""

    def __init__(self, unit: str) -> None:
        super().__init__(Column(no_wrap=True))
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:,.0f}/{task.total or 0:,.0f} {self._unit}".rstrip())


class _Speed(ProgressColumn):
    """The number of units per second."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


def make_columns(total: float, unit: str | None, wide: int) -> list[ProgressColumn]:
    """The parts of a progress bar; without a unit they have no count."""
    detailed, fixed = wide >= DETAILED_WIDTH, Column(no_wrap=True)
    parts: list[ProgressColumn] = []
    taken = len("left 0:00:00 ")
    if unit is not None:
        parts.append(_Count(unit))
        taken += len(f"{total:,.0f}/{total:,.0f} {unit} ")
    if unit and detailed:
        parts.append(_Speed())
        taken += len("1,000/s ")
    if detailed:
        parts.append(TimeElapsedColumn(table_column=fixed))
        taken += len("0:00:00 ")
    return [
        _Label(max(1, wide - taken)),
        BarColumn(bar_width=None, table_column=Column(max_width=BAR_WIDTH)),
        *parts,
        TextColumn(translate("left")),
        TimeRemainingColumn(table_column=fixed),
    ]
