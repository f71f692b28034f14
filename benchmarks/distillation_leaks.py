"""Claim: what a teacher has learned by heart, or knows of held-out images from elsewhere, does not reach a student's
out-of-fold scores. Scores of networks that were trained on the images, made here for comparison, do reach them.

    python benchmarks/distillation_leaks.py --data FOLDER --weights FILE [--flipped 0.1] [--epochs 200]
        [--backbone tf_efficientnet_lite0] [--size 160]

FOLDER is in FFDI layout. The experiments are linear probes with more features than images and without weight decay, so
that a teacher learns every label by heart. Students learn the scores of their teacher alone (distill.weight = 1).
"In sample" stands for students that learn the mean probability of all networks of the teacher, as in an ensemble: all
but one of them were trained on the image.

- wrong labels: --flipped of the labels are wrong. Out-of-fold scores that know the labels of held-out images agree
  with the wrong ones.
- oracle: in place of the first fold's network is one that knows the right labels. Where only the scores of its
  held-out images are learned, the student's scores of these images do not change at all.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import trained

from ffdi.commands.shared import member_scores, teachers
from ffdi.config.schema import Config
from ffdi.core import console, csvs
from ffdi.data.labels import layout
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import differences, predictions
from ffdi.evaluation.predictions import OofPredictions, sigmoid
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace
from ffdi.training.runtime import device

STUDENT = "student"
LEVEL = 0.95


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


def train_student(root: Path, teacher: Ensemble, targets: np.ndarray | None = None) -> OofPredictions:
    """Trains a student, in a workspace of its own without its teacher if it has other targets than the teacher's.

    Args:
        root: has the teacher.
        teacher: the ensemble.
        targets: probabilities float64 [N]; None for those of the teacher.
    """
    name = teacher.experiments[0].name
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        own = Path(scratch)
        shutil.copytree(root / "data", own / "data")
        shutil.copytree(root / "experiments" / name, own / "experiments" / name)
        words = ("--set=distill.weight=1.0", "--set=folds.refit=false")
        trained.run(own, "distill", "--experiment", name, "--student", STUDENT, *words)
        if targets is not None:
            shutil.rmtree(own / "experiments" / name)
            student, oof = find(own, STUDENT), teacher.assignment
            logits = predictions.compute_target_logits(targets)
            rows = zip(oof.img_name.tolist(), oof.target.tolist(), logits.tolist(), strict=True)
            student.teachers_path.write_text(csvs.format_csv([teachers.COLUMNS, *rows]))
        trained.train(own, STUDENT)
        return predictions.read_predictions(find(own, STUDENT).oof_path)


def score_in_sample(teacher: Ensemble) -> np.ndarray:
    """The probabilities by each fold's network for all training images: float64 [K, N], in the order of its folds."""
    experiment = teacher.experiments[0]
    config, _ = experiment.load_training()
    train = layout.find_dataset(Path(str(config.data.root)), config.data).split("train")
    found = member_scores.predict_logits(
        teacher.members, teacher.resize_policy, train, device.choose_device("cpu", None, 0)
    )
    rows = {name: row for row, name in enumerate(train.img_name.tolist())}
    return sigmoid(found[:, [rows[name] for name in teacher.assignment.img_name.tolist()]])


def show_wrong(root: Path, without: Ensemble, teacher: Ensemble) -> None:
    """What students of a teacher with wrong labels score, against one whose teacher has right ones."""
    in_sample = score_in_sample(teacher)
    fold, given, right = teacher.assignment.fold, teacher.assignment.target, without.assignment.target
    seen, wrong = np.arange(len(in_sample))[:, None] != fold, given != right
    learned = ((in_sample > 0.5) == given)[seen].mean()
    print(f"{wrong.sum()} of {len(wrong)} labels are wrong; the teacher has learned {learned:.4f} of all by heart")
    scores = {
        "student, teacher without wrong labels": train_student(root, without),
        "student, out-of-fold scores": train_student(root, teacher),
        "student, scores in sample": train_student(root, teacher, in_sample.mean(0)),
        "the teacher itself": predictions.read_predictions(teacher.experiments[0].oof_path),
    }
    compare(scores, right, fold)
    for name, one in scores.items():
        agree = ((one.y_pred > 0.5) == given)[wrong].mean()
        print(f"  {name}: agrees with {agree:.3f} of the wrong labels, out of fold", flush=True)


def show_oracle(root: Path, teacher: Ensemble) -> None:
    """What an oracle in place of a teacher's first network does to students."""
    fold, right, oof = teacher.assignment.fold, teacher.assignment.target, teacher.choice.y_pred
    known, in_sample = right.astype(np.float64), score_in_sample(teacher)
    with_oracle = np.stack([known, *in_sample[1:]])
    scores = {
        "student, out-of-fold scores": train_student(root, teacher),
        "the same with an oracle": train_student(root, teacher, np.where(fold == 0, known, oof)),
        "student, scores in sample": train_student(root, teacher, in_sample.mean(0)),
        "the same in sample with an oracle": train_student(root, teacher, with_oracle.mean(0)),
    }
    print("an oracle in place of the first fold's network; the AUC of that fold alone")
    first = fold == 0
    compare(scores, right, fold, first)
    honest, oracle = (scores[name].logit[first] for name in ("student, out-of-fold scores", "the same with an oracle"))
    print(f"  largest difference of a logit there, out of fold: {np.abs(honest - oracle).max():.1e}")


def compare(
    scores: dict[str, OofPredictions], right: np.ndarray, fold: np.ndarray, rows: np.ndarray | slice = slice(None)
) -> None:
    """Prints the mean AUC of the folds against the right labels, and the difference to the first."""
    together = np.stack([one.y_pred[rows] for one in scores.values()])
    found = differences.compare_with_first(
        together, right[rows], np.unique(fold[rows], return_inverse=True)[1], None, LEVEL
    )
    for name, one in zip(scores, found, strict=True):
        print(f"  {name}: {one.auc:.4f}, {one.difference:+.4f} ({console.interval(one.interval, '+.4f')})", flush=True)


if __name__ == "__main__":
    main()
