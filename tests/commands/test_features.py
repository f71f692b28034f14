"""Linear probes on cached features, as a person types it."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from ffdi.data.loading.loader import DataLoader
from ffdi.models import detector
from tests.conftest import TINY, Invoke, skip_export_trial

WORDS = ("--experiment", "tiny", "--data")
Snapshot = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def probe(workspace: Path) -> Path:
    """The config.toml of an experiment that trains the head of a frozen network on two views of each image."""
    torch.manual_seed(1)
    network = timm.create_model("test_resnet", num_classes=0)
    safetensors.torch.save_file(network.state_dict(), workspace / "start.safetensors")
    path = workspace / "experiments" / "tiny" / "config.toml"
    path.write_text(
        TINY.replace("pretrained = false", 'weights_file = "start.safetensors"\ntune = "head"')
        .replace('recipe = "flips"', 'recipe = "light"\nviews = 2')
        .replace('tta = "none"', 'tta = "hflip"')
        .replace("epochs = 3", "epochs = 2")
    )
    skip_export_trial(workspace, "tiny")
    return path


def change(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def features(out: str) -> list[str]:
    """The lines about features."""
    return [line for line in out.splitlines() if line.startswith("features: ")]


def read_scores(path: Path, column: str) -> dict[str, float]:
    with path.open() as file:
        return {row["img_name"]: float(row[column]) for row in csv.DictReader(file)}


def test_a_probe_is_trained_exported_and_scored(probe: Path, competition: Path, invoke: Invoke) -> None:
    answer = invoke("train-folds", *WORDS, str(competition))
    assert answer.code == 0, answer.err
    (folder,) = (probe.parents[2] / "data" / "features").iterdir()
    assert features(answer.out) == [
        "features: test_resnet computes them once for all folds",
        f"features: 2 training views of 64 images in {folder}",
    ]
    for words in (("export-onnx",), ("predict-onnx", "--split", "val", "--device", "cpu")):
        answer = invoke(*words, *WORDS, str(competition))
        assert answer.code == 0, answer.err
    assert invoke("verify").code == 0
    found = read_scores(probe.parents[2] / "exports" / "tiny" / "onnx_scores.csv", "y_pred")
    assert len(found) == 32
    folds = [read_scores(probe.parent / f"fold_{fold}" / "val.csv", "logit") for fold in (0, 1)]
    for name, score in found.items():
        expected = np.mean([1 / (1 + np.exp(-one[name])) for one in folds])
        assert score == pytest.approx(expected, abs=1e-5)


def test_features_are_computed_once_and_again_where_they_are_damaged(
    probe: Path, competition: Path, invoke: Invoke, snapshot: Snapshot, tmp_path: Path
) -> None:
    data = shutil.copytree(competition, tmp_path / "data")
    first = invoke("train-folds", *WORDS, str(data))
    assert first.code == 0, first.err
    finished = invoke("train-folds", *WORDS, str(data))
    assert features(finished.out) == []  # nothing is left to train
    (folder,) = (probe.parents[2] / "data" / "features").iterdir()
    before, weights = snapshot(folder), snapshot(probe.parent / "fold_0")["weights.safetensors"]

    def restart() -> int:
        """The new bytes of the store; the result is the same."""
        size = (folder / "pack").stat().st_size
        answer = invoke("train-folds", *WORDS, str(data), "--restart")
        assert answer.code == 0, answer.err
        assert features(answer.out)[-1] == features(first.out)[-1]
        assert snapshot(probe.parent / "fold_0")["weights.safetensors"] == weights
        return (folder / "pack").stat().st_size - size

    assert restart() == 0
    assert snapshot(folder) == before
    pack = bytearray(before["pack"])
    pack[10] ^= 1
    (folder / "pack").write_bytes(pack)
    views = 2 * 64 + 2 * (64 + 32)  # two of each training image; two of each image to score
    assert restart() == len(pack) * 64 // views
    assert restart() == 0

    image = next((data / "trainset").iterdir())
    image.write_bytes(image.read_bytes() + b"\0")
    answer = invoke("train-folds", *WORDS, str(data), "--restart")
    assert answer.code == 0, answer.err
    assert features(answer.out)[0] == "features: test_resnet computes them once for all folds"


def test_folds_in_other_processes_give_the_same_files(
    probe: Path, competition: Path, invoke: Invoke, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("train-folds", *WORDS, str(competition)).code == 0
    names = ("weights.safetensors", "oof.csv", "val.csv")
    expected = [snapshot(probe.parent / f"fold_{fold}") for fold in (0, 1)]
    monkeypatch.setattr(DataLoader, "__iter__", None)  # no image is read again
    assert invoke("train-folds", *WORDS, str(competition), "--restart", "--jobs", "2").code == 0
    found = [snapshot(probe.parent / f"fold_{fold}") for fold in (0, 1)]
    assert [[one[name] for name in names] for one in found] == [[one[name] for name in names] for one in expected]


def test_settings_of_the_head_share_features(
    probe: Path, competition: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a sweep, and in a group, whose frozen weights are one file."""
    built, build = list[object](), detector.build_detector

    def count(*words: Any, **more: Any) -> detector.Detector:
        built.append(words)
        return build(*words, **more)

    monkeypatch.setattr(detector, "build_detector", count)
    answer = invoke("sweep", *WORDS, str(competition), "--set", "train.lr=1e-3,1e-2")
    assert answer.code == 0, answer.err
    assert len(features(answer.out)) == 2
    group = probe.parents[1] / "group" / "config.toml"
    group.parent.mkdir()
    group.write_text('[group]\nmembers = ["tiny"]\n[group.grid]\n"train.weight_decay" = [0.0, 0.1]\n')
    built.clear()
    answer = invoke("train-folds", "--experiment", "group", "--data", str(competition))
    assert answer.code == 0, answer.err
    (folder,) = (probe.parents[2] / "data" / "features").iterdir()
    assert features(answer.out) == [f"features: 2 training views of 64 images in {folder}"]
    frozen = [probe.parents[1] / f"tiny-weight_decay_{decay}" / "frozen.safetensors" for decay in ("0.0", "0.1")]
    assert frozen[0].samefile(frozen[1])
    assert len(built) < 4  # for eight heads of two experiments


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("views = 2", "views = 2\nmixup = 0.2", "augment.mixup and augment.cutmix mix images"),
        ("[train]", "[train]\nconsistency = 0.5", "train.consistency compares two views of an image"),
        (
            "[train]",
            '[pseudo_fakes]\nfraction = 0.2\nmethods = ["face_swap"]\n[train]',
            "of all pseudo-fakes, those of self_blend alone are the same in all folds",
        ),
    ],
    ids=["mixup", "consistency", "pseudo-fakes"],
)
def test_a_training_that_needs_images_says_so_and_has_views(
    old: str, new: str, reason: str, probe: Path, competition: Path, invoke: Invoke
) -> None:
    change(probe, old, new)
    change(probe, "epochs = 2", "epochs = 1")
    answer = invoke("train-folds", *WORDS, str(competition), "--folds", "0")
    assert answer.code == 0, answer.err
    assert features(answer.out) == [f"features: not cached: {reason}; each epoch runs the whole network"]
    assert not (probe.parents[2] / "data" / "features").exists()


