"""How long the device of a training waits for images, and what would feed it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from ffdi.config.schema import Config
from ffdi.core.errors import format_are, format_count
from ffdi.data.loading.loader import Batch
from ffdi.training.runtime.device import Device, Moment, compute_seconds

IDLE = 0.1
"""The share of its time that a device may wait for images without a warning."""
ROUNDS = 4
"""Batches of each loader worker that a pace covers at least: workers that start together deliver together."""
PACES = 10
"""Paces of a training that are looked at: the first ones still have the batches that were made during the start."""


@dataclass(frozen=True)
class WaitingForData:
    """The device of a training has waited for images.

    Attributes:
        share: of its time, in some steps in a row.
        cure: what would feed it.
    """

    share: float
    cure: str


class Pace(NamedTuple):
    """How a network took images in some steps.

    Attributes:
        images, steps: that it took.
        waiting: seconds in which the device had nothing to do but wait for images.
        computing: the other seconds of these steps.
        asking: seconds in which the host waited for images, or made them itself. A GPU may have computed meanwhile.
    """

    images: int = 0
    steps: int = 0
    waiting: float = 0.0
    computing: float = 0.0
    asking: float = 0.0

    @property
    def share(self) -> float:
        """Of the time, that was waiting."""
        return self.waiting / (self.waiting + self.computing) if self.waiting else 0.0

    def add(self, other: Pace) -> Pace:
        return Pace(
            self.images + other.images,
            self.steps + other.steps,
            self.waiting + other.waiting,
            self.computing + other.computing,
            self.asking + other.asking,
        )

    def compute_core_rate(self, device: Device) -> float:
        """Images per second of one core that makes them, where the network has waited for them.

        Workers then make images all the time, on no more cores than there are; without workers, all threads of the
        training process make a batch when it is asked for.
        """
        if device.workers:
            return self.images / (self.waiting + self.computing) / min(device.workers, device.threads)
        return self.images / self.asking / device.threads

    def count_needed_workers(self, device: Device) -> int:
        """Loader workers, each on a core, that make images as fast as the network takes them."""
        return ceil(self.images / self.computing / self.compute_core_rate(device))


def list_savings(config: Config, device: Device) -> list[str]:
    """Changes to config.toml after which the CPU has less to do for each image."""
    decoded = not config.cache.decoded and config.model.fits_decoded_cache
    on_device = device.kind != "cpu" and config.augment.recipe != "none" and config.model.fits_device_augmentation
    encoded = config.augment.device and config.augment.decode == "cpu" and not config.cache.decoded
    savings = {
        "cache.decoded = true": decoded and config.augment.decode == "cpu",
        "augment.device = true": on_device and not config.augment.device,
        "augment.decode = 'device'": device.decodes_jpegs and encoded,
    }
    return [saving for saving, helps in savings.items() if helps]


def describe_cure(pace: Pace, config: Config, device: Device) -> str:
    """What would feed the network, the cheapest first; `pace` is of a device that waits for its loader."""
    needed, savings = pace.count_needed_workers(device), list_savings(config, device)
    if needed <= device.most_workers:
        workers = f"--workers {needed} would feed it ({device.workers} now)"
        return ", or ".join([workers, *(f"{saving} would save work" for saving in savings)])
    lacking = (
        f"loader workers on {format_count(needed, 'core')} would feed it, and there "
        f"{format_are(device.most_workers)} to spare"
    )
    return f"{lacking}: {' or '.join(savings or ['a cheaper augment.recipe'])} would save work"


def describe_limit(pace: Pace, config: Config, device: Device) -> str:
    """What the speed of a training depends on, and the cheapest cure."""
    share = f"{100 * pace.share:.0f} %"
    if device.kind == "cpu":
        saving = "".join(f"; {one} would save work" for one in list_savings(config, device) if pace.share > IDLE)
        if device.workers:
            return f"the cores, which loader workers and the network share: it waits {share} of the time{saving}"
        return f"the cores, which make images {share} of the time, and train the network in the rest{saving}"
    rate = f"{pace.images / pace.computing:.0f}"
    if pace.share <= IDLE:
        return f"the network, which takes {rate} images/s, and waits {share} of the time"
    made = f"a core makes {pace.compute_core_rate(device):.0f} images/s, the network takes {rate}"
    return f"data: {made}, and waits {share} of the time; {describe_cure(pace, config, device)}"


class FeedMeter:
    """Measures how long the device of a training waits for images, without waiting for the device.

    The host waits for a batch long before a GPU, to which it has given steps in advance, has nothing to do. So a wait
    counts as far as the GPU was between two steps by its own clock, and the host in the loader by its own.
    """

    def __init__(self, config: Config, device: Device) -> None:
        self._config, self._device = config, device
        self._steps: list[_MeasuredStep] = []
        self._asking = 0.0
        self._start: Moment | None = None
        self._end: Moment | None = None
        self._has_start, self._pace, self._left = True, Pace(), PACES if device.has_clock else 0

    def watch(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches of an epoch, in which the time of every step is measured."""
        self._end, self._has_start = None, True
        while True:
            started = time.perf_counter()
            if (batch := next(batches, None)) is None:
                return
            self._asking = time.perf_counter() - started
            self._start = self._device.mark_time()
            yield batch

    def end_step(self, images: int) -> None:
        """The device has got all work of the step for the last batch."""
        assert self._start is not None
        before, self._end = self._end, self._device.mark_time()
        self._steps.append(_MeasuredStep(images, self._asking, before, self._start, self._end))

    def close_window(self) -> Pace:
        """The pace since the last call; the device must have finished all steps."""
        pace = Pace()
        for step in self._steps:
            pace = pace.add(step.compute_pace())
        self._steps.clear()
        if not self._has_start:  # else the workers have just started, and have made nothing ahead
            self._pace = self._pace.add(pace)
        self._has_start = False
        return pace

    def take_warning(self) -> WaitingForData | None:
        """A warning if the device waits, once."""
        if not self._left or self._pace.steps < max(1, ROUNDS * self._device.workers):
            return None
        pace, self._pace, self._left = self._pace, Pace(), self._left - 1
        if pace.share <= IDLE:
            return None
        self._left = 0
        return WaitingForData(pace.share, describe_cure(pace, self._config, self._device))


class _MeasuredStep(NamedTuple):
    """A step on the device, from `start` to `end`.

    Attributes:
        images: of its batch.
        asking: seconds in which the host waited for the batch.
        before: the end of the step before; None for the first of an epoch.
    """

    images: int
    asking: float
    before: Moment | None
    start: Moment
    end: Moment

    def compute_pace(self) -> Pace:
        waiting = self.asking
        if self.before is not None:  # a checkpoint between two steps is no wait for images
            waiting = min(waiting, compute_seconds(self.before, self.start))
        return Pace(self.images, 1, waiting, compute_seconds(self.start, self.end), self.asking)
