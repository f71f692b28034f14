"""The training loop, whole: it yields what happened and touches no file."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.profiler import record_function

from ffdi.config.schema import Config, TrainConfig
from ffdi.core import signals
from ffdi.core.errors import TrainingError
from ffdi.data.loading.loader import Batch, Batches
from ffdi.evaluation import metrics
from ffdi.evaluation.predictions import sigmoid
from ffdi.models.detector import Detector
from ffdi.training import health, mixing, optim
from ffdi.training.health import Unhealthy
from ffdi.training.runtime import distributed
from ffdi.training.runtime.device import Device
from ffdi.training.state import Best, EpochRecord, Progress, State

SENDING, FORWARD, BACKWARD = "sending the batch", "forward", "loss and backward"
OPTIMIZER, AVERAGE = "optimizer", "averaged weights"
PARTS = (SENDING, FORWARD, BACKWARD, OPTIMIZER, AVERAGE)
"""Of a step, as a profiler names them."""
CHECK_EVERY = 20
"""Steps between looks for NaN: each look waits for the device."""


@dataclass(frozen=True)
class Step:
    """One optimiser step done. `images` is how many images the epoch has seen so far."""

    epoch: int
    step: int
    steps: int
    images: int


def fit(
    state: State, training: Batches, held_out: Batches, config: Config, device: Device, seed: int
) -> Iterator[Step | EpochRecord | Unhealthy]:
    """Trains a detector, from wherever `state` is; `state.kept` is the result.

    A network that draws (dropout) draws from (seed, step), images come from (seed, fold, epoch, row): whoever stops
    between two steps and goes on with the same state ends in the same weights.

    Args:
        state: changed in place; whole at every yield, and where `Stopped` is raised.
        training: shuffled, augmented batches, which know their epochs.
        held_out: the fold that is not trained on.
        config: the recipe.
        device: where it runs.
        seed: decides what the network draws itself, together with the step.

    Yields:
        A Step after each step, an EpochRecord after each epoch, and Unhealthy after one that was.

    Raises:
        TrainingError: the loss is not finite any more.
        DataError: an image cannot be read; it is named.
        Stopped: between two steps, where this process is to end.
    """
    recipes = config.train
    network = None
    while state.epoch < recipes.epochs:
        optim.set_frozen(state.detector.backbone, state.epoch < recipes.freeze_epochs)
        if network is None or state.epoch == recipes.freeze_epochs:  # from here on other parameters learn
            network = None  # before there is another one
            network = distributed.wrap_ddp(state.detector, device)
        yield from _train(network, state, training, config, device, seed)
        started, progress = time.perf_counter(), state.progress
        train_loss = progress.losses[: progress.step].mean().item()
        target, y_pred = _evaluate(state.kept, held_out, device)
        scores = metrics.evaluate(target, y_pred)
        record = EpochRecord(
            epoch=state.epoch,
            lr=optim.learning_rate(recipes, state.done - 1, recipes.epochs * len(training), len(training)),
            train_loss=train_loss,
            heldout_loss=scores["log_loss"],
            heldout_accuracy=scores["accuracy"],
            heldout_auc=scores["auc"],
            images_per_second=progress.images / progress.seconds,
            seconds=progress.seconds + time.perf_counter() - started,
        )
        blind_loss = optim.prior_loss(recipes, training.fakes)
        unhealthy = health.check_epoch(recipes, state.epoch, train_loss, blind_loss, target, y_pred)
        _end_epoch(state, record, unhealthy, recipes)
        yield record
        if unhealthy is not None:
            yield unhealthy
    if state.best is not None:
        state.kept.load_state_dict(state.best.weights)


def _train(
    network: nn.Module, state: State, training: Batches, config: Config, device: Device, seed: int
) -> Iterator[Step]:
    """What is left of an epoch."""
    criterion, steps, progress = optim.loss(config.train, training.fakes), len(training), state.progress
    rows: list[torch.Tensor] = []
    started = time.perf_counter()
    for batch in training.epoch(state.epoch, progress.step):
        signals.raise_if_interrupted()
        torch.manual_seed((seed * 1_000_003 + state.done) * distributed.world_size() + distributed.rank())
        state.is_whole = False
        rate = optim.learning_rate(config.train, state.done, config.train.epochs * steps, steps)
        optim.set_learning_rate(state.optimizer, rate)
        progress.add(step(network, state, batch, criterion, config, device), steps)
        make_ema_step(state)
        rows.append(batch.index)
        state.done += 1
        progress.images += distributed.total(len(batch.images))
        state.is_whole = True
        if progress.step % CHECK_EVERY == 0 or progress.step == steps:
            _check_finite(state, rows, training)
            rows.clear()
        now = time.perf_counter()
        progress.seconds += now - started
        started = now
        yield Step(state.epoch, progress.step - 1, steps, progress.images)


def step(
    network: nn.Module, state: State, batch: Batch, criterion: optim.Loss, config: Config, device: Device
) -> torch.Tensor:
    """One optimiser step of a network, which is the state's, or that together with others; gives the batch's loss."""
    with record_function(SENDING):
        images, target = mixing.mix_batch(device.send(batch.images), device.send(batch.target), config.augment)
    whole_batch = distributed.total(len(images))
    parts = _parts(len(images), config.train.micro_batches, whole_batch // distributed.world_size())

    def gradient() -> torch.Tensor:
        state.optimizer.zero_grad(set_to_none=True)
        whole = torch.zeros((), device=images.device)
        for part in parts:
            with nullcontext() if part is parts[-1] else distributed.no_sync(network):
                with record_function(FORWARD), device.autocast(), distributed.whole_batches(device):
                    logits = network(images[part])
                with record_function(BACKWARD):
                    loss = criterion(logits, target[part]) * (len(logits) / whole_batch)
                    # gradients are averaged over all processes
                    state.scaler.scale(loss * distributed.world_size()).backward()
            whole = whole + loss.detach()
        return whole

    loss = gradient()
    if config.train.sam_rho:
        with optim.perturb_weights(state.detector, config.train.sam_rho):
            gradient()
    with record_function(OPTIMIZER):
        if config.train.clip_grad:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(state.detector.parameters(), config.train.clip_grad)
        state.scaler.step(state.optimizer)
        state.scaler.update()
    return distributed.all_reduce(loss)


def make_ema_step(state: State) -> None:
    """Lets the averaged weights follow a step."""
    if state.average is not None:
        with record_function(AVERAGE):
            state.average.update(state.detector, step=state.done)


def _parts(images: int, count: int, fewest: int) -> list[slice]:
    """A batch in parts as alike as can be; none of a single image, from which BatchNorm has nothing to estimate.

    As many in every process, the one with the `fewest` images too.
    """
    count = min(count, max(1, fewest // 2))
    ends = [images * number // count for number in range(count + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def _end_epoch(state: State, record: EpochRecord, unhealthy: Unhealthy | None, config: TrainConfig) -> None:
    if config.select == "best" and (state.best is None or record.heldout_auc > state.best.auc):
        weights = {name: value.clone() for name, value in state.kept.state_dict().items()}
        state.best = Best(record.heldout_auc, state.epoch, weights)
    state.history.append(record)
    state.symptoms = list(unhealthy.symptoms) if unhealthy is not None else []
    state.epoch, state.progress = state.epoch + 1, Progress()


def _check_finite(state: State, rows: list[torch.Tensor], training: Batches) -> None:
    """Looks at the losses of the last batches, whose rows these are."""
    before = state.progress.step - len(rows)
    losses = state.progress.losses[before : state.progress.step]
    bad = ~losses.isfinite()
    if bad.any():
        first = int(bad.nonzero()[0])
        number = before + first + 1
        names = training.names(distributed.all_gather(rows[first].numpy()).tolist())
        raise TrainingError(
            f"the loss is {losses[first].item()} in epoch {state.epoch + 1}, step {number}: training has diverged",
            problems=[f"in this step: {name}" for name in names],
            hint="lower train.lr, set train.clip_grad, or set train.precision = 'fp32' in config.toml",
        )


def _evaluate(detector: Detector, batches: Batches, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of the held-out fold; in training's precision, for it is a look, not what is kept."""
    detector.eval()
    logits = next(detector.parameters()).new_empty(batches.rows, dtype=torch.float32)
    targets, start = np.empty(batches.rows, np.int64), 0
    with torch.inference_mode(), device.autocast():
        for batch in batches:  # into tensors that are there from the start, as `Progress.add` says
            signals.raise_if_interrupted()
            rows = slice(start, start + len(batch.images))
            logits[rows], targets[rows] = detector(device.send(batch.images)), batch.target.numpy()
            start = rows.stop
    logit, target = distributed.all_gather(logits.cpu().numpy()), distributed.all_gather(targets)
    if not np.isfinite(logit).all():
        raise TrainingError(
            "the held-out fold's scores are not finite: training has diverged",
            hint="lower train.lr, or set train.precision = 'fp32' in config.toml",
        )
    return target, sigmoid(logit)
