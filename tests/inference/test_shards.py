"""Shards: a killed run resumes, and its CSV is the same."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ffdi.data.labels.table import Table
from ffdi.inference import predict
from ffdi.inference.predict import Part, Shards

Y_PRED = np.linspace(0, 1, 10, dtype=np.float32)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Ten files; a shard has four."""
    monkeypatch.setattr(predict, "ROWS", 4)
    names = [f"{number}.jpg" for number in range(10)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    return Table("images", tmp_path, np.array(names), None, None, tmp_path)


class Scorer:
    """Gives the scores of `Y_PRED`, two rows at a time; `dies` after so many parts, and cannot use `broken` rows."""

    def __init__(self, dies: int = 99, broken: tuple[int, ...] = ()) -> None:
        self.dies, self.broken = dies, broken
        self.scored: list[int] = []

    def __call__(self, ranges: Iterable[range]) -> Iterator[Part]:
        for rows in ranges:
            for start in range(0, len(rows), 2):
                part = rows[start : start + 2]
                if len(self.scored) >= 2 * self.dies:
                    raise KeyboardInterrupt
                self.scored += part
                y_pred = np.array([np.nan if row in self.broken else Y_PRED[row] for row in part], np.float32)
                yield Part(part, y_pred, [f"{row}.jpg is empty" for row in part if row in self.broken])


def run(output: Path, images: Table, scorer: Scorer, key: str = "graph cpu", substitute: float | None = None) -> Shards:
    """All parts, without the end."""
    pieces = Shards(output, images, key, substitute)
    rows = [row for part in pieces.score(scorer) for row in part.rows]
    assert sorted(rows) == list(range(10))
    return pieces


def test_the_shards_are_merged_into_one_csv_and_removed(images: Table, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    pieces = run(output, images, Scorer())
    assert pieces.join(output).tobytes() == Y_PRED.tobytes()
    pieces.remove()
    assert output.read_text().splitlines()[:3] == ["img_name,y_pred", "0.jpg,0", "1.jpg,0.111111112"]
    assert not (tmp_path / "scores.csv.parts").exists()


@pytest.mark.parametrize(("killed", "left"), [([1], 10), ([3, 1], 6), ([2, 0, 2], 2)])
def test_a_killed_run_resumes_after_the_published_shards(
    killed: list[int], left: int, images: Table, tmp_path: Path
) -> None:
    whole, output = tmp_path / "whole.csv", tmp_path / "scores.csv"
    run(whole, images, Scorer()).join(whole)
    for parts in killed:
        with pytest.raises(KeyboardInterrupt):
            run(output, images, Scorer(parts))
    last = Scorer()
    run(output, images, last).join(output)
    assert output.read_bytes() == whole.read_bytes()
    assert last.scored == list(range(10 - left, 10))


def test_shards_of_other_images_or_graphs_are_not_used(images: Table, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    run(output, images, Scorer())
    for change in ("key", "substitute", "image", "touched"):
        scorer, key, substitute = Scorer(), "graph cpu", None
        if change == "key":
            key = "graph openvino"
        elif change == "substitute":
            substitute = 0.5
        elif change == "image":
            (tmp_path / "9.jpg").write_bytes(b"another one")
        else:
            os.utime(tmp_path / "9.jpg", ns=(1, 1))
        run(output, images, scorer, key, substitute)
        assert scorer.scored == (list(range(10)) if change in ("key", "substitute") else [8, 9])


def test_a_shard_with_a_bad_image_is_not_published(images: Table, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    run(output, images, Scorer(broken=(5,)))
    (tmp_path / "5.jpg").write_bytes(b"mended")
    scorer = Scorer()
    assert run(output, images, scorer).join(output).tobytes() == Y_PRED.tobytes()
    assert scorer.scored == [4, 5, 6, 7]


def test_a_bad_image_gets_the_substitute(images: Table, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    y_pred = run(output, images, Scorer(broken=(5,)), substitute=0.5).join(output)
    assert y_pred[5] == 0.5
    assert np.delete(y_pred, 5).tobytes() == np.delete(Y_PRED, 5).tobytes()


@pytest.mark.parametrize(("substitute", "published"), [(None, 2), (0.5, 3)])
def test_a_score_of_nan_is_listed_like_a_bad_image(
    images: Table, tmp_path: Path, substitute: float | None, published: int
) -> None:
    def score(ranges: Iterable[range]) -> Iterator[Part]:
        for rows in ranges:
            y_pred = np.array([np.nan if row == 5 else Y_PRED[row] for row in rows], np.float32)
            yield Part(rows, y_pred, [], [f"{row}.jpg: the graph returns NaN" for row in rows if row == 5])

    pieces = Shards(tmp_path / "scores.csv", images, "graph cpu", substitute)
    parts = list(pieces.score(score))
    assert [fault for part in parts for fault in part.faults] == ["5.jpg: the graph returns NaN"]
    assert len(list(pieces.folder.glob("*.json"))) == published


def test_a_resumed_run_lists_all_images_with_a_substitute(images: Table, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    run(output, images, Scorer(broken=(5,)), substitute=0.5)
    again = Shards(output, images, "graph cpu", 0.5)
    assert [(part.rows, part.faults) for part in again.score(Scorer())] == [
        (range(0, 4), []),
        (range(4, 8), ["5.jpg is empty"]),
        (range(8, 10), []),
    ]
    assert again.join(output)[5] == 0.5


def test_the_runtime_of_an_unfinished_run_is_known(images: Table, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    assert predict.read_started_runtime(output) is None
    pieces = Shards(output, images, "graph openvino")
    pieces.start("openvino")
    assert predict.read_started_runtime(output) == "openvino"
    list(pieces.score(Scorer()))
    pieces.join(output)
    pieces.remove()
    assert predict.read_started_runtime(output) is None
