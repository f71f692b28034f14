"""Scores images with the graph beside this file: the probability that a face is fake.

    python predict.py IMAGE [IMAGE ...]

Needs numpy, opencv-python-headless (5 or later) and onnxruntime (or onnxruntime-gpu), and nothing else.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime


def load(path: str, size: int) -> np.ndarray:
    """Reads an image as the networks were shown theirs: RGB, uint8 [size, size, 3]."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    content = np.frombuffer(Path(path).read_bytes(), np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB) if len(content) else None
    if pixels is None:
        raise ValueError("truncated, damaged, or no image")
    if pixels.shape[:2] == (size, size):
        return pixels
    shrinks = min(pixels.shape[:2]) >= size
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def main(paths: list[str]) -> int:
    session = onnxruntime.InferenceSession(
        str(Path(__file__).resolve().parent / "model.onnx"),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["WeightBiasQuantization"],  # it takes to 8 bits what an int8 graph has left in fp32
    )
    given = session.get_inputs()[0]
    failed = 0
    for path in paths:
        try:
            image = load(path, given.shape[1])
        except (OSError, ValueError, cv2.error) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = 1
            continue
        (y_pred,) = session.run(None, {given.name: image[None]})
        print(f"{path},{y_pred[0]:.9g}")
    return failed


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
