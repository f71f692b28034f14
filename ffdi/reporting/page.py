"""A report as one HTML file without external resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ffdi.pages import template
from ffdi.reporting.gallery import KINDS, Exhibit
from ffdi.reporting.headlines import Step, Tile


class ReportTable(NamedTuple):
    """A table.

    Attributes:
        columns: the headings; the first column has the names of the rows.
        rows: the cells.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Section(NamedTuple):
    """A section of the page.

    Attributes:
        lines: paragraphs at the start.
        charts: <svg> elements.
    """

    title: str
    lines: Sequence[str] = ()
    charts: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()

    @property
    def anchor(self) -> str:
        """The id of the section."""
        return "-".join(self.title.lower().split())


@dataclass(frozen=True)
class Page:
    """The content of a report.

    Attributes:
        name: of the export.
        summary: the first paragraphs.
        tiles: the main numbers.
        steps: what to do next.
        before, after: the sections before and after the gallery.
        exhibits: the images of the gallery.
        counts: the number of images of each kind.
        heat: a sentence about the heat maps.
        texts: files that are shown verbatim, by name.
    """

    name: str
    summary: Sequence[str]
    tiles: Sequence[Tile]
    steps: Sequence[Step]
    before: Sequence[Section]
    exhibits: Sequence[Exhibit]
    counts: Mapping[str, int]
    heat: str
    after: Sequence[Section]
    texts: Mapping[str, str]

    def render(self) -> str:
        folds = sorted({one.fold for one in self.exhibits})
        return template.render("report.html.j2", page=self, kinds=KINDS, folds=folds)
