"""Searches a few keys of an experiment on one of its folds, or on all kinds of fakes that its folds leave out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ffdi.commands.shared import engines, features, planning, setting_checks
from ffdi.commands.shared.engines import TrainJobs
from ffdi.commands.shared.features import FeatureCache
from ffdi.commands.shared.options import SweepOptions
from ffdi.commands.shared.planning import PreparedData
from ffdi.config import schema
from ffdi.config.schema import Config
from ffdi.config.variants import Keys
from ffdi.core import console, files, signals
from ffdi.core.errors import ConfigError, ExperimentError, TrainingError, format_count
from ffdi.evaluation.score_table import FLOAT
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace
from ffdi.search import halving, samplers
from ffdi.search.samplers import Sampler
from ffdi.search.space import Space

if TYPE_CHECKING:
    from ffdi.core.console import Bar
    from ffdi.training.fold import FoldJob, TrainingPlan

FACTOR = 3
"""One of this number of trials is continued; the epochs before a comparison grow by the same factor."""
RUNGS = 3
CORRECT = "correct --set; docs/config.md has every key"


@dataclass(eq=False)
class Trial:
    """A variant of the experiment.

    Attributes:
        keys: the values that differ from the experiment.
        requests: the same values, once for each request of the sampler that still waits for the score.
        scores: the AUC at each comparison so far, the mean of the folds.
        curves: by fold, the AUC after each trained epoch.
        lock: holds the lock of the variant while it is trained.
    """

    experiment: Experiment
    keys: Keys
    requests: list[Keys] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    curves: dict[int, list[float]] = field(default_factory=dict)
    lock: ExitStack = field(default_factory=ExitStack)

    @property
    def failed(self) -> bool:
        return not math.isfinite(self.scores[-1])


def run(workspace: Workspace, options: SweepOptions) -> None:
    """Trains variants of an experiment on the folds that judge; the losing variants are trained for fewer epochs."""
    end = signals.parse_deadline("--max-time", options.max_time)
    engines.check_engine(options)
    base = workspace.get_experiment(options.experiment)
    settings = schema.load_experiment(base.config_path)
    judges = _choose_folds(settings, options)
    space = Space.parse(options.set)
    _check_comparable(base, space)
    sampler = samplers.build_sampler(options.sampler, space, options.trials, settings.seed)
    files.check_writable(base.sweep_path)
    device, _ = planning.choose_device(workspace, settings, options)
    foreseen = _check_foreseen(workspace, base, sampler, options)
    rungs = halving.list_rungs(settings.train.epochs, RUNGS, FACTOR)
    compared = ", ".join([*map(str, rungs[:-1]), format_count(rungs[-1], "epoch")])
    where = f"fold {options.fold}" if len(judges) == 1 else f"the {format_count(len(judges), 'fold')} of left-out kinds"
    console.title(f"sweep of {base.name} on {where}: compared after {compared}")
    with engines.open_engine(options, device, None) as train_jobs:
        data = planning.prepare_data(workspace, base, settings, options)
        for one in foreseen:
            planning.warn_if_not_exportable(workspace, one)
        sweep = _Sweep(workspace, base, data, options, sampler, rungs, judges, FeatureCache(workspace, options))
        with base.lock(), signals.handle_signals(end):
            for keys in sampler.foreseen:
                sweep.prepare_features(planning.make_variant(base, keys, CORRECT))
            sweep.train(train_jobs)
    _show(sweep)
    if options.trials and len(sweep.trials) < options.trials:
        console.say(f"{format_count(options.trials, 'trial')} were requested: the others would repeat one of these")


@dataclass
class _Sweep:
    """The trials so far.

    Attributes:
        rungs: the epochs after which trials are compared.
        judges: the folds whose mean AUC is compared.
        cache: of features, for linear probes.
        trials: by name, in the order of their start.
        running: the trials in training.
        waiting: trials of which another fold is to be trained for the same comparison.
        exhausted: whether the sampler has no more trials.
    """

    workspace: Workspace
    base: Experiment
    data: PreparedData
    options: SweepOptions
    sampler: Sampler
    rungs: list[int]
    judges: list[int]
    cache: FeatureCache
    trials: dict[str, Trial] = field(default_factory=dict)
    running: dict[FoldJob, Trial] = field(default_factory=dict)
    waiting: list[Trial] = field(default_factory=list)
    exhausted: bool = False

    def train(self, train_jobs: TrainJobs) -> None:
        """Trains until no trial is to be continued."""
        with (
            console.bar("first trial", self.rungs[-1], counted=False) as bar,
            train_jobs(lambda: self._next_job(bar)) as events,
        ):
            try:
                for job, event in events:
                    self._handle_event(job, event, bar)
            finally:
                for trial in self.trials.values():
                    trial.lock.close()

    def _next_job(self, bar: Bar) -> FoldJob | None:
        """The next job; None while it depends on running jobs, and at the end."""
        while (trial := self._choose_trial()) is not None:
            if (job := self._make_job(trial, bar)) is not None:
                self.running[job] = trial
                return job
            self._compare(trial, self._average(trial), bar)
        return None

    def _choose_trial(self) -> Trial | None:
        if self.waiting:
            return self.waiting.pop(0)
        return self._promote_trial() or self._start_trial() or self._promote_trial()

    def _average(self, trial: Trial) -> float:
        """The score at the trial's next comparison."""
        rung = self._next_rung(trial)
        return sum(trial.curves[fold][rung - 1] for fold in self.judges) / len(self.judges)

    def _promote_trial(self) -> Trial | None:
        scores = {name: trial.scores for name, trial in self.trials.items()}
        running = [trial.experiment.name for trial in (*self.running.values(), *self.waiting)]
        closed = self.exhausted and not running  # a better trial may follow until then
        name = halving.promote(scores, len(self.rungs), FACTOR, running=running, closed=closed)
        return None if name is None else self.trials[name]

    def _start_trial(self) -> Trial | None:
        """A new trial; None if the sampler has no more."""
        while (keys := self.sampler.ask()) is not None:
            experiment = self.workspace.create_variant(self.base, keys)
            new = experiment.name not in self.trials
            trial = self.trials.setdefault(experiment.name, Trial(experiment, keys))
            trial.requests.append(keys)
            if new:
                return trial
            self._report_score(trial)
        self.exhausted = True
        return None

    def _next_rung(self, trial: Trial) -> int:
        """The number of epochs before the trial's next comparison."""
        return self.rungs[len(trial.scores)]

    def read_base(self) -> float | None:
        """The AUC of the experiment itself after all epochs; None if the folds that judge are not trained as it is."""
        folders = [self.base.get_fold(fold) for fold in self.judges]
        if not all(folder.manifest_path.is_file() for folder in folders):
            return None
        try:
            self.base.load_training()
        except ExperimentError:  # config.toml has changed since
            return None
        return float(np.mean([folder.read_history()["heldout_auc"].iloc[-1] for folder in folders]))

    def prepare_features(self, settings: Config) -> None:
        """Computes the missing features for a trial, if it is trained on features."""
        if features.are_wanted(settings):
            device, weights = planning.choose_device(self.workspace, settings, self.options)
            self.cache.prepare(settings, weights, self.data, device)

    def _make_job(self, trial: Trial, bar: Bar) -> FoldJob | None:
        """The training of a fold until the next comparison; None if all folds were trained that far."""
        from ffdi.training.fold import FoldJob

        experiment, epochs = trial.experiment, self._next_rung(trial)
        settings = schema.load_experiment(experiment.config_path)
        device, weights = planning.choose_device(self.workspace, settings, self.options)
        trial.lock.enter_context(experiment.lock())
        plan = planning.make_plan(experiment, settings, self.data, device, weights)
        engines.check_gpus_per_fold(self.options.gpus_per_fold, plan)
        for fold in self.judges:
            trial.curves[fold] = _read_curve(plan, experiment, fold)
            if len(trial.curves[fold]) < epochs:
                plan = replace(plan, features=self.cache.prepare(settings, weights, self.data, device, bar))
                return FoldJob(plan, experiment.get_fold(fold), device.precision, epochs)
        trial.lock.close()
        return None

    def _handle_event(self, job: FoldJob, event: object, bar: Bar) -> None:
        from ffdi.engines.job import JobEnd, JobFailure
        from ffdi.training.loop import Step
        from ffdi.training.state import EpochRecord

        trial = self.running[job]
        name = trial.experiment.name
        for warning in engines.describe_warnings(event):
            bar.warn(f"{name}  {warning}")
        if isinstance(event, Step):
            step = engines.describe_step(event, self._next_rung(trial))
            number = 1 + list(self.trials).index(name)
            done = event.epoch + (event.step + 1) / event.steps
            fold = f", {job.folder.label}" if len(self.judges) > 1 else ""
            bar.at(done, f"trial {number}{fold}, {step}: {name}")
        elif isinstance(event, EpochRecord):
            curve = trial.curves[job.folder.fold]
            assert event.heldout_auc is not None, "a trial holds a fold out"
            curve[event.epoch :] = [event.heldout_auc]  # after a lost machine some epochs are reported twice
        elif isinstance(event, JobFailure) and not isinstance(event.error, TrainingError):
            raise event.error
        elif isinstance(event, JobEnd | JobFailure):
            del self.running[job]
            trial.lock.close()
            if isinstance(event, JobFailure):
                bar.warn(f"{name}: {event.error.what}; {event.error.hint}")
                self._compare(trial, -math.inf, bar)
            elif job.folder.fold == self.judges[-1]:
                self._compare(trial, self._average(trial), bar)
            else:
                self.waiting.append(trial)

    def _compare(self, trial: Trial, auc: float, bar: Bar) -> None:
        """Records the score of a trial at a comparison."""
        bar.say(
            f"{trial.experiment.name}: AUC {auc:.4f} after {self._next_rung(trial)} of "
            f"{format_count(self.rungs[-1], 'epoch')}"
        )
        trial.scores.append(auc)
        self._report_score(trial)
        files.write_text(self.base.sweep_path, _format_csv(list(self.trials.values()), self.rungs))

    def _report_score(self, trial: Trial) -> None:
        """Gives the sampler the first score of a trial, if there is one, for each of its requests."""
        while trial.scores and trial.requests:
            self.sampler.tell(trial.requests.pop(), trial.scores[0])


