"""Computes, writes and shows the scores of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi.core import console, manifests
from ffdi.core.errors import ExperimentError
from ffdi.evaluation import predictions, scorecard
from ffdi.evaluation.predictions import OofPredictions
from ffdi.experiments.experiment import Experiment

if TYPE_CHECKING:
    from ffdi.ensemble.selection import Choice


def publish_scores(experiment: Experiment, oof: OofPredictions, group: np.ndarray | None) -> None:
    """Writes metrics.json from out-of-fold predictions, and shows the scores."""
    val = read_val_predictions(experiment, np.unique(oof.fold).tolist())
    digest = manifests.hash_file(experiment.oof_path)
    content = {"experiment": experiment.name, "oof_sha256": digest, **scorecard.make_scorecard(oof, group, val)}
    manifests.write_manifest(experiment.metrics_path, content)
    rows = [(f"fold {fold}", score) for fold, score in content["folds"].items()]
    show_scores("out-of-fold scores", [*rows, ("all folds", content["pooled"])])
    ranked = content["rank_normalised"]
    console.say(f"AUC of ranks within each fold: {ranked['auc']:.4f} ({format_interval(ranked)})")
    if "val" in content:
        _show_val(content["val"])


def _show_val(val: dict[str, Any]) -> None:
    rows = [(f"fold {fold}", score) for fold, score in val["folds"].items()]
    show_scores("the same networks on the validation split", [*rows, ("mean", val["mean"])])
    gap = val["gap"]
    console.say(
        f"gap: a network's AUC on its held-out fold less that on val: {gap['auc']:+.4f} ({format_interval(gap)})"
    )
    if why := gap["no_interval"].get("auc"):
        console.say(f"no interval of the gap: {why}")


def read_val_predictions(experiment: Experiment, numbers: list[int]) -> list[OofPredictions]:
    """Each fold's predictions of the validation split, in the same order; [] if a fold has none."""
    paths = [experiment.get_fold(number).val_path for number in numbers]
    if not all(path.is_file() for path in paths):
        return []
    first, *others = (predictions.read_predictions(path) for path in paths)
    try:
        return [
            first,
            *(predictions.merge_predictions([one], first.img_name, one.fold, first.target) for one in others),
        ]
    except ExperimentError:
        console.say("the folds were trained with different validation splits: no gap")
        return []


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
