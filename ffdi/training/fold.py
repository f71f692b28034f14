"""One fold, from its starting weights to its published artefacts."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ffdi.config.schema import Config
from ffdi.core import files, manifests
from ffdi.data.images import resizing
from ffdi.data.labels.table import Table
from ffdi.data.loading import loader
from ffdi.evaluation.predictions import HASH_DIGITS, OofPredictions
from ffdi.evaluation.score_table import FLOAT
from ffdi.experiments.fold import FoldFolder, Identity
from ffdi.models import detector, tuning
from ffdi.models.detector import Scorer
from ffdi.training import health, inputs, predict
from ffdi.training.checkpointing import CheckpointManager, MachineLoss, ResumeEvent
from ffdi.training.feed_meter import WaitingForData
from ffdi.training.health import HealthWarning
from ffdi.training.loop import Step, fit, list_nondeterministic
from ffdi.training.runtime import device as devices
from ffdi.training.runtime import distributed
from ffdi.training.runtime.device import Device
from ffdi.training.state import EpochRecord, TrainingState


@dataclass(frozen=True, eq=False)
class TrainingPlan:
    """The inputs that all folds of an experiment share.

    Attributes:
        train: the training images.
        fold_of: int64 [N]: the fold that holds each training image out.
        folds_digest: the hash of folds.csv.
        weights: the backbone's starting weights; None starts from random ones.
        val: the labelled validation split, which the network of each fold scores at its end; None without one.
    """

    config: Config
    identity: Identity
    train: Table
    fold_of: np.ndarray
    folds_digest: str
    weights: Path | None
    val: Table | None


@dataclass(frozen=True, eq=False)
class FoldJob:
    """A fold to train and to publish.

    Attributes:
        folder: of the artefacts; it has the fold's number.
        precision: of the device on this machine: a key of `device.PRECISIONS`. A Ray task chooses its own.
        stop_after: epochs after which the training stops with a checkpoint; None trains all epochs.
    """

    plan: TrainingPlan
    folder: FoldFolder
    precision: str
    stop_after: int | None = None


@dataclass(frozen=True)
class NondeterministicOperations:
    """The operations of the network, in torch's words, that have no deterministic kernel on the GPU."""

    names: list[str]


FoldEvent = ResumeEvent | MachineLoss | NondeterministicOperations | Step | EpochRecord | HealthWarning | WaitingForData
FoldEvents = Generator[FoldEvent, None, None]
"""The events of a training. It writes a checkpoint and ends on `close`, and on `Interrupted` by `throw`."""


def train(job: FoldJob, device: Device) -> FoldEvents:
    """Trains a fold and publishes its history, weights, predictions and, last, manifest.json.

    In a process group, rank 0 writes the files. A training that ends after `job.stop_after` epochs writes a checkpoint
    only.

    Yields:
        A ResumeEvent if there was a checkpoint; NondeterministicOperations if there are any; then the events of `fit`.

    Raises:
        Interrupted: this process received a signal; the same call resumes from the checkpoint.
    """
    with devices.explain_oom(job.plan.config, device):
        yield from _train(job, device)


def _train(job: FoldJob, device: Device) -> FoldEvents:
    plan, folder, config = job.plan, job.folder, job.plan.config
    seed, world_size = _derive_seed(config.seed, folder.fold), distributed.get_world_size()
    heldout = _take_local_rows(plan.train.take(np.flatnonzero(plan.fold_of == folder.fold)))
    training = plan.train.take(np.flatnonzero(plan.fold_of != folder.fold))
    torch.manual_seed(seed)
    network = device.prepare(detector.build_detector(config.model, plan.weights))
    state = TrainingState.create(distributed.convert_batch_norm(network, device), config.train, device)
    train_batches = _make_train_batches(training, plan, folder, device)
    heldout_batches = make_eval_batches(heldout, config, device)
    manager = CheckpointManager(
        folder.open_checkpoints(plan.identity, plan.folds_digest),
        config.train.checkpoint_seconds,
        device.describe_machine(config.train.deterministic, world_size),
    )
    if (resumed := manager.resume(state)) is not None:
        yield resumed
    scored = {folder.oof_path: (heldout, heldout_batches)}
    if plan.val is not None:
        val = _take_local_rows(plan.val)
        scored[folder.val_path] = (val, make_eval_batches(val, config, device))
    strict = config.train.deterministic
    if strict and (names := list_nondeterministic(state.detector, config, device)):
        yield NondeterministicOperations(names)
        strict = False
    with device.deterministic(config.train.deterministic, tolerant=not strict), manager.save_on_exit(state):
        for event in fit(state, train_batches, heldout_batches, config, device, seed):
            if isinstance(event, Step):
                manager.save_if_due(state)
            yield event
            if isinstance(event, EpochRecord) and event.epoch + 1 == job.stop_after != config.train.epochs:
                manager.save(state)
                return
        manager.save_if_due(state)
        if distributed.is_main():
            _write_artifacts(folder, state)
        scorer = Scorer(state.eval_model.eval(), config.predict.tta)
        for path, (table, batches) in scored.items():
            predictions = _predict(scorer, table, batches, folder, device)
            if distributed.is_main():
                files.write_text(path, predictions.to_csv())
    if distributed.is_main():
        parameters = tuning.count_parameters(state.eval_model)
        folder.write_manifest(plan.identity, plan.folds_digest, parameters, state.symptoms)
        manager.checkpoints.clear()


def make_eval_batches(table: Table, config: Config, device: Device, distortion: str | None = None) -> loader.Batches:
    """Batches of a table's images in its order, resized for the network of `config`."""
    return loader.make_eval_loader(
        table,
        resizing.ResizePolicy.from_config(config.model),
        batch_size=config.train.batch_size,
        loader_config=device.loader_config,
        distortion=distortion,
    )


def _take_local_rows(table: Table) -> Table:
    return table.take(distributed.select_local_rows(len(table)))


def _make_train_batches(table: Table, plan: TrainingPlan, folder: FoldFolder, device: Device) -> loader.Batches:
    """Shuffled, augmented batches of this rank.

    Raises:
        TrainingError: the augmentation draws the same in two epochs.
    """
    batches = loader.make_train_loader(
        table, plan.config, fold=folder.fold, loader_config=device.loader_config, shard=distributed.get_rank_shard()
    )
    if batches.changes_images and len(table) >= health.PROBED:
        first, second = (inputs.make_images(batch, device) for batch in batches.load_two_epochs(health.PROBED))
        health.check_draws(first.cpu().numpy(), second.cpu().numpy())
    return batches


def _derive_seed(seed: int, fold: int) -> int:
    return int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])


def _predict(
    scorer: Scorer, table: Table, batches: loader.Batches, folder: FoldFolder, device: Device
) -> OofPredictions:
    """Predictions for the rows of all ranks, of which each rank scores its own; the fold's weights are published."""
    logit = predict.predict_logits([scorer], batches, device)[0]
    assert table.target is not None
    name, target, logit = map(distributed.all_gather, (table.img_name, table.target, logit))
    weights = manifests.hash_file(folder.weights_path)[:HASH_DIGITS]
    return OofPredictions(name, np.full(len(name), folder.fold), target, logit, np.full(len(name), weights))


def _write_artifacts(folder: FoldFolder, state: TrainingState) -> None:
    frame = pd.DataFrame([asdict(record) for record in state.history])
    frame["epoch"] += 1
    files.write_text(folder.history_path, frame.to_csv(index=False, float_format=FLOAT, lineterminator="\n"))
    detector.save_detector(state.eval_model, folder.weights_path)
