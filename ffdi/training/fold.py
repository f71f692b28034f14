"""One fold, from its starting weights to its published artefacts."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from ffdi.config.schema import Config
from ffdi.core import files, manifests
from ffdi.data.images import resizing
from ffdi.data.labels.pseudo_labels import PseudoLabels
from ffdi.data.labels.table import Table
from ffdi.data.loading import loader
from ffdi.data.loading.loader import Batch, ScoredBatches, TrainBatches
from ffdi.evaluation.predictions import HASH_DIGITS, OofPredictions
from ffdi.evaluation.score_table import FLOAT
from ffdi.experiments.fold import FoldFolder, Identity
from ffdi.models import detector, tuning
from ffdi.models.detector import Detector, Scorer
from ffdi.models.head import HeadScorer
from ffdi.training import features, inputs, predict
from ffdi.training.checkpointing import CheckpointManager, MachineLoss, ResumeEvent
from ffdi.training.features import CachedFeatures, FeatureSet, ScoredFeatureBatches, TrainFeatureBatches
from ffdi.training.feed_meter import WaitingForData
from ffdi.training.health import HealthWarning
from ffdi.training.loop import Step, fit, list_nondeterministic
from ffdi.training.runtime import device as devices
from ffdi.training.runtime import distributed
from ffdi.training.runtime.device import Device
from ffdi.training.state import EpochRecord, TrainingState
from ffdi.training.teacher_features import FeatureBatches, TeacherFeatures


@dataclass(frozen=True, eq=False)
class TrainingPlan:
    """The inputs that all folds of an experiment share.

    Attributes:
        train: the training images.
        fold_of: int64 [N]: the fold that holds each training image out.
        folds_digest: the hash of folds.csv.
        weights: the backbone's starting weights; None starts from random ones.
        val: the labelled validation split, which the network of each fold scores at its end; None without one.
        features: of all these images, if the folds train the head alone on them; None trains on images.
        pseudo_labels: more training images, without labels; None without such images.
        teacher_logits: float32 [k + 1, N], soft targets of the training images for the network of each fold, and
            last for that on all images; None without teachers.
        teacher_features: of a teacher, for the same; None if the networks do not match a teacher's features.
    """

    config: Config
    identity: Identity
    train: Table
    fold_of: np.ndarray
    folds_digest: str
    weights: Path | None
    val: Table | None
    features: CachedFeatures | None = None
    pseudo_labels: PseudoLabels | None = None
    teacher_logits: np.ndarray | None = None
    teacher_features: TeacherFeatures | None = None

    def take_training(self, fold: int) -> Table:
        """The training images of a fold's network, with its soft targets."""
        rows = np.flatnonzero(self.fold_of != fold)
        table = self.train.take(rows)
        return table if self.teacher_logits is None else replace(table, soft_logit=self.teacher_logits[fold, rows])


