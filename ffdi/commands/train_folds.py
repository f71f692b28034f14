"""Trains the folds of experiments and scores each image with the network that did not train on it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ffdi.commands.shared import (
    changes,
    engines,
    features,
    groups,
    planning,
    progress_files,
    score_tables,
    scores,
    short_training,
)
from ffdi.commands.shared.engines import TrainJobs
from ffdi.commands.shared.features import FeatureCache
from ffdi.commands.shared.options import TrainFoldsOptions
from ffdi.commands.shared.planning import PreparedData
from ffdi.config import schema, variants
from ffdi.config.schema import Config
from ffdi.core import console, files, signals
from ffdi.core.errors import ConfigError, format_count, format_duration
from ffdi.evaluation import predictions
from ffdi.experiments.experiment import Experiment, describe_folders
from ffdi.experiments.fold import FoldFolder
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.training.checkpointing import ResumeEvent
    from ffdi.training.fold import FoldJob, TrainingPlan
    from ffdi.training.runtime.device import Device
    from ffdi.training.state import EpochRecord
    from ffdi.training.tools.budget import Forecast
    from ffdi.training.tools.profiler import Part
    from ffdi.training.tools.tensorboard import Writers


def run(workspace: Workspace, options: TrainFoldsOptions) -> None:
    """Trains the unfinished folds of experiments, then writes and shows the out-of-fold scores."""
    boards = _make_writers() if options.tensorboard else None
    end = signals.parse_deadline("--max-time", options.max_time)
    budget_end = signals.parse_deadline("--budget", options.budget)
    engines.check_engine(options)
    options = _apply_changes(workspace, options)
    members, _ = groups.resolve_experiments(workspace, options.experiment)
    if budget_end is not None:
        _check_budget(workspace, options)
    groups.write_group_variants(workspace, options.experiment)
    experiments = [workspace.get_experiment(name) for name in members]
    if options.profile:
        for experiment in experiments:
            _profile(workspace, experiment, options)
        return
    trainings = [_Training.create(workspace, experiment, options) for experiment in experiments]
    if budget_end is not None:
        _check_budget_for_images(trainings)
    for one in trainings:
        console.title(
            f"train-folds {one.experiment.name}: {one.settings.model.backbone}, "
            f"{format_count(one.settings.folds.k, 'fold')}"
        )
    k = _count_folds(trainings)
    with engines.open_engine(options, trainings[0].device, k) as train_jobs:
        data = planning.prepare_all(
            workspace, [(one.experiment, one.settings) for one in trainings], options, restart=options.restart
        )
        for one in trainings:
            planning.warn_if_not_exportable(workspace, one.settings)
        with ExitStack() as stack:
            for one in trainings:
                stack.enter_context(one.experiment.lock())
            stack.enter_context(signals.handle_signals(end))
            if budget_end is not None:
                trainings = _fit_budget(trainings, data, options, k, budget_end)
            for one in trainings if options.restart else []:
                one.experiment.discard()
            for one in trainings if budget_end is not None else []:
                one.write_epochs()
            plans, cache = [], FeatureCache(workspace, options)
            for one, prepared in zip(trainings, data, strict=True):
                plan = planning.make_plan(one.experiment, one.settings, prepared, one.device, one.weights)
                engines.check_gpus_per_fold(options.gpus_per_fold, plan)
                plans.append(one.add_features(plan, prepared, cache))
            _train(trainings, plans, train_jobs, boards)
            complete = [_gather(one.experiment, plan) for one, plan in zip(trainings, plans, strict=True)]
    if boards is not None:
        console.say(f"curves: tensorboard --logdir {workspace.experiments_folder}")
    if len(members) > 1 and all(complete):
        console.advise(f"invoke ensemble-submit{groups.repeat_flags(options.experiment, None)}")


def _apply_changes(workspace: Workspace, options: TrainFoldsOptions) -> TrainFoldsOptions:
    """The options after the changes of --set and --as: they name the changed experiment, or the new one.

    Raises:
        ConfigError: several experiments or a group would change; or as in `changes.open_experiment`.
        ExperimentError: as there.
    """
    if not options.set and options.as_ is None:
        return options
    if groups.is_several(workspace, options.experiment):
        raise ConfigError(
            "--set and --as change one experiment, and several are named",
            hint="pass one --experiment, or write a [group.grid] (docs/config.md)",
        )
    experiment = changes.open_experiment(
        workspace,
        options.experiment[0],
        options,
        restart=options.restart,
        fits_epochs=options.budget is not None,
    )
    return replace(options, experiment=(experiment.reference,), set=(), as_=None)


def _count_folds(trainings: Sequence[_Training]) -> int:
    """The number of folds of which some are trained at the same time.

    Heads on a CPU have one thread each, however many are trained at once, so that all cores are used.
    """
    device = trainings[0].device
    if device.kind == "cpu" and all(features.are_wanted(one.settings) for one in trainings):
        return min(device.threads, sum(len(one.folders) for one in trainings))
    return math.gcd(*(one.settings.folds.k for one in trainings))


def _check_budget(workspace: Workspace, options: TrainFoldsOptions) -> None:
    """Refuses flags and groups that --budget does not go with.

    Raises:
        ConfigError: there are such.
    """
    if options.profile:
        raise ConfigError("--budget and --profile: a profile trains a few steps only", hint="omit one of them")
    if options.engine != "local" or options.gpus_per_fold > 1:
        other = "--engine ray" if options.engine != "local" else f"--gpus-per-fold {options.gpus_per_fold}"
        raise ConfigError(
            f"--budget and {other}: --budget measures one device of this machine",
            hint=f"omit {other}, or omit --budget and set train.epochs in config.toml",
        )
    if groups.has_variants(workspace, options.experiment):
        raise ConfigError(
            "--budget changes train.epochs, and the experiments of a [group.grid] differ in the keys of the grid only",
            hint="omit --budget, and set train.epochs in the config.toml of the group's members",
        )


def _check_budget_for_images(trainings: Sequence[_Training]) -> None:
    """Refuses --budget for trainings on cached features.

    Raises:
        ConfigError: there is such a training.
    """
    for one in trainings:
        if features.are_wanted(one.settings):
            raise ConfigError(
                f"--budget measures steps on images, and {one.experiment.name} trains on cached features, in seconds",
                hint=f"omit --budget, or set augment.views = 0 in {one.experiment.config_path}",
            )


def _fit_budget(
    trainings: Sequence[_Training], data: Sequence[PreparedData], options: TrainFoldsOptions, k: int, end: float
) -> list[_Training]:
    """Gives each new training as many epochs as fit into its part of the time until `end`.

    Raises:
        ConfigError: the time is too short.
    """
    from ffdi.training.tools import budget

    for one in trainings:
        if not one.is_new(options):
            known = format_count(one.settings.train.epochs, "epoch")
            console.say(f"budget: {one.experiment.name} has started before, and keeps its {known}")
    left, planned, fitted = sum(one.is_new(options) for one in trainings), 0.0, []
    for one, prepared in zip(trainings, data, strict=True):
        if one.is_new(options):
            forecast = _forecast(one, prepared, options, k)
            part = (budget.SHARE * (end - time.monotonic()) - planned) / left
            epochs = max(forecast.choose_epochs(part), one.settings.train.freeze_epochs + 1)
            one = one._replace(settings=one.settings.with_epochs(epochs))
            seconds = forecast.estimate_seconds(epochs)
            if seconds > part:
                longer = format_duration(left * (seconds - part) / budget.SHARE)
                raise ConfigError(
                    f"--budget {options.budget}: {format_duration(max(part, 0))} are left for {one.experiment.name}, "
                    f"and {format_count(epochs, 'epoch')} of {format_count(len(one.folders), 'network')} would take "
                    f"{format_duration(seconds)}",
                    hint=f"pass a --budget that is longer by {longer}, fewer --folds, or set a smaller model.size in "
                    f"{one.experiment.config_path}",
                )
            left, planned = left - 1, planned + seconds
            console.say(
                f"budget: {one.experiment.name}: {format_count(epochs, 'epoch')} of "
                f"{format_count(len(one.folders), 'network')} will take about {format_duration(seconds)}"
            )
        fitted.append(one)
    return fitted


def _forecast(training: _Training, prepared: PreparedData, options: TrainFoldsOptions, k: int) -> Forecast:
    """Measures how long the folds of a training will take."""
    from ffdi.training import fold
    from ffdi.training.runtime import device as devices
    from ffdi.training.tools import budget

    settings, train = training.settings, prepared.train
    shared = devices.assign_devices(training.device, options.device, k, options.jobs)
    at_once = min(len(shared), len(training.folders))
    console.say(f"budget: measuring some steps of {training.experiment.name}")
    more = None if prepared.pseudo_labels is None else prepared.pseudo_labels.select_fold(settings.folds.k)
    rows = np.linspace(0, len(train) - 1, min(len(train), 2 * settings.train.batch_size)).astype(int)
    with (
        short_training.open_short_training(settings, train, shared[0][0], training.weights, more) as short,
        budget.keep_cores_busy(at_once - 1, short.state.detector, settings, short.device),
    ):
        heldout = fold.make_eval_batches(train.take(rows), settings, short.device)
        costs = budget.measure_costs(short.state, short.batches, heldout, settings, short.device)
    return budget.Forecast.count_work(
        costs,
        short.batches,
        k=settings.folds.k,
        val=0 if prepared.val is None else len(prepared.val),
        rounds=math.ceil(len(training.folders) / at_once),
        refit=training.folders[-1].fold == settings.folds.k,
    )


class _Training(NamedTuple):
    """An experiment to train, with the requested folds, and the network on all images if it is requested."""

    experiment: Experiment
    settings: Config
    folders: list[FoldFolder]
    device: Device
    weights: Path | None

    @classmethod
    def create(cls, workspace: Workspace, experiment: Experiment, options: TrainFoldsOptions) -> _Training:
        settings = schema.load_experiment(experiment.config_path)
        folders = _parse_folds(options.folds, experiment.list_trainings(settings.folds))
        return cls(experiment, settings, folders, *planning.choose_device(workspace, settings, options))

    def is_new(self, options: TrainFoldsOptions) -> bool:
        """Whether its training has not started, or is to start again."""
        return options.restart or not self.experiment.resolved_path.is_file()

    def write_epochs(self) -> None:
        """Writes train.epochs into config.toml, where it is another."""
        path, epochs = self.experiment.config_path, self.settings.train.epochs
        before = schema.load_experiment(path).train.epochs
        if epochs != before:
            content = variants.change_keys(path.read_text(encoding="utf-8"), {"train.epochs": epochs})
            files.write_text(path, content)
            console.written(path, about=f": train.epochs = {epochs}, which was {before}")

    def add_features(self, plan: TrainingPlan, data: PreparedData, cache: FeatureCache) -> TrainingPlan:
        """The plan with the features that its folds need, if they train on features and one of them is unfinished."""
        if not self.experiment.list_unfinished(self.folders, plan.identity):
            return plan
        return replace(plan, features=cache.prepare(self.settings, self.weights, data, self.device))

    def make_jobs(self, plan: TrainingPlan, label: str) -> list[FoldJob]:
        """A job for each unfinished network; prints which ones are finished."""
        from ffdi.training.fold import FoldJob

        unfinished = self.experiment.list_unfinished(self.folders, plan.identity)
        for folder in self.folders:
            if folder not in unfinished:
                folder.open_checkpoints(plan.identity, plan.folds_digest).clear()  # a killed process may have left them
                console.say(f"{label}{folder.label}: finished before, kept")
        return [FoldJob(plan, folder, self.device.precision) for folder in unfinished]


def _make_writers() -> Writers:
    from ffdi.training.tools import tensorboard as board

    board.check_installed()
    return board.Writers()


def _train(
    trainings: Sequence[_Training], plans: Sequence[TrainingPlan], train_jobs: TrainJobs, boards: Writers | None
) -> None:
    from ffdi.engines.job import JobFailure
    from ffdi.training.loop import Step
    from ffdi.training.state import EpochRecord

    label: dict[FoldJob, str] = {}
    for one, plan in zip(trainings, plans, strict=True):
        prefix = f"{one.experiment.name}  " if len(trainings) > 1 else ""
        label |= dict.fromkeys(one.make_jobs(plan, prefix), prefix)
    done, waiting = dict.fromkeys(label, 0.0), iter(label)
    total = sum(job.plan.config.train.epochs for job in label)
    what = f"training {format_count(len(label), 'network')}"

    def take_next() -> FoldJob | None:
        if (job := next(waiting, None)) is not None:
            recorder.start(job)
        return job

    with (
        console.bar(what, total, counted=False) as bar,
        progress_files.record_progress(bar.warn) as recorder,
        train_jobs(take_next) as events,
    ):
        if bar.is_visible and label:
            named = groups.repeat_flags([one.experiment.reference for one in trainings], None)
            bar.say(f"to follow it in a browser: invoke report --live{named}")
        for job, event in events:
            recorder.add(job, event)
            name, epochs = f"{label[job]}{job.folder.label}", job.plan.config.train.epochs
            if isinstance(event, JobFailure):
                raise event.error
            if isinstance(event, Step):
                done[job] = event.epoch + (event.step + 1) / event.steps
                whole = f" of {job.plan.config.folds.k}" if job.folder.fold < job.plan.config.folds.k else ""
                bar.at(sum(done.values()), f"{name}{whole}, {engines.describe_step(event, epochs)}")
            if boards is not None and isinstance(event, EpochRecord):
                boards.add_epoch(job.folder.board_folder, event)
            for warning in engines.describe_warnings(event):
                bar.warn(f"{name}  {warning}")
            for line in _describe_progress(event, epochs):
                bar.say(f"{name}  {line}")


def _describe_progress(event: object, epochs: int) -> list[str]:
    from ffdi.training.checkpointing import ResumeEvent
    from ffdi.training.state import EpochRecord

    if isinstance(event, ResumeEvent):
        return [_describe_resume(event, epochs)]
    if isinstance(event, EpochRecord):
        return [
            f"epoch {event.epoch + 1:>2}/{epochs}  loss {event.train_loss:.4f}  {_describe_heldout(event)}"
            f"{event.images_per_second:.0f} images/s"
        ]
    return []


def _describe_heldout(record: EpochRecord) -> str:
    """The scores of the held-out fold; empty if there is none."""
    if record.heldout_auc is None:
        return ""
    accuracy = f"accuracy {record.heldout_accuracy:.4f}  " if console.width() >= score_tables.WIDE else ""
    return f"held-out: loss {record.heldout_loss:.4f}  {accuracy}AUC {record.heldout_auc:.4f}  "


def _parse_folds(folds: str | None, folders: Sequence[FoldFolder]) -> list[FoldFolder]:
    """The folders that --folds names, such as '0,2' or 'refit'; without the flag all."""
    if folds is None:
        return list(folders)
    known = {folder.label.removeprefix("fold "): folder for folder in folders}
    words = {word.strip() for word in folds.split(",")}
    if not words <= set(known):
        numbers = [name for name in known if name.isdecimal()]
        more = " and refit" if len(numbers) < len(known) else ""
        raise ConfigError(
            f"--folds {folds}: this experiment has folds 0 to {numbers[-1]}{more}", hint="pass --folds 0,1"
        )
    return [folder for name, folder in known.items() if name in words]


def _describe_resume(resumed: ResumeEvent, epochs: int) -> str:
    if resumed.epoch == epochs:
        return "trained before; only its scores are missing"
    if resumed.epoch == resumed.step == 0:
        return "starts again"
    return f"resumes in epoch {resumed.epoch + 1}/{epochs}, after {format_count(resumed.step, 'step')} of it"


def _gather(experiment: Experiment, plan: TrainingPlan) -> bool:
    """Merges the folds' predictions into oof.csv and metrics.json; False if a network is unfinished."""
    trainings, k = experiment.list_trainings(plan.config.folds), plan.config.folds.k
    missing = experiment.list_unfinished(trainings, plan.identity)
    if any(folder in missing for folder in trainings[:k]):
        console.say(
            f"still to train: {describe_folders(missing)}; out-of-fold scores need all {format_count(k, 'fold')}"
        )
        console.advise(f"invoke train-folds --experiment {experiment.argument}")
        return False
    parts = [predictions.read_predictions(folder.oof_path) for folder in trainings[:k]]
    assert plan.train.target is not None
    oof = predictions.merge_predictions(parts, plan.train.img_name, plan.fold_of, plan.train.target)
    files.write_text(experiment.oof_path, oof.to_csv())
    scores.publish_scores(experiment, oof, plan.train.group, plan.train.kind)
    console.written(experiment.oof_path, experiment.metrics_path)
    if missing:
        console.say(f"still to train: {describe_folders(missing)}, which ensemble-submit and export-onnx need")
        console.advise(f"invoke train-folds --experiment {experiment.argument}")
        return False
    console.advise(f"invoke ensemble-submit --experiment {experiment.argument}")
    return True


