"""A small synthetic competition for first experiments without data: real portraits, and fakes of four families."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from ffdi.core import csvs, files, manifests
from ffdi.core.errors import ExperimentError
from ffdi.demo import portraits
from ffdi.synthetic.manipulations import MANIPULATIONS

VERSION = 1
"""Increased with any change of the images: an older competition is then made again."""
COUNTS = {"train": 1200, "val": 200, "test": 200}
"""Images of each split; half of them are fake, an equal number of each family."""
SIZE = 80
QUALITIES = (75, 96)
"""JPEG quality of the camera."""
BYTES = (3150, 4000)
"""Range of the file size. The size is drawn first, then the JPEG quality is chosen to match, so that the size does not
predict the label: the lattice of a fake would make its file larger."""

PROCESSES = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Sample:
    """One image of the competition."""

    img_name: str
    split: str
    family: str
    content: bytes

    @property
    def target(self) -> int:
        """1 for a fake, 0 for a real portrait."""
        return int(self.family != "real")


def is_made(folder: Path, seed: int = 0) -> bool:
    """Whether the folder has the complete competition of this version and seed."""
    try:
        manifest = manifests.read_manifest(folder / "manifest.json")
    except ExperimentError:
        return False
    return (manifest.get("version"), manifest.get("seed")) == (VERSION, seed)


def write_competition(folder: Path, seed: int = 0) -> None:
    """Writes the competition in the usual layout of folders; the folder appears when it is complete.

    Args:
        folder: gets `trainset/`, `trainset_label.txt` and so on for val and test, `families.csv` (img_name, split,
            family) and `manifest.json`. An existing folder is replaced.
        seed: determines every pixel.
    """
    with files.publish_folder(folder) as beside:
        samples = _make_samples(seed)
        for split in COUNTS:
            _write_split(beside, split, [one for one in samples if one.split == split])
        rows = [(one.img_name, one.split, one.family) for one in samples]
        files.write_text(beside / "families.csv", csvs.format_csv([("img_name", "split", "family"), *rows]))
        contents = [[one.img_name, one.target, hashlib.sha256(one.content).hexdigest()] for one in samples]
        manifest = {"version": VERSION, "seed": seed, "images": len(samples), "digest": manifests.hash_json(contents)}
        manifests.write_manifest(beside / "manifest.json", manifest)


def _write_split(root: Path, split: str, samples: list[Sample]) -> None:
    folder = root / f"{split}set"
    folder.mkdir()
    for one in samples:
        (folder / one.img_name).write_bytes(one.content)
    rows = [(one.img_name, one.target) for one in samples]
    files.write_text(root / f"{split}set_label.txt", csvs.format_csv([("img_name", "target"), *rows]))


def _make_samples(seed: int) -> list[Sample]:
    """All samples, each split sorted by name; a sample depends on (seed, split, index), not on the process."""
    keys = [(split, seed, index) for split in COUNTS for index in range(COUNTS[split])]
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:  # a fork would copy torch's threads
        samples = list(pool.map(_make_sample, keys, chunksize=25))
    return sorted(samples, key=lambda one: (list(COUNTS).index(one.split), one.img_name))


def _make_sample(key: tuple[str, int, int]) -> Sample:
    split, seed, index = key
    place = [seed, list(COUNTS).index(split)]
    rng = np.random.default_rng([*place, index])
    pair = np.random.default_rng([*place, index // 2, 0])  # a real image and the next fake have the same target size
    families = list(MANIPULATIONS)
    family = "real" if index % 2 == 0 else families[index // 2 % len(families)]
    name = hashlib.md5(f"{seed}/{split}/{index}".encode()).hexdigest()
    return Sample(f"{name}.jpg", split, family, _publish(_make_picture(family, rng), int(pair.integers(*BYTES))))


def _make_picture(family: str, rng: np.random.Generator) -> np.ndarray:
    """uint8 RGB [SIZE, SIZE, 3]; no person is in two pictures."""
    photograph = _photograph(rng)
    if family == "real":
        return photograph
    fake, _ = MANIPULATIONS[family](photograph, _photograph(rng), rng)
    return fake


def _photograph(rng: np.random.Generator) -> np.ndarray:
    """Draws a portrait and compresses it, as a camera does."""
    quality = int(rng.integers(*QUALITIES))
    return _decode(_encode(portraits.draw_portrait(rng, SIZE), quality))


def _publish(picture: np.ndarray, wanted: int) -> bytes:
    """Encodes as JPEG, with the quality that gives the size nearest to `wanted`, in bytes."""
    low, high = 20, 100
    while low < high:
        quality = (low + high) // 2
        if len(_encode(picture, quality)) < wanted:
            low = quality + 1
        else:
            high = quality
    return min((_encode(picture, low - 1), _encode(picture, low)), key=lambda content: abs(len(content) - wanted))


def _encode(picture: np.ndarray, quality: int) -> bytes:
    done, content = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return content.tobytes()


def _decode(content: bytes) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    return decoded
