from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ffdi.config.schema import DataConfig
from ffdi.core.errors import DataError
from ffdi.data.labels import folders, layout

Put = Callable[..., Path]
LABELLED = "img_name,target\na.jpg,0\nb.jpg,1\n"
MEND = "next: mend these rows and run the same command again; nothing was written"


@pytest.fixture
def images(put: Put) -> Callable[..., None]:
    """images(folder) puts a.jpg and b.jpg there."""

    def write(*folders: str) -> None:
        for folder in folders:
            put(f"{folder}/a.jpg")
            put(f"{folder}/b.jpg")

    return write


def test_unlisted_images_of_folders_that_splits_share(images: Callable[..., None], put: Put, tmp_path: Path) -> None:
    images("faces", "faces/deep")
    put("faces/train.csv", b"img_name,target\na.jpg,0\ndeep/a.jpg,1\n")
    put("faces/val.csv", b"img_name,target\ndeep/b.jpg,1\n")
    config = {"train": {"labels": "faces/train.csv"}, "val": {"labels": "faces/val.csv"}}
    found = layout.find_dataset(tmp_path, DataConfig.model_validate(config))
    assert folders.describe_unlisted(found.splits.values()) == [
        "1 of 4 images in faces/ are not in train.csv or val.csv, and are not used: b.jpg"
    ]


