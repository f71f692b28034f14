"""The landmark file: what is read, and what is written is read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ffdi.config.schema import DataConfig
from ffdi.core import csvs
from ffdi.core.errors import DataError
from ffdi.data.labels import landmarks
from ffdi.data.labels.table import Table

Put = Callable[..., Path]
HEADER = "img_name,x0,y0,x1,y1,x2,y2\n"
NAMES = np.array(["a.jpg", "b.jpg", "c.jpg"])


def read(path: Path) -> tuple[np.ndarray, list[str]]:
    problems: list[str] = []
    train = Table("train", path.parent / "trainset", NAMES, None, None, path)
    return landmarks.read_landmarks(path, train, DataConfig(), problems), problems


def test_points_are_joined_by_name(put: Put) -> None:
    found, problems = read(
        put("l.csv", HEADER + "c.jpg,0.1,0.2,0.3,0.4,0.5,0.2\nz.jpg,0,0,1,0,1,1\na.jpg,0,0,1,0,1,1\n")
    )
    assert problems == []
    assert (found.shape, found.dtype) == ((3, 3, 2), np.float32)
    assert np.allclose(found[2], [[0.1, 0.2], [0.3, 0.4], [0.5, 0.2]])
    assert np.isnan(found[1]).all()


def test_bad_rows_are_listed_by_line(put: Put) -> None:
    rows = [
        "a.jpg,0,0,1,0,1,1",
        "a.jpg,0,0,1,0,1,1",
        "b.jpg,120,80,1,0,1,1",
        "c.jpg,0,0,?,0,1,1",
        "d.jpg,0,0,nan,0,1,1",
        "e.jpg,0.5,0.5,0.6,0.6,0.7,0.7",
        "f.jpg,1.1,0,1.2,0,1.2,1",
    ]
    _, problems = read(put("l.csv", HEADER + "\n".join(rows)))
    beyond = "is not in the image: points are in parts of its width and height, from 0 to 1"
    assert problems == [
        "l.csv line 3: duplicate row for a.jpg",
        f"l.csv line 4: 120 {beyond}",
        "l.csv line 5: '?' is not a number",
        f"l.csv line 6: nan {beyond}",
        "l.csv line 7: the points enclose less than 1% of the image: no face is so small",
        "l.csv line 8: the points enclose less than 1% of the image: no face is so small",
    ]


def test_a_file_of_other_images_is_refused(put: Put) -> None:
    found, problems = read(put("l.csv", HEADER + "x/a.jpg,0,0,1,0,1,1\n"))
    assert np.isnan(found).all()
    assert problems == ["l.csv names none of the 3 training images, such as a.jpg"]


@pytest.mark.parametrize("header", ["img_name", "img_name,x0,y0", "img_name,left,top,right,bottom,x,y"])
def test_a_header_that_names_no_points_is_refused(header: str, put: Put) -> None:
    path = put("l.csv", header + "\n")
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path} line 1: no column ")
    assert "expected 'img_name,x0,y0,x1,y1,x2,y2'" in str(caught.value)


def test_images_without_a_face_have_no_points(put: Put) -> None:
    header = "img_name,presence,x0,y0,x1,y1,x2,y2\n"
    found, problems = read(put("l.csv", header + "a.jpg,0.93,0,0,1,0,1,1\nb.jpg,0.02,,,,,,\nc.jpg,,,,,,,\n"))
    assert problems == []
    assert found[0].tolist() == [[0, 0], [1, 0], [1, 1]]
    assert np.isnan(found[1:]).all()
    _, problems = read(put("l.csv", header + "a.jpg,2,0,0,1,0,1,1\nb.jpg,?,,,,,,\nc.jpg,nan,0,0,1,,1,1\n"))
    assert problems == [
        "l.csv line 2: the presence 2 is not from 0 to 1",
        "l.csv line 3: '?' is not a number",
        "l.csv line 4: '' is not a number",
    ]


def test_what_is_written_is_read_again(put: Put) -> None:
    points = np.random.default_rng(0).uniform(-0.3, 1.3, (3, 468, 2))
    points[1] = np.nan
    rows = [landmarks.format_row(*one) for one in zip(NAMES.tolist(), [0.99, 0.2, float("nan")], points, strict=True)]
    found, problems = read(put("l.csv", csvs.format_csv([landmarks.list_columns("img_name", 468), *rows])))
    assert problems == []
    assert found.shape == (3, 468, 2)
    assert np.abs(found[[0, 2]] - points[[0, 2]]).max() < 0.00006
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize(
    ("points", "fault"),
    [
        ([[0.1, 0.1], [0.9, 0.1], [0.5, 1.4]], ""),
        ([[0.1, 0.1], [0.9, 0.1], [0.5, 1.6]], "1.6 is not in the image"),
        ([[0.1, 0.1], [0.9, 0.1], [0.5, np.nan]], "nan is not in the image"),
        ([[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]], "the points enclose less than 1% of the image"),
    ],
)
def test_points_that_are_no_face_have_a_fault(points: list[list[float]], fault: str) -> None:
    found = landmarks.find_points_fault(np.array(points))
    assert found.startswith(fault) if fault else found == ""
