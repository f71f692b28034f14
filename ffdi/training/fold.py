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
from ffdi.scoring.ledger import FLOAT, Ledger
from ffdi.store.fold import FoldFolder
from ffdi.store.identity import Identity
from ffdi.training import detector as detectors
from ffdi.training import predict
from ffdi.training.detector import Detector, Scorer
from ffdi.training.device import Device
from ffdi.training.fit import EpochRecord, Fitted, Step, fit


@dataclass(frozen=True)
class Plan:
    """What all folds of an experiment share.

    Attributes:
        fold_of: int64 [N]: the fold that holds each training image out.
        folds_digest: the hash of folds.csv.
        weights: the backbone's starting weights; None starts from random ones.
    """

    config: Config
    identity: Identity
    train: Table
    fold_of: np.ndarray
    folds_digest: str
    weights: Path | None


def train(plan: Plan, folder: FoldFolder, device: Device) -> Iterator[Step | EpochRecord]:
    """Trains a fold and publishes history.csv, weights.safetensors, oof.csv and, last, manifest.json.

    Yields:
        What `fit` yields, for whoever shows it.
    """
    config, seed = plan.config, _seed(plan.config.seed, folder.fold)
    held_out = plan.train.take(np.flatnonzero(plan.fold_of == folder.fold))
    training = plan.train.take(np.flatnonzero(plan.fold_of != folder.fold))
    torch.manual_seed(seed)
    detector = device.prepare(detectors.build(config.model, plan.weights))
    batches = loader.training(
        training,
        config.model.size,
        augment.recipe(config.augment.recipe),
        batch_size=config.train.batch_size,
        seed=config.seed,
        fold=folder.fold,
        workers=device.workers,
        pin_memory=device.pin_memory,
    )
    reading = reader(held_out, config, device)
    history, fitted = [], None
    for event in fit(detector, batches, reading, config.train, device, seed):
        if isinstance(event, Fitted):
            fitted = event
            continue
        if isinstance(event, EpochRecord):
            history.append(event)
        yield event
    assert fitted is not None
    _publish(plan, folder, history, fitted.detector, _score(fitted.detector, held_out, reading, plan, folder, device))


def reader(table: Table, config: Config, device: Device) -> loader.Batches:
    """The images of a table, as a network of `config` is asked for their scores on this device."""
    return loader.reading(
        table,
        config.model.size,
        batch_size=config.train.batch_size,
        workers=device.workers,
        pin_memory=device.pin_memory,
    )


def _seed(seed: int, fold: int) -> int:
    """A stream of its own for each fold's network."""
    return int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])


def _score(
    detector: Detector, held_out: Table, batches: loader.Batches, plan: Plan, folder: FoldFolder, device: Device
) -> Ledger:
    scorer = Scorer(detector, plan.config.predict.tta)
    logit = np.concatenate(list(predict.logits([scorer], batches, device)), axis=1)[0]
    assert held_out.target is not None
    return Ledger(held_out.img_name, np.full(len(held_out), folder.fold), held_out.target, logit)


def _publish(plan: Plan, folder: FoldFolder, history: list[EpochRecord], detector: Detector, oof: Ledger) -> None:
    frame = pd.DataFrame([asdict(record) for record in history])
    frame["epoch"] += 1
    publish.text(folder.history_path, frame.to_csv(index=False, float_format=FLOAT, lineterminator="\n"))
    detectors.save(detector, folder.weights_path)
    publish.text(folder.oof_path, oof.to_csv())
    folder.seal(plan.identity, plan.folds_digest)
