"""Claim: how long a device waits for images follows from how many of them one core makes: a simulated device waits for
the share of its time that is computed from this figure and the CPU time of the loader workers, to 15 percentage points.

    python benchmarks/feed.py [--data FOLDER] [--edge 512] [--size 320] [--batch-size 32] [--images 64] [--seconds 3]

FOLDER is in FFDI layout; some of its training images are written again as JPEGs of --edge px. Without FOLDER, portraits
are drawn, which have less detail and are decoded faster. A device is a step that sleeps as long as the device would
compute; nothing else is simulated. Measured: the images per second of CPU time that one core makes, from files, from a
cache of files and from a cache of decoded images (`cache.decoded`); and, for each device and recipe from files,
--seconds long with one loader worker for each core of this machine, the share of the time that it waits and the cores
that the workers had: CPU time per second, less than the cores there are where the workers wait for the device, or other
programs run. Computed: the share that the device waits for as many cores as they had, which checks the claim, and for
2, 4, 8 and 16 cores that do nothing else; and the cores that a device needs to wait for at most a tenth of its time.
It reads the CPU time of the workers from /proc, which only Linux has.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import train_speed
from loader import COURSES, Course, make_parser, work_as_loader_worker, write

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ffdi.config.schema import Config
from ffdi.core import machine
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels import layout
from ffdi.data.labels.table import Table
from ffdi.data.loading import loader
from ffdi.data.loading.loader import Batch, Batches, LoaderConfig
from ffdi.training.feed_meter import IDLE, FeedMeter
from ffdi.training.runtime.device import Device

SPEEDS = (450, 2500, 3500)
"""Images per second of ResNet-18 at 320 px, estimated from published figures: a T4, an RTX 4090, an H100."""
CORES = (2, 4, 8, 16)
SOURCES = ("files", "cached files", "cache.decoded")
EPOCH_BATCHES = 2000
"""Batches of an epoch: more than any measurement takes."""


def main() -> None:
    """Writes the images, measures, computes, and prints."""
    parser = make_parser(__doc__)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3)
    asked = parser.parse_args()
    work_as_loader_worker()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write(root, asked.data, asked.images, asked.edge)
        table = layout.find_dataset(root, Config().data).split("train")
        train_speed.pack(table, root, asked.size)
        rates = {
            (course, source): measure_core(make_batches(asked, root, table, course, source, LoaderConfig()), asked)
            for course in COURSES
            for source in SOURCES
        }
        show_cores(rates)
        workers = machine.count_cores()
        show_heading(workers)
        for course in COURSES:
            batches = make_batches(asked, root, table, course, "files", LoaderConfig(workers))
            alone = make_batches(asked, root, table, course, "files", LoaderConfig())
            for speed in SPEEDS:  # a core that others use too changes its speed: it is measured before and after
                before = measure_core(alone, asked)
                measured = measure_waiting(batches, speed, workers, asked.seconds)
                show_waiting(course, speed, measured, (before + measure_core(alone, asked)) / 2)


def make_batches(
    asked: argparse.Namespace, root: Path, table: Table, course: Course, source: str, loader_config: LoaderConfig
) -> Batches:
    """The batches of a training on the images of a table, again and again in one epoch."""
    decoded = source == "cache.decoded"
    config = Config.model_validate(
        {
            "model": {"size": asked.size},
            "augment": {"recipe": course.recipe},
            "pseudo_fakes": {"fraction": course.fakes},
            "train": {"batch_size": asked.batch_size, "sampling": "all"},
            "cache": {"decoded": decoded},
        }
    )
    if source != "files":
        table = train_speed.open_store(root, ResizePolicy(asked.size) if decoded else None).attach(table)
    rows = np.tile(np.arange(len(table)), ceil(EPOCH_BATCHES * asked.batch_size / len(table)))
    return loader.make_train_loader(table.take(rows), config, fold=0, loader_config=loader_config)


def measure_core(batches: Batches, asked: argparse.Namespace) -> float:
    """Images per second of CPU time, made in this process by one thread; the first batch is not counted."""
    endless, images = batches.repeat_epochs(), 0
    next(endless)
    started, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - started < asked.seconds / len(SOURCES):
        images += len(next(endless).index)
    return images / (time.process_time() - cpu)


class Waiting(NamedTuple):
    """The share of its time that a device has waited, and the CPU time of the loader workers per second."""

    share: float
    cores: float


def measure_waiting(batches: Batches, speed: float, workers: int, seconds: float) -> Waiting:
    """How long a device of this speed waits; the batches made at the start are not counted."""
    meter = FeedMeter(Config(), Device("cpu", "fp32", workers, workers, ""))
    steps = step(meter, meter.watch(batches.repeat_epochs()), speed)
    for _ in islice(steps, 2 * loader.PREFETCHED * workers):
        pass
    meter.close_window()
    started, cpu = time.perf_counter(), read_workers_cpu()
    while time.perf_counter() - started < seconds:
        next(steps)
    cores = (read_workers_cpu() - cpu) / (time.perf_counter() - started)
    return Waiting(meter.close_window().share, cores)


def read_workers_cpu() -> float:
    """CPU seconds of the processes that this one has started; fields 14 and 15 of proc_pid_stat(5)."""
    stats = (Path(f"/proc/{process.pid}/stat").read_text() for process in multiprocessing.active_children())
    ticks = (sum(map(int, stat.rpartition(")")[2].split()[11:13])) for stat in stats)
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def step(meter: FeedMeter, batches: Iterator[Batch], speed: float) -> Iterator[None]:
    """The steps of the device."""
    for batch in batches:
        time.sleep(len(batch.index) / speed)
        meter.end_step(len(batch.index))
        yield


def compute_waiting(rate: float, cores: float, speed: float) -> float:
    """The share of the time that a device waits for cores that make `rate` images per second each."""
    return max(0.0, 1 - cores * rate / speed)


def show_cores(rates: dict[tuple[Course, str], float]) -> None:
    """A table: a row for each recipe and source."""
    print(f"cores that a device needs, to wait for at most {IDLE:.0%} of its time")
    print(f"{'':46} measured   computed, for a device of")
    print(f"{'recipe':30}  {'source':14} {'1 core':>8}   {'  '.join(f'{speed:5} images/s' for speed in SPEEDS)}")
    for (course, source), rate in rates.items():
        cores = (f"{ceil((1 - IDLE) * speed / rate):14}" for speed in SPEEDS)
        print(f"{course.name:30}  {source:14} {rate:8.0f}   {'  '.join(cores)}")


def show_heading(workers: int) -> None:
    print(f"\nshare of its time that a device waits for images from files, with {workers} loader workers")
    print(f"{'':40}  {'measured, with':18}  computed, with")
    print(f"{'recipe':30}  {'images/s':>8}  {'':>6}  {'':10}  as many  {'  '.join(f'{one:2} cores' for one in CORES)}")


def show_waiting(course: Course, speed: int, measured: Waiting, rate: float) -> None:
    computed = (f"{compute_waiting(rate, number, speed):8.0%}" for number in (measured.cores, *CORES))
    name = f"{course.name:30}  {speed:8}"
    print(f"{name}  {measured.share:6.0%}  {measured.cores:4.1f} cores  {' '.join(computed)}", flush=True)


if __name__ == "__main__":
    main()
