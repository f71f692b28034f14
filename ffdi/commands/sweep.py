"""Searches a few keys of an experiment on one of its folds."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from ffdi.commands.shared import engines, planning, screens
from ffdi.commands.shared.engines import Engine, Run
from ffdi.commands.shared.planning import Flags, PreparedData
from ffdi.config import schema
from ffdi.config.variants import Keys
from ffdi.core import console, files, signals
from ffdi.core.errors import ConfigError, TrainingError
from ffdi.evaluation.score_table import FLOAT
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace
from ffdi.search import halving, samplers
from ffdi.search.samplers import Sampler
from ffdi.search.space import Space

if TYPE_CHECKING:
    from ffdi.core.console import Bar
    from ffdi.engines.job import Job
    from ffdi.training.fold import Plan

FACTOR = 3
"""Of so many trials one is trained on; and each comparison is so many times as late as the one before."""
RUNGS = 3


@dataclass(eq=False)
class Trial:
    """A variant of the experiment.

    Attributes:
        keys: what it differs in.
        asked: the same, as often as the sampler has asked for it without hearing yet how it scores.
        scores: its AUC at each comparison that it has reached.
        curve: its AUC after each epoch that it was trained for.
        held: its lock, while it is being trained.
    """

    experiment: Experiment
    keys: Keys
    asked: list[Keys] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    held: ExitStack = field(default_factory=ExitStack)

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
    engine: Engine,
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
        engine: where trials are trained, and how many at once.
        max_time: after which to stop in good order, as '90m'.
    """
    end = signals.parse_max_time(max_time)
    engine.check()
    base = workspace.experiment(name)
    settings = schema.load(base.config_path)
    if fold >= settings.folds.k:
        raise ConfigError(f"--fold {fold}: this experiment has folds 0 to {settings.folds.k - 1}", hint="pass --fold 0")
    space = Space.of(words)
    _check_comparable(space)
    source = samplers.build_sampler(sampler, space, trials, settings.seed)
    files.check_writable(base.sweep_path)
    where, _ = planning.choose_device(workspace, settings, flags)
    _check_foreseen(workspace, base, source, flags)
    steps = halving.list_rungs(settings.train.epochs, RUNGS, FACTOR)
    console.title(f"sweep of {base.name} on fold {fold}: compared after {', '.join(map(str, steps))} epochs")
    with engines.open_engine(engine, where, flags.device, flags.workers, None) as run:
        material = planning.prepare_data(workspace, base, settings, flags)
        sweep = _Sweep(workspace, base, material, flags, engine, source, fold, steps)
        with base.locked(), signals.handle_signals(end):
            sweep.all(run)
    _show(base, list(sweep.trials.values()), steps)
    if trials and len(sweep.trials) < trials:
        console.say(f"{trials} trials were asked for: the others would have been the same as one of these")


