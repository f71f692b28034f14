"""Claim: from JPEGs of 512 px, one core makes training images of 320 px with the recipes `postprocess` and `strong`,
with and without pseudo-fakes for a tenth of the images, at 2.3 times the speed of ffdi before its recipes worked on
shrunk images; with augment.device at 0.6 of the speed of decoding alone, and with augment.decode at 2.5 times that
speed. The wish without a device is 0.6 for `postprocess`, 0.5 with pseudo-fakes, and 0.35 for `strong` with them;
measured were 0.37, 0.35 and 0.26. With a device it is 0.8; measured were 0.67 and 0.63.

    python benchmarks/loader.py [--data FOLDER] [--edge 512] [--size 320] [--rounds 5] [--images 64]
        [--against CHECKOUT]

FOLDER is in FFDI layout; some of its training images are written again as JPEGs of --edge px. Without FOLDER, portraits
are drawn, which have less detail and are decoded faster. The courses take turns in every round, in one process with
one thread; counted is CPU time. Printed: the median over the rounds of the images per second of CPU time, and of the
ratios to decoding in the same round, with their range. "Rest on the device" counts all that a worker does until a
batch of 32 is made: decoding, cropping, drawing, and packing the pixels and the steps; with "shared", the batch is made
in shared memory, where the training process gets it from, and pages of memory that no process has used are slow on some
machines; with "decoding too", the files are handed over. "The device's part" is the other one, resizing and steps, on
this core: a GPU has other ratios. --against has another checkout of ffdi make the same images in a process of its own,
with the same turns, and prints the ratios to it; courses that the other one lacks are left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

sys.path.insert(0, os.environ.get("FFDI_CHECKOUT", str(Path(__file__).resolve().parent.parent)))

from ffdi.config.schema import AugmentConfig, Config
from ffdi.core import machine
from ffdi.data.images import decode
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels import layout
from ffdi.data.loading import loader
from ffdi.data.loading.dataset import TrainDataset
from ffdi.data.loading.sampler import SampleKey

if TYPE_CHECKING:
    from ffdi.data.loading.dataset import Sample
    from ffdi.data.loading.loader import Batch

DECODING = "decoding alone"
FAKES = 0.1


@dataclass(frozen=True)
class Course:
    """A recipe and its fraction of pseudo-fakes.

    Attributes:
        device: whether a device does the rest.
        shared: whether the batches end in shared memory.
        decode: 'device' if the device decodes too.
    """

    recipe: str
    fakes: float = 0
    device: bool = False
    shared: bool = False
    decode: str = "cpu"

    @property
    def augment(self) -> dict[str, object]:
        """The keys of [augment]; older checkouts lack some of them."""
        keys = {"device": self.device, "decode": self.decode if self.decode != "cpu" else ""}
        return {"recipe": self.recipe, **{key: value for key, value in keys.items() if value}}

    @property
    def name(self) -> str:
        fakes = f", {self.fakes:.0%} pseudo-fakes" if self.fakes else ""
        rest = ", rest on the device" if self.device else ""
        rest += ", decoding too" if self.decode == "device" else ""
        return f"{self.recipe}{fakes}{rest}{', shared' if self.shared else ''}"


COURSES = [Course("none"), Course("flips"), Course("postprocess"), Course("postprocess", FAKES)]
COURSES += [Course("strong"), Course("strong", FAKES)]
RECIPES = "postprocess", "strong"
"""With steps for a device."""
DEVICE_COURSES = [replace(one, device=True) for one in COURSES if one.recipe in RECIPES]
DEVICE_COURSES += [replace(one, decode="device") for one in DEVICE_COURSES if not one.fakes]
DEVICE_COURSES += [replace(one, shared=True) for one in DEVICE_COURSES if not one.fakes]
BATCH = 32
SEPARATOR = "; "


def main() -> None:
    """Writes the images, lets the courses take turns, and prints."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    work_as_loader_worker()
    if asked.root:
        known = [one for one in [*COURSES, *DEVICE_COURSES] if AugmentConfig.model_fields.keys() >= one.augment.keys()]
        answer(make_turns(asked.root, asked.size, known))
        return
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write(root, asked.data, asked.images, asked.edge)
        other = start(asked.against.resolve(), root, asked.size) if asked.against else None
        turns = make_turns(root, asked.size, [*COURSES, *DEVICE_COURSES])
        turns |= {f"{recipe}, the device's part": make_device_turn(root, asked.size, recipe) for recipe in RECIPES}
        show(*take_turns(turns, other, asked.rounds))
        if other is not None:
            other.kill()


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that say which images are made."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--edge", type=int, default=512)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--images", type=int, default=64)
    return parser