@pytest.mark.usefixtures("probe")
def test_a_network_of_another_form_is_trained_on_images(
    competition: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ffdi.models.head.separate_head", lambda *_: None)
    answer = invoke("train-folds", *WORDS, str(competition), "--folds", "0")
    assert answer.code == 0, answer.err
    assert features(answer.out) == [
        "features: not cached: test_resnet does more than to apply its classifier to one vector for each image; each "
        "epoch runs the whole network"
    ]


def test_a_budget_measures_no_features(probe: Path, competition: Path, invoke: Invoke) -> None:
    answer = invoke("train-folds", *WORDS, str(competition), "--budget", "10m")
    assert (answer.code, answer.err) == (
        1,
        "error: --budget measures steps on images, and tiny trains on cached features, in seconds\n"
        f"next: omit --budget, or set augment.views = 0 in {probe}\n",
    )


@pytest.mark.usefixtures("probe")
def test_an_augmentation_that_repeats_itself_is_refused(
    competition: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ffdi.data.loading.augment.Augmentation.draw_steps", lambda *_: [])
    answer = invoke("train-folds", *WORDS, str(competition))
    assert answer.code == 1
    assert answer.err.startswith("error: augmentation repeats itself: 16 images are the same in two epochs\n")


def test_a_student_and_its_network_on_all_images_are_trained_on_features(
    probe: Path, competition: Path, invoke: Invoke
) -> None:
    assert invoke("train-folds", *WORDS, str(competition)).code == 0
    assert invoke("distill", "--experiment", "tiny", "--student", "small").code == 0
    student = probe.parents[1] / "small"
    answer = invoke("train-folds", "--experiment", "small", "--data", str(competition))
    assert answer.code == 0, answer.err
    hard, soft = (
        safetensors.torch.load_file(folder / "fold_0" / "weights.safetensors") for folder in (probe.parent, student)
    )
    assert any(not torch.equal(hard[name], soft[name]) for name in hard)
    answer = invoke("ensemble-submit", "--experiment", "small", "--split", "val")
    assert answer.code == 0, answer.err
    submitted = read_scores(probe.parents[2] / "exports" / "small" / "submission.csv", "y_pred")
    assert submitted == pytest.approx(read_scores(student / "refit" / "val.csv", "y_pred"), abs=1e-5)

    labels = ("--images", "test", "--rules", "--name", "new", "--confidence", "0.5")
    assert invoke("pseudo-label", "--experiment", "tiny", *labels).code == 0
    change(student / "config.toml", "[distill]", '[pseudo_labels]\nname = "new"\n[distill]')
    answer = invoke("train-folds", "--experiment", "small", "--data", str(competition), "--restart")
    assert answer.code == 1
    assert "images without labels do not have" in answer.err
