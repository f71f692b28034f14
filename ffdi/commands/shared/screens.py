"""What several verbs show."""

from __future__ import annotations

import shlex
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
"""Columns of a table of scores, beside the AUC and its interval."""
WIDE = 110
"""Letters in a line below which `DETAILS`, and an epoch's accuracy, stand in the files alone."""
DETAILS = ("tpr_at_fpr_1e-2", "accuracy", "log_loss")


def show_scores(heading: str, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """A table of scores, a row each with its label."""
    shown = console.fitting(SCORES, DETAILS, WIDE)
    cells = [(label, one["auc"], interval(one), *(one[key] for key in shown)) for label, one in rows]
    console.table(heading, ["", "AUC", "95 %", *shown.values()], cells)
    for why in dict.fromkeys(one["no_interval"]["auc"] for _, one in rows if "auc" in one.get("no_interval", {})):
        console.say(f"no interval of an AUC: {why}")


def show_choice(choice: Choice) -> None:
    """A table of every method's nested score, where there was something to choose."""
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
    heading = "ways to combine the experiments: nested AUC on the ledgers, against the plain mean"
    console.table(heading, ["", "AUC", "difference", "interval"], cells)


def interval(score: dict[str, Any]) -> str:
    """The AUC's interval as a table shows it; a mean of several networks has none."""
    return console.interval(score["intervals"].get("auc")) if "intervals" in score else ""


def remarks(event: object) -> list[str]:
    """What is to be said about a training's event beside how far it is."""
    from ffdi.training.checkpointing import Lost, Resumed
    from ffdi.training.health import Unhealthy

    if isinstance(event, Resumed):
        return [f"warning: {what}" for what in event.warnings]
    if isinstance(event, Lost):
        return [f"warning: {event.why}; it is trained on elsewhere"]
    if isinstance(event, Unhealthy):
        return [*(f"unhealthy: {what}" for what in event.symptoms.values()), f"advice: {event.advice}"]
    return []


def repeat_flags(names: Sequence[str], name: str | None) -> str:
    """The flags that name the same experiments, and the same export if `name` is given, with a space before them."""
    flags = "".join(f" --experiment {shlex.quote(one)}" for one in names)
    return f"{flags} --name {shlex.quote(name)}" if name else flags
