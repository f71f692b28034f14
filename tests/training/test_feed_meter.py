"""How long a device waits for images, in a world of its own: a loader, a host and a GPU with faked clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from ffdi.commands.shared import engines
from ffdi.config.schema import Config
from ffdi.data.loading.loader import PREFETCHED, Batch
from ffdi.training import feed_meter
from ffdi.training.feed_meter import FeedMeter, Pace, WaitingForData
from ffdi.training.loop import CHECK_EVERY
from ffdi.training.runtime.device import Device

IMAGES = 8
"""Of a batch."""
LAUNCH = 0.001
"""Seconds in which the host gives a step to the GPU."""


class World:
    """Seconds since the start, of a host that works ahead of a GPU.

    Attributes:
        now: the host's clock.
        free: when the GPU has finished all that it was given.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.free = 0.0
        world = self

        class Event:
            """As torch's: of the moment at which the GPU reaches it."""

            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self, stream: str) -> None:
                assert stream == "current"
                self.at = max(world.now, world.free)

            def elapsed_time(self, end: Event) -> float:
                assert max(self.at, end.at) <= world.now, "the GPU has not reached this point"
                return 1000 * (end.at - self.at)

        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: "current")

    def load(self, count: int, workers: int, seconds: float) -> Iterator[Batch]:
        """Batches of workers that need so many seconds for each, and work ahead; without workers, of the host."""
        if not workers:
            for _ in range(count):
                self.now += seconds
                yield make_batch()
            return
        taken: list[float] = []
        ready: list[float] = []
        for number in range(count):
            start = [self.now if not ready else 0.0]
            start += ready[number - workers : number - workers + 1] if number >= workers else [self.now] * (not taken)
            start += [taken[number - PREFETCHED * workers]] if number >= PREFETCHED * workers else []
            ready.append(max(start) + seconds)
            self.now = max(self.now, ready[-1])
            taken.append(self.now)
            yield make_batch()

    def compute(self, seconds: float) -> None:
        """Gives a step to the GPU."""
        self.now += LAUNCH
        self.free = max(self.now, self.free) + seconds

    def synchronize(self) -> None:
        self.now = max(self.now, self.free)


def make_batch() -> Batch:
    return Batch(torch.zeros((IMAGES, 2, 2, 3), dtype=torch.uint8), torch.zeros(IMAGES), torch.arange(IMAGES))


def make_device(workers: int = 4, threads: int = 16, name: str = "cuda:0") -> Device:
    return Device(name, "fp32", threads, workers, "")


def train(
    world: World,
    device: Device,
    loading: float,
    step: float,
    *,
    config: Config | None = None,
    epochs: int = 2,
    steps: int = 200,
    pause: float = 0.0,
) -> tuple[Pace, list[tuple[int, WaitingForData]]]:
    """Trains, with a pause after every 50th step; gives the whole pace, and the warnings with their steps."""
    meter, total, warnings = FeedMeter(config or Config(), device), Pace(), []
    for epoch in range(epochs):
        for number, batch in enumerate(meter.watch(world.load(steps, device.workers, loading)), 1):
            world.compute(step)
            meter.end_step(len(batch.images))
            if number % CHECK_EVERY == 0 or number == steps:
                world.synchronize()
                total = total.add(meter.close_window())
            if number % 50 == 0:
                world.now += pause
            if (warning := meter.take_warning()) is not None:
                warnings.append((epoch * steps + number, warning))
        world.synchronize()
        world.now += 5  # the held-out fold is scored
    return total, warnings


