from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ffdi.core.errors import DataError
from ffdi.data.labels import folders
from ffdi.data.labels.image_names import IMAGE_ENDINGS

Put = Callable[..., Path]


def listed(folder: Path, *, all_images: bool = False) -> tuple[list[str], str]:
    found = folders.list_images(folder, all_images=all_images)
    return found.images, found.describe_passed_over()


def encode(ending: str) -> bytes:
    return cv2.imencode(ending, np.full((9, 7, 3), 90, np.uint8))[1].tobytes()


@pytest.mark.parametrize("ending", sorted(IMAGE_ENDINGS))
def test_an_image_ending_is_read_in_any_case(put: Put, tmp_path: Path, ending: str) -> None:
    put(f"a{ending}")
    put(f"sub/b{ending.upper()}")
    assert listed(tmp_path) == ([f"a{ending}", f"sub/b{ending.upper()}"], "")


@pytest.mark.parametrize("name", ["abc", "abc.1", "a.image", "a.txt"])
@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
def test_a_file_with_another_ending_is_read_if_it_starts_like_an_image(
    put: Put, tmp_path: Path, name: str, ending: str
) -> None:
    put(name, encode(ending))
    assert listed(tmp_path) == ([name], "")


def test_files_that_are_no_images_are_counted_by_kind(put: Put, tmp_path: Path) -> None:
    for name in ("a.jpg", "x/1.heic", "x/2.heic", "x/notes.txt", "b.gif", "LICENSE", "._a.jpg", "x/Thumbs.db"):
        put(name, "BM and so on")
    put("__MACOSX/deep/._a.jpg")
    put("x/.ipynb_checkpoints/a-checkpoint.jpg")
    assert listed(tmp_path) == (
        ["a.jpg"],
        "9 files in 2 folders are not read: 1 .gif, 2 .heic, 1 .txt, 4 system files, 1 without an ending",
    )


def test_all_images_are_listed_where_all_are_to_be_scored(put: Put, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.HEIC", "c.gif", "notes.txt"):
        put(name)
    (tmp_path / "d.png").symlink_to("gone.png")
    (tmp_path / "e.doc").symlink_to("gone.doc")
    assert listed(tmp_path, all_images=True) == (
        ["a.jpg", "b.HEIC", "c.gif", "d.png"],
        "2 files in 1 folder are not read: 1 .txt, 1 broken link",
    )


def test_linked_folders_and_files_are_read(put: Put, tmp_path: Path) -> None:
    put("pool/x/1.jpg")
    put("pool/2.jpg")
    put("train/3.jpg")
    (tmp_path / "train" / "more").symlink_to(tmp_path / "pool", target_is_directory=True)
    (tmp_path / "train" / "4.jpg").symlink_to(tmp_path / "pool" / "2.jpg")
    assert listed(tmp_path / "train") == (["3.jpg", "4.jpg", "more/2.jpg", "more/x/1.jpg"], "")


def test_a_folder_is_read_once_and_under_its_own_name(put: Put, tmp_path: Path) -> None:
    put("z/1.jpg")
    for link in ("a", "b"):
        (tmp_path / link).symlink_to("z", target_is_directory=True)
    assert listed(tmp_path) == (["z/1.jpg"], "2 files in 1 folder are not read: 2 repeated folders")


def test_of_two_links_to_a_folder_the_first_is_read(put: Put, tmp_path: Path) -> None:
    put("pool/1.jpg")
    put("train/real/.keep")
    for link in ("b", "a", "real/c"):
        (tmp_path / "train" / link).symlink_to(tmp_path / "pool", target_is_directory=True)
    assert listed(tmp_path / "train")[0] == ["a/1.jpg"]


def test_links_in_a_circle_end(put: Put, tmp_path: Path) -> None:
    put("valset/v.jpg")
    put("trainset/x/1.jpg")
    train = tmp_path / "trainset"
    for name, target in (("up", ".."), ("x/back", "../x"), ("root", "/"), ("self", "self"), ("l.jpg", "l.jpg")):
        (train / name).symlink_to(target)
    assert listed(train) == (
        ["x/1.jpg"],
        "5 files in 2 folders are not read: 2 broken links, 3 repeated folders",
    )


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert listed(tmp_path) == ([], "1 file in 1 folder is not read: 1 special file")


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        folders.list_images(tmp_path / "gone")
    assert str(caught.value) == (
        f"the folder {tmp_path / 'gone'} cannot be read: No such file or directory\n"
        "next: correct its permissions, or move it"
    )


def test_the_folders_in_it_are_named(put: Put, tmp_path: Path) -> None:
    for name in ("real/1.jpg", "fake/deep/1.jpg", "__MACOSX/1.jpg"):
        put(name)
    assert folders.list_images(tmp_path).subfolders == ["fake", "real"]
