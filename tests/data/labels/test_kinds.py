"""Where the kinds of fakes are read from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ffdi.config.schema import DataConfig
from ffdi.core.errors import DataError
from ffdi.data.labels import folders, layout, metadata
from ffdi.data.labels.table import Table

Put = Callable[..., Path]


def read(root: Path, **config: object) -> Table:
    return layout.find_dataset(root, DataConfig.model_validate(config)).split("train")


def kinds(table: Table) -> dict[str, str]:
    assert table.kind is not None
    return dict(zip(table.img_name.tolist(), table.kind.tolist(), strict=True))


@pytest.fixture
def listed(put: Put) -> None:
    """Three images with a label file."""
    for name in "abc":
        put(f"trainset/{name}.jpg")
    put("trainset_label.txt", "img_name,target,how\na.jpg,0,camera\nb.jpg,1,swap\nc.jpg,1,\n")


@pytest.mark.usefixtures("listed")
def test_a_column_of_the_label_file_has_the_kinds(tmp_path: Path) -> None:
    table = read(tmp_path, kind_column="how")
    assert kinds(table) == {"a.jpg": "", "b.jpg": "swap", "c.jpg": ""}
    assert "kinds of fakes: no kind 1, swap 1" in table.notes
    assert read(tmp_path).kind is None


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("name", metadata.FILES)
def test_a_file_beside_the_label_file_has_the_kinds(put: Put, tmp_path: Path, name: str) -> None:
    put(name, "split,img_name,family\ntrain,c.jpg,talking\nval,b.jpg,other\ntrain,b.jpg,swap\ntrain,a.jpg,real\n")
    assert kinds(read(tmp_path, kind_column="family")) == {"a.jpg": "", "b.jpg": "swap", "c.jpg": "talking"}


@pytest.mark.usefixtures("listed")
def test_a_column_that_no_file_has_is_refused(put: Put, tmp_path: Path) -> None:
    put("families.csv", "img_name,family\n")
    with pytest.raises(DataError) as caught:
        read(tmp_path, kind_column="kind")
    assert str(caught.value) == (
        "no column kind with the kinds of fakes: looked in trainset_label.txt, families.csv\n"
        "next: correct data.kind_column in config.toml, or remove it"
    )


@pytest.mark.usefixtures("listed")
def test_bad_kinds_are_listed_with_the_other_bad_rows(put: Put, tmp_path: Path) -> None:
    put("families.csv", "img_name,kind\nb.jpg,x\nb.jpg,y\nc.jpg,=1+cmd|'x'!A\na.jpg\n")
    with pytest.raises(DataError) as caught:
        read(tmp_path, kind_column="kind")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "families.csv line 5", "families.csv line 3", "families.csv line 4"
    ]  # fmt: skip


def test_an_id_is_no_kind(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "MAX_KINDS", 3)
    for number in range(5):
        put(f"trainset/{number}.jpg")
    rows = "".join(f"{number}.jpg,{int(number > 0)},id {number}\n" for number in range(5))
    put("trainset_label.txt", f"img_name,target,id\n{rows}")
    with pytest.raises(DataError) as caught:
        read(tmp_path, kind_column="id")
    assert caught.value.what.endswith("trainset_label.txt has 5 values for the fakes: these are no kinds")


@pytest.mark.parametrize(
    ("fakes", "expected"),
    [
        (["fake/swap/b.jpg", "fake/deep/x/c.jpg", "fake/d.jpg"], ["swap", "deep", ""]),
        (["swap/fake/b.jpg", "deep/fake/x/c.jpg"], ["swap", "deep"]),
    ],
)
def test_folders_beside_a_class_folder_are_kinds(
    put: Put, tmp_path: Path, fakes: list[str], expected: list[str]
) -> None:
    for name in ("real/one/a.jpg", *fakes):
        put(f"train/{name}")
    found = kinds(read(tmp_path))
    assert found == {"real/one/a.jpg": "", **dict(zip(fakes, expected, strict=True))}


def test_plain_class_folders_and_folders_of_persons_give_no_kinds(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("train/real/a.jpg")
    put("train/fake/b.jpg")
    assert read(tmp_path).kind is None
    monkeypatch.setattr(folders, "MAX_KINDS", 2)
    for number in range(3):
        put(f"train/fake/{number}/b.jpg")
    assert read(tmp_path).kind is None


@pytest.mark.usefixtures("listed")
def test_a_column_has_the_real_image_of_each_fake(put: Put, tmp_path: Path) -> None:
    put("attributes.csv", "img_name,made_of\nb.jpg,trainset/a.jpg\nc.jpg,\na.jpg,nonsense\n")
    table = read(tmp_path, pair_column="made_of")
    assert table.pair is not None
    assert table.pair.tolist() == ["", "a.jpg", ""]
    assert table.rows(table.pair).tolist() == [-1, 0, -1]


@pytest.mark.usefixtures("listed")
def test_pairs_with_anything_but_a_real_training_image_are_refused(put: Put, tmp_path: Path) -> None:
    put("attributes.csv", "img_name,made_of\nb.jpg,c.jpg\nc.jpg,z.jpg\n")
    with pytest.raises(DataError) as caught:
        read(tmp_path, pair_column="made_of")
    assert caught.value.problems == (
        "attributes.csv: c.jpg, from which b.jpg was made, is a fake",
        "attributes.csv: z.jpg, from which c.jpg was made, is no training image",
    )
    with pytest.raises(DataError, match="no column from with the real images of fakes"):
        read(tmp_path, pair_column="from")
