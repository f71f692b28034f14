"""Claim: from JPEGs of 512 px, one core makes training images of 320 px at 0.6 of the speed of decoding alone with the
recipe `postprocess`, 0.5 with pseudo-fakes for a tenth of the images, and 0.35 with `strong` and pseudo-fakes.

    python benchmarks/loader.py [--data FOLDER] [--edge 512] [--size 320] [--rounds 5] [--images 64]
        [--against CHECKOUT]

FOLDER is in FFDI layout; some of its training images are written again as JPEGs of --edge px. Without FOLDER, portraits
are drawn, which have less detail and are decoded faster. The courses take turns in every round, in one process with
one thread; counted is CPU time. Printed: the median over the rounds of the images per second of CPU time, and of the
ratios to decoding in the same round, with their range. --against has another checkout of ffdi make the same images in a
process of its own, with the same turns, and prints the ratios to it.
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
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, os.environ.get("FFDI_CHECKOUT", str(Path(__file__).resolve().parent.parent)))

from ffdi.config.schema import Config
from ffdi.core import machine
from ffdi.data.images import decode
from ffdi.data.images.decode import ResizePolicy
from ffdi.data.labels import layout
from ffdi.data.loading.dataset import TrainDataset
from ffdi.data.loading.sampler import SampleKey

DECODING = "decoding alone"
FAKES = 0.1


@dataclass(frozen=True)
class Course:
    """A recipe and its fraction of pseudo-fakes."""

    recipe: str
    fakes: float = 0

    @property
    def name(self) -> str:
        return f"{self.recipe}, {self.fakes:.0%} pseudo-fakes" if self.fakes else self.recipe


COURSES = [Course("none"), Course("flips"), Course("postprocess"), Course("postprocess", FAKES)]
COURSES += [Course("strong"), Course("strong", FAKES)]


def main() -> None:
    """Writes the images, lets the courses take turns, and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--edge", type=int, default=512)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    machine.keep_freed_memory()  # as in a loader worker
    if asked.root:
        answer(make_turns(asked.root, asked.size))
        return
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write(root, asked.data, asked.images, asked.edge)
        other = start(asked.against.resolve(), root, asked.size) if asked.against else None
        show(*take_turns(make_turns(root, asked.size), other, asked.rounds))
        if other is not None:
            other.kill()


def write(root: Path, source: Path | None, count: int, edge: int) -> None:
    """Writes JPEGs of one size with labels; every other one is real."""
    import trained

    if source is None:
        pictures = [trained.draw(number, edge) for number in range(count)]
    else:
        table = layout.find_dataset(source, Config().data).split("train")
        paths = [table.path(row) for row in range(min(count, len(table)))]
        pictures = [cv2.cvtColor(ResizePolicy(edge).load(path), cv2.COLOR_RGB2BGR) for path in paths]
    (root / "trainset").mkdir()
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(root / "trainset" / f"{number:03}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
    lines = "".join(f"{number:03}.jpg,{number % 2}\n" for number in range(len(pictures)))
    (root / "trainset_label.txt").write_text("img_name,target\n" + lines)


def make_turns(root: Path, size: int) -> dict[str, Callable[[int], int]]:
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
                "augment": {"recipe": course.recipe},
                "pseudo_fakes": {"fraction": course.fakes},
            }
        )
        samples, every = TrainDataset(table, config, fold=0), round(1 / course.fakes) if course.fakes else sys.maxsize

        def make_epoch(epoch: int) -> int:
            for row in range(len(table)):
                fake = (row + epoch) % every == 0
                sample = samples[SampleKey(epoch, row - row % 2 if fake else row, fake)]
                assert isinstance(sample, tuple), sample
            return len(table)

        return make_epoch

    return {DECODING: decode_all} | {course.name: make_turn(course) for course in COURSES}


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
    theirs: dict[str, list[float]] = {name: [] for name in turns if other is not None}
    for epoch in range(rounds + 1):
        for name, turn in turns.items():
            ours[name].append(measure(turn, epoch))
            if other is not None:
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
    for line in sys.stdin:
        epoch, _, name = line.strip().partition(" ")
        print(measure(turns[name], int(epoch)), flush=True)


def show(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> None:
    """Medians, and the ratios of each round."""
    print(f"{'images per second of CPU time':36} median   / decoding")
    for name, rates in ours.items():
        print(f"{name:36} {statistics.median(rates):6.0f}   {describe(rates, ours[DECODING])}")
    for name, rates in theirs.items():
        print(f"{name:36} {statistics.median(rates):6.0f}   before; {describe(ours[name], rates)} times")


def describe(rates: list[float], others: list[float]) -> str:
    ratios = np.divide(rates, others)
    return f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"


if __name__ == "__main__":
    main()
