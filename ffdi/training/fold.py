"""One fold, from its starting weights to its published artefacts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ffdi import publish
from ffdi.config import Config
from ffdi.data import augment, loader
from ffdi.data.table import Table
from ffdi.scoring.ledger import HASH_DIGITS, Ledger
from ffdi.scoring.scores import FLOAT
from ffdi.store.fold import FoldFolder
from ffdi.store.identity import Identity
from ffdi.training import detector as detectors
from ffdi.training import health, predict
from ffdi.training.detector import Detector, Scorer
from ffdi.training.device import Device
from ffdi.training.fit import EpochRecord, Fitted, Step, fit
from ffdi.training.health import Unhealthy


@dataclass(frozen=True)
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


def train(plan: Plan, folder: FoldFolder, device: Device) -> Iterator[Step | EpochRecord | Unhealthy]:
    """Trains a fold and publishes its history, weights, predictions and, last, manifest.json.

    Yields:
        What `fit` yields, for whoever shows it.
    """
    config, seed = plan.config, _seed(plan.config.seed, folder.fold)
    held_out = plan.train.take(np.flatnonzero(plan.fold_of == folder.fold))
    training = plan.train.take(np.flatnonzero(plan.fold_of != folder.fold))
    torch.manual_seed(seed)
    detector = device.prepare(detectors.build(config.model, plan.weights))
    augmentation = augment.recipe(config.augment.recipe)
    batches = loader.training(
        training,
        config.model.size,
        augmentation,
        batch_size=config.train.batch_size,
        seed=config.seed,
        fold=folder.fold,
        workers=device.workers,
        pin_memory=device.pin_memory,
    )
    reading = reader(held_out, config, device)
    if augmentation.draws and len(training) >= health.PROBED:
        health.check_draws(*batches.twice(health.PROBED))
    history, symptoms, fitted = [], [], None
    for event in fit(detector, batches, reading, config.train, device, seed):
        if isinstance(event, Fitted):
            fitted = event
            continue
        if isinstance(event, EpochRecord):
            history.append(event)
            symptoms = []  # those of the last epoch stay
        if isinstance(event, Unhealthy):
            symptoms = list(event.symptoms)
        yield event
    assert fitted is not None
    _publish(folder, history, fitted.detector)
    scored = {folder.oof_path: (held_out, reading)}
    if plan.val is not None:
        scored[folder.val_path] = (plan.val, reader(plan.val, config, device))
    for path, (table, images) in scored.items():
        publish.text(path, _score(fitted.detector, table, images, plan, folder, device).to_csv())
    folder.seal(plan.identity, plan.folds_digest, sum(one.numel() for one in fitted.detector.parameters()), symptoms)


def reader(table: Table, config: Config, device: Device, distortion: str | None = None) -> loader.Batches:
    """The images of a table, as a network of `config` is asked for their scores on this device."""
    return loader.reading(
        table,
        config.model.size,
        batch_size=config.train.batch_size,
        workers=device.workers,
        pin_memory=device.pin_memory,
        distortion=distortion,
    )


def _seed(seed: int, fold: int) -> int:
    """A stream of its own for each fold's network."""
    return int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])


def _score(
    detector: Detector, table: Table, batches: loader.Batches, plan: Plan, folder: FoldFolder, device: Device
) -> Ledger:
    """The predictions of a fold whose weights are published."""
    scorer = Scorer(detector, plan.config.predict.tta)
    logit = np.concatenate(list(predict.logits([scorer], batches, device)), axis=1)[0]
    assert table.target is not None
    weights = publish.sha256(folder.weights_path)[:HASH_DIGITS]
    rows = len(table)
    return Ledger(table.img_name, np.full(rows, folder.fold), table.target, logit, np.full(rows, weights))


def _publish(folder: FoldFolder, history: list[EpochRecord], detector: Detector) -> None:
    frame = pd.DataFrame([asdict(record) for record in history])
    frame["epoch"] += 1
    publish.text(folder.history_path, frame.to_csv(index=False, float_format=FLOAT, lineterminator="\n"))
    detectors.save(detector, folder.weights_path)
