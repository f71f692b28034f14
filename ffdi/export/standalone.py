"""Scores images with the graph in this folder: the probability that a face is fake.

    python predict.py IMAGE [IMAGE ...]     images, and folders with all images in them
    python predict.py < LIST                one path in each line, as it is or quoted as in a CSV

It prints a CSV of path and y_pred. It needs only numpy, opencv-python-headless (4.11 or later) and onnxruntime (or
onnxruntime-gpu). It trusts the graph and the images: it has no limits on time and memory. It sends nothing.
"""

import csv
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import, which writes an ID and sends events

import cv2
import numpy as np
import onnxruntime

UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f\ud800-\udfff]"
    r"|(?<![^\x00-\x7f\u200c\u200d])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f\u200c\u200d])"
)
"""Characters that end a line, steer a terminal, hide or reorder text, or are not UTF-8; refused in a CSV."""


SET_LOG_LEVEL = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
"""Before OpenCV 4.13 the function had another place."""

SIGNATURES = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|BM.{4}\0{4}|II\*\0|MM\0\*|RIFF....WEBP", re.DOTALL)
"""First bytes of JPEG, PNG, BMP, TIFF and WebP. The networks were trained on no other format."""


def load_image(path: str, size: int, framing: str) -> np.ndarray:
    """Reads an image as in the training: RGB, uint8 [size, size, 3]."""
    SET_LOG_LEVEL(0)  # it would print lines between these
    content = Path(path).read_bytes()
    if not SIGNATURES.match(content):
        raise ValueError("no image, or of another format than JPEG, PNG, BMP, TIFF and WebP")
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None or pixels.dtype != np.uint8:
        raise ValueError("truncated, damaged, or not of 8 or 16 bits")
    return FRAMINGS[framing](pixels, size)


def squash(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resizes the whole image to a square."""
    return scale(pixels, size, size)


def crop(pixels: np.ndarray, size: int) -> np.ndarray:
    """Cuts out the center without resizing; enlarges a small image first."""
    short = min(pixels.shape[:2])
    if (missing := size / short) > 1:
        pixels = crop_center(pixels, 4 * short)
        height, width = pixels.shape[:2]
        pixels = scale(pixels, max(size, round(height * missing)), max(size, round(width * missing)))
    return np.ascontiguousarray(crop_center(pixels, size))


def crop_center(pixels: np.ndarray, edge: int) -> np.ndarray:
    """Cuts out the center, at most `edge` rows and columns."""
    rows, columns = min(edge, pixels.shape[0]), min(edge, pixels.shape[1])
    top, left = round(0.5 * (pixels.shape[0] - rows)), round(0.5 * (pixels.shape[1] - columns))
    return pixels[top : top + rows, left : left + columns]


def pad(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resizes the whole image, and keeps its aspect ratio by black borders."""
    height, width = pixels.shape[:2]
    ratio = size / max(height, width)
    scaled = scale(pixels, max(1, round(height * ratio)), max(1, round(width * ratio)))
    padded = np.zeros((size, size, 3), np.uint8)
    top, left = (size - scaled.shape[0]) // 2, (size - scaled.shape[1]) // 2
    padded[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return padded


def scale(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes by area if both edges shrink, else by cubic interpolation."""
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = pixels.shape[0] >= height and pixels.shape[1] >= width
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


FRAMINGS = {"squash": squash, "crop": crop, "pad": pad}


def count_cores() -> int:
    """Counts the CPUs that this process may use, at most those of its container's quota and OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    cores = min(cores, int(limit)) if limit.isdecimal() and int(limit) else cores
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = " ".join(Path("/sys/fs/cgroup", file).read_text() for file in files).split()
            cores = min(cores, math.ceil(int(quota) / int(period))) if int(quota) > 0 else cores
        except (OSError, ValueError):  # no limit
            continue
    return cores


def list_paths(words: Iterable[str]) -> Iterator[str]:
    """The paths of the images; of a folder, all files below it that start like an image, sorted; counts the others."""
    for word in words:
        if not Path(word).is_dir():
            yield word
            continue
        files = [path for path in sorted(Path(word).rglob("*")) if not path.is_dir()]
        images = [path for path in files if starts_like_image(path)]
        if len(images) < len(files):
            print(f"{word}: files that are no images: {len(files) - len(images)} of {len(files)}", file=sys.stderr)
        yield from map(str, images)


def starts_like_image(path: Path) -> bool:
    """True also for a file that cannot be read, such as a broken link: `load_image` says why."""
    try:
        with path.open("rb") as file:
            return SIGNATURES.match(file.read(12)) is not None
    except OSError:
        return True


def read_lines(lines: Iterable[str]) -> Iterator[str]:
    """The paths in the lines of standard input, without blank lines and without the quotes of a CSV."""
    for line in lines:
        line = line.rstrip("\r\n")
        if line:
            quoted = line.startswith('"') and not Path(line).exists()
            yield next(csv.reader([line]))[0] if quoted else line


def main(paths: Iterable[str]) -> int:
    """Prints `path,y_pred` for each image as CSV, and errors to stderr; returns 1 if there was an error."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_cores()
    session = onnxruntime.InferenceSession(
        str(Path(__file__).resolve().parent / "model.onnx"),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["WeightBiasQuantization"],  # it quantises the fp32 layers of an int8 graph
    )
    given = session.get_inputs()[0]
    framing = session.get_modelmeta().custom_metadata_map["framing"]
    lines = csv.writer(sys.stdout, lineterminator="\n")
    scored = failed = 0
    for path in list_paths(paths):
        try:
            if UNSAFE.search(path):
                raise ValueError("the name has a character that is refused in CSV: rename this file")
            image = load_image(path, given.shape[1], framing)
        except (OSError, ValueError, cv2.error) as error:
            print(UNSAFE.sub(lambda found: ascii(found[0])[1:-1], f"{path}: {error}"), file=sys.stderr)
            failed += 1
            continue
        (y_pred,) = session.run(None, {given.name: image[None]})
        lines.writerow((path, f"{y_pred[0]:.9g}"))
        scored += 1
    if not scored and not failed:
        print("no image was given", file=sys.stderr)
    return int(failed > 0 or not scored)


if __name__ == "__main__":
    words = sys.argv[1:]
    if any(word in ("-h", "--help") for word in words):
        sys.exit(print(__doc__))
    if not words and sys.stdin.isatty():
        sys.exit(__doc__)
    sys.exit(main(words or read_lines(sys.stdin)))
