"""Claim: with cached features, twenty settings of a linear probe, five folds each, take at most 60 s on
two free cores.

    python benchmarks/linear_probe.py --data FOLDER [--weights FILE] [--backbone tf_efficientnet_lite0]
        [--set augment.views=8] [--features FOLDER]

The data are in FFDI layout. The experiment is `probe`. In a workspace of its own, a first command computes the features
and trains one setting; a second one trains twenty on the same features: five learning rates and four weight decays.
Both are commands as a person types them, from the start of their process to the out-of-fold scores. --features copies
the data/features/ of another workspace first. Measured are seconds by the clock, and CPU seconds of all processes,
which other programs on the machine change less. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import trained

from ffdi.config import variants
from ffdi.core import machine

BASE, GRID = "probe", "grid"
RATES, DECAYS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), (0.0, 1e-3, 1e-2, 1e-1)
ACCEPT = ("--accept", "shortcuts,leaks,conflicts")
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl: processes whose parent has ended become children of this one, and are counted."""


class Cost(NamedTuple):
    """Seconds by the clock, and of all cores together."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} s, {self.cpu:.1f} CPU seconds"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--features", type=Path)
    asked = parser.parse_args()
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_experiments(root, asked)
        if asked.features is not None:
            shutil.copytree(asked.features, root / "data" / "features")
        load = os.getloadavg()[0]
        print(f"{machine.count_cores()} cores, load {load:.1f} by other programs", flush=True)
        words = ["--data", str(asked.data.resolve()), *ACCEPT]
        print(f"features and one setting: {run(root, '--experiment', BASE, *words)}", flush=True)
        print(f"{len(RATES) * len(DECAYS)} settings: {run(root, '--experiment', GRID, *words)}")
        show_best(root)


def write_experiments(root: Path, asked: argparse.Namespace) -> None:
    """The shipped experiment with the changes that were asked for, and the group of its variants."""
    keys = {word.partition("=")[0]: variants.parse_value(word.partition("=")[2]) for word in asked.set}
    keys["model.backbone"] = asked.backbone
    if asked.weights is not None:
        keys["model.weights_file"] = str(asked.weights.resolve())
    content = (trained.PROJECT / "experiments" / BASE / "config.toml").read_text()
    grid = f'"train.lr" = {list(RATES)}\n"train.weight_decay" = {list(DECAYS)}\n'
    write(root, BASE, variants.change_keys(content, keys))
    write(root, GRID, f'[group]\nmembers = ["{BASE}"]\n[group.grid]\n{grid}')


def write(root: Path, name: str, content: str) -> None:
    """Writes a config.toml."""
    folder = root / "experiments" / name
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(content)


def run(root: Path, *words: str) -> Cost:
    """Trains, and waits for all processes."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = trained.run(root, "train-folds", *words)
    wall = time.perf_counter() - started
    assert "features: " in printed, "the folds were trained on images"
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def show_best(root: Path) -> None:
    """The variant with the highest out-of-fold AUC, and the range of all."""
    scores = {
        path.parent.name: json.loads(path.read_text())["pooled"]["auc"]
        for path in root.glob(f"experiments/{BASE}-*/metrics.json")
    }
    best = max(scores, key=lambda name: scores[name])
    print(f"best of {len(scores)}: {best}, out-of-fold AUC {scores[best]:.4f}; lowest {min(scores.values()):.4f}")


if __name__ == "__main__":
    main()
