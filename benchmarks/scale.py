"""Claim: with 525,000 training images that `invoke cache` has packed, a command reaches its first step in 15 s; its
process holds at most 1.5 GB and does not grow with the steps, each loader worker at most 300 MB of its own. From 1,000
images on, time grows no faster than the images do, and images per second do not fall.

    python benchmarks/scale.py --into FOLDER [--rows 1000,10000,100000,525000] [--data FOLDER] [--steps 40]

For each number of rows a data set is made in FOLDER, with a quarter as many validation images: different small images
(6 minutes and 2.5 GB for 525,000), or, with --data, hard links to the images of another data set. Then `invoke cache`
and `invoke train-folds` run as anybody would run them, ResNet-18 at 64 px with two loader workers; training ends after
its first steps, of which the median counts. Seconds are counted from the command on; what the process has grown by,
from the tenth step on. A worker's memory includes those pages of the packed file that it alone reads.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from torch.nn import Module

    from ffdi.config.schema import Config
    from ffdi.data.loading.loader import Batch
    from ffdi.training.optim import Loss
    from ffdi.training.runtime.device import Device
    from ffdi.training.state import TrainingState

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
EDGE = 96
WARM = 10
"""Steps before those that count."""
CONFIG = """
[folds]
k = 5
[model]
backbone = "resnet18"
pretrained = false
size = 64
[augment]
recipe = "flips"
[train]
batch_size = 64
"""


def main() -> None:
    """Makes the data sets, runs both commands on each, and prints a row for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--into", type=Path)
    parser.add_argument("--rows", default="1000,10000,100000,525000")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--train", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.train:
        train(asked.train, asked.steps)
        return
    print(
        "rows      cache    images/s  peak MB | command to first step   main MB   grown  worker MB  images/s",
        flush=True,
    )
    for rows in map(int, asked.rows.split(",")):
        root = asked.into / f"{rows}"
        if not (root / "experiments").is_dir():
            make(root, rows, asked.data)
        print(f"{rows:<8}  {packed(root, rows)} | {first_step(root, asked.steps)}", flush=True)


def make(root: Path, rows: int, links: Path | None) -> None:
    """A workspace with one experiment and its data."""
    for split, count in (("train", rows), ("val", rows // 4)):
        folder = root / "data" / "set" / f"{split}set"
        folder.mkdir(parents=True, exist_ok=True)
        names = [f"{split}_{row:07d}.jpg" for row in range(count)]
        if links is None:
            with ProcessPoolExecutor() as pool:
                list(pool.map(draw, [(str(folder), part.tolist()) for part in np.array_split(names, 1 + count // 500)]))
            targets = [int(row % 5 > 0) for row in range(count)]
        else:
            from ffdi.config.schema import Config
            from ffdi.data.labels import layout

            table = layout.find_dataset(links, Config().data).split(split)
            assert table.target is not None
            targets = [int(table.target[row]) for row in islice(cycle(range(len(table))), count)]
            for name, row in zip(names, cycle(range(len(table))), strict=False):
                os.link(table.path(row), folder / name)
        lines = [f"{name},{target}" for name, target in zip(names, targets, strict=True)]
        (folder.parent / f"{split}set_label.txt").write_text("img_name,target\n" + "\n".join(lines) + "\n")
    experiment = root / "experiments" / "scale"
    experiment.mkdir(parents=True)
    (experiment / "config.toml").write_text(CONFIG)


def draw(task: tuple[str, list[str]]) -> None:
    """Small JPEGs of soft random colours, each another one."""
    folder, names = task
    for name in names:
        rng = np.random.default_rng(np.frombuffer(name.encode().ljust(32), np.uint32))
        soft = cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (EDGE, EDGE), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(f"{folder}/{name}", soft, [cv2.IMWRITE_JPEG_QUALITY, 80])


def packed(root: Path, rows: int) -> str:
    """`invoke cache`: seconds, images per second, peak memory."""
    started = time.perf_counter()
    process = subprocess.Popen(
        make_command("cache", root), cwd=PROJECT, env=environment(root), stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    assert status == 0, "invoke cache failed"
    return f"{seconds:5.1f} s  {(rows + rows // 4) / seconds:8.0f}  {usage.ru_maxrss / 1000:7.0f}"


def first_step(root: Path, steps: int) -> str:
    """`invoke train-folds` until its first steps are done."""
    command = [sys.executable, __file__, "--train", str(root), "--steps", str(steps)]
    started = time.time()
    done = subprocess.run(command, cwd=PROJECT, env=environment(root), capture_output=True, text=True, check=False)
    figures = [line for line in done.stdout.splitlines() if line.startswith("first step ")]
    assert figures, done.stdout + done.stderr
    at, main, grown, worker, pace = map(float, figures[0].split()[2:])
    return f"{at - started:18.1f} s  {main:11.0f}  {grown:6.0f}  {worker:9.0f}  {pace:8.0f}"


def train(root: str, steps: int) -> None:
    """Runs the command in this process and watches its steps."""
    from ffdi.commands import train_folds
    from ffdi.commands.shared.options import TrainFoldsOptions
    from ffdi.experiments.workspace import Workspace
    from ffdi.training import loop

    times, early = [], 0.0
    step = loop.train_step

    def watched(
        network: Module, state: TrainingState, batch: Batch, criterion: Loss, config: Config, device: Device
    ) -> loop.StepResult:
        nonlocal early
        times.append(time.time())
        if len(times) == WARM:
            early = own_megabytes(os.getpid())
        if len(times) == steps:
            main, workers = own_megabytes(os.getpid()), [own_megabytes(pid) for pid in children()]
            pace = 64 / np.median(np.diff(times[WARM:]))
            print(f"first step {times[0]} {main} {main - early} {max(workers, default=0)} {pace}", flush=True)
            os._exit(0)
        return step(network, state, batch, criterion, config, device)

    loop.train_step = watched
    options = TrainFoldsOptions(
        experiment=("scale",),
        data=f"{root}/data/set",
        folds="0",
        device="cpu",
        jobs=1,
        workers=2,
        accept="leaks,shortcuts",
        restart=True,
    )
    train_folds.run(Workspace.from_environment(PROJECT), options)


def own_megabytes(pid: int) -> float:
    """Memory that no other process shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


def children() -> list[int]:
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in found]


def make_command(name: str, root: Path) -> list[str]:
    return [sys.executable, "-m", "invoke", name, "--experiment", "scale", "--data", f"{root}/data/set"]


def environment(root: Path) -> dict[str, str]:
    return {**os.environ, "FFDI_ROOT": str(root)}


if __name__ == "__main__":
    main()
