"""Trains an experiment's folds and scores them out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ffdi import config, console, publish, stopping
from ffdi.errors import ConfigError
from ffdi.pipeline import engines, lists, planning, profile, score, screens
from ffdi.pipeline.engines import Engine, Run
from ffdi.scoring import ledger
from ffdi.store.experiment import Experiment
from ffdi.store.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.training.fold import Plan
    from ffdi.training.saving import Resumed


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
    fresh: bool,
    profiled: bool,
    max_time: str | None,
) -> None:
    """Trains experiments' folds, those that are not finished, and scores them out of fold.

    `profiled` trains for a few steps only, and says where the time goes.
    """
    end = stopping.end_of(max_time)
    engine.check()
    members, _ = lists.spread(workspace, names)
    lists.make(workspace, names)
    flags = planning.Flags(data, device, workers, accept)
    experiments = [workspace.experiment(name) for name in members]
    if profiled:
        for experiment in experiments:
            profile.run(workspace, experiment, flags)
        return
    for experiment in experiments[1:]:  # not after the hours that the first one takes
        settings = config.load(experiment.config_path)
        _chosen_folds(folds, settings.folds.k)
        planning.chosen(workspace, settings, flags)
    whole = [_train(workspace, experiment, flags, folds, engine, fresh, end) for experiment in experiments]
    if len(members) > 1 and all(whole):
        console.say(f"next: invoke ensemble-submit{screens.again(names, None)}")


def _train(
    workspace: Workspace,
    experiment: Experiment,
    flags: planning.Flags,
    folds: str | None,
    engine: Engine,
    fresh: bool,
    end: float | None,
) -> bool:
    """Whether all folds are there then."""
    settings = config.load(experiment.config_path)
    chosen = _chosen_folds(folds, settings.folds.k)
    where, weights = planning.chosen(workspace, settings, flags)
    console.title(f"train-folds {experiment.name}: {settings.model.backbone}, {settings.folds.k} folds")
    with engines.opened(engine, where, flags.device, flags.workers, settings.folds.k) as run:
        material = planning.gather(workspace, experiment, settings, flags)
        with experiment.locked(), stopping.listening(end):
            if fresh:
                experiment.discard()
            plan = planning.plan(experiment, settings, material, where, weights)
            engine.check_company(plan)
            _train_missing(experiment, plan, chosen, run)
            return _gather(experiment, plan)


def _chosen_folds(asked: str | None, k: int) -> list[int]:
    if asked is None:
        return list(range(k))
    words = [word.strip() for word in asked.split(",")]
    if not all(word.isdecimal() and int(word) < k for word in words):
        raise ConfigError(f"--folds {asked}: this experiment has folds 0 to {k - 1}", hint="pass --folds 0,1")
    return sorted({int(word) for word in words})


def _train_missing(experiment: Experiment, plan: Plan, chosen: list[int], run: Run) -> None:
    from ffdi.training.fit import Step
    from ffdi.training.saving import Resumed
    from ffdi.training.state import EpochRecord

    folders = [experiment.fold(fold) for fold in chosen]
    missing = experiment.unfinished(chosen, plan.identity)
    for folder in folders:
        if folder not in missing:
            folder.checkpoints(plan.identity, plan.folds_digest).clear()  # it may have been killed before it could
            console.say(f"fold {folder.fold}: finished before, kept")
    epochs, done = plan.config.train.epochs, dict.fromkeys((folder.fold for folder in missing), 0.0)
    with console.bar("training", len(missing) * epochs, counted=False) as bar:
        for folder, event in run(plan, missing):
            for remark in screens.remarks(event):
                bar.say(f"fold {folder.fold}  {remark}")
            if isinstance(event, Resumed):
                bar.say(f"fold {folder.fold}  {_goes_on(event, epochs)}")
            elif isinstance(event, Step):
                done[folder.fold] = event.epoch + (event.step + 1) / event.steps
                bar.at(sum(done.values()), f"fold {folder.fold}  epoch {event.epoch + 1}/{epochs}")
            elif isinstance(event, EpochRecord):
                bar.say(
                    f"fold {folder.fold}  epoch {event.epoch + 1:>2}/{epochs}  loss {event.train_loss:.4f}  "
                    f"held out: loss {event.val_loss:.4f}  accuracy {event.val_accuracy:.4f}  "
                    f"AUC {event.val_auc:.4f}  {event.images_per_second:.0f} images/s"
                )


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
    parts = [ledger.read(experiment.fold(fold).oof_path) for fold in range(k)]
    assert plan.train.target is not None
    oof = ledger.merge(parts, plan.train.img_name, plan.fold_of, plan.train.target)
    publish.text(experiment.oof_path, oof.to_csv())
    score.publish_scores(experiment, oof, plan.train.group)
    console.say(f"written: {experiment.oof_path}, {experiment.metrics_path}")
    console.say(f"next: invoke ensemble-submit --experiment {experiment.name}")
    return True
