"""What the functions for notebooks return: tables, paths and figures of a command."""

from __future__ import annotations

import base64
import csv
import html
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffdi.core.calls import Outcome
from ffdi.core.errors import ExperimentError, format_count
from ffdi.evaluation import score_names, score_table

if TYPE_CHECKING:
    import pandas as pd

MOST_SHOWN = 8_000_000
"""Bytes of a page that is shown below a cell; the notebook's file holds them too."""
PAGE_HEIGHT = 800
"""Pixels of a page below a cell."""


class Result:
    """What a command printed and wrote.

    Attributes:
        files: the paths of written files.
        values: the keys of config.toml that a search suggests, with their values, for `set=`.
        warnings: the warnings, each with its problems.
        lines: all other lines.
        next: the suggested next steps.
        finished: False if `max_time` ended the work; the same call does the rest.
    """

    def __init__(self, outcome: Outcome) -> None:
        output = outcome.output
        self.finished = outcome.finished
        self.files = [Path(one) for one in output.written]
        self.values: dict[str, Any] = output.values
        self.warnings, self.lines, self.next = output.warnings, output.lines, output.next
        self._tables = output.tables

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by heading, the first column as the index; numbers are not rounded."""
        import pandas as pd

        found: dict[str, pd.DataFrame] = {}
        for one in self._tables:
            heading, number = one["heading"], 2
            while heading in found:
                heading, number = f"{one['heading']} ({number})", number + 1
            (first, *columns), rows = one["columns"], one["rows"]
            index = pd.Index([row[0] for row in rows], name=first or None)
            found[heading] = pd.DataFrame([row[1:] for row in rows], index=index, columns=columns)
        return found

    def __repr__(self) -> str:
        parts = [format_count(len(self._tables), "table"), format_count(len(self.files), "file")]
        parts += [format_count(len(self.warnings), "warning")] if self.warnings else []
        parts += [] if self.finished else ["not finished"]
        return f"<{type(self).__name__}: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        """Its tables and paths, folded: they are printed above already."""
        items = [_fold(heading, frame.to_html(border=0)) for heading, frame in self.tables.items()]
        if self.files:
            items.append(_fold("files", "".join(f"<div>{html.escape(str(one))}</div>" for one in self.files)))
        return f"<code>{html.escape(repr(self))}</code>{''.join(items)}"

    def _get_file(self, ending: str) -> Path:
        """The last written file whose path has this ending.

        Raises:
            ExperimentError: there is none.
        """
        for path in reversed(self.files):
            if path.name.endswith(ending):
                return path
        raise ExperimentError(
            f"this call has written no {ending}", hint="print its lines: they say what it did, and what to do next"
        )

    def _read_csv(self, ending: str) -> pd.DataFrame:
        import pandas as pd

        text = {"img_name": str, "experiment": str}
        return pd.read_csv(self._get_file(ending), dtype=text, keep_default_na=False, na_values=[""])

    def _get_table(self, heading: str) -> pd.DataFrame:
        """The first table with this start of its heading.

        Raises:
            ExperimentError: there is none.
        """
        for name, frame in self.tables.items():
            if name.startswith(heading):
                return frame
        raise ExperimentError(
            f"this call has printed no table '{heading}'",
            hint="print its lines: they say what it did, and what to do next",
        )


class ScoreResult(Result):
    """Out-of-fold scores."""

    @property
    def scores(self) -> pd.DataFrame:
        """The table of out-of-fold scores: a row for each fold, their mean, and the pooled score.

        Of several experiments all rows, with the experiment as the first level of the index.

        Raises:
            ExperimentError: the call has printed none, because folds are still to be trained.
        """
        import pandas as pd

        found = [one for heading, one in self.tables.items() if heading.startswith(score_names.OOF_SCORES)]
        if len(found) < 2:
            return self._get_table(score_names.OOF_SCORES)
        names = [one.parent.name for one in self.files if one.name == "oof.csv"]
        return pd.concat(dict(zip(names, found, strict=True)))


class DoctorResult(Result):
    """Findings in the images."""

    @property
    def counts(self) -> pd.DataFrame:
        """The counts of images and of their problems: a column for each split."""
        return self._get_table("images")


class LrResult(Result):
    """A learning rate range test."""

    @property
    def rate(self) -> float:
        """The suggested learning rate; `values` has it for `set=`."""
        return float(self.values["train.lr"])

    @property
    def losses(self) -> pd.DataFrame:
        """The loss at each learning rate: columns lr and loss."""
        return self._read_csv(".csv")

    @property
    def chart(self) -> Path:
        """The chart of the losses, a PNG."""
        return self._get_file(".png")

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self.chart.read_bytes()).decode()
        image = f'<img alt="loss by learning rate" src="data:image/png;base64,{picture}">'
        return f"<div>{image}</div>{super()._repr_html_()}"


class SweepResult(Result):
    """Trials of a search; `values` has the keys of the best one."""

    @property
    def trials(self) -> pd.DataFrame:
        """A row for each trial: the experiment, the searched keys, and the AUC after each comparison."""
        return self._read_csv(".csv")


class CompareResult(Result):
    """The difference between two experiments or files."""

    @property
    def differences(self) -> pd.DataFrame:
        """The AUC of both, the difference and its interval: a row for all images, and one for each kind or slice."""
        return self._get_table("AUC")


class LeaderboardResult(Result):
    """All experiments."""

    @property
    def table(self) -> pd.DataFrame:
        """A row for each experiment, the best one first; the columns of leaderboard.csv, not rounded."""
        return self._read_csv(".csv")


class ReportResult(Result):
    """The page of experiments; a notebook shows it."""

    @property
    def path(self) -> Path:
        """report.html, a file that needs no other one."""
        return self._get_file(".html")

    def _repr_html_(self) -> str:
        page = self.path.read_bytes()
        if len(page) > MOST_SHOWN:
            size = f"{len(page) / 1e6:.1f} MB"
            return (
                f"<p>The page has {size}, too much for a notebook. Open {html.escape(str(self.path))} in a browser.</p>"
            )
        # without a base of its own, a link to a section would load the notebook into the frame
        inner = html.escape(page.decode().replace("<head>", '<head><base href="about:srcdoc">', 1))
        return (
            f'<iframe title="report" style="width: 100%; height: {PAGE_HEIGHT}px; border: 1px solid #999" '
            f'srcdoc="{inner}"></iframe>'
        )


class SubmissionResult(Result):
    """A submission."""

    @property
    def submission(self) -> pd.DataFrame:
        """The columns img_name and y_pred, in the order of the template, whatever the header of submission.csv is."""
        import pandas as pd

        path = self.path.with_name("submission.csv")
        with path.open(encoding="utf-8") as lines:
            starts = next(csv.reader(lines))
        header = None if starts[-1].replace(".", "", 1).isdecimal() else 0
        return pd.read_csv(
            path, header=header, names=list(score_table.COLUMNS), dtype={"img_name": str}, na_filter=False
        )

    @property
    def path(self) -> Path:
        """The file to send."""
        return self.files[-1]

    @property
    def scores(self) -> pd.DataFrame:
        """The scores on the split with labels: a row for each network, their mean, and the ensemble.

        Raises:
            ExperimentError: the split has no labels.
        """
        return self._get_table("scores on the")


class ExportResult(Result):
    """An exported graph."""

    @property
    def path(self) -> Path:
        """model.onnx."""
        return self._get_file(".onnx")


class PredictionResult(Result):
    """Scores of images by an exported graph."""

    @property
    def predictions(self) -> pd.DataFrame:
        """The columns img_name and y_pred, the probability that the image is fake."""
        return self._read_csv(".csv")

    @property
    def path(self) -> Path:
        """The CSV with the predictions."""
        return self._get_file(".csv")


def _fold(heading: str, content: str) -> str:
    return f"<details><summary>{html.escape(heading)}</summary>{content}</details>"
