"""Claim: on crops of faces, `invoke landmarks` finds faces in as many images without a detector as with MediaPipe's
detector, and its points are as steady.

    python benchmarks/landmarks.py --data FOLDER --model face_landmark.tflite \\
        --detector face_detection_short_range.tflite [--images 600]

Every way of choosing the crop gets the same training images. "Face" is the share of images with a presence of 0.5 or
more. "Moved": an image and a copy of it, turned by 4 degrees, shrunk by 5 % and shifted by 2 %, should have the same
points; this is their mean distance, in parts of the distance of the outer corners of the eyes. "Mirrored": the
intersection of the hulls of the image and of its mirror image, in parts of their union. "CPU": milliseconds for an
image in memory. Then the command itself runs over all training images, with one thread and with two.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ffdi.config.schema import DataConfig
from ffdi.core.errors import format_count
from ffdi.data.images import cache
from ffdi.data.labels import layout
from ffdi.data.labels.table import Table
from ffdi.faces import finder
from ffdi.faces.finder import MARGIN, OUTER_EYE_CORNERS, PRESENCE, REFINEMENTS, Face, FaceFinder

PROJECT = Path(__file__).resolve().parent.parent
CONFIG = '[model]\nbackbone = "test_resnet"\npretrained = false\n'
CANVAS = 256
"""Edge of the hulls' picture in pixels."""


def main() -> None:
    """Compares the ways, then times the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--images", type=int, default=600, help="for the ways; 0 for the command alone")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    train = layout.find_dataset(args.data, DataConfig(), with_landmarks=False).split("train")
    chosen = np.sort(np.random.default_rng(0).permutation(len(train))[: args.images])
    opened = finder.open_finder(args.model, args.detector, 1)
    mesh, detector = opened.mesh, opened.detector
    ways = {
        "whole image": FaceFinder(mesh, None, 1.0, 0),
        f"margin {MARGIN}": FaceFinder(mesh, None, MARGIN, 0),
        "whole image, refined": FaceFinder(mesh, None, 1.0, REFINEMENTS),
        f"margin {MARGIN}, refined once": FaceFinder(mesh, None, MARGIN, 1),
        f"margin {MARGIN}, refined (default)": FaceFinder(mesh),
        "detector": FaceFinder(mesh, detector, 1.0, 0),
        f"detector, margin {MARGIN}": FaceFinder(mesh, detector, MARGIN, 0),
        f"detector, margin {MARGIN}, refined": opened,
    }
    print(f"{args.data}: {len(chosen)} of {len(train)} training images")
    print("| crop | face: real, fake | moved: mean, 95 % | mirrored: mean, 5 % | CPU |\n|---|---|---|---|---|")
    for name, way in ways.items() if len(chosen) else ():
        print(f"| {name} | {' | '.join(measure(train.take(chosen), way))} |", flush=True)
    for threads in (1, 2):
        print(time_command(args.data, args.model, threads), flush=True)


def measure(train: Table, way: FaceFinder) -> list[str]:
    """The cells of a way."""
    assert train.target is not None
    found, moved, mirrored, seconds = np.zeros(len(train), bool), list[float](), list[float](), 0.0
    for row in range(len(train)):
        image = cache.read_pixels(train, row)
        start = time.process_time()
        face = way.find(image)
        seconds += time.process_time() - start
        found[row] = face.presence >= PRESENCE
        if found[row]:
            moved.append(compare_moved(image, face, way))
            other = way.find(np.ascontiguousarray(image[:, ::-1])).points
            mirrored.append(compare_hulls(face.points, other * (-1, 1) + (1, 0)))
    shares = [f"{found[train.target == target].mean():.4f}" for target in (0, 1)]
    return [
        ", ".join(shares),
        f"{np.mean(moved):.4f}, {np.quantile(moved, 0.95):.3f}",
        f"{np.mean(mirrored):.3f}, {np.quantile(mirrored, 0.05):.3f}",
        f"{1000 * seconds / len(train):.1f}",
    ]


def compare_moved(image: np.ndarray, face: Face, way: FaceFinder) -> float:
    """The mean distance between the moved points and the points of the moved image."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 4, 0.95)
    matrix[:, 2] = matrix[:, 2] + (0.02 * width, -0.02 * height)
    copy = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    points = face.points * (width, height)
    expected = (points - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5
    eyes = points[list(OUTER_EYE_CORNERS)]
    distances = np.linalg.norm(expected - way.find(copy).points * (width, height), axis=1)
    return float(distances.mean() / np.linalg.norm(eyes[1] - eyes[0]))


def compare_hulls(first: np.ndarray, second: np.ndarray) -> float:
    """The intersection of two hulls in parts of their union."""
    masks = []
    for points in (first, second):
        mask = np.zeros((CANVAS, CANVAS), np.uint8)
        cv2.fillConvexPoly(mask, cv2.convexHull(np.round(points * CANVAS).astype(np.int32)), 1)
        masks.append(mask > 0)
    return float((masks[0] & masks[1]).sum() / max((masks[0] | masks[1]).sum(), 1))


def time_command(data: Path, model: Path, threads: int) -> str:
    """What the command says about its speed and the faces."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "experiments" / "faces"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(CONFIG)
        words = ["--experiment", "faces", "--data", str(data), "--model", str(model), "--json"]
        start, before = time.perf_counter(), os.times()
        done = subprocess.run(
            [sys.executable, "-m", "invoke", "landmarks", *words, "--output", str(Path(scratch) / "landmarks.csv")],
            cwd=PROJECT,
            env={**os.environ, "FFDI_ROOT": scratch, "OMP_NUM_THREADS": str(threads)},
            capture_output=True,
            text=True,
            check=True,
        )
        seconds, after = time.perf_counter() - start, os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    lines = json.loads(done.stdout)["lines"]
    shown = [line for line in lines if re.match("looked at|found", line)]
    return f"command, {format_count(threads, 'thread')}: {seconds:.1f} s, {used:.1f} s of CPU time; {'; '.join(shown)}"


if __name__ == "__main__":
    main()
