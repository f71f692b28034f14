"""Searches a few keys of an experiment on one of its folds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from ffdi import config, console, publish, stopping
from ffdi.errors import ConfigError, TrainingError
from ffdi.pipeline import planning, screens
from ffdi.pipeline.planning import Flags, Material
from ffdi.scoring.scores import FLOAT
from ffdi.search import halving, samplers
from ffdi.search.samplers import Sampler
from ffdi.search.space import Space
from ffdi.stopping import Stopped
from ffdi.store.experiment import Experiment
from ffdi.store.workspace import Workspace
from ffdi.variants import Keys

if TYPE_CHECKING:
    from ffdi.training.device import Device
    from ffdi.training.fold import Plan

FACTOR = 3
"""Of so many trials one is trained on; and each comparison is so many times as late as the one before."""
RUNGS = 3


@dataclass(eq=False)
class Trial:
    """A variant of the experiment, and its AUC at each comparison that it has reached."""

    experiment: Experiment
    keys: Keys
    scores: list[float] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether its training could not go on."""
        return not math.isfinite(self.scores[-1])


def run(
    workspace: Workspace,
    name: str,
    *,
    words: Sequence[str],
    sampler: str,
    trials: int | None,
    fold: int,
    flags: Flags,
    max_time: str | None,
) -> None:
    """Trains variants on one fold, the losing ones only for a part of the epochs; each one is an experiment.

    Args:
        workspace: where variants are written.
        name: the experiment that they are variants of.
        words: what is searched, as 'train.lr=1e-4,3e-4' or 'train.lr=1e-5..1e-2'.
        sampler: 'grid', 'random' or 'tpe'.
        trials: how many; None is all of a grid.
        fold: which one is held out.
        flags: the data and the device.
        max_time: after which to stop in good order, as '90m'.
    """
    end = stopping.end_of(max_time)
    base = workspace.experiment(name)
    settings = config.load(base.config_path)
    if fold >= settings.folds.k:
        raise ConfigError(f"--fold {fold}: this experiment has folds 0 to {settings.folds.k - 1}", hint="pass --fold 0")
    space = Space.of(words)
    _check_comparable(space)
    source = samplers.build(sampler, space, trials, settings.seed)
    publish.check_writable(base.sweep_path)
    where, _ = planning.chosen(workspace, settings, flags)
    _check_foreseen(workspace, base, source, flags)
    steps = halving.rungs(settings.train.epochs, RUNGS, FACTOR)
    console.title(f"sweep of {base.name} on fold {fold}: compared after {', '.join(map(str, steps))} epochs")
    console.say(f"device: {where.why}")
    material = planning.gather(workspace, base, settings, flags)
    with base.locked(), stopping.listening(end):
        sweep = _Sweep(workspace, base, material, flags, fold, steps)
        sweep.all(source)
    _show(base, sweep.trials, steps)
    if trials and len(sweep.trials) < trials:
        console.say(f"{trials} trials were asked for: the others would have been the same as one of these")


@dataclass
class _Sweep:
    """Trials so far."""

    workspace: Workspace
    base: Experiment
    material: Material
    flags: Flags
    fold: int
    steps: list[int]
    trials: list[Trial] = field(default_factory=list)

    def all(self, source: Sampler) -> None:
        """Trains until no trial has earned more."""
        closed = False
        while True:
            scores = {one.experiment.name: one.scores for one in self.trials}
            if (going := halving.promoted(scores, len(self.steps), FACTOR, closed=closed)) is not None:
                self._advance(next(one for one in self.trials if one.experiment.name == going))
            elif closed:
                return
            elif (keys := source.ask()) is None:
                closed = True
            else:
                trial = self._begun(keys)
                if trial not in self.trials:
                    self.trials.append(trial)
                    self._advance(trial)
                source.tell(keys, trial.scores[0])
            publish.text(self.base.sweep_path, _csv(self.trials, self.steps))

    def _begun(self, keys: Keys) -> Trial:
        experiment = self.workspace.variant(self.base, keys)
        same = (one for one in self.trials if one.experiment == experiment)
        return next(same, Trial(experiment, keys))

    def _advance(self, trial: Trial) -> None:
        """Trains a trial as far as its next comparison."""
        until = self.steps[len(trial.scores)]
        try:
            auc = self._trained(trial.experiment, until)
        except TrainingError as error:
            console.say(f"{trial.experiment.name}: {error.what}; {error.hint}")
            auc = -math.inf
        trial.scores.append(auc)
        console.say(f"{trial.experiment.name}: AUC {auc:.4f} after {until} of {self.steps[-1]} epochs")

    def _trained(self, experiment: Experiment, until: int) -> float:
        """The held-out AUC after so many epochs; what was trained before is not trained again."""
        settings = config.load(experiment.config_path)
        where, weights = planning.chosen(self.workspace, settings, self.flags)
        with experiment.locked():
            plan = planning.plan(experiment, settings, self.material, where, weights)
            curve = _curve(plan, experiment, self.fold)
            if len(curve) < until:
                curve += _train(plan, experiment, self.fold, until, where)
        return curve[until - 1]


