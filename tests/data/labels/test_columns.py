from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ffdi.config.schema import DataConfig
from ffdi.core.errors import DataError
from ffdi.data.labels import table
from ffdi.data.labels.table import Table

Put = Callable[..., Path]


@pytest.fixture
def read(put: Put, tmp_path: Path) -> Callable[..., Table]:
    """read(content, config) reads a label file of a.jpg (real) and sub/b.jpg (fake)."""
    put("trainset/a.jpg")
    put("trainset/sub/b.jpg")

    def run(content: str, config: DataConfig | None = None, name: str = "train") -> Table:
        problems: list[str] = []
        path = put("labels.csv", content)
        found = table.read_labels(name, tmp_path / "trainset", path, config or DataConfig(), problems)
        assert problems == []
        return found

    return run


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("img_name\ttarget\na.jpg\t0\nsub/b.jpg\t1\n", "separated by tabs"),
        ("img_name;target\na.jpg;0\nsub/b.jpg;1\n", "separated by semicolons"),
        ("img_name|target\na.jpg|0\nsub/b.jpg|1\n", "separated by bars"),
        ("img_name target\na.jpg 0\nsub/b.jpg 1\n", "separated by spaces"),
        ('"img_name";"target"\n"a.jpg";"0"\n"sub/b.jpg";"1"\n', "separated by semicolons"),
        ("filename,label\na.jpg,REAL\nsub/b.jpg,FAKE\n", "images in column 'filename', labels in column 'label'"),
        ("Image,Target\na.jpg,False\nsub/b.jpg,True\n", "images in column 'Image', labels in column 'Target'"),
        ("a.jpg,0\nsub/b.jpg,1\n", "no header"),
        ("0 a.jpg\n1 sub/b.jpg\n", "no header, separated by spaces"),
        ("a 0.0\nsub/b 1.0\n", "no header, separated by spaces"),
        ("id,target\na,0.0\nsub\\b,1.00\n", "images in column 'id'"),
    ],
)
def test_a_file_with_one_possible_reading_is_read(read: Callable[..., Table], content: str, note: str) -> None:
    found = read(content)
    assert found.target is not None
    assert dict(zip(found.img_name.tolist(), found.target.tolist(), strict=True)) == {"a.jpg": 0, "sub/b.jpg": 1}
    assert found.notes == (f"labels.csv: {note}",)


def test_labels_are_read_by_their_own_words(read: Callable[..., Table]) -> None:
    config = DataConfig(labels={"Nature": 0, "ai": 1, "2": 1})
    for words in (("nature", "AI"), ("NATURE", "2.0"), ("Nature", "2")):
        found = read("img_name,target\na.jpg,{}\nsub/b.jpg,{}\n".format(*words), config)
        assert found.target is not None
        assert found.target.tolist() == [0, 1]


def test_the_names_of_the_file_are_kept(read: Callable[..., Table]) -> None:
    found = read("image_id\nsub/b\na\n", name="test")
    assert found.listed is not None
    assert (found.img_name.tolist(), found.listed.tolist()) == (["sub/b.jpg", "a.jpg"], ["sub/b", "a"])


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ("path,id,target", "the columns path and id may both be meant\nnext: choose one with data.image_column"),
        (
            "img_name,label,class",
            "the columns label and class may both be meant\nnext: choose one with data.target_column",
        ),
    ],
)
def test_columns_that_may_both_be_meant_are_refused(read: Callable[..., Table], header: str, error: str) -> None:
    with pytest.raises(DataError) as caught:
        read(f"{header}\na.jpg,0,0\n")
    assert str(caught.value).endswith(f"labels.csv line 1: {error} in config.toml")


def test_a_column_of_the_config_is_no_other_column(read: Callable[..., Table]) -> None:
    with pytest.raises(DataError) as caught:
        read("filename,target\na.jpg,0\n", DataConfig(image_column="photo"))
    assert "no column photo; the header is 'filename,target', expected 'photo,target'" in str(caught.value)
