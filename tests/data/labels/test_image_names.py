from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ffdi.data.labels.image_names import FolderImages, ListedImages

Put = Callable[..., Path]
PREFIX = "/kaggle/input/faces"


@pytest.fixture
def trainset(put: Put, tmp_path: Path) -> FolderImages:
    for name in ("a.jpg", "fake/b.PNG", "fake/b.jpg", "c.1.png", "notes.txt", " d.jpg"):
        put(f"trainset/{name}")
    put("secret.jpg")
    return FolderImages(tmp_path / "trainset", PREFIX)


@pytest.mark.parametrize(
    ("field", "image"),
    [
        ("a.jpg", "a.jpg"),
        (" a.jpg ", "a.jpg"),
        (" d.jpg", " d.jpg"),
        ("a", "a.jpg"),
        ("c.1", "c.1.png"),
        ("fake/b.jpg", "fake/b.jpg"),
        ("fake\\b.jpg", "fake/b.jpg"),
        ("trainset/a.jpg", "a.jpg"),
        ("trainset\\fake\\b.PNG", "fake/b.PNG"),
        ("trainset/a", "a.jpg"),
        (f"{PREFIX}/trainset/fake/b.jpg", "fake/b.jpg"),
        (f"{PREFIX}/a.jpg", "a.jpg"),
        ("fake/b", None),
        ("b", None),
        ("A.jpg", None),
        ("", None),
        ("notes", None),
        ("../secret.jpg", None),
        ("trainset/../../secret.jpg", None),
        ("/etc/passwd", None),
        (f"{PREFIX}/../secret.jpg", None),
        ("/kaggle/input/faces2/a.jpg", None),
    ],
)
def test_a_field_names_an_image_in_usual_spellings(trainset: FolderImages, field: str, image: str | None) -> None:
    assert trainset.find(field) == image


@pytest.mark.parametrize("field", ["D:\\faces\\trainset\\fake\\b.jpg", "D:/faces/trainset/fake/b.jpg"])
@pytest.mark.parametrize("prefix", ["D:\\faces", "D:\\faces\\", "D:/faces/", "D:\\faces\\trainset"])
def test_a_windows_path_below_the_prefix_is_found(trainset: FolderImages, field: str, prefix: str) -> None:
    assert FolderImages(trainset.folder, prefix).find(field) == "fake/b.jpg"
    assert FolderImages(trainset.folder).find(field) is None


def test_the_field_itself_comes_before_other_spellings(put: Put, tmp_path: Path) -> None:
    for name in ("a.jpg", "trainset/a.jpg", "b\\c.jpg", "b/c.jpg"):
        put(f"trainset/{name}")
    images = FolderImages(tmp_path / "trainset")
    assert images.find("trainset/a.jpg") == "trainset/a.jpg"
    assert images.find("b\\c.jpg") == "b\\c.jpg"


def test_images_of_a_table_are_found_by_both_names() -> None:
    images = ListedImages(["a.jpg", "b.jpg"], ["set/a", "set/b"], "trainset", "")
    assert [images.find(field) for field in ("set/a", "a.jpg", "b", "trainset/b.jpg", "set/c", "c")] == [
        "a.jpg", "a.jpg", "b.jpg", "b.jpg", None, None,
    ]  # fmt: skip