def _check_comparable(space: Space) -> None:
    """Refuses keys that decide on what trials are compared, or nothing of what is compared."""
    for key in space.keys:
        section, _, rest = key.partition(".")
        if section in ("data", "folds") or key == "train.epochs":
            raise ConfigError(
                f"--set {key}: trials are compared on the same images after the same epochs",
                hint="copy config.toml to a new folder under experiments/ and change it there",
            )
        if section in ("predict", "ensemble", "export", "blend") or key == "train.checkpoint_every":
            raise ConfigError(
                f"--set {key}: the AUC of a held-out fold in training does not depend on it",
                hint="search keys of [model], [augment], [forge] or [train]",
            )
        if not rest and section != "seed":
            raise ConfigError(
                f"--set {key}: no key of config.toml that takes one value", hint="pass --set train.lr=1e-4,3e-4"
            )


def _check_foreseen(workspace: Workspace, base: Experiment, source: Sampler, flags: Flags) -> None:
    """Refuses trials that cannot be trained before the first one is."""
    seen = set()
    for keys in source.foreseen:
        settings = planning.variant(base, keys, "correct --set; docs/config.md has every key")
        network = settings.model, settings.augment.window, settings.train.batch_size, settings.train.precision
        if (asked := repr(network)) not in seen:
            planning.chosen(workspace, settings, flags)
            seen.add(asked)


def _curve(plan: Plan, experiment: Experiment, fold: int) -> list[float]:
    """The held-out AUC of the epochs that are done."""
    folder = experiment.fold(fold)
    if folder.finished(plan.identity, plan.folds_digest):
        return pd.read_csv(folder.history_path)["val_auc"].tolist()
    return [epoch["val_auc"] for epoch in folder.begun()]


def _train(plan: Plan, experiment: Experiment, fold: int, until: int, where: Device) -> list[float]:
    """Trains on to the end of an epoch; the AUC of each epoch on the way."""
    from ffdi.training import fold as folds
    from ffdi.training.fit import Step
    from ffdi.training.state import EpochRecord

    seen: list[float] = []
    events = folds.train(plan, experiment.fold(fold), where)
    with console.bar(experiment.name, until, counted=False) as bar:
        for event in events:
            for remark in screens.remarks(event):
                bar.say(f"{experiment.name}  {remark}")
            if isinstance(event, Step):
                bar.at(event.epoch + (event.step + 1) / event.steps, experiment.name)
            if isinstance(event, EpochRecord):
                seen.append(event.val_auc)
                if event.epoch + 1 == until < plan.config.train.epochs:
                    with suppress(Stopped):
                        events.throw(Stopped("compared with others", 0))  # which writes down where it is
                    break
    return seen


def _csv(trials: Sequence[Trial], steps: Sequence[int]) -> str:
    rows = [
        {
            "experiment": trial.experiment.name,
            **trial.keys,
            **{f"auc_after_{epochs}": score for epochs, score in zip(steps, trial.scores, strict=False)},
        }
        for trial in trials
    ]
    columns = ["experiment", *(trials[0].keys if trials else ()), *(f"auc_after_{epochs}" for epochs in steps)]
    frame = pd.DataFrame(rows).reindex(columns=columns)
    return frame.to_csv(index=False, float_format=FLOAT, lineterminator="\n")


def _show(base: Experiment, trials: Sequence[Trial], steps: Sequence[int]) -> None:
    ranked = sorted(trials, key=lambda trial: (trial.failed, -len(trial.scores), -trial.scores[-1]))
    rows = [
        (trial.experiment.name, *(f"{score:.4f}" for score in trial.scores), *[""] * (len(steps) - len(trial.scores)))
        for trial in ranked
    ]
    console.table(f"{len(trials)} trials: AUC of the held-out fold", ["", *(f"{one} epochs" for one in steps)], rows)
    console.say(f"written: {base.sweep_path}")
    if ranked[0].failed:
        console.say(f"next: lower train.lr in {base.config_path}: every trial has failed")
    else:
        console.say(f"next: invoke train-folds --experiment {ranked[0].experiment.name}")