def _choose_folds(settings: Config, options: SweepOptions) -> list[int]:
    """The folds whose mean AUC decides between trials.

    Raises:
        ConfigError: there are no such folds.
    """
    setting_checks.check_judge(settings, options.judge, "heldout")
    k = settings.folds.k
    if options.judge == "ood":
        return list(range(k))
    if options.fold >= k:
        raise ConfigError(f"--fold {options.fold}: this experiment has folds 0 to {k - 1}", hint="pass --fold 0")
    return [options.fold]


def _check_comparable(base: Experiment, space: Space) -> None:
    """Refuses keys that make trials incomparable, and keys that do not change the score."""
    for key in space.keys:
        section, _, rest = key.partition(".")
        make_another = (
            f"make another experiment and search that: invoke doctor --experiment {base.argument} {base.suggest_as()} "
            f"--set {key}=VALUE"
        )
        if section in ("data", "folds") or key == "train.epochs":
            raise ConfigError(
                f"--set {key}: trials are compared on the same images after the same epochs",
                hint=make_another,
            )
        if key == "pseudo_fakes.autoencoder":
            raise ConfigError(
                f"--set {key}: reconstructions are made before the first trial, by one autoencoder",
                hint=make_another,
            )
        if key in ("distill.teachers", "pseudo_labels.name"):
            raise ConfigError(
                f"--set {key}: all trials are trained on the same images and scores",
                hint=make_another,
            )
        outside = section == "train" and rest in schema.OUTSIDE_IDENTITY
        if outside or section in ("predict", "ensemble", "export", "group"):
            raise ConfigError(
                f"--set {key}: the AUC of a held-out fold in training does not depend on it",
                hint="search keys of [model], [augment], [pseudo_fakes], [pseudo_labels], [distill] or [train]",
            )
        if not rest and section != "seed":
            raise ConfigError(
                f"--set {key}: not a key of config.toml with one value", hint="pass --set train.lr=1e-4,3e-4"
            )


