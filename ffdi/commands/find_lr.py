"""Finds a learning rate for an experiment."""

from __future__ import annotations

import pandas as pd

from ffdi.commands.shared import planning
from ffdi.commands.shared.options import FindLrOptions
from ffdi.core import console, files
from ffdi.core.errors import ConfigError
from ffdi.evaluation.score_table import FLOAT
from ffdi.experiments.workspace import Workspace

FEWEST = 20
"""The fewest steps that show the minimum of the loss."""


def run(workspace: Workspace, options: FindLrOptions) -> None:
    """Trains some steps with a growing learning rate, writes the losses and their chart, and suggests a rate."""
    from ffdi.report import charts
    from ffdi.training.tools import lr_finder

    if options.steps < FEWEST:
        raise ConfigError(
            f"--steps {options.steps}: too few steps to find the minimum of the loss",
            hint=f"pass --steps {FEWEST} or more",
        )
    experiment = workspace.get_experiment(options.experiment)
    trials = []
    with (
        planning.start_short_training(workspace, experiment, options, "find-lr", options.steps) as training,
        console.bar("learning rates", options.steps) as bar,
    ):
        for trial in lr_finder.run_range_test(*training, options.steps):
            trials.append(trial)
            bar.advance()
    low, high, rate = lr_finder.suggest_learning_rate(trials)
    frame = pd.DataFrame(trials)
    path = experiment.rates_path
    with experiment.lock(), files.publish_together(path.parent, path.name) as new:
        files.write_text(new / path.name, frame.to_csv(index=False, float_format=FLOAT, lineterminator="\n"))
        charts.plot_learning_rates((new / path.name).with_suffix(".png"), frame.lr.tolist(), frame.loss.tolist(), rate)
    console.say(f"the loss falls from a rate of {low:.2g} to one of {high:.2g}; suggested rate: {rate:g}")
    console.written(path, path.with_suffix(".png"))
    console.advise(f"set train.lr = {rate:g} in {experiment.config_path} (now {training.settings.train.lr:g})")
