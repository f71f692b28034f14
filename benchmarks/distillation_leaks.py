"""Claim: a student's out-of-fold scores know nothing of the labels of held-out images, whatever its teacher has learned
by heart. Out-of-fold scores of the teacher as targets, and those of all its networks together, made here for
comparison, hand such labels on.

    python benchmarks/distillation_leaks.py --data FOLDER --weights FILE [--flipped 0.1] [--epochs 200]
        [--backbone tf_efficientnet_lite0] [--size 160]

FOLDER is in FFDI layout. The experiments are linear probes with about as many features as images and without weight
decay, so that a teacher learns nearly every label by heart, and a student can learn the whole teacher. Students learn
the scores of their teacher alone (distill.weight = 1). The targets of the network of fold i are the scores of

- own fold: the teacher's network of fold i, which has not seen the held-out images, as ffdi has it;
- out of fold: for an image of fold j the network of fold j, which has not seen this image, but those of fold i;
- all: the mean of all networks.

Wrong labels: --flipped of the labels are wrong. Scores that know the labels of held-out images agree with the wrong
ones more often than the teacher's own out-of-fold scores do. Oracle: in place of the first fold's network is one that
knows all right labels; the scores of the other folds by students show whether it hands them on.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import trained

from ffdi.config.schema import Config
from ffdi.core import console, csvs, manifests
from ffdi.data.labels import layout
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import differences, intervals, predictions
from ffdi.evaluation.predictions import OofPredictions, sigmoid
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

STUDENT = "student"


def main() -> None:
    """Trains in a workspace of its own, and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--flipped", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_data(asked, root)
        right, wrong = (train_teacher(asked, root, name) for name in ("right", "wrong"))
        show_wrong(root, right, wrong)
        show_oracle(root, right)


def write_data(asked: argparse.Namespace, root: Path) -> None:
    """Copies the training images twice, once with wrong labels."""
    train = layout.find_dataset(asked.data, Config().data).split("train")
    assert train.target is not None
    right = train.target
    wrong = np.random.default_rng(0).permutation(len(train)) < round(asked.flipped * len(train))
    for name, target in (("right", right), ("wrong", np.where(wrong, 1 - right, right))):
        shutil.copytree(train.folder, root / f"data-{name}" / "trainset")
        rows = [("img_name", "target"), *zip(train.img_name.tolist(), target.tolist(), strict=True)]
        (root / f"data-{name}" / "trainset_label.txt").write_text(csvs.format_csv(rows))


def train_teacher(asked: argparse.Namespace, root: Path, name: str) -> Ensemble:
    keys = {
        "data.root": str(root / f"data-{name}"),
        "model.backbone": asked.backbone,
        "model.weights_file": str(asked.weights.resolve()),
        "model.size": asked.size,
        "augment.recipe": "none",
        "augment.views": 1,
        "train.epochs": asked.epochs,
        "train.weight_decay": 0.0,
        "train.select": "last",
    }
    trained.write_variant(root, name, "probe", keys)
    trained.train(root, name)
    return Ensemble.from_experiments([find(root, name)])


def find(root: Path, name: str) -> Experiment:
    return Workspace(root, trained.PROJECT).get_experiment(name)


def read_scores(root: Path, teacher: Ensemble) -> np.ndarray:
    """The probabilities by each fold's network for all training images: float64 [K, N], in the order of folds.csv.

    They come from the teachers.csv of a student, which this makes, and for held-out images from the last column.
    """
    name = teacher.experiments[0].name
    words = ("--set=distill.weight=1.0", "--set=folds.refit=false")
    trained.run(root, "distill", "--experiment", name, "--student", f"{name}-{STUDENT}", *words)
    _, rows = read_rows(find(root, f"{name}-{STUDENT}"))
    return sigmoid(np.array([[float(cell or row[-1]) for cell in row[2:-1]] for row in rows]).T)


