"""Claim: training ResNet-18 at 256 px on two CPU cores, decoding and augmentation included, ffdi shows its network four
times as many images a second as the notebook does where the CPU multiplies in bf16 (1.5 times elsewhere), 1.2 times as
many as timm's train.py, and 0.95 of what steps on a resident batch reach, from its cache; 0.85 from JPEGs of 512 px.

    python benchmarks/train_speed.py --data FOLDER [--edge 512] [--recipe flips] [--rounds 5] [--seconds 20]
        [--timm PATH-TO-train.py] [--jobs 2]

FOLDER is in FFDI layout; its training images are written again as JPEGs of --edge px, for all alike. The contestants
take turns, --seconds each, in every round; each is a process that was warmed up, pauses while another one runs,
and has the whole machine while it runs. Printed: the median over the rounds of each one's images per second, and of the
ratios to ffdi's of the same round with their range. --jobs trains as many folds at once, as train-folds does then, and
the limit is as many networks at once. timm's script has no turns: it is run for an epoch before and after the rounds
with each number of loader workers from 1 to 4, and its best epoch counts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from ffdi.config.schema import Config
    from ffdi.data.images.cache import ImageStore
    from ffdi.data.images.resizing import ResizePolicy
    from ffdi.data.labels.table import Table
    from ffdi.data.loading.loader import Batch, Batches, LoaderConfig
    from ffdi.training.optim import Loss
    from ffdi.training.runtime.device import Device
    from ffdi.training.state import TrainingState

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
SIZE, BATCH = 256, 40
"""The notebook's."""
WARM = 4
"""Steps before the first turn."""
Contestant = Callable[["Course"], Iterator[int]]
"""Makes training steps, and yields the number of images of each."""


@dataclass(frozen=True)
class Course:
    """What a contestant trains on: the images below `root`, in batches of `batch_size` at `size` px."""

    root: Path
    device: Device
    recipe: str
    backbone: str = "resnet18"
    size: int = SIZE
    batch_size: int = BATCH


def main() -> None:
    """Makes the images, lets all take turns, and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--edge", type=int, default=512)
    parser.add_argument("--recipe", default="flips")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--timm", type=Path)
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.contestant:
        stand(asked)
        return
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write(asked.data, root, asked.edge)
        theirs = [timms(asked.timm, root)] if asked.timm else []
        rates = rounds(asked, root)
        theirs += [timms(asked.timm, root)] if asked.timm else []
    show(rates, theirs, asked.jobs)


def write(source: Path, root: Path, edge: int, size: int = SIZE) -> None:
    """The training images as JPEGs of one size, and a cache of them, files and pixels of `size` px."""
    from ffdi.config.schema import Config
    from ffdi.data.images.resizing import ResizePolicy
    from ffdi.data.labels import layout

    table = layout.find_dataset(source, Config().data).split("train")
    assert table.target is not None
    folder = root / "set" / "trainset"
    folder.mkdir(parents=True)
    for row, name in enumerate(table.img_name.tolist()):
        pixels = cv2.cvtColor(ResizePolicy(edge).load(table.path(row)), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{Path(name).stem}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])
        for split in ["train"] + ["validation"] * (row < BATCH):  # timm's script has to validate on something
            link = root / "folders" / split / ("fake" if table.target[row] else "real") / f"{Path(name).stem}.jpg"
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(folder / f"{Path(name).stem}.jpg", link)
    rows = zip(table.img_name.tolist(), table.target.tolist(), strict=True)
    lines = [f"{Path(name).stem}.jpg,{target}" for name, target in rows]
    (folder.parent / "trainset_label.txt").write_text("img_name,target\n" + "\n".join(lines) + "\n")
    pack(layout.find_dataset(folder.parent, Config().data).split("train"), root, size)


def pack(table: Table, root: Path, size: int) -> None:
    """Caches of a table's images below `root`: of their files, and of their pixels at `size` px."""
    from ffdi.data.images.resizing import ResizePolicy
    from ffdi.data.inspection import packing
    from ffdi.data.inspection.scan_store import ScanStore

    findings = ScanStore(root / "findings.sqlite")
    for resize_policy in (None, ResizePolicy(size)):
        store = open_store(root, resize_policy)
        for _ in packing.fill_cache(store, [store.attach(table)], findings, os.cpu_count() or 1):
            pass
    findings.close()


