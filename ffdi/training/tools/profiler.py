"""Profiles a few training steps."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from torch.profiler import profile, record_function

from ffdi.config.schema import Config
from ffdi.core import signals
from ffdi.data.loading.loader import Batch, Batches
from ffdi.training import optim
from ffdi.training.loop import PARTS, train_step, update_ema
from ffdi.training.runtime.device import Device
from ffdi.training.state import TrainingState

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else torch's profiler warns of missing GPUs
STEPS, WARMUP_STEPS = 20, 5
"""The first steps are slower, and are not measured."""
WAITING = "waiting for a batch"
OPERATORS = 10
"""The number of torch operators in a profile."""


@dataclass(frozen=True)
class Part:
    """A part of a step, in milliseconds per step."""

    name: str
    milliseconds: float


@dataclass(frozen=True)
class Profile:
    """The result.

    Attributes:
        images_per_second: without the profiler.
        parts: in CPU time; a GPU may still be busy.
        operators: the slowest operators on the device.
    """

    images_per_second: float
    parts: list[Part]
    operators: list[Part]


def profile_steps(state: TrainingState, training: Batches, config: Config, device: Device, trace: Path) -> Profile:
    """Profiles a few steps.

    Args:
        state: before its first step; unusable afterwards.
        training: shuffled, augmented batches.
        config: the experiment's.
        device: of the model.
        trace: the file to write, for chrome://tracing or Perfetto.

    Raises:
        Interrupted: this process received a signal.
        DataError: an image is unreadable.
    """
    optim.set_frozen(state.detector.backbone, False)
    criterion = optim.create_loss(config.train, training.fake_fraction)
    batches = _repeat_epochs(training)

    def run_steps(number: int) -> int:
        images = 0
        for _ in range(number):
            signals.raise_if_interrupted()
            with record_function(WAITING):
                batch = next(batches)
            train_step(state.detector, state, batch, criterion, config, device)
            update_ema(state)
            images += len(batch.images)
        device.synchronize()
        return images

    run_steps(WARMUP_STEPS)
    started = time.perf_counter()
    images = run_steps(STEPS)
    seconds = time.perf_counter() - started
    with profile(activities=device.activities) as result:
        run_steps(STEPS)
    result.export_chrome_trace(str(trace))
    return Profile(images / seconds, _measure_parts(result), _rank_operators(result))


def _repeat_epochs(training: Batches) -> Iterator[Batch]:
    for epoch in count():
        yield from training.iterate_epoch(epoch)


def _measure_parts(result: profile) -> list[Part]:
    times = {one.key: one.cpu_time_total / 1000 / STEPS for one in result.key_averages()}
    return [Part(name, times[name]) for name in (WAITING, *PARTS) if name in times]


def _rank_operators(result: profile) -> list[Part]:
    known = {WAITING, *PARTS}
    every = [one for one in result.key_averages() if one.key not in known and not one.key.startswith("enumerate(")]
    times = {one.key: max(one.self_device_time_total, 0) or one.self_cpu_time_total for one in every}
    longest = sorted(times, key=lambda name: -times[name])[:OPERATORS]
    return [Part(name, times[name] / 1000 / STEPS) for name in longest]
