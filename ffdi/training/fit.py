"""The training loop, whole: it yields what happened and touches no file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ffdi.config import TrainConfig
from ffdi.data.loader import Batches
from ffdi.errors import TrainingError
from ffdi.scoring import metrics
from ffdi.scoring.ensemble import sigmoid
from ffdi.training import health, recipe
from ffdi.training.detector import Detector
from ffdi.training.device import Device
from ffdi.training.health import Unhealthy

CHECK_EVERY = 20
"""Steps between looks for NaN: each look waits for the device."""


@dataclass(frozen=True)
class Step:
    """One optimiser step done. `images` is how many images the epoch has seen so far."""

    epoch: int
    step: int
    steps: int
    images: int


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch came to; `val` is the held-out fold, scored with the averaged weights where there are any."""

    epoch: int
    lr: float
    train_loss: float
    val_loss: float
    val_accuracy: float
    val_auc: float
    images_per_second: float
    seconds: float


@dataclass(frozen=True)
class Fitted:
    """The end of a training: the network to keep and the epoch it is from."""

    detector: Detector
    epoch: int


def fit(
    detector: Detector, training: Batches, held_out: Batches, config: TrainConfig, device: Device, seed: int
) -> Iterator[Step | EpochRecord | Unhealthy | Fitted]:
    """Trains a detector.

    Args:
        detector: on the device; trained in place.
        training: shuffled, augmented batches, which know their epochs.
        held_out: the fold that is not trained on.
        config: the recipe.
        device: where it runs.
        seed: decides what the network draws itself (dropout), together with the epoch.

    Yields:
        A Step after each step, an EpochRecord after each epoch, Unhealthy after one that was, and a Fitted last.

    Raises:
        TrainingError: the loss is not finite any more.
        DataError: an image cannot be read; it is named.
    """
    optimizer, criterion = recipe.optimizer(config, detector), recipe.loss(config)
    average, scaler = recipe.average(config, detector), device.scaler()
    steps_per_epoch = len(training)
    kept = detector if average is None else average.module
    best: tuple[float, int, dict[str, torch.Tensor]] = (-1.0, 0, {})
    for epoch in range(config.epochs):
        torch.manual_seed(seed * 1_000_003 + epoch)
        started, seen, fakes, losses = time.perf_counter(), 0, 0.0, []
        detector.train()
        for step, batch in enumerate(training.epoch(epoch)):
            done = epoch * steps_per_epoch + step
            lr = recipe.learning_rate(config, done, config.epochs * steps_per_epoch, steps_per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = lr

            images, target = device.send(batch.images), device.send(batch.target)
            with device.autocast():
                logits = detector(images)
            loss = criterion(logits, target)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            if config.clip_grad:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(detector.parameters(), config.clip_grad)
            scaler.step(optimizer)
            scaler.update()
            if average is not None:
                average.update(detector, step=done)

            losses.append(loss.detach())
            seen += len(batch.images)
            fakes += float(batch.target.sum())
            if step % CHECK_EVERY == CHECK_EVERY - 1 or step == steps_per_epoch - 1:
                _check_finite(losses, epoch)
            yield Step(epoch, step, steps_per_epoch, seen)

        trained = time.perf_counter() - started
        train_loss = torch.stack(losses).mean().item()
        target, y_pred = _validate(kept, held_out, device)
        scores = metrics.evaluate(target, y_pred)
        yield EpochRecord(
            epoch=epoch,
            lr=lr,
            train_loss=train_loss,
            val_loss=scores["log_loss"],
            val_accuracy=scores["accuracy"],
            val_auc=scores["auc"],
            images_per_second=seen / trained,
            seconds=time.perf_counter() - started,
        )
        if (unhealthy := health.check(config, epoch, train_loss, fakes / seen, target, y_pred)) is not None:
            yield unhealthy
        if config.select == "best" and scores["auc"] > best[0]:
            best = (scores["auc"], epoch, {name: value.clone() for name, value in kept.state_dict().items()})
    if config.select == "best":
        kept.load_state_dict(best[2])
    yield Fitted(kept.eval(), best[1] if config.select == "best" else config.epochs - 1)


def _check_finite(losses: list[torch.Tensor], epoch: int) -> None:
    bad = ~torch.stack(losses).isfinite()
    if bad.any():
        step = int(bad.nonzero()[0])
        raise TrainingError(
            f"the loss is {losses[step].item()} in epoch {epoch + 1}, step {step + 1}: training has diverged",
            hint="lower train.lr, set train.clip_grad, or set train.precision = 'fp32' in config.toml",
        )


def _validate(detector: nn.Module, batches: Batches, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of the held-out fold; in training's precision, for it is a look, not what is kept."""
    detector.eval()
    logits, targets = [], []
    with torch.inference_mode(), device.autocast():
        for batch in batches:
            logits.append(detector(device.send(batch.images)).float())
            targets.append(batch.target)
    logit, target = torch.cat(logits).cpu().numpy(), torch.cat(targets).numpy().astype(np.int64)
    if not np.isfinite(logit).all():
        raise TrainingError(
            "the held-out fold's scores are not finite: training has diverged",
            hint="lower train.lr, or set train.precision = 'fp32' in config.toml",
        )
    return target, sigmoid(logit)
