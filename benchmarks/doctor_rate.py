"""Claim: the doctor looks at images at 40 % of the rate at which all cores can read and decode them, or more, and its
memory does not grow by more than 2 kB an image.

    python benchmarks/doctor_rate.py [--files 150000] [--kinds 300]

A few hundred JPEGs of 512 px are drawn and hard links made to them. Decoding alone and the doctor's scan take turns on
the same parts, so that a noisy machine is as noisy for both; the store returns nothing, or it would remember every
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
from ffdi.data.labels import folders
from ffdi.data.labels.table import Table
from ffdi.demo import portraits

PART = 4096
CONFIG = '[data]\nroot = "links"\n[model]\nbackbone = "test_resnet"\npretrained = false\n'


class UnusedStore(ScanStore):
    """A store that saves results but never returns one."""

    def get_image(self, sha256: bytes) -> None:
        """Reads the result and returns None."""
        super().get_image(sha256)


def main() -> None:
    """Draws, takes turns and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=150_000)
    parser.add_argument("--kinds", type=int, default=300)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        folder = links(root, args.files, args.kinds)
        turns(folders.list_folder(folder), root)
        whole(root, args.files)


def links(root: Path, files: int, kinds: int) -> Path:
    """Writes the JPEGs, their links and a label file."""
    folder = root / "links" / "trainset"
    folder.mkdir(parents=True)
    for number in range(kinds):
        small = portraits.draw_portrait(np.random.default_rng([5, number]), 128)
        large = cv2.resize(small, (512, 512), interpolation=cv2.INTER_CUBIC)
        grain = np.random.default_rng(number).normal(0, 4, large.shape)
        pixels = np.clip(large + grain, 0, 255).astype(np.uint8)[..., ::-1]
        cv2.imwrite(str(folder / f"{number:06}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])
    for number in range(kinds, files):
        (folder / f"{number:06}.jpg").hardlink_to(folder / f"{number % kinds:06}.jpg")
    rows = "".join(f"{number:06}.jpg,{number % kinds % 2}\n" for number in range(files))
    (root / "links" / "trainset_label.txt").write_text("img_name,target\n" + rows)
    return folder


def turns(table: Table, root: Path, parts: int = 12) -> None:
    """Decoding alone against the doctor's scan, in turns; each is the first every other time."""
    threads, findings = machine.count_cores(), UnusedStore(root / "turns.sqlite")
    ways = {"decode": lambda part: decoded(part, threads), "doctor": lambda part: scan_all(part, findings, threads)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(parts):
        part = table.take(np.arange(number * PART, (number + 1) * PART) % len(table))
        for way in list(ways)[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            ways[way](part)
            seconds[way].append(time.perf_counter() - started)
    rate = {way: PART / np.median(taken) for way, taken in seconds.items()}
    ratio = np.array(seconds["decode"]) / np.array(seconds["doctor"])
    print(
        f"{threads} threads, {parts} x {PART} images: decode {rate['decode']:.0f} images/s, doctor "
        f"{rate['doctor']:.0f}; ratio median {np.median(ratio):.3f} ({ratio.min():.3f} to {ratio.max():.3f})"
    )


def decoded(table: Table, threads: int) -> None:
    """Reads and decodes all images."""
    tasks = [range(first, first + scan.TASK) for first in range(0, len(table), scan.TASK)]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda rows: [decode.read_image(table.path(row)).shape for row in rows], tasks):
            pass


def scan_all(table: Table, findings: ScanStore, threads: int) -> None:
    """The doctor's scan of all images, as in its command."""
    result = scan.ScanResult(table)
    for seen in scan.scan_images(table, findings, threads):
        result.record(seen)


def whole(root: Path, files: int) -> None:
    """The command itself, over a tenth of the links and over all."""
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
