"""Attributes of images."""

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