@dataclass
class _Sweep:
    """Trials so far.

    Attributes:
        trials: by name, in the order in which they were begun.
        going: those that are being trained.
        closed: whether no new one will come.
    """

    workspace: Workspace
    base: Experiment
    material: PreparedData
    flags: Flags
    engine: Engine
    source: Sampler
    fold: int
    steps: list[int]
    trials: dict[str, Trial] = field(default_factory=dict)
    going: dict[Job, Trial] = field(default_factory=dict)
    closed: bool = False

    def all(self, run: Run) -> None:
        """Trains until no trial has earned more."""
        with console.bar("sweep", self.steps[-1], counted=False) as bar, run(lambda: self._next(bar)) as heard:
            try:
                for job, event in heard:
                    self._hear(job, event, bar)
            finally:
                for trial in self.trials.values():
                    trial.held.close()

    def _next(self, bar: Bar) -> Job | None:
        """What is to be trained next; None where that hangs on those that are being trained, or nothing is left."""
        while (trial := self._promoted() or self._begun() or self._promoted()) is not None:
            if (job := self._job(trial)) is not None:
                self.going[job] = trial
                return job
            self._compare(trial, trial.curve[self._until(trial) - 1], bar)
        return None

    def _promoted(self) -> Trial | None:
        scores = {name: trial.scores for name, trial in self.trials.items()}
        going = [trial.experiment.name for trial in self.going.values()]
        closed = self.closed and not going  # else one that is better may still be coming
        name = halving.promote(scores, len(self.steps), FACTOR, going=going, closed=closed)
        return None if name is None else self.trials[name]

    def _begun(self) -> Trial | None:
        """One that was not there yet; None where there are no more."""
        while (keys := self.source.ask()) is not None:
            experiment = self.workspace.variant(self.base, keys)
            new = experiment.name not in self.trials
            trial = self.trials.setdefault(experiment.name, Trial(experiment, keys))
            trial.asked.append(keys)
            if new:
                return trial
            self._tell(trial)
        self.closed = True
        return None

    def _until(self, trial: Trial) -> int:
        """After how many epochs it is compared next."""
        return self.steps[len(trial.scores)]

    def _job(self, trial: Trial) -> Job | None:
        """Its training as far as the next comparison; None where it came that far before."""
        from ffdi.engines.job import Job

        experiment, until = trial.experiment, self._until(trial)
        settings = schema.load(experiment.config_path)
        where, weights = planning.choose_device(self.workspace, settings, self.flags)
        trial.held.enter_context(experiment.locked())
        plan = planning.make_plan(experiment, settings, self.material, where, weights)
        self.engine.check_company(plan)
        trial.curve = _curve(plan, experiment, self.fold)
        if len(trial.curve) < until:
            return Job(plan, experiment.fold(self.fold), where.precision, until)
        trial.held.close()
        return None

    def _hear(self, job: Job, event: object, bar: Bar) -> None:
        """What happened to a trial."""
        from ffdi.engines.job import Ended, Failed
        from ffdi.training.loop import Step
        from ffdi.training.state import EpochRecord

        trial = self.going[job]
        name = trial.experiment.name
        for remark in screens.remarks(event):
            bar.warn(f"{name}  {remark}")
        if isinstance(event, Step):
            bar.at(event.epoch + (event.step + 1) / event.steps, name)
        elif isinstance(event, EpochRecord):
            trial.curve[event.epoch :] = [event.heldout_auc]  # where a machine was lost, some epochs are told twice
        elif isinstance(event, Failed) and not isinstance(event.error, TrainingError):
            raise event.error
        elif isinstance(event, Ended | Failed):
            del self.going[job]
            trial.held.close()
            if isinstance(event, Failed):
                bar.warn(f"{name}: {event.error.what}; {event.error.hint}")
            self._compare(trial, -math.inf if isinstance(event, Failed) else trial.curve[self._until(trial) - 1], bar)

    def _compare(self, trial: Trial, auc: float, bar: Bar) -> None:
        """A trial has reached its next comparison."""
        bar.say(f"{trial.experiment.name}: AUC {auc:.4f} after {self._until(trial)} of {self.steps[-1]} epochs")
        trial.scores.append(auc)
        self._tell(trial)
        files.write_text(self.base.sweep_path, _csv(list(self.trials.values()), self.steps))

    def _tell(self, trial: Trial) -> None:
        """Tells the sampler, once it is known, how what it has asked for scores."""
        while trial.scores and trial.asked:
            self.source.tell(trial.asked.pop(), trial.scores[0])


def _check_comparable(space: Space) -> None:
    """Refuses keys that decide on what trials are compared, or nothing of what is compared."""
    for key in space.keys:
        section, _, rest = key.partition(".")
        if section in ("data", "folds") or key == "train.epochs":
            raise ConfigError(
                f"--set {key}: trials are compared on the same images after the same epochs",
                hint="copy config.toml to a new folder under experiments/ and change it there",
            )
        if section in ("predict", "ensemble", "export", "group") or key == "train.checkpoint_seconds":
            raise ConfigError(
                f"--set {key}: the AUC of a held-out fold in training does not depend on it",
                hint="search keys of [model], [augment], [pseudo_fakes] or [train]",
            )
        if not rest and section != "seed":
            raise ConfigError(
                f"--set {key}: no key of config.toml that takes one value", hint="pass --set train.lr=1e-4,3e-4"
            )


def _check_foreseen(workspace: Workspace, base: Experiment, source: Sampler, flags: Flags) -> None:
    """Refuses trials that cannot be trained before the first one is."""
    seen = set()
    for keys in source.foreseen:
        settings = planning.make_variant(base, keys, "correct --set; docs/config.md has every key")
        network = settings.model, settings.augment.crop_size, settings.train.batch_size, settings.train.precision
        if (asked := repr(network)) not in seen:
            planning.choose_device(workspace, settings, flags)
            seen.add(asked)


def _curve(plan: Plan, experiment: Experiment, fold: int) -> list[float]:
    """The held-out AUC of the epochs that are done."""
    folder = experiment.fold(fold)
    if folder.finished(plan.identity, plan.folds_digest):
        return folder.history()["heldout_auc"].tolist()
    return [epoch["heldout_auc"] for epoch in folder.begun()]


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
    console.written(base.sweep_path)
    if ranked[0].failed:
        console.advise(f"lower train.lr in {base.config_path}: every trial has failed")
    else:
        console.advise(f"invoke train-folds --experiment {shlex.quote(ranked[0].experiment.name)}")
