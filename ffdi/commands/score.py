"""Computes the scores of an experiment again, from its files."""

from __future__ import annotations

import shlex

import numpy as np

from ffdi.commands.shared import scores
from ffdi.commands.shared.options import ScoreOptions
from ffdi.config import schema
from ffdi.core import console
from ffdi.core.errors import ExperimentError, format_count
from ffdi.evaluation import predictions
from ffdi.evaluation.predictions import HASH_DIGITS, OofPredictions
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace


def run(workspace: Workspace, options: ScoreOptions) -> None:
    """Computes an experiment's scores from folds.csv, oof.csv and the folds' val.csv; only three flags need images."""
    experiment = workspace.get_experiment(options.experiment)
    schema.load_experiment(experiment.config_path)  # a group has no scores of its own
    experiment.check_scores()
    with experiment.lock():
        assignment, oof = scores.read_oof(experiment)
        _check_weights(experiment, oof)
        console.title(f"score {experiment.name}: {format_count(len(oof.img_name), 'out-of-fold prediction')}")
        scores.publish_scores(experiment, oof, assignment.group, assignment.kind)
        console.written(experiment.metrics_path)
        if options.stress:
            from ffdi.commands.shared import stress

            stress.run(workspace, experiment, options)
        if options.reencoded:
            from ffdi.commands.shared import reencoded

            reencoded.run(workspace, experiment, options)
        if options.shift:
            from ffdi.commands.shared import shift  # scikit-learn takes seconds

            shift.run(workspace, experiment, options)
    console.advise(f"invoke report --experiment {shlex.quote(options.experiment)}")


def _check_weights(experiment: Experiment, oof: OofPredictions) -> None:
    """Checks that out-of-fold predictions were made with the weights of the folds.

    Raises:
        ExperimentError: a fold has other weights.
    """
    for number in np.unique(oof.fold).tolist():
        folder = experiment.get_fold(number)
        if folder.manifest_path.is_file():
            used = np.unique(oof.weights[oof.fold == number])
            if used.tolist() != [folder.read_weights_sha256()[:HASH_DIGITS]]:
                raise ExperimentError(
                    f"{experiment.oof_path} has predictions of fold {number} with other weights than those in "
                    f"{folder.folder}",
                    hint=predictions.RETRAIN_HINT,
                )
