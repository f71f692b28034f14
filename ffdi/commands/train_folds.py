"""Trains an experiment's folds and scores them out of fold."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ffdi.commands.shared import engines, lists, planning, profile, scores, screens
from ffdi.commands.shared.engines import Engine, Run
from ffdi.commands.shared.planning import Flags, PreparedData
from ffdi.config import schema
from ffdi.config.schema import Config
from ffdi.core import console, files, signals
from ffdi.core.errors import ConfigError
from ffdi.evaluation import predictions
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.engines.job import Job
    from ffdi.training.checkpointing import Resumed
    from ffdi.training.fold import Plan
    from ffdi.training.runtime.device import Device
    from ffdi.training.tools.tensorboard import Writers


def run(
    workspace: Workspace,
    names: Sequence[str],
    *,
    data: str | None,
    folds: str | None,
    device: str,
    engine: Engine,
    workers: int | None,
    accept: str | None,
    restart: bool,
    profiled: bool,
    tensorboard: bool,
    max_time: str | None,
) -> None:
    """Trains experiments' folds, those that are not finished, and scores them out of fold.

    `profiled` trains for a few steps only, and says where the time goes; `tensorboard` writes curves as they grow.
    """
    boards = _boards() if tensorboard else None
    end = signals.parse_max_time(max_time)
    engine.check()
    members, _ = lists.resolve_experiments(workspace, names)
    lists.make_listed_experiments(workspace, names)
    flags = Flags(data, device, workers, accept)
    experiments = [workspace.experiment(name) for name in members]
    if profiled:
        for experiment in experiments:
            profile.run(workspace, experiment, flags)
        return
    ready = [_Ready.of(workspace, experiment, flags, folds) for experiment in experiments]
    for one in ready:
        console.title(f"train-folds {one.experiment.name}: {one.settings.model.backbone}, {one.settings.folds.k} folds")
    k = math.gcd(*(one.settings.folds.k for one in ready))
    with engines.open_engine(engine, ready[0].where, device, workers, k) as run:
        materials = planning.prepare_all(workspace, [(one.experiment, one.settings) for one in ready], flags)
        with ExitStack() as held:
            for one in ready:
                held.enter_context(one.experiment.locked())
            held.enter_context(signals.handle_signals(end))
            for one in ready if restart else []:
                one.experiment.discard()
            begun = [one.begun(material, engine) for one, material in zip(ready, materials, strict=True)]
            _train(begun, run, boards)
            whole = [_gather(one.experiment, one.plan) for one in begun]
    if boards is not None:
        console.say(f"curves: tensorboard --logdir {workspace.experiments_folder}")
    if len(members) > 1 and all(whole):
        console.advise(f"invoke ensemble-submit{screens.repeat_flags(names, None)}")


class _Ready(NamedTuple):
    """An experiment that can be trained, as far as that is known without its images."""

    experiment: Experiment
    settings: Config
    folds: list[int]
    where: Device
    weights: Path | None

    @classmethod
    def of(cls, workspace: Workspace, experiment: Experiment, flags: Flags, folds: str | None) -> _Ready:
        settings = schema.load(experiment.config_path)
        chosen = _chosen_folds(folds, settings.folds.k)
        return cls(experiment, settings, chosen, *planning.choose_device(workspace, settings, flags))

    def begun(self, material: PreparedData, engine: Engine) -> _Training:
        plan = planning.make_plan(self.experiment, self.settings, material, self.where, self.weights)
        engine.check_company(plan)
        return _Training(self.experiment, plan, self.folds, self.where.precision)


class _Training(NamedTuple):
    """An experiment that is being trained, with the folds that were asked for."""

    experiment: Experiment
    plan: Plan
    folds: list[int]
    precision: str

    def jobs(self, label: str) -> list[Job]:
        """One for each fold that is missing; says which are not."""
        from ffdi.engines.job import Job

        missing = self.experiment.unfinished(self.folds, self.plan.identity)
        for folder in map(self.experiment.fold, self.folds):
            if folder not in missing:
                folder.checkpoints(self.plan.identity, self.plan.folds_digest).clear()  # it was killed before it could
                console.say(f"{label}fold {folder.fold}: finished before, kept")
        return [Job(self.plan, folder, self.precision) for folder in missing]


def _boards() -> Writers:
    from ffdi.training.tools import tensorboard as board

    board.check_installed()
    return board.Writers()


def _train(trainings: Sequence[_Training], run: Run, boards: Writers | None) -> None:
    """Trains what is missing."""
    from ffdi.engines.job import Failed
    from ffdi.training.loop import Step
    from ffdi.training.state import EpochRecord

    labels = [f"{one.experiment.name}  " if len(trainings) > 1 else "" for one in trainings]
    label = {job: one for training, one in zip(trainings, labels, strict=True) for job in training.jobs(one)}
    done, waiting = dict.fromkeys(label, 0.0), iter(label)
    total = sum(job.plan.config.train.epochs for job in label)
    with console.bar("training", total, counted=False) as bar, run(lambda: next(waiting, None)) as heard:
        for job, event in heard:
            name, epochs = f"{label[job]}fold {job.folder.fold}", job.plan.config.train.epochs
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Step):
                done[job] = event.epoch + (event.step + 1) / event.steps
                bar.at(sum(done.values()), f"{name}  epoch {event.epoch + 1}/{epochs}")
            if boards is not None and isinstance(event, EpochRecord):
                boards.tell(job.folder.board_folder, event)
            for remark in screens.remarks(event):
                bar.warn(f"{name}  {remark}")
            for line in _progress(event, epochs):
                bar.say(f"{name}  {line}")


def _progress(event: object, epochs: int) -> list[str]:
    """What is said of how far a training is."""
    from ffdi.training.checkpointing import Resumed
    from ffdi.training.state import EpochRecord

    if isinstance(event, Resumed):
        return [_goes_on(event, epochs)]
    if isinstance(event, EpochRecord):
        accuracy = f"accuracy {event.heldout_accuracy:.4f}  " if console.width() >= screens.WIDE else ""
        return [
            f"epoch {event.epoch + 1:>2}/{epochs}  loss {event.train_loss:.4f}  "
            f"held out: loss {event.heldout_loss:.4f}  {accuracy}"
            f"AUC {event.heldout_auc:.4f}  {event.images_per_second:.0f} images/s"
        ]
    return []


def _chosen_folds(asked: str | None, k: int) -> list[int]:
    if asked is None:
        return list(range(k))
    words = [word.strip() for word in asked.split(",")]
    if not all(word.isdecimal() and int(word) < k for word in words):
        raise ConfigError(f"--folds {asked}: this experiment has folds 0 to {k - 1}", hint="pass --folds 0,1")
    return sorted({int(word) for word in words})


def _goes_on(resumed: Resumed, epochs: int) -> str:
    """Where a training is taken up again."""
    if resumed.epoch == epochs:
        return "was trained before, and is scored"
    if resumed.epoch == resumed.step == 0:
        return "begins anew"
    return f"goes on in epoch {resumed.epoch + 1}/{epochs}, after {resumed.step} steps of it"


def _gather(experiment: Experiment, plan: Plan) -> bool:
    """Joins the folds' predictions into oof.csv and metrics.json; False while folds are missing."""
    k = plan.config.folds.k
    if missing := experiment.unfinished(range(k), plan.identity):
        numbers = ", ".join(str(folder.fold) for folder in missing)
        console.say(f"still to train: fold {numbers}; out-of-fold scores need all {k}")
        return False
    parts = [predictions.read_predictions(experiment.fold(fold).oof_path) for fold in range(k)]
    assert plan.train.target is not None
    oof = predictions.merge_predictions(parts, plan.train.img_name, plan.fold_of, plan.train.target)
    files.write_text(experiment.oof_path, oof.to_csv())
    scores.publish(experiment, oof, plan.train.group)
    console.written(experiment.oof_path, experiment.metrics_path)
    console.advise(f"invoke ensemble-submit --experiment {shlex.quote(experiment.name)}")
    return True
