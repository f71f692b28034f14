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
DETAILS = tuple(SCORES[key] for key in ("tpr_at_fpr_1e-2", "accuracy", "log_loss"))


def show_scores(heading: str, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Prints a table of scores, from the label and the scores of each row."""
    cells = [(label, one["auc"], format_interval(one), *(one[key] for key in SCORES)) for label, one in rows]
    console.table(heading, ["", "AUC", "95 %", *SCORES.values()], cells, details=DETAILS, wide=WIDE)
    for why in dict.fromkeys(one["no_interval"]["auc"] for _, one in rows if "auc" in one.get("no_interval", {})):
        console.say(f"no interval of an AUC: {why}")


def show_choice(choice: Choice, names: Sequence[str]) -> None:
    """Prints a table of every ensemble method's nested score and of the best single experiment.

    Prints nothing for one experiment and one method.

    Args:
        choice: of the method.
        names: of the experiments.
    """
    if len(choice.rows) == len(names) == 1:
        return
    console.table(*choice.make_table(names))


def format_interval(score: dict[str, Any]) -> str:
    """The AUC's interval for a table; '' for a mean of several networks, which has no interval."""
    return console.interval(score["intervals"].get("auc")) if "intervals" in score else ""
