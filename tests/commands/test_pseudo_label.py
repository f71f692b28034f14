"""Pseudo-labels: `pseudo-label` makes them fold by fold, and train-folds trains on them."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import PROJECT, TINY, Invoke, draw_face

LABEL = ("pseudo-label", "--experiment", "tiny")
LOOSE = ("--confidence", "0.5")
TRAIN = ("train-folds", "--data")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with twelve new images, half of them fakes."""
    folder = tmp_path / "new"
    folder.mkdir()
    rng = np.random.default_rng(9)
    for number in range(12):
        cv2.imwrite(str(folder / f"{number:02}.png"), draw_face(rng, number % 2 == 1))
    return folder


def read_rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open() as file:
        return {row["img_name"]: row for row in csv.DictReader(file)}


def write_student(
    workspace: Path, name: str = "student", more: str = "", config: str = TINY, labels: str = "round1"
) -> Path:
    folder = workspace / "experiments" / name
    folder.mkdir()
    (folder / "config.toml").write_text(f'{config}\n[pseudo_labels]\nname = "{labels}"\n{more}')
    return folder


def test_each_fold_has_the_scores_of_its_own_network(copy: Path, images: Path, invoke: Invoke) -> None:
    answer = invoke(*LABEL, "--images", str(images), "--name", "round1", *LOOSE)
    assert answer.code == 0, answer.err
    folder = copy / "data" / "pseudo_labels" / "round1"
    rows = read_rows(folder / "labels.csv")
    assert sorted(rows) == [f"{number:02}.png" for number in range(12)]
    record = json.loads((folder / "pseudo_labels.json").read_text())
    assert [one["network"] for one in record["networks"]["fold_1"]] == ["fold 1"]
    assert [one["network"] for one in record["networks"]["all"]] == ["fold 0", "fold 1"]

    y_pred = {
        column: np.array([1 / (1 + np.exp(-float(rows[name][column]))) for name in sorted(rows)])
        for column in ("fold_0", "fold_1", "all")
    }
    assert np.allclose((y_pred["fold_0"] + y_pred["fold_1"]) / 2, y_pred["all"], atol=1e-6)
    assert not np.allclose(y_pred["fold_0"], y_pred["fold_1"])
    answer = invoke("predict-onnx", "--experiment", "tiny", "--images", str(images), "--device", "cpu")
    assert answer.code == 0, answer.err
    scored = read_rows(copy / "exports" / "tiny" / "onnx_scores.csv")
    assert np.allclose([float(scored[name]["y_pred"]) for name in sorted(rows)], y_pred["all"], atol=1e-5)


def test_a_training_on_pseudo_labels_resumes_and_is_named(
    copy: Path, images: Path, competition: Path, invoke: Invoke
) -> None:
    assert invoke(*LABEL, "--images", str(images), "--name", "round1", *LOOSE).code == 0
    student = write_student(copy, config=TINY.replace("k = 2", "k = 2\nrefit = true"))
    words = (*TRAIN, str(competition), "--experiment", "student")
    answer = invoke(*words)
    assert answer.code == 0, answer.err
    assert f"pseudo-labels: round1, 12 images in {images}" in answer.out
    weights = {name: (student / name / "weights.safetensors").read_bytes() for name in ("fold_0", "refit")}
    plain = (copy / "experiments" / "tiny" / "fold_0" / "weights.safetensors").read_bytes()
    assert weights["fold_0"] != plain
    shutil.rmtree(student / "fold_0")
    shutil.rmtree(student / "refit")
    assert invoke(*words, "--jobs", "2").code == 0
    assert weights == {name: (student / name / "weights.safetensors").read_bytes() for name in weights}

    answer = invoke("ensemble-submit", "--experiment", "student")
    assert answer.code == 0, answer.err
    assert "student was trained on the pseudo-labels round1: check that the rules" in answer.out
    members = json.loads((copy / "exports" / "student" / "submission.json").read_text())["members"]
    assert [one["pseudo_labels"] for one in members] == ["round1"]
    assert invoke("verify").code == 0
    answer = invoke("kaggle-bundle", "--experiment", "student")
    assert answer.code == 0, answer.err
    (copied,) = (copy / "exports" / "student").rglob("labels.csv")
    assert copied.read_bytes() == (copy / "data" / "pseudo_labels" / "round1" / "labels.csv").read_bytes()

    # the next round: the student's networks label, those of each fold for that fold
    answer = invoke("pseudo-label", "--experiment", "student", "--images", str(images), "--name", "round2", *LOOSE)
    assert answer.code == 0, answer.err
    record = json.loads((copy / "data" / "pseudo_labels" / "round2" / "pseudo_labels.json").read_text())
    assert [one["network"] for one in record["networks"]["fold_0"]] == ["fold 0"]
    assert [one["network"] for one in record["networks"]["all"]] == ["refit"]
    write_student(copy, "second", labels="round2")
    assert invoke(*TRAIN, str(competition), "--experiment", "second").code == 0
    assert invoke("report", "--experiment", "second").code == 0
    page = (copy / "exports" / "second" / "report.html").read_text()
    table = page.partition("Teachers, pseudo-labels and students")[2].partition("</table>")[0]
    found = re.findall(r'<th role="rowheader" scope="row">([^<]+)</th><td [^>]*>([^<]+)', table)
    assert found == [("tiny", "labels"), ("student", "pseudo-labels round1"), ("second", "pseudo-labels round2")]


