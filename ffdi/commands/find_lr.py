"""Finds a learning rate for an experiment."""

from __future__ import annotations

import pandas as pd

from ffdi.commands.shared import trial
from ffdi.commands.shared.planning import Flags
from ffdi.core import console, files
from ffdi.core.errors import ConfigError
from ffdi.evaluation.score_table import FLOAT
from ffdi.experiments.workspace import Workspace

STEPS, FEWEST = 100, 20


def run(workspace: Workspace, name: str, *, steps: int | None, flags: Flags) -> None:
    """Trains for some steps with a rate that grows, writes the losses with a picture, and says which rate to take."""
    from ffdi.report import charts
    from ffdi.training.tools import lr_finder

    if steps is not None and steps < FEWEST:
        raise ConfigError(
            f"--steps {steps}: too few to see where the loss is least", hint=f"pass --steps {FEWEST} or more"
        )
    experiment = workspace.experiment(name)
    tried = []
    with (
        trial.start_trial(workspace, experiment, flags, "find-lr", steps or STEPS) as (state, batches, settings, where),
        console.bar("learning rates", steps or STEPS) as bar,
    ):
        for one in lr_finder.measure(state, batches, settings, where, steps or STEPS):
            tried.append(one)
            bar.advance()
    low, high, rate = lr_finder.suggest(tried)
    frame = pd.DataFrame(tried)
    path = experiment.rates_path
    with experiment.locked(), files.publish_together(path.parent, path.name) as new:
        files.write_text(new / path.name, frame.to_csv(index=False, float_format=FLOAT, lineterminator="\n"))
        charts.plot_learning_rates((new / path.name).with_suffix(".png"), frame.lr.tolist(), frame.loss.tolist(), rate)
    console.say(f"the loss falls from a rate of {low:.2g} to one of {high:.2g}; between them lies {rate:g}")
    console.written(path, path.with_suffix(".png"))
    console.advise(f"set train.lr = {rate:g} in {experiment.config_path} (now {settings.train.lr:g})")
