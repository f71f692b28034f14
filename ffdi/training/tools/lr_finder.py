"""The learning rate range test (Smith, Cyclical Learning Rates, WACV 2017): which rates a training can bear."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

from ffdi.config.schema import Config
from ffdi.core import signals
from ffdi.core.errors import TrainingError
from ffdi.data.loading.loader import Batch, Batches
from ffdi.training import optim
from ffdi.training.loop import step
from ffdi.training.runtime.device import Device
from ffdi.training.state import State

LOWEST, HIGHEST = 1e-6, 10.0
SMOOTHING = 0.9
"""Of the losses, whose batches differ."""
EXPLODED = 4.0
"""So many times the least loss is the end."""
FALL = 0.01
"""The part of the loss by which it has to fall somewhere."""


class LrStep(NamedTuple):
    """A step at a learning rate, and the smoothed loss before it."""

    lr: float
    loss: float


class LrRange(NamedTuple):
    """The rates between which the loss falls, and the one in the middle of them, by factors."""

    low: float
    high: float
    rate: float


def measure(state: State, training: Batches, config: Config, device: Device, steps: int) -> Iterator[LrStep]:
    """Trains with a rate that grows from step to step by the same factor, until the loss explodes.

    Args:
        state: a training that has not begun; it is spoilt.
        training: shuffled, augmented batches.
        config: the recipe; its learning rate and schedule are not looked at.
        device: where it runs.
        steps: from the lowest to the highest rate.

    Raises:
        Stopped: where this process is to end.
    """
    criterion = optim.loss(config.train, training.fakes)
    optim.set_frozen(state.detector.backbone, False)
    mean, least = 0.0, math.inf
    for number, batch in zip(range(steps), _endless(training), strict=False):
        signals.raise_if_interrupted()
        rate = LOWEST * (HIGHEST / LOWEST) ** (number / max(1, steps - 1))
        optim.set_learning_rate(state.optimizer, rate)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * step(state.detector, state, batch, criterion, config, device).item()
        smoothed = mean / (1 - SMOOTHING ** (number + 1))
        least = min(least, smoothed)
        if not math.isfinite(smoothed) or smoothed > EXPLODED * least:
            return
        yield LrStep(rate, smoothed)


def suggest(tried: Sequence[LrStep]) -> LrRange:
    """Where the loss falls, and the middle of it: far from where steps do nothing, and from where they do harm.

    The longest run of losses, each below the one before it, the ones between them left out (fastai's 'valley').

    Raises:
        TrainingError: the loss falls nowhere by a hundredth.
    """
    if not tried:
        raise TrainingError(
            f"the loss is not finite even at a learning rate of {LOWEST:g}",
            hint="set train.precision = 'fp32' in config.toml",
        )
    loss = np.array([one.loss for one in tried])
    length, begin = np.ones(len(loss), int), np.arange(len(loss))
    for end in range(1, len(loss)):
        before = np.where(loss[:end] > loss[end], length[:end], 0)
        if before.any():
            latest = end - 1 - before[::-1].argmax()
            length[end], begin[end] = before[latest] + 1, begin[latest]
    last = int(length.argmax())
    first = int(begin[last])
    if loss[last] > (1 - FALL) * loss[first]:
        raise TrainingError(
            f"no learning rate between {LOWEST:g} and {tried[-1].lr:.2g} lowers the loss in {len(tried)} steps",
            hint="try again with more --steps; where that says the same, look at the data: invoke doctor",
        )
    low, high = tried[first].lr, tried[last].lr
    return LrRange(low, high, float(f"{math.sqrt(low * high):.2g}"))


def _endless(training: Batches) -> Iterator[Batch]:
    for epoch in count():
        yield from training.epoch(epoch)
