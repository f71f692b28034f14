"""The training loop. It yields events and writes no file."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.profiler import record_function
from torchvision.transforms import v2

from ffdi.config.schema import AugmentConfig, Config, TrainConfig
from ffdi.core import signals
from ffdi.core.errors import TrainingError
from ffdi.data.loading.loader import Batch, ScoredBatches, TrainBatches
from ffdi.evaluation import metrics
from ffdi.evaluation.predictions import sigmoid
from ffdi.models import tuning
from ffdi.models.detector import Detector
from ffdi.training import distillation, feature_losses, health, inputs, optim
from ffdi.training.feed_meter import FeedMeter, WaitingForData
from ffdi.training.health import HealthWarning
from ffdi.training.predict import PartwiseRunner
from ffdi.training.runtime import distributed
from ffdi.training.runtime.device import Device
from ffdi.training.state import BestWeights, EpochProgress, EpochRecord, TrainingState

FORWARD, BACKWARD, OPTIMIZER, EMA = "forward", "loss and backward", "optimizer", "averaged weights"
PARTS = (*inputs.PARTS, FORWARD, BACKWARD, OPTIMIZER, EMA)
"""The parts of a step, by their names in a profile; not every training has all of them."""
CHECK_EVERY = 20
"""Steps between two tests for a loss that is not finite: a test waits for the device."""


@dataclass(frozen=True)
class Step:
    """A completed optimizer step.

    Attributes:
        epoch, step: from 0.
        steps: of the epoch.
        images: that the epoch has used up to this step.
    """

    epoch: int
    step: int
    steps: int
    images: int


def fit(
    state: TrainingState,
    train_batches: TrainBatches,
    heldout_batches: ScoredBatches | None,
    config: Config,
    device: Device,
    seed: int,
) -> Iterator[Step | EpochRecord | HealthWarning | WaitingForData]:
    """Trains a model from the given state to its last epoch; `state.eval_model` is the result.

    Random numbers of the network, such as dropout, depend on (seed, step), and batches on (seed, fold, epoch, row).
    So a training that is interrupted between two steps and resumed ends with the same weights.

    Args:
        state: changed in place; consistent at each yield and on Interrupted.
        train_batches: shuffled and augmented.
        heldout_batches: of the held-out fold; None if all images are trained on.
        config: the experiment's.
        device: of the model.
        seed: of the network's random numbers.

    Yields:
        A Step after each step, an EpochRecord after each epoch, a HealthWarning after an epoch with symptoms, and at
        most one WaitingForData.

    Raises:
        TrainingError: the loss is not finite.
        DataError: an image is unreadable.
        Interrupted: this process received a signal.
    """
    settings, meter = config.train, FeedMeter(config, device)
    prior_loss = optim.compute_prior_loss(settings, train_batches.fake_fraction)
    network = None
    while state.epoch < settings.epochs:
        tuning.set_trainable(state.detector, head_only=state.epoch < settings.freeze_epochs)
        if network is None or state.epoch == settings.freeze_epochs:  # the trainable parameters change here
            network = None  # frees the DDP wrapper before the next one is made
            network = distributed.wrap_ddp(state.detector, device)
        yield from _train_epoch(network, state, train_batches, config, device, seed, meter)
        started, progress = time.perf_counter(), state.progress
        train_loss = progress.losses[: progress.step].mean().item()
        heldout = None if heldout_batches is None else _evaluate(state.eval_model, heldout_batches, device)
        scores = {} if heldout is None else metrics.evaluate(*heldout)
        steps = len(train_batches)
        record = EpochRecord(
            epoch=state.epoch,
            lr=optim.compute_learning_rate(settings, state.global_step - 1, settings.epochs * steps, steps),
            train_loss=train_loss,
            heldout_loss=scores.get("log_loss"),
            heldout_accuracy=scores.get("accuracy"),
            heldout_auc=scores.get("auc"),
            images_per_second=progress.images / progress.seconds,
            seconds=progress.seconds + time.perf_counter() - started,
            waiting=progress.waiting / progress.seconds,
        )
        warning = health.check_epoch(
            settings,
            state.epoch,
            train_loss,
            prior_loss,
            heldout,
            unseen_kinds=config.folds.scheme == "leave-kind-out",
        )
        _end_epoch(state, record, warning, settings)
        yield record
        if warning is not None:
            yield warning
    if state.best is not None:
        tuning.load_trained(state.eval_model, state.best.weights)


def _train_epoch(
    network: nn.Module,
    state: TrainingState,
    training: TrainBatches,
    config: Config,
    device: Device,
    seed: int,
    meter: FeedMeter,
) -> Iterator[Step | WaitingForData]:
    """Trains the remaining steps of an epoch."""
    criterion, steps, progress = optim.create_loss(config.train, training.fake_fraction), len(training), state.progress
    rows: list[torch.Tensor] = []
    started = time.perf_counter()
    for batch in meter.watch(device.send_batches(training.iterate_epoch(state.epoch, progress.step))):
        signals.raise_if_interrupted()
        step_seed = seed * 1_000_003 + state.global_step
        device.seed(step_seed * distributed.get_world_size() + distributed.get_rank())
        state.between_steps = False
        rate = optim.compute_learning_rate(config.train, state.global_step, config.train.epochs * steps, steps)
        optim.set_learning_rate(state.optimizer, rate)
        loss, images = train_step(network, state, batch, criterion, config, device)
        progress.add(loss, steps)
        update_ema(state)
        meter.end_step(len(batch.index))
        rows.append(batch.index)
        state.global_step += 1
        progress.images += images
        state.between_steps = True
        if progress.step % CHECK_EVERY == 0 or progress.step == steps:
            _check_finite(state, rows, training)
            rows.clear()
            progress.waiting += meter.close_window().waiting
        now = time.perf_counter()
        progress.seconds += now - started
        started = now
        yield Step(state.epoch, progress.step - 1, steps, progress.images)
        if (warning := meter.take_warning()) is not None:
            yield warning


class StepResult(NamedTuple):
    """The loss of a batch on its labels, float32 [], and the number of its images, over all ranks."""

    loss: torch.Tensor
    images: int


def train_step(
    network: nn.Module, state: TrainingState, batch: Batch, criterion: optim.Loss, config: Config, device: Device
) -> StepResult:
    """One optimizer step, which does not wait for a GPU; `network` is `state.detector`, or its DDP wrapper."""
    soft, target = None, device.send(batch.target)
    if batch.soft_logit is not None:
        soft = distillation.make_soft_targets(device.send(batch.soft_logit), target, config)
    images, target, soft = mix_batch(inputs.make_images(batch, device), target, soft, config.augment)
    batch_size = distributed.sum_over_ranks(len(images))
    parts = _split_batch(
        len(images), config.train.micro_batches, batch_size // distributed.get_world_size(), config.train.views
    )

    taught = None if batch.soft_features is None else device.send(batch.soft_features)
    needs_features = config.train.needs_features or taught is not None

    def compute_more(part: slice, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The losses on features."""
        more = feature_losses.compute_feature_losses(config.train, features, logits, target[part])
        if taught is None or soft is None:
            return more
        matched = distillation.compute_feature_loss(features, taught[part], target[part], soft[part])
        return more + config.distill.features * matched

    def compute_gradients() -> torch.Tensor:
        state.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=images.device)
        for part in parts:
            with nullcontext() if part is parts[-1] else distributed.disable_gradient_sync(network):
                with record_function(FORWARD), device.autocast(), distributed.sync_batch_norm(device):
                    logits, features = _run(network, images[part], features=needs_features)
                    more = compute_more(part, features, logits) if features is not None else 0.0
                with record_function(BACKWARD):
                    share = len(logits) / batch_size
                    if soft is None:
                        loss = objective = criterion(logits, target[part]) * share
                    else:
                        found = distillation.compute_loss(criterion, logits, target[part], soft[part], config)
                        loss, objective = (one * share for one in found)
                    # DDP averages gradients over the ranks, and the loss is a sum over them
                    state.scaler.scale((objective + more * share) * distributed.get_world_size()).backward()
            total = total + loss.detach()
        return total

    loss = compute_gradients()
    if config.train.sam_rho:
        with optim.perturb_weights(state.detector, config.train.sam_rho):
            compute_gradients()
    with record_function(OPTIMIZER):
        if config.train.clip_grad:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(state.detector.parameters(), config.train.clip_grad)
        state.scaler.step(state.optimizer)
        state.scaler.update()
    return StepResult(distributed.all_reduce(loss), batch_size // config.train.views)


def _run(network: nn.Module, images: torch.Tensor, *, features: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The logits, and the features, if they are asked for."""
    if not features:
        return network(images), None
    logits, found = network(images, features=True)
    return logits, found


def list_nondeterministic(detector: Detector, config: Config, device: Device, probe: Batch | None = None) -> list[str]:
    """The operations of a step that have no deterministic kernel on a GPU; tries a step of two images on a copy.

    Args:
        detector: on the device.
        config: the experiment's.
        device: of the model.
        probe: a batch of two images; None makes one for a network that takes images.
    """

    def compute_gradients() -> None:
        network = copy.deepcopy(detector)
        tuning.set_trainable(network)
        images = inputs.make_images(probe or inputs.make_probe(config), device)
        with device.autocast():
            logits = network(images)
        optim.create_loss(config.train, 0.5)(logits, torch.zeros_like(logits)).backward()

    return device.list_nondeterministic(compute_gradients)


def update_ema(state: TrainingState) -> None:
    if state.ema is not None:
        with record_function(EMA):
            state.ema.update(state.detector, step=state.global_step)


def _split_batch(images: int, count: int, fewest: int, views: int) -> list[slice]:
    """Splits a batch into micro-batches whose sizes differ by one at most; BatchNorm needs two images in each.

    All views of an image are in one micro-batch.

    Args:
        images: of this rank's part of the batch.
        count: micro-batches.
        fewest: images of the rank with the smallest part, so that all ranks have the same number of micro-batches.
    """
    count = min(count, max(1, fewest // 2))
    ends = [images // views * number // count * views for number in range(count + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def _end_epoch(state: TrainingState, record: EpochRecord, warning: HealthWarning | None, config: TrainConfig) -> None:
    auc = record.heldout_auc
    if config.select == "best" and auc is not None and (state.best is None or auc > state.best.auc):
        weights = {name: value.clone() for name, value in tuning.get_trained(state.eval_model).items()}
        state.best = BestWeights(auc, state.epoch, weights)
    state.history.append(record)
    state.symptoms = list(warning.symptoms) if warning is not None else []
    state.epoch, state.progress = state.epoch + 1, EpochProgress()


def _check_finite(state: TrainingState, rows: list[torch.Tensor], training: TrainBatches) -> None:
    """Refuses a loss that is not finite.

    Args:
        rows: int64 [B] for each of the last batches, to name their images.

    Raises:
        TrainingError: names the images of the first such batch.
    """
    before = state.progress.step - len(rows)
    losses = state.progress.losses[before : state.progress.step]
    bad = ~losses.isfinite()
    if bad.any():
        first = int(bad.nonzero()[0])
        number = before + first + 1
        names = training.list_names(distributed.all_gather(rows[first].numpy()).tolist())
        raise TrainingError(
            f"the loss is {losses[first].item()} in epoch {state.epoch + 1}, step {number}: training has diverged",
            problems=[f"in this step: {name}" for name in names],
            hint="lower train.lr, set train.clip_grad, or set train.precision = 'fp32' in config.toml",
        )


def _evaluate(detector: Detector, batches: ScoredBatches, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """Labels int64 [N] and scores float64 [N] of the held-out fold, in the precision of the training."""
    score = PartwiseRunner(detector.eval(), device)
    logits = next(detector.parameters()).new_empty(batches.rows, dtype=torch.float32)
    targets, start = np.empty(batches.rows, np.int64), 0
    with torch.inference_mode(), device.autocast():
        for batch in device.send_batches(batches):  # into tensors that are allocated once, see `EpochProgress.add`
            signals.raise_if_interrupted()
            rows = slice(start, start + len(batch.images))
            logits[rows], targets[rows] = score(device.send(batch.images)), batch.target.numpy()
            start = rows.stop
    logit, target = distributed.all_gather(logits.cpu().numpy()), distributed.all_gather(targets)
    if not np.isfinite(logit).all():
        raise TrainingError(
            "the held-out fold's scores are not finite: training has diverged",
            hint="lower train.lr, or set train.precision = 'fp32' in config.toml",
        )
    return target, sigmoid(logit)


def mix_batch(
    images: torch.Tensor, target: torch.Tensor, soft: torch.Tensor | None, config: AugmentConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Mixes images and labels of a batch by Mixup (Zhang et al., ICLR 2018) or CutMix (Yun et al., ICCV 2019).

    With both enabled, torch's random numbers choose one for each batch.

    Args:
        images: uint8 [B, S, S, 3].
        target: float32 [B], 0 or 1.
        soft: float32 [B], the soft targets, NaN where there is none; None if there are none.
        config: `mixup` and `cutmix` are the parameters of Beta distributions; 0 disables.

    Returns:
        uint8 or float32 [B, S, S, 3] in grey levels, the labels float32 [B] in [0, 1], and the soft targets.
    """
    transforms = [
        *([v2.MixUp(alpha=config.mixup)] if config.mixup else []),
        *([v2.CutMix(alpha=config.cutmix)] if config.cutmix else []),
    ]
    if not transforms:
        return images, target, soft
    transform = transforms[int(torch.randint(len(transforms), ()))]
    pixels = images.permute(0, 3, 1, 2)
    columns = torch.stack([target, target if soft is None else soft], dim=1)
    mixed, columns = transform(pixels.float() if isinstance(transform, v2.MixUp) else pixels, columns)
    return mixed.permute(0, 2, 3, 1), columns[:, 0], None if soft is None else columns[:, 1]
