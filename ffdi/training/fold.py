"""One fold, from its starting weights to its published artefacts."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ffdi.config.schema import Config
from ffdi.core import files, hashes
from ffdi.data.images import decode
from ffdi.data.labels.table import Table
from ffdi.data.loading import augment, loader
from ffdi.evaluation.predictions import HASH_DIGITS, OofPredictions
from ffdi.evaluation.score_table import FLOAT
from ffdi.experiments.fold import FoldFolder, Identity
from ffdi.models import detector
from ffdi.models.detector import Scorer
from ffdi.training import health, predict
from ffdi.training.checkpointing import CheckpointManager, Lost, Resumed
from ffdi.training.health import Unhealthy
from ffdi.training.loop import Step, fit
from ffdi.training.runtime import distributed, oom
from ffdi.training.runtime.device import Device
from ffdi.training.state import EpochRecord, State


@dataclass(frozen=True, eq=False)
class Plan:
    """What all folds of an experiment share.

    Attributes:
        fold_of: int64 [N]: the fold that holds each training image out.
        folds_digest: the hash of folds.csv.
        weights: the backbone's starting weights; None starts from random ones.
        val: the labelled validation split, which every fold's network scores at its end; None without one.
    """

    config: Config
    identity: Identity
    train: Table
    fold_of: np.ndarray
    folds_digest: str
    weights: Path | None
    val: Table | None


Event = Resumed | Lost | Step | EpochRecord | Unhealthy
Events = Generator[Event, None, None]
"""What happens in a training; closed, or thrown `Stopped` into, it ends in good order."""


def train(plan: Plan, folder: FoldFolder, device: Device, until: int | None = None) -> Events:
    """Trains a fold and publishes its history, weights, predictions and, last, manifest.json.

    Where several processes do so together (`ranks`), the first one writes. After `until` epochs, if that is not all of
    them, only a checkpoint is written.

    Yields:
        What `fit` yields, for whoever shows it; before it a Resumed, where there was a checkpoint.

    Raises:
        Stopped: where this process is to end; the same call goes on there.
    """
    config, seed = plan.config, _seed(plan.config.seed, folder.fold)
    held_out = _part(plan.train.take(np.flatnonzero(plan.fold_of == folder.fold)))
    training = plan.train.take(np.flatnonzero(plan.fold_of != folder.fold))
    torch.manual_seed(seed)
    network = distributed.prepared(device.prepare(detector.build(config.model, plan.weights)), device)
    state = State.of(network, config.train, device)
    batches, reading = _training(training, plan, folder, device), reader(held_out, config, device)
    machine = device.machine if distributed.world_size() == 1 else f"{device.machine}, {distributed.world_size()} ranks"
    saving = CheckpointManager(
        folder.checkpoints(plan.identity, plan.folds_digest), config.train.checkpoint_seconds, machine
    )
    if (resumed := saving.resume(state)) is not None:
        yield resumed
    scored = {folder.oof_path: (held_out, reading)}
    if plan.val is not None:
        val = _part(plan.val)
        scored[folder.val_path] = (val, reader(val, config, device))
    with oom.explain_oom(config, device), saving.at_the_end(state):
        for event in fit(state, batches, reading, config, device, seed):
            if isinstance(event, Step):
                saving.save_if_due(state)
            yield event
            if isinstance(event, EpochRecord) and until is not None and event.epoch + 1 == until < config.train.epochs:
                saving.save(state)
                return
        saving.save_if_due(state)
        if distributed.is_main():
            _publish(folder, state)
        scorer = Scorer(state.kept.eval(), config.predict.tta)
        for path, (table, decode) in scored.items():
            ledger = _score(scorer, table, decode, folder, device)
            if distributed.is_main():
                files.write_text(path, ledger.to_csv())
    if distributed.is_main():
        parameters = sum(one.numel() for one in state.kept.parameters())
        folder.seal(plan.identity, plan.folds_digest, parameters, state.symptoms)
        saving.checkpoints.clear()


def _part(table: Table) -> Table:
    """The rows of a table that this process looks at."""
    return table.take(distributed.local_rows(len(table)))


def _training(table: Table, plan: Plan, folder: FoldFolder, device: Device) -> loader.Batches:
    """Shuffled, augmented batches; the augmentation has been seen to draw."""
    batches = loader.make_train_loader(
        table, plan.config, fold=folder.fold, supply=device.supply, share=distributed.rank_shard()
    )
    if augment.recipe(plan.config.augment.recipe).draws and len(table) >= health.PROBED:
        health.check_draws(*batches.twice(health.PROBED))
    return batches


def reader(table: Table, config: Config, device: Device, distortion: str | None = None) -> loader.Batches:
    """The images of a table, as a network of `config` is asked for their scores on this device."""
    return loader.make_eval_loader(
        table,
        decode.ResizePolicy.of(config.model),
        batch_size=config.train.batch_size,
        supply=device.supply,
        distortion=distortion,
    )


def _seed(seed: int, fold: int) -> int:
    """A stream of its own for each fold's network."""
    return int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])


def _score(scorer: Scorer, table: Table, batches: loader.Batches, folder: FoldFolder, device: Device) -> OofPredictions:
    """The predictions of a fold whose weights are published; each process makes those of its part of the rows."""
    logit = predict.logits([scorer], batches, device)[0]
    assert table.target is not None
    name, target, logit = map(distributed.all_gather, (table.img_name, table.target, logit))
    weights = hashes.sha256(folder.weights_path)[:HASH_DIGITS]
    return OofPredictions(name, np.full(len(name), folder.fold), target, logit, np.full(len(name), weights))


def _publish(folder: FoldFolder, state: State) -> None:
    frame = pd.DataFrame([asdict(record) for record in state.history])
    frame["epoch"] += 1
    files.write_text(folder.history_path, frame.to_csv(index=False, float_format=FLOAT, lineterminator="\n"))
    detector.save(state.kept, folder.weights_path)
