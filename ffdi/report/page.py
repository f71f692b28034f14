"""A report as one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ffdi.pages import template
from ffdi.report.gallery import KINDS, Exhibit


class Sheet(NamedTuple):
    """A table.

    Attributes:
        caption: what it shows.
        columns: headings; the first column's is that of the rows' names.
        rows: words, as many in each as there are columns.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Section(NamedTuple):
    """A part of the page between its head and its gallery, or behind it.

    Attributes:
        title: its heading.
        lines: what is said first.
        charts: <svg> elements.
        sheets: tables.
    """

    title: str
    lines: Sequence[str] = ()
    charts: Sequence[str] = ()
    sheets: Sequence[Sheet] = ()

    @property
    def anchor(self) -> str:
        """Where a link leads."""
        return "-".join(self.title.lower().split())


@dataclass(frozen=True)
class Page:
    """All that a report says.

    Attributes:
        name: of what is reported.
        summary: the first lines.
        before, after: sections on both sides of the gallery.
        exhibits: its images.
        counts: of them by kind.
        heat: what the heat maps show.
        texts: files that are shown as they are, by name.
    """

    name: str
    summary: Sequence[str]
    before: Sequence[Section]
    exhibits: Sequence[Exhibit]
    counts: Mapping[str, int]
    heat: str
    after: Sequence[Section]
    texts: Mapping[str, str]

    def html(self) -> str:
        """The file's text."""
        folds = sorted({one.fold for one in self.exhibits})
        return template.render("report.html.j2", page=self, kinds=KINDS, folds=folds)
