"""Images that travel with a graph, and their scores."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ffdi.core.errors import ParityError
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels import folders
from ffdi.inference import bundle


def written(root: Path) -> tuple[Path, np.ndarray]:
    """Three images with their scores, and the scores."""
    rng, folder = np.random.default_rng(0), root / "images"
    folder.mkdir()
    for name in ("b.png", "a.JPG", "c.bmp"):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (8, 8, 3), np.uint8))
    y_pred = np.array([1 / 3, 0.1, 0.9], np.float32)
    bundle.write_golden(root / "golden" / "golden.csv", folders.list_folder(folder), y_pred)
    return root / "golden" / "golden.csv", y_pred


def test_golden_files_and_scores_are_read_back_unchanged(tmp_path: Path) -> None:
    path, y_pred = written(tmp_path)
    assert sorted(one.name for one in path.parent.iterdir()) == ["00.jpg", "01.png", "02.bmp", "golden.csv"]
    assert (path.parent / "00.jpg").read_bytes() == (tmp_path / "images" / "a.JPG").read_bytes()
    found = bundle.read_golden(path, ResizePolicy(4), 16)
    assert (found.names, found.images.shape, found.images.dtype) == (
        ["00.jpg", "01.png", "02.bmp"],
        (3, 4, 4, 3),
        np.uint8,
    )
    assert found.y_pred.tobytes() == y_pred.tobytes()
    assert bundle.read_golden(path, ResizePolicy(4), 2).names == ["00.jpg", "01.png"]


def test_scores_within_the_limit_pass_and_others_are_listed(tmp_path: Path) -> None:
    path, y_pred = written(tmp_path)
    found = bundle.read_golden(path, ResizePolicy(4), 16)
    off = np.array([0, 0.002, 0], np.float32)
    assert found.check_scores(lambda _: y_pred + off, 0.003, "fast") == pytest.approx(0.002, rel=1e-3)
    with pytest.raises(ParityError) as caught:
        found.check_scores(lambda _: y_pred + off, 0.001, "fast")
    assert str(caught.value) == (
        "fast does not give this export's scores on this machine: 1 of 3 golden images differ by more than 0.001\n"
        "  01.png: 0.102000 instead of 0.100000\n"
        "next: pass --device cpu, or export again on this machine"
    )


def test_nan_does_not_pass(tmp_path: Path) -> None:
    path, y_pred = written(tmp_path)
    with pytest.raises(ParityError):
        bundle.read_golden(path, ResizePolicy(4), 16).check_scores(lambda _: y_pred * np.nan, 1.0, "fast")