def test_a_subfolder_that_cannot_be_read_stops_no_training(
    images: Callable[..., None], put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    images("train")
    (put("train_label.csv", LABELLED.encode()).parent / "train" / "lost+found").mkdir()
    scan = folders._scan

    def refuse(place: Path) -> list[os.DirEntry[str]]:
        if place.name == "lost+found":
            raise DataError(f"the folder {place} cannot be read: Permission denied")
        return scan(place)

    monkeypatch.setattr(folders, "_scan", refuse)
    found = layout.find_dataset(put("readme.md").parent, DataConfig())
    (line,) = folders.describe_unlisted(found.splits.values())
    assert line.startswith("images outside of train_label.csv are not counted: the folder ")
    assert line.endswith("/train/lost+found cannot be read: Permission denied")


def refusal(root: Path, **config: object) -> str:
    with pytest.raises(DataError) as caught:
        layout.find_dataset(root, DataConfig.model_validate(config))
    return str(caught.value)


# --- layouts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "phase1/"])
@pytest.mark.parametrize("stem", ["trainset_label", "train_label", "trainset", "train"])
@pytest.mark.parametrize("ending", [".txt", ".csv", ".txt.csv"])
def test_training_labels_are_found_under_every_name(
    put: Put, images: Callable[..., None], tmp_path: Path, place: str, stem: str, ending: str
) -> None:
    images(f"{place}trainset")
    labels = put(f"{place}{stem}{ending}", LABELLED)
    train = layout.find_dataset(tmp_path, DataConfig()).split("train")
    assert train.source == labels
    assert train.folder == tmp_path / place / "trainset"
    assert train.target is not None
    assert dict(zip(train.img_name.tolist(), train.target.tolist(), strict=True)) == {"a.jpg": 0, "b.jpg": 1}


@pytest.mark.parametrize("folder", ["valset", "val", "valid", "validation"])
@pytest.mark.parametrize("stem", ["valset_label", "val_label"])
def test_validation_labels_are_found(
    put: Put, images: Callable[..., None], tmp_path: Path, folder: str, stem: str
) -> None:
    images(folder)
    put(f"{stem}.txt", LABELLED)
    val = layout.find_dataset(tmp_path, DataConfig()).split("val")
    assert (val.folder, val.img_name.tolist()) == (tmp_path / folder, ["a.jpg", "b.jpg"])


@pytest.mark.parametrize("root", [".", "phase2"])
@pytest.mark.parametrize("ending", [".txt", ".csv"])
def test_the_second_phase_is_found_from_above_and_from_inside(
    put: Put, images: Callable[..., None], tmp_path: Path, root: str, ending: str
) -> None:
    images("phase2/testset1_seen")
    put(f"phase2/testset1_seen_nolabel{ending}", "img_name\nb.jpg\na.jpg\n")
    template = put("phase2/prediction.txt.csv", "img_name,y_pred\na.jpg,0.5\nb.jpg,0.5\n")
    found = layout.find_dataset(tmp_path / root, DataConfig())
    test = found.split("test")
    assert (test.img_name.tolist(), test.target) == (["b.jpg", "a.jpg"], None)
    assert found.template == template


def test_labels_come_before_a_list_without_labels(put: Put, images: Callable[..., None], tmp_path: Path) -> None:
    images("testset1_seen")
    put("testset1_seen_nolabel.txt", "img_name\na.jpg\n")
    put("testset1_seen_label.txt", LABELLED)
    assert layout.find_dataset(tmp_path, DataConfig()).split("test").target is not None


def test_both_phases_in_one_folder(put: Put, images: Callable[..., None], tmp_path: Path) -> None:
    images("phase1/trainset", "phase1/valset", "phase2/testset1_seen")
    for name in ("phase1/trainset_label.txt", "phase1/valset_label.txt"):
        put(name, LABELLED)
    put("phase2/testset1_seen_nolabel.txt", "img_name\na.jpg\n")
    assert list(layout.find_dataset(tmp_path, DataConfig()).splits) == ["train", "val", "test"]


def test_class_folders_need_no_label_file(put: Put, tmp_path: Path) -> None:
    put("train/real/r.jpg")
    put("train/fake/f.JPEG")
    put("val/1_fake/g.jpg")
    found = layout.find_dataset(tmp_path, DataConfig())
    train, val = found.split("train"), found.split("val")
    assert train.target is not None
    assert val.target is not None
    assert dict(zip(train.img_name.tolist(), train.target.tolist(), strict=True)) == {"real/r.jpg": 0, "fake/f.JPEG": 1}
    assert (val.img_name.tolist(), val.target.tolist()) == (["1_fake/g.jpg"], [1])


def test_a_test_folder_alone_is_a_split(images: Callable[..., None], tmp_path: Path) -> None:
    images("test")
    assert layout.find_dataset(tmp_path, DataConfig()).split("test").img_name.tolist() == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("name", ["prediction.txt", "prediction.txt.csv", "prediction.csv"])
def test_the_template_is_found(put: Put, images: Callable[..., None], tmp_path: Path, name: str) -> None:
    images("test")
    template = put(name, "img_name,y_pred\n")
    assert layout.find_dataset(tmp_path, DataConfig()).template == template


def test_config_names_other_files_and_columns(put: Put, images: Callable[..., None], tmp_path: Path) -> None:
    images("faces", "hidden")
    put("meta/list.tsv", "who,file,fake\nann,a.jpg,1\nbob,b.jpg,0\n")
    template = put("sample.csv", "img_name,y_pred\n")
    config = DataConfig.model_validate(
        {
            "image_column": "file",
            "target_column": "fake",
            "group_column": "who",
            "template": "sample.csv",
            "train": {"folder": "faces", "labels": "meta/list.tsv"},
            "test": {"folder": "hidden"},
        }
    )
    found = layout.find_dataset(tmp_path, config)
    train = found.split("train")
    assert train.target is not None
    assert train.group is not None
    assert (train.target.tolist(), train.group.tolist()) == ([1, 0], ["ann", "bob"])
    assert found.split("test").img_name.tolist() == ["a.jpg", "b.jpg"]
    assert found.template == template


# --- groups --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "config"), [("groups.csv", {}), ("who.txt", {"groups_file": "who.txt"})])
def test_a_groups_file_is_joined_by_name(
    put: Put, images: Callable[..., None], tmp_path: Path, name: str, config: dict[str, str]
) -> None:
    images("trainset")
    put("train_label.txt", LABELLED)
    put(name, "group,img_name\ny,b.jpg\nz,other.jpg\nx,a.jpg\n")
    group = layout.find_dataset(tmp_path, DataConfig.model_validate(config)).split("train").group
    assert group is not None
    assert group.tolist() == ["x", "y"]


def test_faults_of_the_groups_file_are_listed(put: Put, images: Callable[..., None], tmp_path: Path) -> None:
    images("trainset")
    put("train_label.txt", LABELLED)
    put("groups.csv", "img_name,group\na.jpg,x\na.jpg,y\na.jpg,x\n")
    assert refusal(tmp_path) == (
        f"bad rows in the label files under {tmp_path}: 2\n"
        "  groups.csv line 3: a.jpg is in group x already\n"
        f"  groups.csv: no group for b.jpg of train_label.txt\n{MEND}"
    )


# --- what is refused -----------------------------------------------------------------------------------------------


def test_a_missing_root_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "nowhere"
    assert refusal(root) == f"the data folder {root} does not exist\nnext: pass --data FOLDER"


@pytest.mark.parametrize(
    ("split", "searched"),
    [
        ("train", "trainset/, train/ with train_label.txt, trainset_label.txt (or .csv)"),
        ("val", "valset/, val/, valid/, validation/ with val_label.txt, valset_label.txt (or .csv)"),
        ("test", "testset*/, test/, testset1_seen/ with test_label.txt, testset_label.txt (or .csv)"),
    ],
)
def test_the_error_of_a_missing_split_has_the_searched_names(tmp_path: Path, split: str, searched: str) -> None:
    with pytest.raises(DataError) as caught:
        layout.Dataset(tmp_path, {}, None, DataConfig()).split(split)
    assert str(caught.value) == (
        f"no {split} images under {tmp_path}: looked for {searched}\n"
        "next: pass --data FOLDER with the folder that holds the label files, "
        f"or name the files with data.{split}.folder and data.{split}.labels in config.toml"
    )


def test_an_empty_root_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"no train images under {tmp_path}: looked for trainset/, train/ with")


