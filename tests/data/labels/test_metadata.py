"""Landmarks of faces from an external detector, and attributes of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ffdi.config.schema import DataConfig
from ffdi.core.errors import DataError
from ffdi.data.labels import metadata
from ffdi.data.labels.table import Table

Put = Callable[..., Path]
HEADER = "img_name,x0,y0,x1,y1,x2,y2\n"
NAMES = np.array(["a.jpg", "b.jpg", "c.jpg"])


def read(path: Path) -> tuple[np.ndarray, list[str]]:
    problems: list[str] = []
    train = Table("train", path.parent / "trainset", NAMES, None, None, path)
    return metadata.read_landmarks(path, train, DataConfig(), problems), problems


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


def test_attributes_of_other_splits_and_images_are_ignored(tmp_path: Path) -> None:
    rows = Table("train", tmp_path, np.array(["a.jpg", "b.jpg"]), None, None, tmp_path / "none")
    lines = ["a.jpg,train,x", "a.jpg,val,y", "b.jpg,train,y", "zz.jpg,val,x", "zz.jpg,test,y"]
    (tmp_path / "families.csv").write_text("\n".join(["img_name,split,family", *lines, ""]))
    found = metadata.read_attributes(tmp_path, rows, DataConfig())
    assert {name: values.tolist() for name, values in found.items()} == {"family": ["x", "y"]}
    (tmp_path / "families.csv").write_text("img_name,split,split,family\na.jpg,1,2,x\nb.jpg,1,2,y\n")
    assert metadata.read_attributes(tmp_path, rows, DataConfig())["family"].tolist() == ["x", "y"]
    (tmp_path / "families.csv").write_text("img_name,split,family\na.jpg,train,x\na.jpg,train,y\nb.jpg,train,y\n")
    with pytest.raises(DataError) as caught:
        metadata.read_attributes(tmp_path, rows, DataConfig())
    assert caught.value.problems == ("families.csv line 3: a.jpg has another family already",)


def test_attributes_of_a_label_file_are_read_by_the_columns_of_its_split(put: Put, tmp_path: Path) -> None:
    labels = put("train.csv", "id,path,label,family\n1,a.jpg,0,x\n2,b.jpg,1,y\n")
    rows = Table("train", tmp_path, np.array(["a.jpg", "b.jpg"]), None, None, labels)
    config = DataConfig.model_validate({"train": {"image_column": "path"}})
    found = metadata.read_attributes(tmp_path, rows, config)
    assert {name: values.tolist() for name, values in found.items()} == {"id": ["1", "2"], "family": ["x", "y"]}


def test_labels_of_videos_have_no_attributes(put: Put, tmp_path: Path) -> None:
    labels = put("metadata.json", '{"a.mp4":{"label":"FAKE","split":"train","original":"b.mp4"}}')
    put("families.csv", "img_name,family\na.jpg,x\nb.jpg,y\n")
    rows = Table("train", tmp_path, np.array(["a.jpg", "b.jpg"]), None, None, labels)
    found = metadata.read_attributes(tmp_path, rows, DataConfig())
    assert {name: values.tolist() for name, values in found.items()} == {"family": ["x", "y"]}
