"""Claim: five folds of ResNet-18 at 256 px become one checked graph in 30 s, and with it a process has scored its first
image 2.5 s after it was started, on the CPU, without importing torch.

    python benchmarks/export_start.py [--size 256] [--rounds 5]

The folds are trained for a moment. Processes are timed from outside: start, imports, opening, golden images, one image,
writing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import trained

HEAVY = ("torch", "timm", "sklearn", "pandas", "scipy", "albumentations")


def main() -> None:
    """Trains, exports, starts and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        trained.prepare(root, images=60, size=asked.size)
        one = root / "one"
        one.mkdir()
        (one / "000.jpg").hardlink_to(root / "data" / "trainset" / "000.jpg")
        scoring = ("predict-onnx", "--images", str(one), "--output", str(root / "one.csv"), "--device")
        show("export-onnx --runtimes cpu", [timed(root, "export-onnx", "--runtimes", "cpu") for _ in range(3)])
        show("export-onnx, every runtime", [timed(root, "export-onnx")])
        ways = {name: (*scoring, name) for name in ("cpu", "auto")}
        rounds = [{name: timed(root, *words) for name, words in ways.items()} for _ in range(asked.rounds)]
        for name in ways:
            show(f"one image, --device {name}", [one[name] for one in rounds])
        print(f"imported of {', '.join(HEAVY)}: {imported(root, *ways['auto']) or 'none'}")


def timed(root: Path, *words: str) -> float:
    """Seconds of a command, with the start of its process."""
    started = time.perf_counter()
    subprocess.run(
        trained.make_command(*words),
        cwd=trained.PROJECT,
        env=trained.environment(root),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def show(what: str, seconds: list[float]) -> None:
    """Median, least and most."""
    print(f"{what:32} {np.median(seconds):6.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


def imported(root: Path, *words: str) -> str:
    """Which of the heavy packages the command imports."""
    command = [sys.executable, "-X", "importtime", *trained.make_command(*words)[1:]]
    answer = subprocess.run(
        command, cwd=trained.PROJECT, env=trained.environment(root), check=True, capture_output=True, text=True
    )
    names = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines() if line.startswith("import time:")}
    return ", ".join(name for name in HEAVY if name in names)


if __name__ == "__main__":
    main()
