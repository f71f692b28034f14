"""Claim: a watermark, a JPEG quality or a border that one class has is found in 20 of 20 plantings each, and untouched
data raises no alarm.

    python benchmarks/planted_shortcuts.py --data FOLDER [--images 600] [--plantings 20] [--kinds border,none]

FOLDER has the competition's layout. First the doctor's function measures its training split with its own labels. Then
the real images of that split get random labels, so that nothing natural tells them apart. All are shrunk to 7/8, which
removes the blocks of their own JPEGs, and one shortcut is planted into the "fakes":

- watermark: white or black letters with an opacity of 5 to 15 %, 10 to 20 % of the image's width high, anywhere;
- border: the outermost pixel or two of one to four sides are brighter or darker by 10 to 30 grey levels;
- quality: JPEG 75 for the fakes and 90 for the others, or the reverse, saved as they are;
- hidden quality: the same, decoded and all saved again as JPEG 95, so that no file property tells the label;
- none: nothing. Any shortcut is a false alarm.

A planting is found if the predictor that fits it is a shortcut, and located if the box of a watermark contains half of
the letters and less than three times their area, or if exactly the sides of a border are named.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ffdi.commands.shared import inspection
from ffdi.config.schema import DataConfig
from ffdi.data.images import decode
from ffdi.data.inspection import doctor, reencoded, scan
from ffdi.data.inspection.doctor import Diagnosis
from ffdi.data.inspection.duplicate_groups import DuplicateGroups
from ffdi.data.inspection.pixel_traces import SHAPES, SIDES
from ffdi.data.inspection.scan import ScanResult
from ffdi.data.inspection.scan_store import ScanStore
from ffdi.data.labels import layout
from ffdi.data.labels.table import Table
from ffdi.synthetic import operations

THREADS = os.cpu_count() or 1
SCALE = 7 / 8
Encode = Callable[[np.ndarray, bool], bytes]
"""Pixels, RGB uint8 [H, W, 3], and whether they are a fake -> a file."""


class Planting(NamedTuple):
    """A shortcut, and the answer that is expected of the doctor.

    Attributes:
        encode: makes the files.
        predictors: at least one of them is to be a shortcut; none at all if it is empty.
        locates: whether a place that the doctor names is right; None if it names none.
    """

    encode: Encode
    predictors: tuple[str, ...]
    locates: Callable[[dict[str, Any]], bool] | None = None


def encode(pixels: np.ndarray, quality: int) -> bytes:
    return operations.encode_jpeg(pixels, quality, 0, 0).tobytes()


def decode_again(content: bytes) -> np.ndarray:
    return decode.decode(content, "a planted image")


def plant_nothing(_shape: tuple[int, int], _rng: np.random.Generator) -> Planting:
    return Planting(lambda pixels, _fake: encode(pixels, 90), ())


def plant_watermark(shape: tuple[int, int], rng: np.random.Generator) -> Planting:
    (height, width), edge = shape, int(rng.uniform(0.1, 0.2) * shape[1])
    letters = np.zeros((edge, 2 * edge), np.uint8)
    place = (1, int(0.75 * edge))
    cv2.putText(letters, "LOGO", place, cv2.FONT_HERSHEY_SIMPLEX, edge / 52, 1, max(1, edge // 20))
    top, left = rng.integers(height - edge + 1), rng.integers(width - 2 * edge + 1)
    mask = np.zeros(shape, np.float32)
    mask[top : top + edge, left : left + 2 * edge] = letters
    opacity, shade = rng.uniform(0.05, 0.15), 255 * rng.integers(2)

    def make(pixels: np.ndarray, fake: bool) -> bytes:
        covered = pixels + (opacity * mask)[..., None] * (shade - pixels.astype(np.float32))
        return encode(np.rint(covered).astype(np.uint8) if fake else pixels, 90)

    def locates(found: dict[str, Any]) -> bool:
        where = found["detail"]["where"]
        rows = slice(int(where["top"] * height), round(where["bottom"] * height))
        columns = slice(int(where["left"] * width), round(where["right"] * width))
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        return bool(mask[rows, columns].sum() >= mask.sum() / 2 and area <= 3 * letters.size)

    return Planting(make, ("detail",), locates)


def plant_border(shape: tuple[int, int], rng: np.random.Generator) -> Planting:
    sides = rng.permutation(4)[: rng.integers(1, 5)]
    wide, change = int(rng.integers(1, 3)), rng.choice([-1, 1]) * rng.uniform(10, 30)
    mask = np.zeros(shape, bool)
    for side in sides:
        np.rot90(mask, side)[:wide] = True

    def make(pixels: np.ndarray, fake: bool) -> bytes:
        changed = np.clip(np.rint(pixels + change * mask[..., None]), 0, 255).astype(np.uint8)
        return encode(changed if fake else pixels, 90)

    names = {SIDES[side] for side in sides.tolist()}
    return Planting(make, ("edges",), lambda found: set(found["edges"]["where"]) == names)


def plant_quality(_shape: tuple[int, int], rng: np.random.Generator) -> Planting:
    qualities = rng.permutation([75, 90]).tolist()
    return Planting(lambda pixels, fake: encode(pixels, qualities[fake]), ("JPEG quantization", "encoding"))


def plant_hidden_quality(_shape: tuple[int, int], rng: np.random.Generator) -> Planting:
    qualities = rng.permutation([75, 90]).tolist()
    return Planting(lambda pixels, fake: encode(decode_again(encode(pixels, qualities[fake])), 95), ("encoding",))


KINDS = {
    "watermark": plant_watermark,
    "border": plant_border,
    "quality": plant_quality,
    "hidden quality": plant_hidden_quality,
    "none": plant_nothing,
}


def diagnose(root: Path, store: Path) -> Diagnosis:
    """Scans the training split alone and measures it before and after re-encoding; no search for copies."""
    table = layout.find_dataset(root, DataConfig()).split("train")
    result, findings = ScanResult(table), ScanStore(store)
    for image in scan.scan_images(table, findings, THREADS):
        result.record(image)
    findings.close()
    apart = np.arange(len(table))
    diagnosis = doctor.diagnose(root, {"train": result}, DuplicateGroups(apart, frozenset(), apart))
    return inspection.measure_reencoded(diagnosis, THREADS)


def list_found(diagnosis: Diagnosis) -> set[str]:
    """The predictors that are shortcuts, and the properties of files that are."""
    assert diagnosis.reencoded is not None
    predictors = diagnosis.reencoded["train"]["predictors"]
    return {name for name, one in predictors.items() if one["shortcut"]} | {
        name for name, one in diagnosis.shortcuts.get("train", {}).items() if one["shortcut"]
    }


def load_real(root: Path, images: int) -> tuple[Table, list[np.ndarray]]:
    """The first real images of the training split, shrunk."""
    table = layout.find_dataset(root, DataConfig()).split("train")
    assert table.target is not None
    real = table.take(np.flatnonzero(table.target == 0)[:images])

    def load(row: int) -> np.ndarray:
        return cv2.resize(decode.read_image(real.path(row)), None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_AREA)

    with ThreadPoolExecutor(THREADS) as pool:
        return real, list(pool.map(load, range(len(real))))


def write(root: Path, table: Table, pictures: list[np.ndarray], fake: np.ndarray, planting: Planting) -> None:
    """Writes images with labels, and groups if there are any."""
    folder = root / "trainset"
    folder.mkdir(parents=True)
    names = [f"{row:05}.jpg" for row in range(len(pictures))]

    def write_one(row: int) -> None:
        (folder / names[row]).write_bytes(planting.encode(pictures[row], bool(fake[row])))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(write_one, range(len(names))))
    rows = [f"{name},{label}" for name, label in zip(names, fake.tolist(), strict=True)]
    (root / "trainset_label.txt").write_text("\n".join(["img_name,target", *rows]) + "\n")
    if table.group is not None:
        rows = [f"{name},{group}" for name, group in zip(names, table.group.tolist(), strict=True)]
        (root / "groups.csv").write_text("\n".join(["img_name,group", *rows]) + "\n")


def try_kind(kind: str, table: Table, pictures: list[np.ndarray], plantings: int) -> None:
    """Plants one kind several times, and prints how many were found."""
    found, located, alarms, aucs = 0, 0, 0, []
    wanted: tuple[str, ...] = ()
    for seed in range(plantings):
        rng = np.random.default_rng([seed, list(KINDS).index(kind)])
        planting = KINDS[kind](pictures[0].shape[:2], rng)
        wanted = planting.predictors or (*SHAPES, "encoding")
        fake = rng.permutation(np.arange(len(pictures)) % 2)
        with tempfile.TemporaryDirectory() as scratch:
            write(Path(scratch) / "data", table, pictures, fake, planting)
            diagnosis = diagnose(Path(scratch) / "data", Path(scratch) / "findings.sqlite")
        assert diagnosis.reencoded is not None
        predictors, shortcuts = diagnosis.reencoded["train"]["predictors"], list_found(diagnosis)
        hit = bool(shortcuts & set(planting.predictors))
        found += hit
        located += bool(hit and planting.locates and planting.locates(predictors))
        alarms += bool(shortcuts and not planting.predictors)
        aucs.append([[read_auc(predictors.get(name), state) for state in reencoded.STATES] for name in wanted])
        if not planting.predictors and shortcuts:
            print(f"  seed {seed}: {', '.join(sorted(shortcuts))}")
        elif planting.predictors and not hit:
            print(f"  seed {seed} was not found")
        elif planting.locates and not planting.locates(predictors):
            print(f"  seed {seed} was not located: {reencoded.format_place(wanted[0], predictors[wanted[0]])}")
    result = f"found {found} of {plantings}" if wanted and kind != "none" else f"alarms {alarms} of {plantings}"
    if kind in ("watermark", "border"):
        result += f", located {located}"
    print(f"{kind}: {result}")
    by_state = np.array(aucs, float).transpose(1, 2, 0)
    for name, (before, after) in zip(wanted, by_state, strict=True):
        print(f"  {name}: AUC {describe(before)} as they are, {describe(after)} re-encoded", flush=True)


def read_auc(predictor: dict[str, Any] | None, state: str) -> float:
    """0.5 for a property that is the same for all files."""
    return 0.5 if predictor is None or predictor[state] is None else float(predictor[state]["auc"])


def describe(values: np.ndarray) -> str:
    return f"{np.median(values):.3f} ({values.min():.3f} to {values.max():.3f})"


def show_own(root: Path) -> None:
    """Prints what the doctor's function says about the data themselves."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        diagnosis = diagnose(root, Path(scratch) / "findings.sqlite")
    assert diagnosis.reencoded is not None
    content = diagnosis.reencoded["train"]
    seconds = time.perf_counter() - started
    print(f"{root.name}: {content['images']} images with their own labels, {seconds:.0f} s with the scan")
    for name, one in content["predictors"].items():
        figures = [f"{read_auc(one, state):.3f}" for state in reencoded.STATES]
        effect = f", largest effect {one['effect']:.2f} on {one['area']:.1%}" if "effect" in one else ""
        print(f"  {name}: AUC {' -> '.join(figures)}{effect}{' SHORTCUT' if one['shortcut'] else ''}", flush=True)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--plantings", type=int, default=20)
    parser.add_argument("--kinds", default=",".join(KINDS))
    args = parser.parse_args()
    cv2.setNumThreads(1)
    show_own(args.data)
    table, pictures = load_real(args.data, args.images)
    for kind in args.kinds.split(","):
        try_kind(kind, table, pictures, args.plantings)


if __name__ == "__main__":
    main()