def test_the_share_is_the_time_in_which_the_gpu_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that asks early waits nearly all of the time for a loader that is a little slower than the GPU."""
    pace, warnings = train(World(monkeypatch), make_device(workers=1), loading=0.105, step=0.1)
    assert pace.share == pytest.approx(0.05, abs=0.015)
    assert (pace.images, pace.steps) == (400 * IMAGES, 400)
    assert warnings == []
    pace, warnings = train(World(monkeypatch), make_device(workers=1), loading=0.02, step=0.1)
    assert pace.share < 0.01  # the first batch of each epoch
    assert warnings == []


def test_a_loader_that_is_too_slow_is_named_once_with_the_workers_that_feed_the_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pace, [(step, warning)] = train(World(monkeypatch), make_device(), loading=1.0, step=0.1)
    assert pace.share == pytest.approx(0.6, abs=0.02)  # four workers make 4 batches in a second, of 10
    assert step == 2 * CHECK_EVERY  # the first window has the start of the workers
    assert warning.share == pytest.approx(0.6, abs=0.02)
    savings = "cache.decoded = true would save work, or augment.device = true would save work"
    assert warning.cure == f"--workers 10 would feed it (4 now), or {savings}"
    assert engines.describe_warnings(warning) == [f"warning: the GPU waits 60 % of the time for images; {warning.cure}"]
    pace, warnings = train(World(monkeypatch), make_device(workers=10), loading=1.0, step=0.1)
    assert (pace.share < feed_meter.IDLE, warnings) == (True, [])


def test_batches_made_before_the_start_hide_no_slow_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """15 workers have 30 batches ahead, which last for some windows."""
    _, [(step, warning)] = train(World(monkeypatch), make_device(workers=15), loading=2.0, step=0.1)
    assert step > 2 * CHECK_EVERY
    assert warning.share == pytest.approx(0.25, abs=0.06)


def test_where_cores_lack_the_line_says_what_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def cure(config: Config, workers: int = 3, threads: int = 4) -> str:
        return train(World(monkeypatch), make_device(workers, threads), 1.0, 0.1, config=config)[1][0][1].cure

    lack = "loader workers on 11 cores would feed it, and there are 3 to spare: "
    assert cure(Config()) == f"{lack}cache.decoded = true or augment.device = true would save work"
    padded = Config(model={"resize": "pad"})  # type: ignore[arg-type]
    assert cure(padded) == f"{lack}a cheaper augment.recipe would save work"
    decoded = Config(cache={"decoded": True})  # type: ignore[arg-type]
    assert cure(decoded) == f"{lack}augment.device = true would save work"
    both = Config(cache={"decoded": True}, augment={"device": True})  # type: ignore[arg-type]
    assert cure(both) == f"{lack}a cheaper augment.recipe would save work"
    there = Config(augment={"device": True})  # type: ignore[arg-type]
    assert cure(there) == f"{lack}cache.decoded = true or augment.decode = 'device' would save work"
    encoded = Config(augment={"device": True, "decode": "device"})  # type: ignore[arg-type]
    assert cure(encoded) == f"{lack}a cheaper augment.recipe would save work"
    assert cure(decoded, threads=12) == "--workers 11 would feed it (3 now), or augment.device = true would save work"


def test_more_workers_than_cores_make_no_more_images() -> None:
    pace = Pace(images=400, steps=50, waiting=6.0, computing=4.0)
    assert pace.compute_core_rate(make_device(16, 4)) == 10
    assert pace.count_needed_workers(make_device(16, 4)) == 10
    assert pace.count_needed_workers(make_device(4, 16)) == 10


def test_without_workers_the_threads_of_the_training_count(monkeypatch: pytest.MonkeyPatch) -> None:
    device = make_device(workers=0, threads=16)
    pace, warnings = train(World(monkeypatch), device, loading=0.09, step=0.1)
    assert (pace.share < feed_meter.IDLE, warnings) == (True, [])  # it computes while the host makes the next batch
    pace, [(_, warning)] = train(World(monkeypatch), device, loading=0.05, step=0.02)
    assert pace.share == pytest.approx(0.6, abs=0.03)
    assert pace.compute_core_rate(device) == pytest.approx(IMAGES / 0.05 / 16)
    assert warning.cure.startswith("loader workers on 39 cores would feed it, and there are 15 to spare: ")


def test_a_checkpoint_is_no_wait_for_images(monkeypatch: pytest.MonkeyPatch) -> None:
    pace, warnings = train(World(monkeypatch), make_device(), loading=0.1, step=0.1, pause=30.0)
    assert pace.share < 0.01
    assert pace.computing == pytest.approx(40, rel=0.05)
    assert warnings == []


def test_short_epochs_are_measured_without_their_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    loading, device = 1.0, make_device()
    _, [(step, _)] = train(World(monkeypatch), device, loading, 0.1, epochs=9, steps=30)
    assert step == 60  # the ends of two epochs are as many steps as four rounds of the workers
    assert train(World(monkeypatch), device, loading, 0.1, epochs=9, steps=20)[1] == []


def test_there_is_no_warning_where_images_are_made_by_the_cores_that_train(monkeypatch: pytest.MonkeyPatch) -> None:
    for workers in (0, 1):
        monkeypatch.undo()
        device, clock = make_device(workers, name="cpu"), SimpleNamespace(now=0.0)
        monkeypatch.setattr(time, "perf_counter", lambda clock=clock: clock.now)
        meter, pace = FeedMeter(Config(), device), Pace()

        def load(clock: SimpleNamespace = clock) -> Iterator[Batch]:
            for _ in range(100):
                clock.now += 0.3
                yield make_batch()

        for number, batch in enumerate(meter.watch(load()), 1):
            clock.now += 0.1
            meter.end_step(len(batch.images))
            if number % CHECK_EVERY == 0:
                pace = pace.add(meter.close_window())
            assert meter.take_warning() is None
        assert pace.share == pytest.approx(0.75)


SLOW = Pace(images=4800, steps=600, waiting=12.0, computing=8.0, asking=19.0)
FAST = Pace(images=4800, steps=600, waiting=0.5, computing=19.5, asking=3.0)


@pytest.mark.parametrize(
    ("pace", "device", "expected"),
    [
        (
            SLOW,
            make_device(),
            "data: a core makes 60 images/s, the network takes 600, and waits 60 % of the time; "
            "--workers 10 would feed it (4 now), or cache.decoded = true would save work, or augment.device = true "
            "would save work",
        ),
        (
            SLOW,
            make_device(name="mps"),
            "data: a core makes 60 images/s, the network takes 600, and waits 60 % of the ",
        ),
        (FAST, make_device(), "the network, which takes 246 images/s, and waits 2 % of the time"),
        (
            SLOW,
            make_device(0, name="cpu"),
            "the cores, which make images 60 % of the time, and train the network in the rest; "
            "cache.decoded = true would save work",
        ),
        (FAST, make_device(0, name="cpu"), "the cores, which make images 2 % of the time, and train the network in "),
        (FAST, make_device(2, name="cpu"), "the cores, which loader workers and the network share: it waits 2 % of "),
    ],
)
def test_a_profile_names_the_limit_and_the_cheapest_cure(pace: Pace, device: Device, expected: str) -> None:
    line = feed_meter.describe_limit(pace, Config(), device)
    assert line.startswith(expected)
    assert ("would save work" in line) is (pace is SLOW)
