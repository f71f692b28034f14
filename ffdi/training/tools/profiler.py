"""Where the time of a training goes: a few of its steps, watched."""

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
from ffdi.training.loop import PARTS, make_ema_step, step
from ffdi.training.runtime.device import Device
from ffdi.training.state import State

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else torch's profiler talks of GPUs that are not there
STEPS, WARM = 20, 5
"""Steps that are watched, and those before them, which are not like the others."""
WAITING = "waiting for a batch"
OPERATORS = 10
"""Of torch, that are named."""


@dataclass(frozen=True)
class Part:
    """What a step consists of, in milliseconds a step."""

    name: str
    milliseconds: float


@dataclass(frozen=True)
class Profile:
    """What was seen.

    Attributes:
        images_per_second: while nobody watched closely.
        parts: of a step, as this process sees it: a GPU may still be working.
        operators: those that take the device most of the time.
    """

    images_per_second: float
    parts: list[Part]
    operators: list[Part]


def profile_steps(state: State, training: Batches, config: Config, device: Device, trace: Path) -> Profile:
    """Trains for a few steps, and looks.

    Args:
        state: a training that has not begun; it is spoilt.
        training: shuffled, augmented batches.
        config: the recipe.
        device: where it runs.
        trace: where what was seen is written to, for chrome://tracing or Perfetto.

    Raises:
        Stopped: where this process is to end.
        DataError: an image cannot be read; it is named.
    """
    optim.set_frozen(state.detector.backbone, False)
    criterion = optim.loss(config.train, training.fakes)
    batches = _endless(training)

    def steps(number: int) -> int:
        images = 0
        for _ in range(number):
            signals.raise_if_interrupted()
            with record_function(WAITING):
                batch = next(batches)
            step(state.detector, state, batch, criterion, config, device)
            make_ema_step(state)
            images += len(batch.images)
        device.wait()
        return images

    steps(WARM)
    started = time.perf_counter()
    images = steps(STEPS)
    seconds = time.perf_counter() - started
    with profile(activities=device.activities) as seen:
        steps(STEPS)
    seen.export_chrome_trace(str(trace))
    return Profile(images / seconds, _parts(seen), _operators(seen))


def _endless(training: Batches) -> Iterator[Batch]:
    for epoch in count():
        yield from training.epoch(epoch)


def _parts(seen: profile) -> list[Part]:
    found = {one.key: one.cpu_time_total / 1000 / STEPS for one in seen.key_averages()}
    return [Part(name, found[name]) for name in (WAITING, *PARTS) if name in found]


def _operators(seen: profile) -> list[Part]:
    known = {WAITING, *PARTS}
    every = [one for one in seen.key_averages() if one.key not in known and not one.key.startswith("enumerate(")]
    times = {one.key: max(one.self_device_time_total, 0) or one.self_cpu_time_total for one in every}
    longest = sorted(times, key=lambda name: -times[name])[:OPERATORS]
    return [Part(name, times[name] / 1000 / STEPS) for name in longest]
