"""Scores from an open graph: every image in order, none replaced."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels import folders
from ffdi.inference import predict
from ffdi.inference.backend import OpenGraph


class Brightness:
    """A fake graph: the score of an image is its mean. Records batches and parallel calls."""

    def __init__(self, streams: int = 1) -> None:
        self.batches: list[int] = []
        self.inside = self.most = 0
        self.lock = threading.Lock()
        self.graph = OpenGraph("cpu", "fake", "", 8, streams, self.run)

    def run(self, images: np.ndarray) -> np.ndarray:
        with self.lock:
            self.batches.append(len(images))
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.002)
        with self.lock:
            self.inside -= 1
        return images.mean((1, 2, 3)).astype(np.float32) / 255


def folder(root: Path, count: int) -> Path:
    """Grey images, each brighter than the one before."""
    for number in range(count):
        cv2.imwrite(str(root / f"{number:03d}.png"), np.full((8, 8, 3), number, np.uint8))
    return root


@pytest.mark.parametrize("count", [1, 7, 8, 9, 70])
def test_every_image_is_scored_in_order(count: int, tmp_path: Path) -> None:
    brightness = Brightness(streams=2)
    images = folders.list_folder(folder(tmp_path, count))
    parts = list(predict.score_batches(images, [range(count)], ResizePolicy(8), brightness.graph, 3))
    assert [row for part in parts for row in part.rows] == list(range(count))
    assert np.allclose(np.concatenate([part.y_pred for part in parts]) * 255, np.arange(count))
    assert sorted(brightness.batches, reverse=True) == [8] * (count // 8) + [count % 8] * (count % 8 > 0)


def test_a_score_of_nan_has_a_line_of_its_own(tmp_path: Path) -> None:
    def run(images: np.ndarray) -> np.ndarray:
        found = images.mean((1, 2, 3)).astype(np.float32)
        return np.where(found == 3, np.float32(np.nan), found)

    images = folders.list_folder(folder(tmp_path, 5))
    graph = OpenGraph("cpu", "fake", "", 8, 1, run)
    (part,) = predict.score_batches(images, [range(5)], ResizePolicy(8), graph, 1)
    assert (part.faults, part.nan_faults) == ([], ["003.png: the graph returns NaN"])
    assert np.isnan(part.y_pred).tolist() == [False, False, False, True, False]


def test_every_batch_is_inside_one_range(tmp_path: Path) -> None:
    images = folders.list_folder(folder(tmp_path, 30))
    parts = list(
        predict.score_batches(images, iter([range(3, 12), range(20, 30)]), ResizePolicy(8), Brightness().graph, 2)
    )
    assert [part.rows for part in parts] == [range(3, 11), range(11, 12), range(20, 28), range(28, 30)]


@pytest.mark.parametrize("streams", [1, 3])
def test_threads_in_the_graph_are_limited_to_its_streams(streams: int, tmp_path: Path) -> None:
    brightness = Brightness(streams)
    list(
        predict.score_batches(
            folders.list_folder(folder(tmp_path, 70)), [range(70)], ResizePolicy(8), brightness.graph, 4
        )
    )
    assert 1 <= brightness.most <= streams


def test_pending_batches_are_limited_by_the_threads(tmp_path: Path) -> None:
    images = folders.list_folder(folder(tmp_path, 250))
    brightness = Brightness()
    started = []

    def ranges() -> list[range]:
        for start in range(0, 250, 8):
            started.append(start)
            yield range(start, min(start + 8, 250))

    parts = predict.score_batches(images, ranges(), ResizePolicy(8), brightness.graph, 2)
    next(parts)
    assert len(started) <= 6
    parts.close()


def test_images_that_cannot_be_used_have_no_score_and_are_named(tmp_path: Path) -> None:
    images = folders.list_folder(folder(tmp_path, 20))
    for number in (3, *range(8, 16)):
        (tmp_path / f"{number:03d}.png").write_bytes(b"")
    parts = list(predict.score_batches(images, [range(20)], ResizePolicy(8), Brightness().graph, 2))
    y_pred = np.concatenate([part.y_pred for part in parts])
    assert np.flatnonzero(np.isnan(y_pred)).tolist() == [3, *range(8, 16)]
    assert np.allclose(y_pred[[2, 4, 7, 16, 19]] * 255, [2, 4, 7, 16, 19])
    assert [fault for part in parts for fault in part.faults] == [
        f"{tmp_path}/{number:03d}.png is empty" for number in (3, *range(8, 16))
    ]
