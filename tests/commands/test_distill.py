"""Students: `distill` makes them, and train-folds trains them on the out-of-fold scores of their teachers."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from ffdi.config import schema
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels import layout
from ffdi.models import detector
from tests.conftest import TINY, Invoke

TRAIN = ("train-folds", "--data")


@pytest.fixture
def teachers(copy: Path, competition: Path, invoke: Invoke) -> Path:
    """A workspace with two trained experiments, 'tiny' and 'other'."""
    folder = copy / "experiments" / "other"
    folder.mkdir()
    (folder / "config.toml").write_text(TINY.replace("seed = 3", "seed = 4").replace("k = 2", "k = 2\nseed = 3"))
    answer = invoke(*TRAIN, str(competition), "--experiment", "other")
    assert answer.code == 0, answer.err
    return copy


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def read_csv(path: Path) -> dict[str, dict[str, str]]:
    return {row["img_name"]: row for row in read_rows(path)}


def test_a_student_learns_from_out_of_fold_scores(teachers: Path, competition: Path, invoke: Invoke) -> None:
    words = ("--experiment", "tiny", "--experiment", "other", "--student", "small")
    answer = invoke("distill", *words, "--set", "distill.temperature=2.0", "--set", "train.lr=1e-3")
    assert answer.code == 0, answer.err
    assert "all, by mean" in answer.out
    assert answer.out.endswith("next: invoke train-folds --experiment small\n")
    student = teachers / "experiments" / "small"
    config = tomllib.loads((student / "config.toml").read_text())
    assert config["distill"] == {"teachers": ["tiny", "other"], "temperature": 2.0}
    assert config["folds"] == {"k": 2, "seed": 3, "refit": True, "scheme": "stratified", "split_groups": False}
    scores = [read_csv(teachers / "experiments" / name / "oof.csv") for name in ("tiny", "other")]
    written = read_csv(student / "teachers.csv")
    assert set(written) == set(scores[0])
    for name, row in written.items():
        mean = np.mean([float(one[name]["y_pred"]) for one in scores])
        assert 1 / (1 + np.exp(-float(row["logit"]))) == pytest.approx(mean, abs=1e-6)

    answer = invoke(*TRAIN, str(competition), "--experiment", "small")
    assert answer.code == 0, answer.err
    assert (student / "folds.csv").read_bytes() == (teachers / "experiments" / "tiny" / "folds.csv").read_bytes()
    assert len(json.loads((student / "resolved.json").read_text())["config"]["distill"]["sha256"]) == 64
    weights = (student / "fold_0" / "weights.safetensors").read_bytes()
    for command in ("ensemble-submit", "export-onnx", "report"):
        answer = invoke(command, "--experiment", "small")
        assert answer.code == 0, answer.err
    page = (teachers / "exports" / "small" / "report.html").read_text()
    table = page.partition("Teachers, pseudo-labels and students")[2].partition("</table>")[0]
    assert re.findall(r'<th scope="row">([^<]+)', table) == [
        "tiny",
        "other",
        "tiny + other",
        "small",
    ]
    known, targets = (np.array([row[key] for row in written.values()], float) for key in ("logit", "target"))
    assert f"{roc_auc_score(targets, known):.4f}" in table
    assert "teachers tiny + other" in table
    answer = invoke("leaderboard")
    assert answer.code == 0, answer.err
    board = {row["experiment"]: row for row in read_rows(teachers / "experiments" / "leaderboard.csv")}
    assert {name: row["learns_from"] for name, row in board.items()}["small"] == "teachers tiny + other"

    shutil.rmtree(student / "fold_0")
    assert invoke(*TRAIN, str(competition), "--experiment", "small", "--jobs", "2").code == 0
    assert (student / "fold_0" / "weights.safetensors").read_bytes() == weights
    hard = teachers / "experiments" / "hard"
    hard.mkdir()
    without = (student / "config.toml").read_text().replace('teachers = ["tiny", "other"]', "teachers = []")
    (hard / "config.toml").write_text(without)
    assert invoke(*TRAIN, str(competition), "--experiment", "hard", "--folds", "0").code == 0
    assert (hard / "fold_0" / "weights.safetensors").read_bytes() != weights  # the teachers make a difference


def test_scores_that_changed_are_refused(teachers: Path, competition: Path, invoke: Invoke) -> None:
    assert invoke("distill", "--experiment", "tiny", "--student", "small").code == 0
    student = teachers / "experiments" / "small"
    content = (student / "teachers.csv").read_text()
    for wrong, message in (
        (content.replace("target", "label"), "line 1: the header is not img_name,target,logit"),
        (content.rpartition(",")[0] + ",nan\n", "line 65: not an image, its label and a logit"),
        (content.rpartition("\n")[0].rpartition("\n")[0] + "\n", "has other scores than the teachers, tiny, have now"),
    ):
        (student / "teachers.csv").write_text(wrong)
        if "other scores" not in message:
            shutil.move(teachers / "experiments" / "tiny", teachers / "tiny")  # else the scores are compared first
        answer = invoke(*TRAIN, str(competition), "--experiment", "small")
        assert answer.code == 1
        assert message in answer.err
        assert f"rm {student / 'teachers.csv'}" in answer.err
        if "other scores" not in message:
            shutil.move(teachers / "tiny", teachers / "experiments" / "tiny")
    (student / "teachers.csv").unlink()
    answer = invoke(*TRAIN, str(competition), "--experiment", "small", "--folds", "0")
    assert answer.code == 0, answer.err
    assert (student / "teachers.csv").read_text() == content
    (student / "config.toml").write_text((student / "config.toml").read_text() + "weight = 0.9\n")
    answer = invoke(*TRAIN, str(competition), "--experiment", "small")
    assert answer.code == 1
    assert "distill.weight: 0.5 -> 0.9" in answer.err


def test_the_file_is_enough_where_there_are_no_teachers(teachers: Path, competition: Path, invoke: Invoke) -> None:
    assert invoke("distill", "--experiment", "tiny", "--student", "small").code == 0
    shutil.rmtree(teachers / "experiments" / "tiny")
    answer = invoke(*TRAIN, str(competition), "--experiment", "small", "--folds", "0")
    assert answer.code == 0, answer.err
    (teachers / "experiments" / "small" / "teachers.csv").unlink()
    answer = invoke(*TRAIN, str(competition), "--experiment", "small", "--folds", "1")
    assert answer.code == 1
    assert "no experiment 'tiny'" in answer.err


def test_images_that_the_teachers_do_not_know_are_refused(
    teachers: Path, competition: Path, tmp_path: Path, invoke: Invoke
) -> None:
    assert invoke("distill", "--experiment", "tiny", "--student", "small").code == 0
    data = Path(shutil.copytree(competition, tmp_path / "data"))
    labels = data / "trainset_label.txt"
    header, first, second, *others = labels.read_text().splitlines()
    name, label = first.split(",")
    (data / "trainset" / name).rename(data / "trainset" / "new.jpg")
    flipped = f"{second.split(',')[0]},{1 - int(second.split(',')[1])}"
    labels.write_text("\n".join([header, f"new.jpg,{label}", flipped, *others]) + "\n")
    answer = invoke(*TRAIN, str(data), "--experiment", "small", "--accept", "shortcuts")
    assert answer.code == 1
    assert "2 training images without a score of the teachers, or with another label" in answer.err
    assert "new.jpg: the teachers have not scored it" in answer.err
    assert "for the teachers" in answer.err
    assert not (teachers / "experiments" / "small" / "resolved.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--student is missing"),
        (["--student", "tiny"], "the experiment tiny exists"),
        (["--student", "a/b"], "--student 'a/b' is no folder name"),
        (["--student", "new", "--experiment", "new"], "no experiment 'new'"),
        (["--student", "new", "--experiment", "quickstart"], "quickstart has not been trained"),
        (["--student", "new", "--set", "train.lr=1,2"], "--set train.lr has 2 values"),
        (["--student", "new", "--set", "train.rate=1"], "train.rate"),
        (["--student", "new", "--set", "augment.recipe=none of these"], "augment.recipe"),
        (["--student", "new", "--like", "nothing"], "no experiment 'nothing'"),
    ],
)
def test_wrong_flags_write_nothing(words: list[str], message: str, copy: Path, invoke: Invoke) -> None:
    given = words if "--experiment" in words else [*words, "--experiment", "tiny"]
    answer = invoke("distill", *given)
    assert answer.code == 1
    assert message in answer.err
    assert not (copy / "experiments" / "new").exists()


def test_a_student_takes_the_place_of_its_teachers(
    teachers: Path, competition: Path, invoke: Invoke, snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    pair = ("--experiment", "tiny", "--experiment", "other")
    assert invoke("export-onnx", *pair).code == 0
    place = teachers / "exports" / "tiny+other"
    assert invoke("distill", *pair, "--student", "small", "--set", "train.epochs=1", "--set", "train.lr=1e-9").code == 0
    assert invoke(*TRAIN, str(competition), "--experiment", "small").code == 0
    before = snapshot(place)
    answer = invoke("export-onnx", "--experiment", "small", "--name", "tiny+other")
    assert answer.code == 1
    assert "the student is not as good as its teachers on 32 val images" in answer.err
    assert snapshot(place) == before

    student = teachers / "experiments" / "small" / "config.toml"
    student.write_text(student.read_text().replace("epochs = 1", "epochs = 3").replace("lr = 1e-09", "lr = 3e-3"))
    assert invoke(*TRAIN, str(competition), "--experiment", "small", "--restart").code == 0
    answer = invoke("export-onnx", "--experiment", "small", "--name", "tiny+other")
    assert answer.code == 0, answer.err
    assert (
        "in place of tiny + other: on 32 val images AUC 1.0000 -> 1.0000, TPR at FPR 1e-3 1.000 -> 1.000" in answer.out
    )
    assert " times as many" in answer.out
    replaces = json.loads((place / "bundle.json").read_text())["replaces"]
    assert replaces["names"] == ["tiny", "other"]
    assert min(replaces["images_per_second"].values()) > 0
    assert invoke("predict-onnx", *pair, "--device", "cpu").code == 0

    answer = invoke("export-onnx", "--experiment", "small", "--name", "tiny+other")
    assert answer.code == 0, answer.err
    assert "in place of tiny + other" in answer.out  # it is compared again, without their graph
    assert invoke("export-onnx", "--experiment", "small").code == 0


def test_a_student_matches_the_features_of_its_teacher(teachers: Path, competition: Path, invoke: Invoke) -> None:
    keys = ("seed=9", "train.epochs=6", "distill.weight=0.001")
    words = ("--experiment", "other", "--experiment", "tiny", *(word for key in keys for word in ("--set", key)))
    assert invoke("distill", *words, "--student", "without").code == 0
    answer = invoke("distill", *words, "--student", "with", "--set", "distill.features=2.0")
    assert answer.code == 0, answer.err
    answer = invoke("kaggle-bundle", "--experiment", "with")
    assert answer.code == 1
    assert "teacher_features.safetensors does not exist, and the teachers do not travel" in answer.err
    for name in ("without", "with"):
        answer = invoke(*TRAIN, str(competition), "--experiment", name)
        assert answer.code == 0, answer.err
    student, plain, teacher = (teachers / "experiments" / name for name in ("with", "without", "other"))
    path = student / "teacher_features.safetensors"
    assert f"written: {path}" in answer.out
    assert len(json.loads((student / "resolved.json").read_text())["config"]["distill"]["features_sha256"]) == 64

    # each row is of the network that holds the image out
    settings = schema.load_experiment(teacher / "config.toml")
    fold_of = {name: int(row["fold"]) for name, row in read_csv(teacher / "folds.csv").items()}
    rows = list(read_csv(student / "images.csv"))
    table = layout.find_dataset(competition, settings.data).split("train")
    chosen = [rows.index(name) for name in rows if fold_of[name] == 1]
    pixels = np.stack([ResizePolicy.from_config(settings.model).load(table.folder / rows[row]) for row in chosen])
    network = detector.load_detector(settings.model, teacher / "fold_1" / "weights.safetensors")
    with torch.inference_mode():
        features = network(torch.from_numpy(pixels), features=True)[1].numpy()
    written = load_file(path)["features"][chosen]
    assert np.allclose(written, features, rtol=2e-3, atol=2e-3)

    def measure_distance(experiment: Path) -> float:
        """The mean of 1 - cosine of both networks' features, of images that the student has not seen."""
        own = detector.load_detector(settings.model, experiment / "fold_1" / "weights.safetensors")
        with torch.inference_mode():
            found = own(torch.from_numpy(pixels), features=True)[1]
        return float(1 - torch.cosine_similarity(found, torch.from_numpy(features), dim=1).mean())

    assert measure_distance(student) < measure_distance(plain)

    weights = (student / "fold_0" / "weights.safetensors").read_bytes()
    shutil.rmtree(student / "fold_0")
    assert invoke(*TRAIN, str(competition), "--experiment", "with", "--jobs", "2").code == 0
    assert (student / "fold_0" / "weights.safetensors").read_bytes() == weights
    answer = invoke("kaggle-bundle", "--experiment", "with")
    assert answer.code == 0, answer.err
    (copied,) = (teachers / "exports").rglob(path.name)
    assert copied.read_bytes() == path.read_bytes()
    path.write_bytes(path.read_bytes()[:100])
    answer = invoke(*TRAIN, str(competition), "--experiment", "with")
    assert answer.code == 1
    assert f"{path} is damaged" in answer.err
    assert f"rm {path}" in answer.err


def test_features_of_another_backbone_are_not_matched(teachers: Path, invoke: Invoke) -> None:
    words = ("--experiment", "tiny", "--student", "small", "--set", "distill.features=1.0")
    answer = invoke("distill", *words, "--set", "model.backbone=mobilenetv3_small_050")
    assert answer.code == 1
    assert "needs a teacher with the student's backbone, mobilenetv3_small_050" in answer.err
    answer = invoke("distill", *words, "--set", "augment.mixup=0.2")
    assert answer.code == 1
    assert "distill.features = 1.0 needs whole images" in answer.err
    assert not (teachers / "experiments" / "small").exists()


def test_a_bundle_has_the_scores_of_the_teachers(teachers: Path, invoke: Invoke) -> None:
    assert invoke("distill", "--experiment", "tiny", "--student", "small").code == 0
    scores = (teachers / "experiments" / "small" / "teachers.csv").read_bytes()
    (teachers / "experiments" / "small" / "teachers.csv").unlink()
    answer = invoke("kaggle-bundle", "--experiment", "small")
    assert answer.code == 0, answer.err
    (copied,) = (teachers / "exports").rglob("teachers.csv")
    assert copied.read_bytes() == scores
