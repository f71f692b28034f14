"""The learning rate range test (Smith, Cyclical Learning Rates, WACV 2017)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ffdi.config.schema import Config
from ffdi.core import signals
from ffdi.core.errors import TrainingError, format_count
from ffdi.data.loading.loader import Batch, Batches
from ffdi.models import tuning
from ffdi.models.detector import Detector
from ffdi.training import inputs, optim
from ffdi.training.loop import train_step
from ffdi.training.runtime.device import Device
from ffdi.training.state import TrainingState

LOWEST, HIGHEST = 1e-6, 10.0
SMOOTHING = 0.9
"""The factor of the exponential moving average of the losses."""
DIVERGED = 4.0
"""The test ends when the loss is this multiple of the lowest one."""
MIN_FALL = 0.01
"""The fraction by which the loss must fall."""


class LrStep(NamedTuple):
    """A step: its learning rate, and the smoothed loss before it."""

    lr: float
    loss: float


class LrRange(NamedTuple):
    """The rates between which the loss falls, and their geometric mean."""

    low: float
    high: float
    rate: float


def run_range_test(
    state: TrainingState,
    training: Batches,
    config: Config,
    device: Device,
    steps: int,
    heldout: Batches | None = None,
) -> Iterator[LrStep]:
    """Trains while the learning rate grows by the same factor at each step, until the loss diverges.

    Args:
        state: before its first step; unusable afterwards.
        training: shuffled, augmented batches.
        config: its learning rate and schedule are ignored.
        device: of the model.
        steps: from LOWEST to HIGHEST.
        heldout: of other images, whose loss is measured after each step; None measures the loss of the training.

    Raises:
        Interrupted: this process received a signal.
    """
    criterion = optim.create_loss(config.train, training.fake_fraction)
    others = None if heldout is None else heldout.repeat_epochs()
    tuning.set_trainable(state.detector)
    mean, least = 0.0, math.inf
    for number, batch in zip(range(steps), training.repeat_epochs(), strict=False):
        signals.raise_if_interrupted()
        rate = LOWEST * (HIGHEST / LOWEST) ** (number / max(1, steps - 1))
        optim.set_learning_rate(state.optimizer, rate)
        loss = train_step(state.detector, state, batch, criterion, config, device).loss.item()
        if others is not None:
            loss = _measure_loss(state.detector, next(others), criterion, device)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smoothed = mean / (1 - SMOOTHING ** (number + 1))
        least = min(least, smoothed)
        if not math.isfinite(smoothed) or smoothed > DIVERGED * least:
            return
        yield LrStep(rate, smoothed)


def _measure_loss(detector: Detector, batch: Batch, criterion: optim.Loss, device: Device) -> float:
    detector.eval()
    with torch.inference_mode(), device.autocast():
        logits = detector(inputs.make_images(batch, device))
    loss = criterion(logits, device.send(batch.target)).item()
    tuning.set_trainable(detector)
    return loss


def average_tests(tests: Sequence[Sequence[LrStep]]) -> list[LrStep]:
    """The mean loss of several tests at each rate, up to the rate at which the first of them has diverged."""
    return [LrStep(steps[0].lr, float(np.mean([one.loss for one in steps]))) for steps in zip(*tests, strict=False)]


def suggest_learning_rate(steps: Sequence[LrStep]) -> LrRange:
    """Finds the range in which the loss falls: the longest decreasing subsequence of losses (fastai's 'valley').

    Raises:
        TrainingError: the loss does not fall by MIN_FALL.
    """
    if not steps:
        raise TrainingError(
            f"the loss is not finite even at a learning rate of {LOWEST:g}",
            hint="set train.precision = 'fp32' in config.toml",
        )
    loss = np.array([one.loss for one in steps])
    length, start = np.ones(len(loss), int), np.arange(len(loss))
    for end in range(1, len(loss)):
        before = np.where(loss[:end] > loss[end], length[:end], 0)
        if before.any():
            latest = end - 1 - before[::-1].argmax()
            length[end], start[end] = before[latest] + 1, start[latest]
    last = int(length.argmax())
    first = int(start[last])
    if loss[last] > (1 - MIN_FALL) * loss[first]:
        raise TrainingError(
            f"no learning rate between {LOWEST:g} and {steps[-1].lr:.2g} lowers the loss in "
            f"{format_count(len(steps), 'step')}",
            hint="pass more --steps; if the error stays, check the data: invoke doctor",
        )
    low, high = steps[first].lr, steps[last].lr
    return LrRange(low, high, float(f"{math.sqrt(low * high):.2g}"))
