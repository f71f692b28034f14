"""What benchmarks of whole commands start from: a workspace with five folds of ResNet-18, trained for a moment; and
variants of shipped experiments, trained in a workspace of their own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ffdi.config import variants
from ffdi.config.variants import Keys
from ffdi.demo import portraits

PROJECT = Path(__file__).resolve().parent.parent
NAME = "five"
ACCEPTED = "conflicts,shortcuts"
"""Findings of the doctor that do not stop the training of a variant."""
CONFIG = """
[data]
root = "data"
[model]
backbone = "resnet18"
pretrained = false
size = {size}
[train]
epochs = 1
batch_size = 16
"""


def prepare(root: Path, images: int, size: int) -> None:
    """Draws JPEGs of 256 px with labels, and trains."""
    folder = root / "experiments" / NAME
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(CONFIG.format(size=size))
    draw_all(root, images)
    run(root, "train-folds", "--experiment", NAME)


def draw_all(root: Path, images: int, edge: int = 256) -> None:
    """Draws JPEGs with labels below data/; every other one counts as fake."""
    write_all(root / "data", (draw(number, edge) for number in range(images)))


def write_all(folder: Path, pictures: Iterable[np.ndarray]) -> None:
    """Writes pictures, BGR uint8 [H, W, 3], as JPEGs in FFDI layout; every other one counts as fake."""
    training, rows = folder / "trainset", ""
    training.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(training / f"{number:03}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
        rows += f"{number:03}.jpg,{number % 2}\n"
    (folder / "trainset_label.txt").write_text("img_name,target\n" + rows)


def draw(number: int, edge: int = 256) -> np.ndarray:
    """A portrait with a camera's grain, BGR uint8 [edge, edge, 3]."""
    large = cv2.resize(portraits.draw_portrait(np.random.default_rng([5, number]), 128), (edge, edge))
    grain = np.random.default_rng(number).normal(0, 4, large.shape)
    pixels: np.ndarray = np.clip(large + grain, 0, 255).astype(np.uint8)[..., ::-1]
    return pixels


def make_command(*words: str) -> list[str]:
    """A command on the experiment."""
    return [sys.executable, "-m", "invoke", *words, "--experiment", NAME]


def parse_keys(words: Sequence[str]) -> Keys:
    """The keys of --set, such as train.lr=3e-3; of several values the first."""
    return {key: values[0] for key, values in variants.parse_grid(words).items()}


def write_variant(root: Path, name: str, base: str, keys: Keys) -> Path:
    """Writes the config.toml of a shipped experiment with some keys changed; returns the experiment's folder."""
    folder = root / "experiments" / name
    folder.mkdir(parents=True, exist_ok=True)
    shipped = (PROJECT / "experiments" / base / "config.toml").read_text()
    (folder / "config.toml").write_text(variants.format_variant(base, shipped, keys))
    return folder


def train(root: Path, name: str) -> float:
    """Trains an experiment, if it is not trained yet; CPU seconds of its processes, NaN if it was."""
    if (root / "experiments" / name / "metrics.json").is_file():
        return float("nan")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(root, "train-folds", "--experiment", name, "--accept", ACCEPTED)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(root: Path, *words: str) -> str:
    """Runs a command as a person types it, to its end; returns what it prints, and exits with its errors."""
    command = [sys.executable, "-m", "invoke", *words]
    done = subprocess.run(
        command, cwd=PROJECT, env=environment(root.resolve()), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout[-2000:]}{done.stderr}")
    return done.stdout


def environment(root: Path) -> dict[str, str]:
    """With the workspace."""
    return {**os.environ, "FFDI_ROOT": str(root)}
