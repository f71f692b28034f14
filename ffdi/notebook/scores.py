"""Functions for scores of trained experiments."""

from __future__ import annotations

from typing import Any

from ffdi.commands.shared.options import (
    DEFAULT,
    CompareOptions,
    LeaderboardOptions,
    ReportOptions,
    ScoreOptions,
    VerifyOptions,
)
from ffdi.notebook.keywords import Place, Places, run, takes_flags
from ffdi.notebook.results import CompareResult, LeaderboardResult, ReportResult, Result, ScoreResult


@takes_flags("score", ScoreOptions)
def score(experiment: Place = DEFAULT, *, stress: bool | None = None, **flags: Any) -> ScoreResult:
    """Scores the out-of-fold predictions again.

    Args:
        experiment: a name under experiments/, or a folder with a config.toml.
        stress: also score the images under compression, blur, shrinking and noise.
        flags: see below.
    """
    from ffdi.commands import score

    return ScoreResult(run(score.run, ScoreOptions, {"experiment": experiment, "stress": stress} | flags))


@takes_flags("compare", CompareOptions)
def compare(first: Place, second: Place, *, data: Place | None = None, **flags: Any) -> CompareResult:
    """Tests if the scores of two experiments or files differ.

    Args:
        first: an experiment, or a CSV with the columns img_name and y_pred.
        second: the same; it is compared with the first.
        data: the folder with the label files, for the labels of CSVs.
        flags: none besides.
    """
    from ffdi.commands import compare

    given = {"first": first, "second": second, "data": data}
    return CompareResult(run(compare.run, CompareOptions, given | flags))


@takes_flags("leaderboard", LeaderboardOptions)
def leaderboard(*, all: bool | None = None, **flags: Any) -> LeaderboardResult:
    """Compares all experiments in one table.

    Args:
        all: also show experiments that were never trained, and groups.
        flags: none besides.
    """
    from ffdi.commands import leaderboard

    return LeaderboardResult(run(leaderboard.run, LeaderboardOptions, {"all": all} | flags))


@takes_flags("report", ReportOptions)
def report(
    experiment: Places = DEFAULT, *, name: str | None = None, data: Place | None = None, **flags: Any
) -> ReportResult:
    """Writes one page of scores, charts and example images; as the last line of a cell it shows the page.

    Args:
        experiment: a name under experiments/, or a folder with a config.toml; or several.
        name: the folder under exports/.
        data: the folder with the label files.
        flags: see below.
    """
    from ffdi.commands import report

    given = {"experiment": experiment, "name": name, "data": data}
    return ReportResult(run(report.run, ReportOptions, given | flags))


@takes_flags("verify", VerifyOptions)
def verify(experiment: Places | None = None, **flags: Any) -> Result:
    """Checks every file against its recorded hash.

    Args:
        experiment: the experiments to check, with their export; all by default.
        flags: see below.
    """
    from ffdi.commands import verify

    return Result(run(verify.run, VerifyOptions, {"experiment": experiment} | flags))