def work_as_loader_worker() -> None:
    """Sets one thread, and keeps freed memory, in this process."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    machine.keep_freed_memory()


def write(root: Path, source: Path | None, count: int, edge: int) -> None:
    """Writes JPEGs of one size with labels; every other one is real."""
    import trained

    if source is None:
        pictures = (trained.draw(number, edge) for number in range(count))
    else:
        table = layout.find_dataset(source, Config().data).split("train")
        paths = [table.path(row) for row in range(min(count, len(table)))]
        pictures = (cv2.cvtColor(ResizePolicy(edge).load(path), cv2.COLOR_RGB2BGR) for path in paths)
    trained.write_all(root, pictures)


def make_turns(root: Path, size: int, courses: list[Course]) -> dict[str, Callable[[int], int]]:
    """For each course: makes the images of an epoch, and returns their number."""
    table = layout.find_dataset(root, Config().data).split("train")
    contents = [table.path(row).read_bytes() for row in range(len(table))]

    def decode_all(_epoch: int) -> int:
        for content in contents:
            decode.decode_rgb(content, "image")
        return len(contents)

    def make_turn(course: Course) -> Callable[[int], int]:
        config = Config.model_validate(
            {
                "model": {"size": size},
                "augment": course.augment,
                "pseudo_fakes": {"fraction": course.fakes},
            }
        )
        samples, every = TrainDataset(table, config, fold=0), round(1 / course.fakes) if course.fakes else sys.maxsize

        def make_epoch(epoch: int) -> int:
            made: list[Sample] = []
            for row in range(len(table)):
                fake = (row + epoch) % every == 0
                sample = samples[SampleKey(epoch, row - row % 2 if fake else row, fake)]
                assert isinstance(sample, tuple), sample
                if course.device:
                    made.append(sample)
                if len(made) == BATCH or (made and row + 1 == len(table)):
                    make_batch(made, course.shared)
                    made.clear()
            return len(table)

        return make_epoch

    return {DECODING: decode_all} | {course.name: make_turn(course) for course in courses}


def make_batch(samples: list[Sample], shared: bool = False) -> Batch:
    """A batch, as the loader makes it; in shared memory, as a worker does."""
    make = getattr(loader, "collate", None) or vars(loader)["_collate"]  # its name in older checkouts
    setattr(loader, "get_worker_info", lambda: shared or None)  # noqa: B010 older checkouts do not ask
    batch = make(samples)
    assert isinstance(batch, loader.Batch), batch
    encoded = getattr(batch, "encoded", None) or ()
    for part in (*batch, *encoded) if shared else ():
        if isinstance(part, torch.Tensor):
            part.share_memory_()  # what is not there yet is copied there, as when a worker sends it
    return batch


def make_device_turn(root: Path, size: int, recipe: str) -> Callable[[int], int]:
    """Resizes the images of one epoch, which are there already, and applies their steps."""
    from ffdi.training import augment, resize
    from ffdi.training.runtime import device as devices

    table, device = layout.find_dataset(root, Config().data).split("train"), devices.choose_device("cpu", None, 0)
    config = Config.model_validate({"model": {"size": size}, "augment": {"recipe": recipe, "device": True}})
    samples = TrainDataset(table, config, fold=0)
    made = [sample for row in range(len(table)) if isinstance(sample := samples[SampleKey(0, row)], tuple)]
    batches = [make_batch(made[start : start + BATCH]) for start in range(0, len(made), BATCH)]

    def apply(_epoch: int) -> int:
        for batch in batches:
            augment.apply_steps(resize.resize_images(batch.images, batch.resizes, device), batch.steps, device)
        return len(made)

    return apply


def measure(turn: Callable[[int], int], epoch: int) -> float:
    """Images per second of CPU time."""
    started = time.process_time()
    images = turn(epoch)
    return images / (time.process_time() - started)


def take_turns(
    turns: dict[str, Callable[[int], int]], other: subprocess.Popen[str] | None, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Images per second of every course in every round, here and in the other checkout; the first round is dropped."""
    ours: dict[str, list[float]] = {name: [] for name in turns}
    known = [] if other is None or other.stdout is None else other.stdout.readline().strip().split(SEPARATOR)
    theirs: dict[str, list[float]] = {name: [] for name in turns if name in known}
    for epoch in range(rounds + 1):
        for name, turn in turns.items():
            ours[name].append(measure(turn, epoch))
            if other is not None and name in theirs:
                theirs[name].append(ask(other, name, epoch))
    return {name: rates[1:] for name, rates in ours.items()}, {name: rates[1:] for name, rates in theirs.items()}


def start(checkout: Path, root: Path, size: int) -> subprocess.Popen[str]:
    """The same script with the other checkout's ffdi; it pauses while this process works."""
    words = [sys.executable, __file__, "--root", str(root), "--size", str(size)]
    environment = {**os.environ, "FFDI_CHECKOUT": str(checkout)}
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def ask(other: subprocess.Popen[str], name: str, epoch: int) -> float:
    assert other.stdin is not None
    assert other.stdout is not None
    other.stdin.write(f"{epoch} {name}\n")
    other.stdin.flush()
    return float(other.stdout.readline())


def answer(turns: dict[str, Callable[[int], int]]) -> None:
    """Says which courses there are, then runs those that are asked for."""
    print(SEPARATOR.join(turns), flush=True)
    for line in sys.stdin:
        epoch, _, name = line.strip().partition(" ")
        print(measure(turns[name], int(epoch)), flush=True)


def show(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> None:
    """Medians, and the ratios of each round."""
    print(f"{'images per second of CPU time':46} median   / decoding")
    for name, rates in ours.items():
        print(f"{name:46} {statistics.median(rates):6.0f}   {describe(rates, ours[DECODING])}")
    for name, rates in theirs.items():
        print(f"{name:46} {statistics.median(rates):6.0f}   before; {describe(ours[name], rates)} times")


def describe(rates: list[float], others: list[float]) -> str:
    ratios = np.divide(rates, others)
    return f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"


if __name__ == "__main__":
    main()
