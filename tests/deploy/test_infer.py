"""Scores from an open graph: every image in order, none replaced."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ffdi.data import table
from ffdi.deploy import infer
from ffdi.deploy.runtime import Runtime
from ffdi.errors import DataError


class Brightness:
    """Stands for a session: the mean of each image is its score."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def get_inputs(self) -> list[Path]:
        return [Path("images")]

    def run(self, _outputs: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.batches.append(len(feeds["images"]))
        return [feeds["images"].mean((1, 2, 3)).astype(np.float32) / 255]


def folder(root: Path, count: int) -> Path:
    """Grey images, each brighter than the one before."""
    for number in range(count):
        cv2.imwrite(str(root / f"{number:03d}.png"), np.full((8, 8, 3), number, np.uint8))
    return root


@pytest.mark.parametrize("count", [1, 31, 32, 33, 70])
def test_every_image_is_scored_in_order(count: int, tmp_path: Path) -> None:
    session = Brightness()
    images = table.in_folder(folder(tmp_path, count))
    parts = list(infer.scores(images, 8, Runtime(session, "fake", "")))  # type: ignore[arg-type]
    assert np.allclose(np.concatenate(parts) * 255, np.arange(count))
    assert session.batches == [32] * (count // 32) + [count % 32] * (count % 32 > 0)


def test_all_unreadable_images_are_named_at_the_end(tmp_path: Path) -> None:
    images = table.in_folder(folder(tmp_path, 70))
    for number in (3, 69):
        (tmp_path / f"{number:03d}.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        list(infer.scores(images, 8, Runtime(Brightness(), "fake", "")))  # type: ignore[arg-type]
    assert str(caught.value) == (
        "2 of 70 images cannot be used; no score was written\n"
        f"  {tmp_path}/003.png is empty\n"
        f"  {tmp_path}/069.png is empty\n"
        f"next: replace these files or take them out of {tmp_path}"
    )
