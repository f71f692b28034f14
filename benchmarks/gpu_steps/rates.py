"""Images per second of contestants that take turns on one device, and their ratios within a round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ffdi.training.runtime.device import Device
from gpu_steps.run import Run

WARM = 4
"""Steps before the clock of a turn starts, beside those that loader workers have made ahead."""


def run_for(steps: Iterator[int], seconds: float, device: Device, ahead: int = 0) -> float:
    """Images per second of `steps`, which yields the images of each step, after `ahead` + WARM steps.

    A GPU is waited for before and after: steps only ask it to work.
    """
    for _ in range(ahead + WARM):
        next(steps)
    device.synchronize()
    started, images = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        images += next(steps)
    device.synchronize()
    return images / (time.perf_counter() - started)


def take_turns(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, np.ndarray]:
    """The results of each contestant, float [rounds]; every other round goes backwards."""
    results: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            results[name].append(contestants[name]())
    return {name: np.array(rates) for name, rates in results.items()}


def record_ratios(run: Run, rates: Mapping[str, np.ndarray], base: str) -> None:
    """Records the median of each rate, and that of its ratio to `base` within a round, with the lowest and highest."""
    for name, values in rates.items():
        record_spread(run, f"{name}, images/s", values)
        if name != base:
            record_spread(run, f"{name} / {base}", values / rates[base])


def record_spread(run: Run, figure: str, values: np.ndarray) -> None:
    median, low, high = (round(float(value), 4) for value in (np.median(values), values.min(), values.max()))
    run.record(figure, median, low=low, high=high, rounds=len(values))