def read_rows(student: Experiment) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of teachers.csv."""
    with student.teachers_path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def train_student(root: Path, teacher: Ensemble, targets: np.ndarray) -> OofPredictions:
    """Trains the student of `read_scores` in a workspace of its own, without its teacher.

    Args:
        root: has both.
        teacher: the ensemble.
        targets: for each fold, probabilities float64 [K, N].
    """
    name = f"{teacher.experiments[0].name}-{STUDENT}"
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        own = Path(scratch)
        shutil.copytree(root / "data", own / "data")
        shutil.copytree(root / "experiments" / name, own / "experiments" / name)
        student = find(own, name)
        header, rows = read_rows(student)
        for row, values in zip(rows, predictions.compute_target_logits(targets).T.tolist(), strict=True):
            row[2:-1] = [f"{value:.9g}" if cell else "" for cell, value in zip(row[2:-1], values, strict=True)]
        student.teachers_path.write_text(csvs.format_csv([header, *rows]))
        record = manifests.read_manifest(student.teachers_record_path)
        record["sha256"] = manifests.hash_file(student.teachers_path)
        manifests.write_manifest(student.teachers_record_path, record)
        trained.train(own, name)
        return predictions.read_predictions(student.oof_path)


def make_targets(y_pred: np.ndarray, fold: np.ndarray) -> dict[str, np.ndarray]:
    """The targets of each fold's student, from the probabilities by each fold's network, [K, N]."""
    own = y_pred[fold, np.arange(len(fold))]
    alike = {"student, out of fold": own, "student, all": y_pred.mean(0)}
    return {"student, own fold": y_pred, **{name: np.tile(one, (len(y_pred), 1)) for name, one in alike.items()}}


def show_wrong(root: Path, without: Ensemble, teacher: Ensemble) -> None:
    """What the students of a teacher with wrong labels know of them, out of fold."""
    y_pred = read_scores(root, teacher)
    fold, given, right = teacher.assignment.fold, teacher.assignment.target, without.assignment.target
    seen, wrong = np.arange(len(y_pred))[:, None] != fold, given != right
    learned = ((y_pred > 0.5) == given)[seen].mean()
    print(f"{wrong.sum()} of {len(wrong)} labels are wrong; the teacher has learned {learned:.4f} of all by heart")
    scores = {"the teacher itself": predictions.read_predictions(teacher.experiments[0].oof_path)}
    for name, targets in make_targets(y_pred, fold).items():
        scores[name] = train_student(root, teacher, targets)
    compare(scores, right, fold)
    for name, one in scores.items():
        agree = ((one.y_pred > 0.5) == given)[wrong].mean()
        print(f"  {name}: agrees with {agree:.3f} of the wrong labels, out of fold", flush=True)


def show_oracle(root: Path, teacher: Ensemble) -> None:
    """What an oracle in place of a teacher's first network does to the students of the other folds."""
    fold, right, y_pred = teacher.assignment.fold, teacher.assignment.target, read_scores(root, teacher)
    with_oracle = np.concatenate([right[None].astype(np.float64), y_pred[1:]])
    others = fold != 0
    print("an oracle in place of the first fold's network: AUC of the other folds, without and with it")
    oracle = make_targets(with_oracle, fold)
    for name, before in make_targets(y_pred, fold).items():
        targets = {name: before, f"{name}, oracle": oracle[name]}
        compare({words: train_student(root, teacher, one) for words, one in targets.items()}, right, fold, others)


def compare(
    scores: dict[str, OofPredictions], right: np.ndarray, fold: np.ndarray, rows: np.ndarray | slice = slice(None)
) -> None:
    """Prints the mean AUC of the folds against the right labels, and the difference to the first."""
    together = np.stack([one.y_pred[rows] for one in scores.values()])
    found = differences.compare_with_first(
        together, right[rows], np.unique(fold[rows], return_inverse=True)[1], None, intervals.LEVEL
    )
    for name, one in zip(scores, found, strict=True):
        print(f"  {name}: {one.auc:.4f}, {one.difference:+.4f} ({console.interval(one.interval, '+.4f')})", flush=True)


if __name__ == "__main__":
    main()
