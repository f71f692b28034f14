"""Claim: `predict-onnx` needs no more memory for 150,000 images than for 5,000 (within 10 %), and a run that was killed
twice ends in the same bytes.

    python benchmarks/infer_memory.py [--files 150000] [--few 5000] [--size 32]

Five folds of ResNet-18 are trained for a moment and exported; at 32 px they are as large in memory as ever, and quick.
The images are hard links to 300 JPEGs of 256 px. The command runs in its own process: over the few, over all, and over
all once more while it is killed after a third and after two thirds of the shards. Peaks are read off the kernel.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import trained

from ffdi.inference import predict

KINDS = 300


def main() -> None:
    """Makes all that is needed, runs and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=150_000)
    parser.add_argument("--few", type=int, default=5_000)
    parser.add_argument("--size", type=int, default=32)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        prepare(root, asked.files, asked.few, asked.size)
        peaks = {count: whole(root, count) for count in (asked.few, asked.files)}
        growth = peaks[asked.files] / peaks[asked.few] - 1
        print(f"memory: {asked.files} images need {100 * growth:+.1f} % against {asked.few}")
        killed(root, asked.files)


def prepare(root: Path, files: int, few: int, size: int) -> None:
    """A workspace with an export, and the folders of links."""
    trained.prepare(root, KINDS, size)
    words = trained.make_command("export-onnx", "--runtimes", "cpu")
    subprocess.run(words, cwd=trained.PROJECT, env=trained.environment(root), check=True, stdout=subprocess.DEVNULL)
    for count in (few, files):
        links = root / str(count)
        links.mkdir()
        for number in range(count):
            (links / f"{number:06}.jpg").hardlink_to(root / "data" / "trainset" / f"{number % KINDS:03}.jpg")


def start(root: Path, count: int, output: str) -> subprocess.Popen[bytes]:
    """predict-onnx over a folder of links."""
    words = trained.make_command(
        "predict-onnx", "--device", "cpu", "--images", str(root / str(count)), "--output", str(root / output)
    )
    return subprocess.Popen(words, cwd=trained.PROJECT, env=trained.environment(root), stdout=subprocess.DEVNULL)


def whole(root: Path, count: int) -> int:
    """The command from start to end; its peak in bytes."""
    started = time.perf_counter()
    process = start(root, count, f"{count}.csv")
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    print(
        f"{count} images: exit {status >> 8}, {seconds:.0f} s, {count / seconds:.0f} images/s, "
        f"peak {usage.ru_maxrss / 1024:.0f} MiB"
    )
    return usage.ru_maxrss


def killed(root: Path, count: int) -> None:
    """The command, killed twice and started again; its CSV against the one in one go."""
    parts = root / "killed.csv.parts"
    every = -(-count // predict.ROWS)
    for share in (every // 3, 2 * every // 3):
        process = start(root, count, "killed.csv")
        while len(list(parts.glob("0*.json"))) < share and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        print(f"killed with {len(list(parts.glob('0*.json')))} of {every} shards")
    code = start(root, count, "killed.csv").wait()
    same = (root / "killed.csv").read_bytes() == (root / f"{count}.csv").read_bytes()
    print(f"third run: exit {code}, the CSV has {'the same' if same else 'OTHER'} bytes")


if __name__ == "__main__":
    main()
