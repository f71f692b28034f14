"""Trains an experiment's folds and scores them out of fold."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ffdi import config, console, hashes, provenance, publish, stopping
from ffdi.config import Config
from ffdi.data import dataset as datasets
from ffdi.data import doctor, roster
from ffdi.data.doctor import Diagnosis
from ffdi.data.table import Table
from ffdi.errors import ConfigError
from ffdi.pipeline import doctor as examination
from ffdi.pipeline import score, sources
from ffdi.scoring import calibration, ensemble, ledger
from ffdi.store.experiment import Experiment
from ffdi.store.identity import Identity
from ffdi.store.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.training.device import Device
    from ffdi.training.fold import Plan
    from ffdi.training.saving import Resumed


def run(
    workspace: Workspace,
    name: str,
    *,
    data: str | None,
    folds: str | None,
    device: str,
    workers: int | None,
    accept: str | None,
    fresh: bool,
    max_time: str | None,
) -> None:
    """Trains an experiment's folds, those that are not finished, and scores them out of fold."""
    from ffdi.training import device as devices

    end = _end(max_time)
    experiment = workspace.experiment(name)
    accepted = doctor.accepted(accept)
    settings = config.load(experiment.config_path)
    chosen = _chosen_folds(folds, settings.folds.k)
    weights = _check_choices(settings, workspace)
    where = devices.choose(device, settings.train.precision, workers)
    console.title(f"train-folds {experiment.name}: {settings.model.backbone}, {settings.folds.k} folds")
    console.say(f"device: {where.why}")

    found = datasets.find(sources.data_root(workspace, settings, data), settings.data)
    console.say(f"data: {sources.counts(found.split('train'))}")
    diagnosis = examination.examined(workspace, experiment, found)
    diagnosis.check(accepted)
    images = roster.of(diagnosis.surveys["train"])
    identity = Identity.of(settings, weights and hashes.sha256(weights), hashes.of_text(images))
    with experiment.locked(), stopping.listening(end):
        if fresh:
            experiment.discard()
        plan = _plan(experiment, settings, identity, images, diagnosis, weights, where)
        _train_missing(experiment, plan, chosen, where)
        _gather(experiment, plan)


def _end(max_time: str | None) -> float | None:
    """When the time that was given is over, by the monotonic clock; from '90m', '8.5h' or '3600s'."""
    if max_time is None:
        return None
    number, unit = max_time[:-1], max_time[-1:]
    with suppress(KeyError, ValueError):
        if (seconds := float(number) * {"s": 1, "m": 60, "h": 3600}[unit]) > 0:
            return time.monotonic() + seconds
    raise ConfigError(f"--max-time {max_time}: no time", hint="pass --max-time 90m, 8.5h or 3600s")


def _chosen_folds(asked: str | None, k: int) -> list[int]:
    if asked is None:
        return list(range(k))
    words = [word.strip() for word in asked.split(",")]
    if not all(word.isdecimal() and int(word) < k for word in words):
        raise ConfigError(f"--folds {asked}: this experiment has folds 0 to {k - 1}", hint="pass --folds 0,1")
    return sorted({int(word) for word in words})


def _check_choices(settings: Config, workspace: Workspace) -> Path | None:
    """Refuses what no dictionary knows, before anything is read or written; gives the starting weights."""
    from ffdi.data import augment
    from ffdi.training import detector, recipe
    from ffdi.training import weights as starting

    augment.recipe(settings.augment.recipe)
    recipe.check(settings.train)
    ensemble.check(settings.ensemble.method)
    calibration.check(settings.ensemble.calibration)
    weights = starting.find(settings.model, workspace.root)
    detector.build(settings.model, weights)
    return weights


def _plan(
    experiment: Experiment,
    settings: Config,
    identity: Identity,
    images: str,
    diagnosis: Diagnosis,
    weights: Path | None,
    device: Device,
) -> Plan:
    """Deals the folds, or reads how they were dealt, and records what is about to be trained."""
    from ffdi.data import folds
    from ffdi.training.fold import Plan

    train = diagnosis.usable("train")
    assert train.target is not None
    if experiment.resolved_path.is_file():
        experiment.check(identity, partial(roster.differences, new=images))
        experiment.folds_digest()
    if experiment.folds_path.is_file():
        fold_of = folds.read(experiment.folds_path, train, settings.folds.k)
    else:
        whole = train.group if settings.folds.scheme == "stratified" else _clusters(settings, train, weights, device)
        fold_of = folds.assign(train.target, whole, settings.folds.k, settings.folds_seed)
        publish.text(experiment.folds_path, folds.to_csv(train, fold_of))
    experiment.begin(identity, images, provenance.record(diagnosis.root, sys.argv))
    return Plan(settings, identity, train, fold_of, experiment.folds_digest(), weights, _val(diagnosis))


