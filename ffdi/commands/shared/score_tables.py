"""Tables of scores in the terminal. Scoring imports this module, so it has to stay without pandas and SciPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ffdi.core import console

if TYPE_CHECKING:
    from ffdi.ensemble.selection import Choice

SCORES = {
    "tpr_at_fpr_1e-3": "TPR at FPR 1e-3",
    "tpr_at_fpr_1e-2": "at 1e-2",
    "accuracy": "accuracy",
    "log_loss": "log loss",
}
"""Columns of a table of scores, after the AUC and its interval."""
WIDE = 110
"""The width in columns from which the terminal shows `DETAILS` and the accuracy of an epoch."""
DETAILS = ("tpr_at_fpr_1e-2", "accuracy", "log_loss")


def show_scores(heading: str, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Prints a table of scores, from the label and the scores of each row."""
    shown = console.select_columns(SCORES, DETAILS, WIDE)
    cells = [(label, one["auc"], format_interval(one), *(one[key] for key in shown)) for label, one in rows]
    console.table(heading, ["", "AUC", "95 %", *shown.values()], cells)
    for why in dict.fromkeys(one["no_interval"]["auc"] for _, one in rows if "auc" in one.get("no_interval", {})):
        console.say(f"no interval of an AUC: {why}")


def show_choice(choice: Choice) -> None:
    """Prints a table of every ensemble method's nested score, if there are several methods."""
    if len(choice.rows) == 1:
        return
    cells = [
        (
            row.method + (" (taken)" if row.chosen else ""),
            row.auc,
            f"{row.difference:+.4f}",
            console.interval(row.interval, "+.4f"),
        )
        for row in choice.rows
    ]
    heading = "ways to combine the experiments: nested out-of-fold AUC, compared with the plain mean"
    console.table(heading, ["", "AUC", "difference", "interval"], cells)


def format_interval(score: dict[str, Any]) -> str:
    """The AUC's interval for a table; '' for a mean of several networks, which has no interval."""
    return console.interval(score["intervals"].get("auc")) if "intervals" in score else ""
