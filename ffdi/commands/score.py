"""Draws an experiment's scores up anew from its files alone."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np

from ffdi.commands.shared import screens
from ffdi.config import schema
from ffdi.core import console, hashes, manifests
from ffdi.core.errors import ExperimentError
from ffdi.data.splits import folds
from ffdi.evaluation import predictions, scorecard
from ffdi.evaluation.predictions import HASH_DIGITS, Ledger
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace


def run(
    workspace: Workspace,
    name: str,
    *,
    stressed: bool,
    shifted: bool,
    data: str | None,
    device: str,
    workers: int | None,
) -> None:
    """Draws up an experiment's scores anew from folds.csv, oof.csv and the folds' val.csv alone.

    `stressed` and `shifted` look at images as well; the arguments after them are for that.
    """
    experiment = workspace.experiment(name)
    schema.load(experiment.config_path)  # a list has no scores of its own
    experiment.check_scored()
    with experiment.locked():
        deal = folds.recorded(experiment.folds_path)
        oof = predictions.merge([predictions.read(experiment.oof_path)], deal.img_name, deal.fold, deal.target)
        _check_weights(experiment, oof)
        console.title(f"score {experiment.name}: {len(oof.img_name)} out-of-fold predictions")
        publish_scores(experiment, oof, deal.group)
        console.written(experiment.metrics_path)
        if stressed:
            from ffdi.commands.shared import stress

            stress.run(workspace, experiment, data=data, device=device, workers=workers)
        if shifted:
            from ffdi.commands.shared import shift  # scikit-learn takes seconds

            shift.run(workspace, experiment, data=data, device=device, workers=workers)
    console.advise(f"invoke report --experiment {shlex.quote(name)}")


def publish_scores(experiment: Experiment, oof: Ledger, group: np.ndarray | None) -> None:
    """Draws up metrics.json from a ledger, and shows it."""
    val = on_val(experiment, np.unique(oof.fold).tolist())
    digest = hashes.sha256(experiment.oof_path)
    scores = {"experiment": experiment.name, "oof_sha256": digest, **scorecard.draw_up(oof, group, val)}
    manifests.write(experiment.metrics_path, scores)
    rows = [(f"fold {fold}", score) for fold, score in scores["folds"].items()]
    screens.show_scores("out-of-fold scores", [*rows, ("all folds", scores["pooled"])])
    ranked = scores["rank_normalised"]
    console.say(f"AUC of ranks within each fold: {ranked['auc']:.4f} ({screens.interval(ranked)})")
    if "val" in scores:
        _show_val(scores["val"])


def _show_val(val: dict[str, Any]) -> None:
    rows = [(f"fold {fold}", score) for fold, score in val["folds"].items()]
    screens.show_scores("the same networks on the validation split", [*rows, ("mean", val["mean"])])
    gap = val["gap"]
    console.say(
        f"gap: a network's AUC on its held-out fold less that on val: {gap['auc']:+.4f} ({screens.interval(gap)})"
    )
    if why := gap["no_interval"].get("auc"):
        console.say(f"no interval of the gap: {why}")


def on_val(experiment: Experiment, numbers: list[int]) -> list[Ledger]:
    """What each fold's network says of the validation split, in one order; none where not all folds were asked."""
    paths = [experiment.fold(number).val_path for number in numbers]
    if not all(path.is_file() for path in paths):
        return []
    first, *others = (predictions.read(path) for path in paths)
    try:
        return [first, *(predictions.merge([one], first.img_name, one.fold, first.target) for one in others)]
    except ExperimentError:
        console.say("the folds were trained beside different validation splits: no gap")
        return []


def _check_weights(experiment: Experiment, oof: Ledger) -> None:
    """Refuses a ledger whose predictions are not by the weights that stand beside it.

    Raises:
        ExperimentError: names the fold.
    """
    for number in np.unique(oof.fold).tolist():
        folder = experiment.fold(number)
        if folder.manifest_path.is_file():
            used = np.unique(oof.weights[oof.fold == number])
            if used.tolist() != [folder.weights_sha256()[:HASH_DIGITS]]:
                raise ExperimentError(
                    f"{experiment.oof_path} has predictions of fold {number} by other weights than those in "
                    f"{folder.folder}",
                    hint=predictions.ANEW,
                )