def open_store(root: Path, resize_policy: ResizePolicy | None) -> ImageStore:
    from ffdi.data.images.cache import ImageStore

    return ImageStore(root / f"cache-{resize_policy}", resize_policy)


def rounds(asked: argparse.Namespace, root: Path) -> dict[str, list[float]]:
    """Images per second of every contestant in every round."""
    teams = {name: [start_contestant(asked, name, root) for _ in range(size(name, asked.jobs))] for name in CONTESTANTS}
    for team in teams.values():
        for process in team:
            assert line(process) == "ready"
    rates: dict[str, list[float]] = {name: [] for name in teams}
    for _ in range(asked.rounds):
        for name, team in teams.items():
            for process in team:
                assert process.stdin is not None
                process.stdin.write(f"{asked.seconds}\n")
                process.stdin.flush()
            rates[name].append(sum(float(line(process)) for process in team))
    for team in teams.values():
        for process in team:
            process.kill()
    return rates


def size(name: str, jobs: int) -> int:
    """How many processes a contestant is: the notebook knows one fold at a time."""
    return 1 if name == "notebook" else jobs


def start_contestant(asked: argparse.Namespace, name: str, root: Path) -> subprocess.Popen[str]:
    threads = max(1, (os.cpu_count() or 1) // size(name, asked.jobs))
    words = ["--contestant", name, "--data", str(root), "--recipe", asked.recipe, "--threads", str(threads)]
    return subprocess.Popen(
        [sys.executable, __file__, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def stand(asked: argparse.Namespace) -> None:
    """A contestant: makes steps for as long as each line on its input says, and prints how fast."""
    import torch

    from ffdi.training.runtime.device import choose_device

    torch.set_num_threads(asked.threads)
    device = replace(choose_device("cpu", "auto", None), threads=asked.threads)
    steps = CONTESTANTS[asked.contestant](Course(asked.data, device, asked.recipe))
    for _ in range(WARM):
        next(steps)
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, started, images = float(line), time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            images += next(steps)
        print(images / (time.perf_counter() - started), flush=True)


def notebooks(course: Course) -> Iterator[int]:
    """The loop of the notebook."""
    import notebook
    import torch
    from torch import nn
    from torch.utils.data import DataLoader

    table, network = _table(course), notebook.build("resnet18", None)
    network.train()
    optimizer, criterion = torch.optim.Adam(network.parameters(), notebook.RATE), nn.CrossEntropyLoss()
    images = notebook.Images(table, train=True)
    loader = DataLoader(images, BATCH, shuffle=True, num_workers=notebook.WORKERS, pin_memory=True)
    for _ in repeat(None):
        for pixels, target in loader:
            loss = criterion(network(pixels), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield len(pixels)


def ours(cache: str | None) -> Contestant:
    """ffdi's steps, from files or from a cache of files or of pixels."""

    def steps(course: Course) -> Iterator[int]:
        training = start_training(course, pixels=cache == "pixels")
        batches = make_batches(course, training.config, course.device.loader_config, cache)
        for batch in batches.repeat_epochs():
            training.step(batch)
            yield len(batch.index)

    return steps


def make_batches(course: Course, config: Config, loader_config: LoaderConfig, cache: str | None) -> Batches:
    """Training batches from files or from a cache of files or of pixels."""
    from ffdi.data.images.resizing import ResizePolicy
    from ffdi.data.loading import loader

    table = _table(course)
    if cache is not None:
        resize_policy = ResizePolicy(course.size) if cache == "pixels" else None
        table = open_store(course.root, resize_policy).attach(table)
    return loader.make_train_loader(table, config, fold=0, loader_config=loader_config)


def limit(course: Course) -> Iterator[int]:
    """ffdi's steps on a batch that is there already."""
    training, batch = start_training(course), make_resident_batch(course)
    for _ in repeat(None):
        training.step(batch)
        yield course.batch_size


def make_resident_batch(course: Course) -> Batch:
    """Noise, on the device."""
    import torch

    from ffdi.data.loading.loader import Batch

    shape = (course.batch_size, course.size, course.size, 3)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    index, device = torch.arange(course.batch_size), course.device.torch
    return Batch(images.to(device), (index % 2).float().to(device), index)


@dataclass
class Training:
    """A training; `network` is its model or a wrapper of it."""

    config: Config
    state: TrainingState
    network: nn.Module
    criterion: Loss
    device: Device

    def step(self, batch: Batch) -> None:
        """All that a step of a training does."""
        from ffdi.training.loop import train_step, update_ema

        train_step(self.network, self.state, batch, self.criterion, self.config, self.device)
        update_ema(self.state)
        self.state.global_step += 1


def start_training(course: Course, *, pixels: bool = False) -> Training:
    from ffdi.models import detector
    from ffdi.training import optim
    from ffdi.training.state import TrainingState

    config = configure(course, pixels=pixels)
    network = course.device.prepare(detector.build_initialized(config, None))
    network.train()
    state = TrainingState.create(network, config.train, course.device)
    return Training(config, state, network, optim.create_loss(config.train, 0.5), course.device)


def configure(course: Course, *, pixels: bool = False) -> Config:
    from ffdi.config.schema import Config

    return Config.model_validate(
        {
            "model": {"backbone": course.backbone, "pretrained": False, "size": course.size},
            "augment": {"recipe": course.recipe},
            "train": {"batch_size": course.batch_size, "sampling": "all"},
            "cache": {"decoded": pixels},
        }
    )


def _table(course: Course) -> Table:
    from ffdi.config.schema import Config
    from ffdi.data.labels import layout

    return layout.find_dataset(course.root / "set", Config().data).split("train")


def timms(script: Path, root: Path) -> float:
    """Images per second of the best epoch of timm's script, its flags for this machine tried out."""
    best = 0.0
    for workers in (1, 2, 3, 4):
        words = ["--data-dir", str(root / "folders"), "--model", "resnet18", "--num-classes", "2"]
        words += ["-b", str(BATCH), "--opt", "adamw", "--epochs", "1", "--model-ema", "--channels-last", "--amp"]
        words += ["--amp-dtype", "bfloat16", "-j", str(workers), "--device", "cpu", "--log-interval", "4"]
        words += ["--img-size", str(SIZE)]
        words += ["--output", str(root / f"timm-{workers}"), "--hflip", "0.5", "--vflip", "0.5", "--no-aug"]
        done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=False)
        rates = [float(rate) for rate in re.findall(r"\(\s*[0-9.]+s,\s*([0-9.]+)/s\)", done.stdout + done.stderr)]
        assert rates, done.stderr[-2000:]
        print(json.dumps({"timm": script.name, "workers": workers, "images/s": rates[-1]}), flush=True)
        best = max(best, rates[-1])  # the mean of the epoch
    return best


def show(rates: dict[str, list[float]], theirs: list[float], jobs: int) -> None:
    """Medians, and the ratios of each round."""
    print(f"{'images/s':30} median    {jobs} at once")
    for name, values in rates.items():
        print(f"{name:30} {statistics.median(values):7.1f}   {', '.join(f'{value:.1f}' for value in values)}")
    for name in ("ffdi, files", "ffdi, cache", "ffdi, cached pixels"):
        for other in ("notebook", "limit"):
            ratios = [one / two for one, two in zip(rates[name], rates[other], strict=True)]
            span = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"{name} / {other:20} {statistics.median(ratios):7.2f}   {span}")
    if theirs:
        print(
            f"ffdi, files / timm's best {max(theirs):.1f}: {statistics.median(rates['ffdi, files']) / max(theirs):.2f}"
        )


CONTESTANTS = {
    "notebook": notebooks,
    "ffdi, files": ours(None),
    "ffdi, cache": ours("files"),
    "ffdi, cached pixels": ours("pixels"),
    "limit": limit,
}

if __name__ == "__main__":
    main()
