"""Claim: the doctor looks at images at 90 % of the rate at which all cores can read and decode them, or more, and its
memory does not grow by more than 2 kB an image.

    python benchmarks/doctor_rate.py [--files 150000] [--kinds 300]

A few hundred JPEGs of 512 px are drawn and hard links made to them. Decoding alone and the doctor's look take turns on
the same helpings, so that a noisy machine is as noisy for both; the store is told to forget, or it would remember every
link's bytes. Then the whole of `invoke doctor` runs over all links, and its memory is read off the kernel.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ffdi import machine
from ffdi.data import images, survey
from ffdi.data import table as tables
from ffdi.data.findings import Findings
from ffdi.data.table import Table
from ffdi.forge import portraits

HELPING = 4096
CONFIG = '[data]\nroot = "links"\n[model]\nbackbone = "test_resnet"\npretrained = false\n'


class Forgetful(Findings):
    """A store that never remembers an image, but keeps what it is given."""

    def image(self, sha256: bytes) -> None:
        """Asks the file, as always, and forgets the answer."""
        super().image(sha256)


def main() -> None:
    """Draws, takes turns and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=150_000)
    parser.add_argument("--kinds", type=int, default=300)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        folder = links(root, asked.files, asked.kinds)
        turns(tables.in_folder(folder), root)
        whole(root, asked.files)


def links(root: Path, files: int, kinds: int) -> Path:
    """Writes the JPEGs, their links and a label file."""
    folder = root / "links" / "trainset"
    folder.mkdir(parents=True)
    for number in range(kinds):
        small = portraits.draw(np.random.default_rng([5, number]), 128)
        large = cv2.resize(small, (512, 512), interpolation=cv2.INTER_CUBIC)
        grain = np.random.default_rng(number).normal(0, 4, large.shape)
        pixels = np.clip(large + grain, 0, 255).astype(np.uint8)[..., ::-1]
        cv2.imwrite(str(folder / f"{number:06}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])
    for number in range(kinds, files):
        (folder / f"{number:06}.jpg").hardlink_to(folder / f"{number % kinds:06}.jpg")
    rows = "".join(f"{number:06}.jpg,{number % kinds % 2}\n" for number in range(files))
    (root / "links" / "trainset_label.txt").write_text("img_name,target\n" + rows)
    return folder


def turns(table: Table, root: Path, helpings: int = 6) -> None:
    """Decoding alone against the doctor's look, helping by helping."""
    threads, findings = machine.cores(), Forgetful(root / "turns.sqlite")
    rates: dict[str, list[float]] = {"decode": [], "doctor": []}
    for number in range(helpings):
        part = table.take(np.arange(number * HELPING, min((number + 1) * HELPING, len(table))))
        started = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(lambda row, part=part: images.read(part.path(row)), range(len(part))):
                pass
        decoded = time.perf_counter()
        looked = survey.Survey(part)
        for row, seen in enumerate(survey.examine(part, findings, threads)):
            looked.record(row, seen)
        rates["decode"].append(len(part) / (decoded - started))
        rates["doctor"].append(len(part) / (time.perf_counter() - decoded))
    ratio = np.array(rates["doctor"]) / np.array(rates["decode"])
    print(
        f"{threads} threads, {helpings} x {HELPING} images: decode {np.median(rates['decode']):.0f} images/s, doctor "
        f"{np.median(rates['doctor']):.0f}; ratio median {np.median(ratio):.3f} "
        f"({ratio.min():.3f} to {ratio.max():.3f})"
    )


def whole(root: Path, files: int) -> None:
    """The verb itself, over a tenth of the links and over all."""
    peaks = {}
    for share in (10, 1):
        count = files // share
        lines = (root / "links" / "trainset_label.txt").read_text().splitlines()[: count + 1]
        workspace = root / f"workspace_{share}"
        (workspace / "experiments" / "links").mkdir(parents=True)
        (workspace / "experiments" / "links" / "config.toml").write_text(CONFIG)
        (workspace / "links").mkdir()
        (workspace / "links" / "trainset").symlink_to(root / "links" / "trainset")
        (workspace / "links" / "trainset_label.txt").write_text("\n".join(lines) + "\n")
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "invoke", "doctor", "--experiment", "links"],
            env={**os.environ, "FFDI_ROOT": str(workspace)},
            cwd=Path(__file__).resolve().parent.parent,
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        peaks[count] = usage.ru_maxrss
        seconds = time.perf_counter() - started
        print(
            f"invoke doctor, {count} files: exit {status >> 8}, {seconds:.0f} s, peak {usage.ru_maxrss / 1024:.0f} MiB"
        )
    (few, small), (many, large) = sorted(peaks.items())
    print(f"memory: {(large - small) * 1024 / (many - few):.0f} bytes for each further image")


if __name__ == "__main__":
    main()
