"""Draws an experiment's scores up anew from its files alone."""

from __future__ import annotations

import shlex

import numpy as np

from ffdi.commands.shared import scores
from ffdi.config import schema
from ffdi.core import console
from ffdi.core.errors import ExperimentError
from ffdi.data.splits import folds
from ffdi.evaluation import predictions
from ffdi.evaluation.predictions import HASH_DIGITS, OofPredictions
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
        deal = folds.read_assignment(experiment.folds_path)
        oof = predictions.merge_predictions(
            [predictions.read_predictions(experiment.oof_path)], deal.img_name, deal.fold, deal.target
        )
        _check_weights(experiment, oof)
        console.title(f"score {experiment.name}: {len(oof.img_name)} out-of-fold predictions")
        scores.publish(experiment, oof, deal.group)
        console.written(experiment.metrics_path)
        if stressed:
            from ffdi.commands.shared import stress

            stress.run(workspace, experiment, data=data, device=device, workers=workers)
        if shifted:
            from ffdi.commands.shared import shift  # scikit-learn takes seconds

            shift.run(workspace, experiment, data=data, device=device, workers=workers)
    console.advise(f"invoke report --experiment {shlex.quote(name)}")


def _check_weights(experiment: Experiment, oof: OofPredictions) -> None:
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
