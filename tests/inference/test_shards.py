"""Scores in pieces: a run that was killed goes on, and the CSV is the same."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ffdi.data.labels.table import Table
from ffdi.inference import shards
from ffdi.inference.predict import Part
from ffdi.inference.shards import Shards

Y_PRED = np.linspace(0, 1, 10, dtype=np.float32)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Ten files; a shard has four."""
    monkeypatch.setattr(shards, "ROWS", 4)
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


def test_the_shards_become_one_csv_and_are_gone(images: Table, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    pieces = run(output, images, Scorer())
    assert pieces.join(output).tobytes() == Y_PRED.tobytes()
    pieces.remove()
    assert output.read_text().splitlines()[:3] == ["img_name,y_pred", "0.jpg,0", "1.jpg,0.111111112"]
    assert not (tmp_path / "scores.csv.parts").exists()


@pytest.mark.parametrize(("killed", "left"), [([1], 10), ([3, 1], 6), ([2, 0, 2], 2)])
def test_a_run_that_was_killed_goes_on_behind_what_was_published(
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


def test_what_was_scored_with_something_else_is_not_taken(images: Table, tmp_path: Path) -> None:
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


def test_a_shard_with_an_image_that_cannot_be_used_waits_for_it(images: Table, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    run(output, images, Scorer(broken=(5,)))
    (tmp_path / "5.jpg").write_bytes(b"mended")
    scorer = Scorer()
    assert run(output, images, scorer).join(output).tobytes() == Y_PRED.tobytes()
    assert scorer.scored == [4, 5, 6, 7]


def test_a_substitute_stands_for_an_image_that_cannot_be_used(images: Table, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    y_pred = run(output, images, Scorer(broken=(5,)), substitute=0.5).join(output)
    assert y_pred[5] == 0.5
    assert np.delete(y_pred, 5).tobytes() == np.delete(Y_PRED, 5).tobytes()


def test_a_run_that_goes_on_still_names_the_images_that_were_given_a_substitute(images: Table, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    run(output, images, Scorer(broken=(5,)), substitute=0.5)
    again = Shards(output, images, "graph cpu", 0.5)
    assert [(part.rows, part.faults) for part in again.score(Scorer())] == [
        (range(0, 4), []),
        (range(4, 8), ["5.jpg is empty"]),
        (range(8, 10), []),
    ]
    assert again.join(output)[5] == 0.5


def test_the_runtime_of_a_run_that_was_begun_is_known(images: Table, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    assert shards.begin_shards(output) is None
    pieces = Shards(output, images, "graph openvino")
    pieces.begin("openvino")
    assert shards.begin_shards(output) == "openvino"
    list(pieces.score(Scorer()))
    pieces.join(output)
    pieces.remove()
    assert shards.begin_shards(output) is None