def test_copies_of_labelled_images_are_left_out(copy: Path, images: Path, competition: Path, invoke: Invoke) -> None:
    train, val = (next((competition / f"{split}set").iterdir()) for split in ("train", "val"))
    shutil.copy(train, images / "of_train.jpg")
    shutil.copy(val, images / "of_val.jpg")
    (images / "damaged.jpg").write_bytes(train.read_bytes()[:300])
    answer = invoke(*LABEL, "--images", str(images), "--name", "round1", *LOOSE)
    assert answer.code == 0, answer.err
    assert "left out: 2 images: they show the picture of a labelled image" in answer.out
    assert "left out: 1 image: they cannot be used" in answer.out
    rows = read_rows(copy / "data" / "pseudo_labels" / "round1" / "labels.csv")
    assert not {"of_train.jpg", "of_val.jpg", "damaged.jpg"} & set(rows)


def test_the_test_split_needs_the_rules(copy: Path, competition: Path, invoke: Invoke) -> None:
    words = (*LABEL, "--images", "test", "--name", "round1", *LOOSE)
    answer = invoke(*words)
    assert answer.code == 1
    assert "some competitions forbid it to train on their test images" in answer.err
    assert "pass --rules" in answer.err
    answer = invoke(*words, "--rules", "--per-class", "3")
    assert answer.code == 0, answer.err
    record = json.loads((copy / "data" / "pseudo_labels" / "round1" / "pseudo_labels.json").read_text())
    assert record["images"] == {"split": "test"}
    assert max(max(one.values()) for one in record["sets"].values()) == 3
    write_student(copy)
    relative = os.path.relpath(competition, PROJECT)  # where the commands run
    answer = invoke(*TRAIN, relative, "--experiment", "student", "--folds", "0")
    assert answer.code == 0, answer.err


def test_changed_images_and_other_folds_are_refused(
    copy: Path, images: Path, competition: Path, invoke: Invoke
) -> None:
    assert invoke(*LABEL, "--images", str(images), "--name", "round1", *LOOSE).code == 0
    other = write_student(copy, "other", config=TINY.replace("k = 2", "k = 2\nseed = 8"))
    answer = invoke(*TRAIN, str(competition), "--experiment", "other")
    assert answer.code == 1
    assert "the pseudo-labels round1 were made with other folds than those of other" in answer.err
    assert not (other / "folds.csv").exists()
    write_student(copy, "three", config=TINY.replace("k = 2", "k = 3"))
    answer = invoke(*TRAIN, str(competition), "--experiment", "three")
    assert answer.code == 1
    assert "have 2 folds, and folds.k is 3" in answer.err

    write_student(copy)
    shutil.copy(images / "01.png", images / "02.png")
    (images / "03.png").unlink()
    answer = invoke(*TRAIN, str(competition), "--experiment", "student")
    assert answer.code == 1
    assert "2 images with pseudo-labels cannot be used" in answer.err
    assert "02.png has changed since it got its pseudo-label" in answer.err
    images.rename(images.with_name("moved"))
    answer = invoke(*TRAIN, str(competition), "--experiment", "student")
    assert answer.code == 1
    assert f"were in {images}, which does not exist" in answer.err
    labels = copy / "data" / "pseudo_labels" / "round1" / "labels.csv"
    labels.write_text(labels.read_text() + "\n")
    answer = invoke(*TRAIN, str(competition), "--experiment", "student")
    assert answer.code == 1
    assert "labels.csv is damaged" in answer.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--name is missing"),
        (["--name", "a/b"], "--name 'a/b' is no folder name"),
        (["--name", "new"], "--images is missing"),
        (["--name", "new", "--images", "nothing"], "nothing is neither a folder nor a file"),
        (["--name", "new", "--images", ".", "--confidence", "0.2"], "--confidence 0.2: not a number from 0.5 to 1"),
        (["--name", "new", "--images", ".", "--disagreement", "much"], "--disagreement much: not a number"),
        (["--name", "new", "--images", "test", "--rules", "--confidence", "1"], "no image is in any set"),
    ],
)
def test_wrong_flags_write_nothing(words: list[str], message: str, copy: Path, invoke: Invoke) -> None:
    answer = invoke(*LABEL, *words)
    assert answer.code == 1
    assert message in answer.err
    assert not list((copy / "data").rglob("*labels*.*"))


@pytest.mark.parametrize(
    ("section", "line", "message"),
    [
        ("augment", "mixup = 0.4", "augment.mixup"),
        ("pseudo_labels", "fraction = 0.85", "leave no two images with labels in a batch"),
    ],
)
def test_settings_that_contradict_are_refused(
    section: str, line: str, message: str, copy: Path, competition: Path, invoke: Invoke
) -> None:
    text = TINY.replace("[augment]", f"[augment]\n{line}") if section == "augment" else TINY
    write_student(copy, more=line if section == "pseudo_labels" else "", config=text)
    answer = invoke(*TRAIN, str(competition), "--experiment", "student")
    assert answer.code == 1
    assert message in answer.err