def _check_foreseen(workspace: Workspace, base: Experiment, sampler: Sampler, options: SweepOptions) -> list[Config]:
    """Checks the known trials before the first training; returns the settings of each network among them."""
    seen: dict[str, Config] = {}
    for keys in sampler.foreseen:
        settings = planning.make_variant(base, keys, CORRECT)
        network = settings.model, settings.augment.crop_size, settings.train.batch_size, settings.train.precision
        if (key := repr(network)) not in seen:
            planning.choose_device(workspace, settings, options)
            seen[key] = settings
    return list(seen.values())


def _read_curve(plan: TrainingPlan, experiment: Experiment, fold: int) -> list[float]:
    """The held-out AUC after each trained epoch."""
    folder = experiment.get_fold(fold)
    if folder.is_finished(plan.identity, plan.folds_digest):
        return folder.read_history()["heldout_auc"].tolist()
    return [epoch["heldout_auc"] for epoch in folder.read_checkpoint_history()]


def _format_csv(trials: Sequence[Trial], rungs: Sequence[int]) -> str:
    rows = [
        {
            "experiment": trial.experiment.name,
            **trial.keys,
            **{f"auc_after_{epochs}": score for epochs, score in zip(rungs, trial.scores, strict=False)},
        }
        for trial in trials
    ]
    columns = ["experiment", *(trials[0].keys if trials else ()), *(f"auc_after_{epochs}" for epochs in rungs)]
    frame = pd.DataFrame(rows).reindex(columns=columns)
    return frame.to_csv(index=False, float_format=FLOAT, lineterminator="\n")