@dataclass(frozen=True, eq=False)
class FoldJob:
    """A fold to train and to publish, or the network on all training images.

    Attributes:
        folder: of the artefacts; it has the fold's number, which no image has for the network on all images.
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
    if job.plan.features is not None:
        device = _choose_head_device(device)
    with devices.explain_oom(job.plan.config, device):
        yield from _train(job, device)


def _choose_head_device(device: Device) -> Device:
    """The same for a head alone; a CPU trains it in one thread, so its bits do not depend on the number of cores."""
    return replace(device, precision="fp32", threads=1 if device.kind == "cpu" else device.threads)


def _train(job: FoldJob, device: Device) -> FoldEvents:
    plan, folder, config = job.plan, job.folder, job.plan.config
    seed, world_size = _derive_seed(config.seed, folder.fold), distributed.get_world_size()
    take = _take_images if plan.features is None else _take_features
    material = take(plan, folder, seed, device)
    network = distributed.convert_batch_norm(material.network, device)
    state = TrainingState.create(network, config.train, device)
    manager = CheckpointManager(
        folder.open_checkpoints(plan.identity, plan.folds_digest),
        config.train.checkpoint_seconds,
        device.describe_machine(config.train.deterministic, world_size),
    )
    if (resumed := manager.resume(state)) is not None:
        yield resumed
    strict = config.train.deterministic
    if strict and (names := list_nondeterministic(state.detector, config, device, material.probe)):
        yield NondeterministicOperations(names)
        strict = False
    with device.deterministic(config.train.deterministic, tolerant=not strict), manager.save_on_exit(state):
        for event in fit(state, material.train, material.heldout, config, device, seed):
            if isinstance(event, WaitingForData) and plan.features is not None:
                continue  # it advises on how to make images
            if isinstance(event, Step):
                manager.save_if_due(state)
            yield event
            if isinstance(event, EpochRecord) and event.epoch + 1 == job.stop_after != config.train.epochs:
                manager.save(state)
                return
        manager.save_if_due(state)
        if distributed.is_main():
            _write_artifacts(folder, state)
        scorer = material.make_scorer(state.eval_model.eval())
        for path, (table, batches) in material.scored.items():
            predictions = _predict(scorer, table, batches, folder, device)
            if distributed.is_main():
                files.write_text(path, predictions.to_csv())
    if distributed.is_main():
        parameters = material.count_parameters(state.eval_model)
        folder.write_manifest(plan.identity, plan.folds_digest, parameters, state.symptoms)
        manager.checkpoints.clear()


class _Material(NamedTuple):
    """What a fold trains and scores: images, or their features.

    Attributes:
        network: at its start, on the device.
        train: of the other folds.
        heldout: of the held-out fold, as each epoch scores it, without test-time augmentation; None if there is none.
        scored: by the path of the scores: images that the trained network scores, and their batches.
        make_scorer: adds test-time augmentation to the trained network.
        count_parameters: of the whole network.
        probe: a batch of two for a trial of a step; None: a batch of images.
    """

    network: Detector
    train: TrainBatches
    heldout: ScoredBatches | None
    scored: dict[Path, tuple[Table, ScoredBatches]]
    make_scorer: Callable[[Detector], nn.Module]
    count_parameters: Callable[[Detector], int] = tuning.count_parameters
    probe: Batch | None = None


def _take_images(plan: TrainingPlan, folder: FoldFolder, seed: int, device: Device) -> _Material:
    config = plan.config
    torch.manual_seed(seed)
    network = device.prepare(detector.build_detector(config.model, plan.weights))
    batches, scored = None, dict[Path, tuple[Table, ScoredBatches]]()
    if len(rows := np.flatnonzero(plan.fold_of == folder.fold)):
        heldout = _take_local_rows(plan.train.take(rows))
        batches = make_eval_batches(heldout, config, device)
        scored[folder.oof_path] = (heldout, batches)
    if plan.val is not None:
        val = _take_local_rows(plan.val)
        scored[folder.val_path] = (val, make_eval_batches(val, config, device))
    train: TrainBatches = _make_train_batches(plan.take_training(folder.fold), plan, folder, device)
    if plan.teacher_features is not None:
        train = FeatureBatches(train, plan.teacher_features.take(folder.fold, plan.fold_of))
    return _Material(network, train, batches, scored, lambda trained: Scorer(trained, config.predict.tta))


def _take_features(plan: TrainingPlan, folder: FoldFolder, seed: int, device: Device) -> _Material:
    """The same without a backbone; there is one rank."""
    config, cached = plan.config, plan.features
    assert cached is not None
    size = config.train.batch_size
    rows, others = (np.flatnonzero(chosen) for chosen in (plan.fold_of == folder.fold, plan.fold_of != folder.fold))

    def make_batches(one: FeatureSet, table: Table, chosen: np.ndarray, *, first_view: bool = False) -> ScoredBatches:
        assert table.target is not None
        return ScoredFeatureBatches(one, table.target[chosen], chosen, size, first_view=first_view)

    heldout, scored = None, dict[Path, tuple[Table, ScoredBatches]]()
    if len(rows):
        heldout = make_batches(cached.heldout, plan.train, rows, first_view=True)
        scored[folder.oof_path] = (plan.train.take(rows), make_batches(cached.heldout, plan.train, rows))
    if plan.val is not None and cached.val is not None:
        scored[folder.val_path] = (plan.val, make_batches(cached.val, plan.val, np.arange(len(plan.val))))
    return _Material(
        device.prepare(cached.head.start(seed)),
        TrainFeatureBatches(cached, plan.take_training(folder.fold), others, config, folder.fold),
        heldout,
        scored,
        HeadScorer,
        lambda _: cached.head.whole_parameters,
        features.make_probe(cached),
    )


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
        table,
        plan.config,
        fold=folder.fold,
        loader_config=device.loader_config,
        shard=distributed.get_rank_shard(),
        unlabelled=None if plan.pseudo_labels is None else plan.pseudo_labels.select_fold(folder.fold),
    )
    inputs.check_augmentation(batches, device)
    return batches


def _derive_seed(seed: int, fold: int) -> int:
    return int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])


def _predict(
    scorer: nn.Module, table: Table, batches: ScoredBatches, folder: FoldFolder, device: Device
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