def test_bad_rows_of_all_files_come_at_once(put: Put, images: Callable[..., None], tmp_path: Path) -> None:
    images("trainset", "valset", "testset1_seen")
    put("trainset_label.txt", "img_name,target\na.jpg,0\na.jpg,0\nb.jpg,x\n")
    put("valset_label.txt", "img_name,target\n")
    put("testset1_seen_nolabel.txt", "img_name\nc.jpg\n")
    assert refusal(tmp_path) == (
        f"bad rows in the label files under {tmp_path}: 4\n"
        "  trainset_label.txt line 3: a.jpg is on line 2 already\n"
        "  trainset_label.txt line 4: label 'x' of b.jpg "
        "is none of 0, 1, real, fake, false, true: map it with data.labels\n"
        "  valset_label.txt: no image is listed\n"
        f"  testset1_seen_nolabel.txt line 2: c.jpg is not in testset1_seen/\n{MEND}"
    )


def test_two_label_files_are_ambiguous(put: Put, images: Callable[..., None], tmp_path: Path) -> None:
    images("trainset")
    put("train_label.txt", LABELLED)
    put("trainset_label.csv", LABELLED)
    assert refusal(tmp_path) == (
        f"several label files of the train split in {tmp_path}: train_label.txt, trainset_label.csv\n"
        "next: choose one with data.train.labels in config.toml"
    )


def test_two_folders_are_ambiguous(images: Callable[..., None], tmp_path: Path) -> None:
    images("testset1_seen", "testset2_unseen")
    assert refusal(tmp_path) == (
        f"several folders of test images in {tmp_path}: testset1_seen, testset2_unseen\n"
        "next: choose one with data.test.folder in config.toml"
    )


def test_the_label_file_decides_between_two_folders(put: Put, images: Callable[..., None], tmp_path: Path) -> None:
    images("testset1_seen", "testset2_unseen")
    put("testset2_unseen_nolabel.txt", "img_name\na.jpg\n")
    assert layout.find_dataset(tmp_path, DataConfig()).split("test").folder == tmp_path / "testset2_unseen"


def test_labels_without_a_folder_are_refused(put: Put, tmp_path: Path) -> None:
    labels = put("train_label.txt", LABELLED)
    assert refusal(tmp_path) == (
        f"{labels} lists train images, but their folder is missing: looked for trainset/, train/ in {tmp_path}\n"
        "next: name it with data.train.folder in config.toml"
    )


def test_training_images_without_labels_are_refused(images: Callable[..., None], tmp_path: Path) -> None:
    images("trainset")
    assert refusal(tmp_path) == (
        f"{tmp_path / 'trainset'} has images but no labels: looked for trainset/, train/ with train_label.txt, "
        "trainset_label.txt (or .csv) next to it and for class folders real, fake, 0_real, 1_fake in it\n"
        "next: name the label file with data.train.labels in config.toml"
    )


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"train": {"labels": "x"}}, "train.labels"),
        ({"train": {"folder": "x"}}, "train.folder"),
        ({"val": {"labels": "x"}}, "val.labels"),
        ({"template": "x"}, "template"),
        ({"groups_file": "x"}, "groups_file"),
        ({"landmarks_file": "x"}, "landmarks_file"),
    ],
)
def test_a_file_that_config_names_must_exist(
    put: Put, images: Callable[..., None], tmp_path: Path, config: dict[str, object], key: str
) -> None:
    images("trainset")
    put("train_label.txt", LABELLED)
    assert refusal(tmp_path, **config) == (
        f"data.{key} names {tmp_path / 'x'}, which does not exist\n"
        f"next: correct data.{key} in config.toml, or remove it"
    )


def test_a_file_outside_the_data_folder_is_none_of_its_files() -> None:
    """The notebooks of kaggle-bundle search for these names, which must not be absolute."""
    named = layout.list_patterns(DataConfig(landmarks_file="/faces/points.csv", groups_file="lists/groups.csv"))
    assert named[0] == "lists"
    assert not [name for name in named if name.startswith("/")]