def _show(sweep: _Sweep) -> None:
    """Shows the trials, the best one first, beside the experiment itself, and suggests to train the best of all."""
    base, rungs = sweep.base, sweep.rungs
    ranked = sorted(sweep.trials.values(), key=lambda trial: (trial.failed, -len(trial.scores), -trial.scores[-1]))
    rows = [
        (trial.experiment.name, *(f"{score:.4f}" for score in trial.scores), *[""] * (len(rungs) - len(trial.scores)))
        for trial in ranked
    ]
    before = sweep.read_base()
    if before is not None:
        rows.insert(0, (f"{base.name}, as it is", *[""] * (len(rungs) - 1), f"{before:.4f}"))
    where = f"fold {sweep.judges[0]}" if len(sweep.judges) == 1 else "the folds of left-out kinds, mean"
    columns = ["", *(format_count(one, "epoch") for one in rungs)]
    console.table(f"{format_count(len(ranked), 'trial')}: AUC of {where}, without TTA", columns, rows)
    console.written(base.sweep_path)
    best = ranked[0]
    if best.failed:
        console.say("every trial has failed: a lower train.lr may help")
        console.advise(f"invoke find-lr --experiment {base.argument}")
    elif before is not None and best.scores[-1] <= before:
        console.say(f"no trial is better than {base.name} itself")
        console.advise(f"invoke train-folds --experiment {base.argument}")
    else:
        if before is None:
            console.say(f"{base.name} itself is not compared: its fold is not trained with its config")
        console.note_values(best.keys)
        console.advise(f"invoke train-folds --experiment {best.experiment.argument}")
