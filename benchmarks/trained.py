"""A workspace with five folds of ResNet-18, trained for a moment: what benchmarks of whole commands start from."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ffdi.demo import portraits

PROJECT = Path(__file__).resolve().parent.parent
NAME = "five"
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
    subprocess.run(
        make_command("train-folds"), cwd=PROJECT, env=environment(root), check=True, stdout=subprocess.DEVNULL
    )


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


def environment(root: Path) -> dict[str, str]:
    """With the workspace."""
    return {**os.environ, "FFDI_ROOT": str(root)}
