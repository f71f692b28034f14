"""The layouts of published data sets, as their descriptions give them, with the keys of docs/data.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ffdi.config.schema import DataConfig
from ffdi.core.errors import DataError
from ffdi.data.labels import layout
from ffdi.data.labels.layout import Dataset
from tests.conftest import PROJECT

Put = Callable[..., Path]
DFDC = {
    "aaa.mp4": {"label": "REAL", "split": "train"},
    "bbb.mp4": {"label": "FAKE", "split": "train", "original": "aaa.mp4"},
    "ccc.mp4": {"label": "FAKE", "split": "train", "original": "ddd.mp4"},
}
ARTIFACT = "filename,image_path,target,category\n{0}\n"

DATASETS: dict[str, tuple[dict[str, object], dict[str, str], dict[str, dict[str, int]]]] = {
    "140k Real and Fake Faces": (
        {},
        {},
        {
            "train": {"train/real/1.jpg": 0, "train/fake/2.jpg": 1},
            "val": {"valid/real/3.jpg": 0, "valid/fake/4.jpg": 1},
            "test": {"test/real/5.jpg": 0, "test/fake/6.jpg": 1},
        },
    ),
    "CIFAKE": (
        {},
        {},
        {
            "train": {"train/REAL/0000 (2).jpg": 0, "train/FAKE/0000 (3).jpg": 1},
            "test": {"test/REAL/0001.jpg": 0, "test/FAKE/0002.jpg": 1},
        },
    ),
    "Celeb-DF": (
        {"train": {"folder": "."}, "labels": {"Celeb-real": 0, "YouTube-real": 0, "Celeb-synthesis": 1}},
        {},
        {
            "train": {
                "Celeb-real/id0_0000/001.png": 0,
                "YouTube-real/00170/001.png": 0,
                "Celeb-synthesis/id0_id1_0000/001.png": 1,
            }
        },
    ),
    "FaceForensics++": (
        {"train": {"folder": "."}, "labels": {"original_sequences": 0, "manipulated_sequences": 1}},
        {},
        {
            "train": {
                "original_sequences/youtube/c23/images/000/0001.png": 0,
                "manipulated_sequences/Deepfakes/c23/images/000_003/0001.png": 1,
                "manipulated_sequences/NeuralTextures/c23/images/000_003/0001.png": 1,
            }
        },
    ),
    "GenImage": (
        {"labels": {"nature": 0, "ai": 1}},
        {},
        {
            "train": {"train/nature/n01440764_18.JPEG": 0, "train/ai/000_sdv4_00001.png": 1},
            "val": {"val/nature/ILSVRC2012_val_00000001.JPEG": 0, "val/ai/000_sdv4_00002.png": 1},
        },
    ),
    "ArtiFact": (
        {"train": {"labels": "metadata.csv"}, "image_column": "image_path", "labels": {"0": 0, "6": 1}},
        {"metadata.csv": ARTIFACT.format("img0.jpg,coco/img0.jpg,0,car\nimg1.jpg,sd/img1.jpg,6,cat")},
        {"train": {"coco/img0.jpg": 0, "sd/img1.jpg": 1}},
    ),
    "DFDC": (
        {"train": {"labels": "metadata.json"}},
        {"metadata.json": json.dumps(DFDC)},
        {"train": {"aaa/0.png": 0, "bbb_10_0.png": 1, "faces/ccc/3.png": 1}},
    ),
}
"""By name: the `[data]` keys, further files, and the images of each split with their labels."""


def read(root: Path, config: dict[str, object]) -> Dataset:
    return layout.find_dataset(root, DataConfig.model_validate(config))


@pytest.mark.parametrize("name", DATASETS)
def test_a_published_layout_is_read_with_three_keys_at_most(name: str, put: Put, tmp_path: Path) -> None:
    config, files, splits = DATASETS[name]
    for path, content in files.items():
        put(path, content)
    for images in splits.values():
        for image in images:
            put(image)
    assert len(config) <= 3
    found = read(tmp_path, config)
    assert set(found.splits) == set(splits)
    for split, images in splits.items():
        table = found.split(split)
        assert table.target is not None
        paths = [table.path(row).relative_to(tmp_path).as_posix() for row in range(len(table))]
        assert dict(zip(paths, table.target.tolist(), strict=True)) == images
    shown = (PROJECT / "docs" / "data.md").read_text()
    assert f"| {name} |" in shown


def test_a_fake_of_dfdc_is_in_the_group_of_its_original(put: Put, tmp_path: Path) -> None:
    config, files, splits = DATASETS["DFDC"]
    for path in (*files, *splits["train"]):
        put(path, files.get(path, ""))
    train = read(tmp_path, config).split("train")
    assert train.group is not None
    groups = dict(zip(train.img_name.tolist(), train.group.tolist(), strict=True))
    assert groups == {"aaa/0.png": "aaa", "bbb_10_0.png": "aaa", "faces/ccc/3.png": "ddd"}


@pytest.mark.parametrize(
    ("content", "images", "error"),
    [
        ("{", ["aaa/0.png"], "metadata.json cannot be read as JSON"),
        ("[1]", ["aaa/0.png"], "has no entry for each video"),
        ('{"aaa.mp4": {"label": "MAYBE"}}', ["aaa/0.png"], "the label 'MAYBE' of aaa.mp4 is none of"),
        ('{"aaa.mp4": {}}', ["aaa/0.png"], "the label '' of aaa.mp4 is missing"),
        (
            '{"aaa.mp4": {"label": "FAKE", "original": 7}}',
            ["aaa/0.png"],
            "the original of aaa.mp4 is no name of a video",
        ),
        (json.dumps(DFDC), ["eee/0.png"], "eee/0.png belongs to no video of metadata.json"),
        (json.dumps(DFDC), ["aaa.mp4"], "metadata.json names videos; cut their faces out first"),
    ],
)
def test_a_metadata_file_that_does_not_fit_is_refused(
    put: Put, tmp_path: Path, content: str, images: list[str], error: str
) -> None:
    put("metadata.json", content)
    for image in images:
        put(image)
    with pytest.raises(DataError) as caught:
        read(tmp_path, {"train": {"labels": "metadata.json"}})
    assert error in str(caught.value)