def _profile(workspace: Workspace, experiment: Experiment, options: TrainFoldsOptions) -> None:
    """Trains a few steps, shows the time of each part of a step, and writes the profiler's trace."""
    from ffdi.training.tools import profiler

    with (
        short_training.start_short_training(workspace, experiment, options, "profile", profiler.STEPS) as training,
        files.open_atomic(experiment.trace_path) as path,
    ):
        settings = training.settings
        measured = profiler.profile_steps(training.state, training.batches, settings, training.device, path)
    total = sum(part.milliseconds for part in measured.parts)
    _show_parts(f"a step of {format_count(settings.train.batch_size, 'image')}, in this process", measured.parts, total)
    _show_parts("the slowest operators on the device", measured.operators, total)
    console.say(f"{measured.images_per_second:.1f} images/s without the profiler")
    console.say(f"limit: {measured.limit}")
    console.written(experiment.trace_path, about=", to be opened in chrome://tracing or Perfetto")
    console.advise(f"invoke train-folds --experiment {experiment.argument}")


def _show_parts(heading: str, parts: Sequence[Part], total: float) -> None:
    rows = [(part.name, f"{part.milliseconds:.1f}", f"{100 * part.milliseconds / total:.1f} %") for part in parts]
    console.table(heading, ["", "ms", "of a step"], rows)
