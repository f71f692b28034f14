"""Finds a learning rate for an experiment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ffdi.commands.shared import changes, planning, setting_checks, short_training
from ffdi.commands.shared.options import FindLrOptions
from ffdi.commands.shared.short_training import ShortSetup, ShortTraining
from ffdi.config import schema
from ffdi.config.schema import PseudoFakesConfig
from ffdi.core import console, files
from ffdi.core.errors import ConfigError
from ffdi.evaluation.score_table import FLOAT
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.core.console import Bar
    from ffdi.data.loading.loader import Batches
    from ffdi.training.tools.lr_finder import LrStep

FEWEST = 20
"""The fewest steps that show the minimum of the loss."""


def run(workspace: Workspace, options: FindLrOptions) -> None:
    """Trains some steps with a growing learning rate, writes the losses and their chart, and suggests a rate."""
    from ffdi.reporting import charts
    from ffdi.training.tools import lr_finder

    if options.steps < FEWEST:
        raise ConfigError(
            f"--steps {options.steps}: too few steps to find the minimum of the loss",
            hint=f"pass --steps {FEWEST} or more",
        )
    experiment = changes.open_experiment(workspace, options.experiment, options)
    settings = schema.load_experiment(experiment.config_path)
    setting_checks.check_judge(settings, options.judge, "train")
    tests = settings.folds.k if options.judge == "ood" else 1
    steps = tests * options.steps
    with (
        short_training.prepare_short_training(workspace, experiment, options, "find-lr", steps) as setup,
        console.bar("trying learning rates", steps, unit="steps") as bar,
    ):
        if options.judge == "ood":
            trials = lr_finder.average_tests(list(_leave_kinds_out(setup, options.steps, bar)))
        else:
            with short_training.open_short_training(*setup) as training:
                trials = _run_test(training, options.steps, bar)
    low, high, rate = lr_finder.suggest_learning_rate(trials)
    frame = pd.DataFrame(trials)
    path = experiment.rates_path
    with experiment.lock(), files.publish_together(path.parent, path.name) as new:
        files.write_text(new / path.name, frame.to_csv(index=False, float_format=FLOAT, lineterminator="\n"))
        charts.plot_learning_rates((new / path.name).with_suffix(".png"), frame.lr.tolist(), frame.loss.tolist(), rate)
    console.say(f"the loss falls from a rate of {low:.2g} to one of {high:.2g}; suggested rate: {rate:g}")
    console.written(path, path.with_suffix(".png"))
    console.say(f"train.lr is {settings.train.lr:g} now")
    console.note_values({"train.lr": rate})
    console.advise(changes.suggest(experiment, {"train.lr": rate}))


def _leave_kinds_out(setup: ShortSetup, steps: int, bar: Bar) -> Iterator[list[LrStep]]:
    """A test for each fold: trained on the others, and judged by the loss of the kinds that it leaves out."""
    from ffdi.data.loading import loader

    settings, train, device, weights = setup
    plain = settings.model_copy(
        update={
            "pseudo_fakes": PseudoFakesConfig(),
            "train": settings.train.model_copy(update={"sampling": "balanced", "consistency": 0.0}),
        }
    )
    fold_of = planning.assign_folds(settings, train, weights, device)
    for fold in range(settings.folds.k):
        heldout, rest = (train.take(np.flatnonzero(rows)) for rows in (fold_of == fold, fold_of != fold))
        with short_training.open_short_training(settings, rest, device, weights) as training:
            batches = loader.make_train_loader(heldout, plain, fold=fold, loader_config=device.loader_config)
            yield _run_test(training, steps, bar, batches)


def _run_test(training: ShortTraining, steps: int, bar: Bar, heldout: Batches | None = None) -> list[LrStep]:
    from ffdi.training.tools import lr_finder

    trials = []
    for trial in lr_finder.run_range_test(*training, steps, heldout):
        trials.append(trial)
        bar.advance()
    return trials
