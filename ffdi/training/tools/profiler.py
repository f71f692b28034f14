"""Profiles a few training steps."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import profile, record_function

from ffdi.config.schema import Config
from ffdi.core import signals
from ffdi.data.loading import loader
from ffdi.data.loading.loader import Batches
from ffdi.models import tuning
from ffdi.training import feed_meter, optim
from ffdi.training.feed_meter import FeedMeter
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
        limit: what the speed depends on, and the cheapest cure; of the same steps.
        parts: in CPU time; a GPU may still be busy.
        operators: the slowest operators on the device.
    """

    images_per_second: float
    limit: str
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
    tuning.set_trainable(state.detector)
    criterion = optim.create_loss(config.train, training.fake_fraction)
    meter = FeedMeter(config, device)
    batches = meter.watch(device.send_batches(training.repeat_epochs()))

    def run_steps(number: int) -> None:
        for _ in range(number):
            signals.raise_if_interrupted()
            with record_function(WAITING):
                batch = next(batches)
            train_step(state.detector, state, batch, criterion, config, device)
            update_ema(state)
            if not device.has_clock:
                device.synchronize()
            meter.end_step(len(batch.index))
        device.synchronize()

    run_steps(WARMUP_STEPS + loader.PREFETCHED * device.workers)
    meter.close_window()
    started = time.perf_counter()
    run_steps(max(STEPS, feed_meter.ROUNDS * device.workers))
    seconds = time.perf_counter() - started
    pace = meter.close_window()
    with profile(activities=device.activities) as result:
        run_steps(STEPS)
    result.export_chrome_trace(str(trace))
    calls = _average_calls(result)
    limit = feed_meter.describe_limit(pace, config, device)
    return Profile(pace.images / seconds, limit, _measure_parts(calls), _rank_operators(calls))


def _average_calls(result: profile) -> dict[str, FunctionEventAvg]:
    """By name: what the CPU called. A GPU's kernels, and its copies of named parts without CPU time, are left out."""
    return {one.key: one for one in result.key_averages() if one.device_type == DeviceType.CPU}


def _measure_parts(calls: Mapping[str, FunctionEventAvg]) -> list[Part]:
    return [Part(name, calls[name].cpu_time_total / 1000 / STEPS) for name in (WAITING, *PARTS) if name in calls]


def _rank_operators(calls: Mapping[str, FunctionEventAvg]) -> list[Part]:
    """By the time of their kernels on a GPU; on a CPU by their own."""
    known = {WAITING, *PARTS}
    every = {name: one for name, one in calls.items() if name not in known and not name.startswith("enumerate(")}
    times = {name: one.self_device_time_total for name, one in every.items() if one.self_device_time_total > 0}
    times = times or {name: one.self_cpu_time_total for name, one in every.items()}
    longest = sorted(times, key=lambda name: -times[name])[:OPERATORS]
    return [Part(name, times[name] / 1000 / STEPS) for name in longest]
