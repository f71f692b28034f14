"""The steps `train` and `loader`: images per second of training and of loading alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import count, repeat

import torch
import train_speed
from timm import create_model
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import nn
from train_speed import Course

from ffdi.core.errors import DeviceError
from ffdi.data.loading.loader import PREFETCHED, LoaderConfig
from gpu_steps import rates
from gpu_steps.run import Run
from gpu_steps.training import start_course

SOURCES = {"files": None, "decoded cache": "pixels"}
"""Where `loader` takes images from: the argument `cache` of `train_speed.make_batches`."""


def prepare_course(run: Run) -> Course:
    """The drawn images as files and in a decoded cache, written once for all steps."""
    if not (ready := run.root / "speed").exists():
        shutil.rmtree(beside := run.root / "writing", ignore_errors=True)  # of a step that was stopped
        train_speed.write(run.table.folder.parent, beside, run.scale.edge, run.scale.size)
        beside.rename(ready)
    return replace(start_course(run), root=run.root / "speed")


def train(run: Run) -> None:
    """Trains on a resident batch, from the decoded cache, from files, and as timm's train.py does, in turns."""
    course, workers = prepare_course(run), run.device.workers
    steps = {
        "resident batch": train_speed.limit(course),
        "decoded cache": train_speed.ours("pixels")(course),
        "files": train_speed.ours(None)(course),
        "timm": repeat_timm_steps(course),
    }
    run.record("loader workers", workers, note=run.device.why)
    turns = {
        name: partial(rates.run_for, one, run.scale.seconds, run.device, ahead=workers * PREFETCHED)
        for name, one in steps.items()
    }
    results = rates.take_turns(turns, run.scale.rounds)
    rates.record_ratios(run, results, "resident batch")
    rates.record_spread(run, "files / timm", results["files"] / results["timm"])


def repeat_timm_steps(course: Course) -> Iterator[int]:
    """The loop of timm's train.py, which timm's package does not have, with its loader, on the same files.

    As `--opt adamw --model-ema --channels-last --amp --hflip 0.5 --vflip 0.5 --scale 1 1 --ratio 1 1 --color-jitter 0`,
    in ffdi's precision and with as many loader workers; without logs and checkpoints.
    """
    device, workers = course.device, course.device.workers
    model = device.prepare(create_model(course.backbone, num_classes=2))
    optimizer, scaler = create_optimizer_v2(model, opt="adamw", lr=1e-3), device.make_scaler()
    ema, criterion = ModelEmaV3(model, decay=0.9998), nn.CrossEntropyLoss()
    batches = create_loader(
        create_dataset("", root=str(course.root / "folders"), split="train", is_training=True),
        (3, course.size, course.size),
        course.batch_size,
        is_training=True,
        scale=(1.0, 1.0),
        ratio=(1.0, 1.0),
        vflip=0.5,
        color_jitter=0.0,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.pin_memory,
        device=device.torch,
    )
    model.train()
    number = count()
    for _ in repeat(None):
        for images, target in batches:
            with device.autocast():
                loss = criterion(model(images.contiguous(memory_format=torch.channels_last)), target)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            ema.update(model, step=next(number))
            yield len(images)


def loader(run: Run) -> None:
    """Loads and augments without a training, with several numbers of workers, from files and from the cache."""
    course = prepare_course(run)
    turns: dict[str, Callable[[], float]] = {}
    for workers in run.scale.workers:
        for source in SOURCES:
            name, config = f"{source}, {workers} workers", run.device.loader_config._replace(workers=workers)
            try:
                train_speed.make_batches(course, train_speed.configure(course), config, SOURCES[source])
            except DeviceError as error:
                run.record(name, None, note=f"not measured: {error.what}")
            else:
                turns[name] = partial(_load, run, course, source, config)
    rates.record_ratios(run, rates.take_turns(turns, run.scale.rounds), f"files, {run.scale.workers[0]} workers")


def _load(run: Run, course: Course, source: str, loader_config: LoaderConfig) -> float:
    """Images per second; the workers start before the clock and end after it."""
    config = train_speed.configure(course, pixels=SOURCES[source] == "pixels")
    batches = train_speed.make_batches(course, config, loader_config, SOURCES[source])
    images = (len(batch.index) for batch in batches.repeat_epochs())
    with closing(images):
        return rates.run_for(images, run.scale.seconds / 2, run.device, ahead=loader_config.workers * PREFETCHED)
