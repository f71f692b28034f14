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
from ffdi.config.schema import Config
from ffdi.core import manifests
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


def read_pixels(settings: Config, competition: Path, names: list[str]) -> np.ndarray:
    """Training images at the network's size, uint8 [N, S, S, 3]."""
    table = layout.find_dataset(competition, settings.data).split("train")
    return np.stack([ResizePolicy.from_config(settings.model).load(table.folder / name) for name in names])


def run(settings: Config, fold: Path, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The logits and the features by the network of a fold."""
    network = detector.load_detector(settings.model, fold / "weights.safetensors")
    with torch.inference_mode():
        logits, features = network(torch.from_numpy(pixels), features=True)
    return logits.numpy(), features.numpy()


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(1) / lengths)


def edit_scores(student: Path, change: Callable[[str], str]) -> None:
    """Changes teachers.csv, and its hash in teachers.json."""
    path = student / "teachers.csv"
    path.write_text(change(path.read_text()))
    edit_record(student, sha256=manifests.hash_file(path))


def edit_record(student: Path, **changed: object) -> None:
    path = student / "teachers.json"
    manifests.write_manifest(path, {**manifests.read_manifest(path), **changed})


def test_a_student_learns_the_scores_of_its_teachers(teachers: Path, competition: Path, invoke: Invoke) -> None:
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
    fold_of = {name: int(row["fold"]) for name, row in scores[0].items()}
    for name, row in written.items():
        mean = np.mean([float(one[name]["y_pred"]) for one in scores])
        assert 1 / (1 + np.exp(-float(row["all"]))) == pytest.approx(mean, abs=1e-6)
        assert not row[f"fold_{fold_of[name]}"]
    # the other networks were trained on an image, and score it too
    settings = schema.load_experiment(teachers / "experiments" / "tiny" / "config.toml")
    seen = sorted(name for name, fold in fold_of.items() if fold != 1)
    pixels = read_pixels(settings, competition, seen)
    logits = [run(settings, teachers / "experiments" / name / "fold_1", pixels)[0] for name in ("tiny", "other")]
    mean = np.mean([1 / (1 + np.exp(-one)) for one in logits], axis=0)
    found = np.array([float(written[name]["fold_1"]) for name in seen])
    assert np.allclose(1 / (1 + np.exp(-found)), mean, atol=1e-5)

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
    assert re.findall(r'<th role="rowheader" scope="row">([^<]+)', table) == [
        "tiny",
        "other",
        "tiny + other",
        "small",
    ]
    known, targets = (np.array([row[key] for row in written.values()], float) for key in ("all", "target"))
    assert f"{roc_auc_score(targets, known):.4f}" in table
    assert "teachers tiny + other" in table
    answer = invoke("leaderboard")
    assert answer.code == 0, answer.err
    assert "\nsmall learns from teachers tiny + other\n" in answer.out
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


def test_a_fold_learns_nothing_from_networks_that_know_its_held_out_images(
    teachers: Path, competition: Path, invoke: Invoke
) -> None:
    words = ("--experiment", "tiny", "--experiment", "other", "--set", "distill.weight=1.0", "--student")
    for name in ("first", "second"):
        assert invoke("distill", *words, name).code == 0
    first, second = (teachers / "experiments" / name for name in ("first", "second"))

    def tell_labels(content: str) -> str:
        """Another fold's networks, and those out of fold, know every label."""
        header, *rows = [line.split(",") for line in content.splitlines()]
        assert header == ["img_name", "target", "fold_0", "fold_1", "all"]
        known = [
            [name, label, own, other and ("9" if int(label) else "-9"), "9"] for name, label, own, other, _ in rows
        ]
        return "\n".join(map(",".join, [header, *known])) + "\n"

    edit_scores(second, tell_labels)
    for student in (first, second):
        answer = invoke(*TRAIN, str(competition), "--experiment", student.name)
        assert answer.code == 0, answer.err
    weights = {
        fold: [(one / fold / "weights.safetensors").read_bytes() for one in (first, second)]
        for fold in ("fold_0", "fold_1", "refit")
    }
    assert {fold: one == other for fold, (one, other) in weights.items()} == {
        "fold_0": True,
        "fold_1": False,
        "refit": False,
    }


def test_other_folds_than_those_of_the_teachers_are_refused(teachers: Path, competition: Path, invoke: Invoke) -> None:
    assert invoke("distill", "--experiment", "tiny", "--student", "small", "--set", "folds.seed=5").code == 0
    answer = invoke(*TRAIN, str(competition), "--experiment", "small")
    assert answer.code == 1
    assert "small has other folds than its teachers, which know the images that it holds out" in answer.err
    assert not (teachers / "experiments" / "small" / "folds.csv").exists()


def test_scores_that_changed_are_refused(teachers: Path, competition: Path, invoke: Invoke) -> None:
    assert invoke("distill", "--experiment", "tiny", "--student", "small").code == 0
    student = teachers / "experiments" / "small"
    path, record = student / "teachers.csv", student / "teachers.json"
    content, described = path.read_text(), record.read_text()
    (taught,) = json.loads(described)["teachers"]
    assert len(taught["weights_sha256"]) == 2
    changes: list[tuple[Callable[[], object], str]] = [
        (lambda: path.write_text(content + "\n"), f"{path} is damaged"),
        (lambda: path.unlink(), f"{path} is missing"),
        (
            lambda: edit_scores(student, lambda text: text.replace("target", "label")),
            "line 1: the header is not img_name,target,fold_0,fold_1,all",
        ),
        (
            lambda: edit_scores(student, lambda text: text.rpartition(",")[0] + ",nan\n"),
            "line 65: not an image, its label and 3 logits",
        ),
        (
            lambda: edit_record(student, teachers=[{**taught, "weights_sha256": taught["weights_sha256"][::-1]}]),
            f"{path} has the scores of other networks than tiny has now",
        ),
    ]
    for change, message in changes:
        change()
        answer = invoke(*TRAIN, str(competition), "--experiment", "small")
        assert answer.code == 1
        assert message in answer.err
        assert answer.err.endswith(f"remove them, and train-folds makes new ones: rm {path} {record}\n")
        path.write_text(content)
        record.write_text(described)
    path.unlink()
    record.unlink()
    answer = invoke(*TRAIN, str(competition), "--experiment", "small", "--folds", "0")
    assert answer.code == 0, answer.err
    assert path.read_text() == content
    config = student / "config.toml"
    config.write_text(config.read_text().replace("[distill]\n", "[distill]\nweight = 0.9\n"))
    answer = invoke(*TRAIN, str(competition), "--experiment", "small")
    assert answer.code == 1
    assert "distill.weight: 0.5 -> 0.9" in answer.err


def test_the_file_is_enough_where_there_are_no_teachers(teachers: Path, competition: Path, invoke: Invoke) -> None:
    assert invoke("distill", "--experiment", "tiny", "--student", "small").code == 0
    shutil.rmtree(teachers / "experiments" / "tiny")
    answer = invoke(*TRAIN, str(competition), "--experiment", "small", "--folds", "0")
    assert answer.code == 0, answer.err
    (teachers / "experiments" / "small" / "teachers.json").unlink()
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

    settings = schema.load_experiment(teacher / "config.toml")
    fold_of = {name: int(row["fold"]) for name, row in read_csv(teacher / "folds.csv").items()}
    names = list(read_csv(student / "images.csv"))
    pixels = read_pixels(settings, competition, names)
    features = run(settings, teacher / "fold_1", pixels)[1]
    assert np.allclose(load_file(path)["fold_1"], features, rtol=2e-3, atol=2e-3)

    held_out = [names.index(name) for name in names if fold_of[name] == 1]
    distance = {
        one.name: np.mean(1 - cosine(run(settings, one / "fold_1", pixels[held_out])[1], features[held_out]))
        for one in (student, plain)
    }
    assert distance["with"] < distance["without"]

    weights = (student / "fold_0" / "weights.safetensors").read_bytes()
    shutil.rmtree(student / "fold_0")
    assert invoke(*TRAIN, str(competition), "--experiment", "with", "--jobs", "2").code == 0
    assert (student / "fold_0" / "weights.safetensors").read_bytes() == weights
    assert invoke("verify").code == 0
    answer = invoke("kaggle-bundle", "--experiment", "with")
    assert answer.code == 0, answer.err
    (copied,) = (teachers / "exports").rglob(path.name)
    assert copied.read_bytes() == path.read_bytes()
    path.write_bytes(path.read_bytes()[:100])
    assert "teacher_features.safetensors is damaged" in invoke("verify").err
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
    student = teachers / "experiments" / "small"
    answer = invoke("kaggle-bundle", "--experiment", "small")
    assert answer.code == 0, answer.err
    for name in ("teachers.csv", "teachers.json"):
        (copied,) = (teachers / "exports").rglob(name)
        assert copied.read_bytes() == (student / name).read_bytes()
    (student / "teachers.json").unlink()
    answer = invoke("kaggle-bundle", "--experiment", "small")
    assert answer.code == 1
    assert "teachers.json does not exist: small has no scores of its teachers" in answer.err


def test_trials_of_a_sweep_share_the_scores(teachers: Path, competition: Path, invoke: Invoke) -> None:
    assert invoke("distill", "--experiment", "tiny", "--student", "small").code == 0
    words = ("--experiment", "small", "--data", str(competition))
    answer = invoke("sweep", *words, "--set", "distill.weight=0.3,0.6")
    assert answer.code == 0, answer.err
    scores = (teachers / "experiments" / "small" / "teachers.csv").read_bytes()
    trials = sorted((teachers / "experiments").glob("small-*"))
    assert len(trials) == 2
    for trial in trials:
        assert (trial / "teachers.csv").read_bytes() == scores
    edit_scores(trials[0], lambda text: text.replace("9", "8"))
    answer = invoke("sweep", *words, "--set", "distill.weight=0.3,0.6")
    assert answer.code == 1
    assert "teachers.csv has other scores than those in" in answer.err
    shutil.copy(teachers / "experiments" / "small" / "teachers.csv", trials[0])
    shutil.copy(teachers / "experiments" / "small" / "teachers.json", trials[0])
    answer = invoke(*TRAIN, str(competition), "--experiment", trials[0].name)
    assert answer.code == 0, answer.err
