"""A report as one HTML file without external resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ffdi.core import console
from ffdi.pages import template
from ffdi.reporting.charts import Chart
from ffdi.reporting.gallery import Exhibit
from ffdi.reporting.headlines import Step, Tile
from ffdi.reporting.image_map import ImageMap
from ffdi.reporting.thresholds import Thresholds


class Whisker(NamedTuple):
    """A value with its interval, drawn on an axis that all rows of a table share.

    Attributes:
        value, low, high: from 0 to 1, the axis.
        chance: the place of 0.5 on the axis.
    """

    value: float
    low: float
    high: float
    chance: float


class Cell(NamedTuple):
    """A cell of a table that has more than a text.

    Attributes:
        note: below the text, in small letters.
        pictures: data URLs of small pictures.
    """

    text: str
    note: str = ""
    whisker: Whisker | None = None
    pictures: Sequence[str] = ()


def make_cell(text: str, ends: Sequence[float] | None, style: str = ".3f") -> Cell:
    """A value with its interval below, if there is one."""
    return Cell(text, "" if ends is None else console.interval(ends, style))


class ReportTable(NamedTuple):
    """A table.

    Attributes:
        columns: the headings; the first column has the names of the rows.
        rows: the cells.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]


class Section(NamedTuple):
    """A section of the page.

    Attributes:
        lines: paragraphs at the start.
        pictures: data URLs, with the words below each.
    """

    title: str
    lines: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[ReportTable] = ()
    pictures: Sequence[tuple[str, str]] = ()

    @property
    def anchor(self) -> str:
        """The id of the section."""
        return "-".join(self.title.lower().split())


@dataclass(frozen=True)
class Gallery:
    """The example images.

    Attributes:
        kinds: the words for each kind of images, by key.
        heat: a sentence about the heat maps.
    """

    exhibits: Sequence[Exhibit]
    kinds: Mapping[str, str]
    heat: str

    @property
    def counts(self) -> dict[str, int]:
        """The number of images of each kind, by its words."""
        return {words: sum(kind in one.kinds for one in self.exhibits) for kind, words in self.kinds.items()}

    @property
    def folds(self) -> list[int]:
        return sorted({one.fold for one in self.exhibits})


@dataclass(frozen=True)
class Page:
    """The content of a report.

    Attributes:
        name: of the export.
        summary: the first paragraphs.
        tiles: the main numbers.
        steps: what to do next.
        thresholds: the errors at each threshold.
        before, after: the sections before and after the images.
        gallery: the example images.
        image_map: all images.
        texts: files that are shown verbatim, by name.
    """

    name: str
    summary: Sequence[str]
    tiles: Sequence[Tile]
    steps: Sequence[Step]
    thresholds: Thresholds
    before: Sequence[Section]
    gallery: Gallery
    image_map: ImageMap
    after: Sequence[Section]
    texts: Mapping[str, str]

    def render(self) -> str:
        return template.render("report.html.j2", page=self)