def _clusters(settings: Config, train: Table, weights: Path | None, device: Device) -> np.ndarray:
    """The cluster of each training image in the space of the frozen backbone's features, as groups str [N]."""
    from ffdi.data import clusters
    from ffdi.training import detector, fold, predict

    parts = []
    with console.bar("features of training images", len(train)) as bar:
        network = device.prepare(detector.start(settings, weights))
        for part in predict.features(network, fold.reader(train, settings, device), device):
            parts.append(part)
            bar.advance(len(part))
    found = clusters.find(np.concatenate(parts), train.group, clusters.PER_FOLD * settings.folds.k, settings.folds_seed)
    console.say(
        f"folds of clusters: {len(np.unique(found))} clusters of images that look alike to {settings.model.backbone}"
    )
    return found.astype(str)


def _val(diagnosis: Diagnosis) -> Table | None:
    """The usable images of a validation split whose labels can judge scores."""
    val = diagnosis.usable("val") if "val" in diagnosis.surveys else None
    return val if val is not None and val.both_classes else None


def _train_missing(experiment: Experiment, plan: Plan, chosen: list[int], device: Device) -> None:
    from ffdi.engines import local
    from ffdi.training.fit import Step
    from ffdi.training.health import Unhealthy
    from ffdi.training.saving import Resumed

    folders = [experiment.fold(fold) for fold in chosen]
    missing = experiment.unfinished(chosen, plan.identity)
    for folder in folders:
        if folder not in missing:
            folder.checkpoints(plan.identity, plan.folds_digest).clear()  # it may have been killed before it could
            console.say(f"fold {folder.fold}: finished before, kept")
    epochs, done = plan.config.train.epochs, 0
    with console.bar("training", len(missing) * epochs, counted=False) as bar:
        for folder, event in local.run(plan, missing, device):
            if isinstance(event, Resumed):
                done += event.epoch
                for what in event.warnings:
                    bar.say(f"fold {folder.fold}  warning: {what}")
                bar.say(f"fold {folder.fold}  {_goes_on(event, epochs)}")
                continue
            if isinstance(event, Unhealthy):
                for what in event.symptoms.values():
                    bar.say(f"fold {folder.fold}  unhealthy: {what}")
                bar.say(f"fold {folder.fold}  advice: {event.advice}")
                continue
            if isinstance(event, Step):
                part = (event.step + 1) / event.steps
                bar.at(done + part, f"fold {folder.fold}  epoch {event.epoch + 1}/{epochs}")
                continue
            done += 1
            bar.say(
                f"fold {folder.fold}  epoch {event.epoch + 1:>2}/{epochs}  loss {event.train_loss:.4f}  "
                f"held out: loss {event.val_loss:.4f}  accuracy {event.val_accuracy:.4f}  AUC {event.val_auc:.4f}  "
                f"{event.images_per_second:.0f} images/s"
            )


def _goes_on(resumed: Resumed, epochs: int) -> str:
    """Where a training is taken up again."""
    if resumed.epoch == epochs:
        return "was trained before, and is scored"
    if resumed.epoch == resumed.step == 0:
        return "begins anew"
    return f"goes on in epoch {resumed.epoch + 1}/{epochs}, after {resumed.step} steps of it"


def _gather(experiment: Experiment, plan: Plan) -> None:
    """Joins the folds' predictions into oof.csv and metrics.json, once all folds are there."""
    k = plan.config.folds.k
    if missing := experiment.unfinished(range(k), plan.identity):
        numbers = ", ".join(str(folder.fold) for folder in missing)
        console.say(f"still to train: fold {numbers}; out-of-fold scores need all {k}")
        return
    parts = [ledger.read(experiment.fold(fold).oof_path) for fold in range(k)]
    assert plan.train.target is not None
    oof = ledger.merge(parts, plan.train.img_name, plan.fold_of, plan.train.target)
    publish.text(experiment.oof_path, oof.to_csv())
    score.publish_scores(experiment, oof, plan.train.group)
    console.say(f"written: {experiment.oof_path}, {experiment.metrics_path}")
    console.say(f"next: invoke ensemble-submit --experiment {experiment.name}")
