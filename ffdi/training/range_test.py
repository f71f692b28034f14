"""The learning rate range test (Smith, Cyclical Learning Rates, WACV 2017): which rates a training can bear."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

from ffdi import stopping
from ffdi.config import Config
from ffdi.data.loader import Batch, Batches
from ffdi.training import recipe
from ffdi.training.device import Device
from ffdi.training.fit import step
from ffdi.training.state import State

LOWEST, HIGHEST = 1e-6, 1.0
SMOOTHING = 0.9
"""Of the losses, whose batches differ."""
EXPLODED = 4.0
"""So many times the least loss is the end."""
MARGIN = 0.1
"""The part of the rate with the least loss that is safe."""


class Tried(NamedTuple):
    """A step at a learning rate, and the smoothed loss before it."""

    lr: float
    loss: float


def measure(state: State, training: Batches, config: Config, device: Device, steps: int) -> Iterator[Tried]:
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
    criterion = recipe.loss(config.train, training.fakes)
    recipe.freeze(state.detector.backbone, False)
    mean, least = 0.0, math.inf
    for number, batch in zip(range(steps), _endless(training), strict=False):
        stopping.check()
        rate = LOWEST * (HIGHEST / LOWEST) ** (number / max(1, steps - 1))
        recipe.set_rate(state.optimizer, rate)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * step(state, batch, criterion, config, device).item()
        smoothed = mean / (1 - SMOOTHING ** (number + 1))
        least = min(least, smoothed)
        if not math.isfinite(smoothed) or smoothed > EXPLODED * least:
            return
        yield Tried(rate, smoothed)


def suggested(tried: Sequence[Tried]) -> float:
    """A tenth of the rate at which the loss was least: beyond it the steps begin to do harm.

    Raises:
        ValueError: nothing was tried.
    """
    losses = np.array([one.loss for one in tried])
    return float(f"{MARGIN * tried[int(losses.argmin())].lr:.2g}")


def _endless(training: Batches) -> Iterator[Batch]:
    for epoch in count():
        yield from training.epoch(epoch)
