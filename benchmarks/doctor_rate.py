"""Claim: the doctor looks at images at 40 % of the rate at which all cores can read and decode them, or more, and its
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

from ffdi.core import machine
from ffdi.data.images import decode
from ffdi.data.inspection import scan
from ffdi.data.inspection.scan_store import ScanStore
from ffdi.data.labels import table as tables
from ffdi.data.labels.table import Table
from ffdi.demo import portraits

HELPING = 4096
CONFIG = '[data]\nroot = "links"\n[model]\nbackbone = "test_resnet"\npretrained = false\n'


class Forgetful(ScanStore):
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


def turns(table: Table, root: Path, helpings: int = 12) -> None:
    """Decoding alone against the doctor's look, helping by helping; each begins every other time."""
    threads, findings = machine.cores(), Forgetful(root / "turns.sqlite")
    ways = {"decode": lambda part: decoded(part, threads), "doctor": lambda part: looked_at(part, findings, threads)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(helpings):
        part = table.take(np.arange(number * HELPING, (number + 1) * HELPING) % len(table))
        for way in list(ways)[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            ways[way](part)
            seconds[way].append(time.perf_counter() - started)
    rate = {way: HELPING / np.median(taken) for way, taken in seconds.items()}
    ratio = np.array(seconds["decode"]) / np.array(seconds["doctor"])
    print(
        f"{threads} threads, {helpings} x {HELPING} images: decode {rate['decode']:.0f} images/s, doctor "
        f"{rate['doctor']:.0f}; ratio median {np.median(ratio):.3f} ({ratio.min():.3f} to {ratio.max():.3f})"
    )


def decoded(table: Table, threads: int) -> None:
    """Reads and decodes all images, and forgets them."""
    handfuls = [range(first, first + scan.HANDFUL) for first in range(0, len(table), scan.HANDFUL)]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda rows: [decode.read(table.path(row)).shape for row in rows], handfuls):
            pass


def looked_at(table: Table, findings: ScanStore, threads: int) -> None:
    """The doctor's look at all images, as its verb takes it."""
    looked = scan.ScanResult(table)
    for seen in scan.scan_images(table, findings, threads):
        looked.record(seen)


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
