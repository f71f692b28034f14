"""Claim: one student scores validation images as well as the networks that taught it: its AUC is at most 0.005 below
that of all of them together, and above the mean of the single networks by more than half of what combining them gains;
and the student's graph scores at least 2.8 times as many images per second as one of three networks.

    python benchmarks/distillation.py --data FOLDER --weights FILE --workspace FOLDER [--experiment resnet18-fast]
        [--backbone tf_efficientnet_lite0] [--set train.epochs=8] [--second resnet18-scratch] [--second-set KEY=VALUE]
        [--student-set KEY=VALUE] [--refit-only]

FOLDER is in FFDI layout with a labelled validation split, which no choice depends on. The teachers are the folds of the
experiment, with --second those of two experiments. The first experiment and the student have the keys of --set, the
second experiment those of --second-set, and the student those of --student-set besides; `distill` makes the student,
from the first experiment. Trainings that are in the workspace already are not repeated; --refit-only trains the
student's network on all images without its folds, on which these figures do not depend, and exports nothing. The line
after the student's scores is what `export-onnx` decides where the student is to take its teachers' place.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import trained

from ffdi.config.variants import Keys
from ffdi.core import console, machine
from ffdi.core.errors import ParityError
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import differences, intervals, metrics, predictions
from ffdi.evaluation.predictions import sigmoid
from ffdi.experiments.workspace import Workspace
from ffdi.export import replacement
from ffdi.export.replacement import Verdict
from ffdi.inference import bundle


class Scores(NamedTuple):
    """Scores of the validation split.

    Attributes:
        target: int64 [N].
        alone: y_pred float64 [M, N] of each network.
        together: y_pred float64 [N] of the ensemble.
    """

    target: np.ndarray
    alone: np.ndarray
    together: np.ndarray


def main() -> None:
    """Trains what is missing, and prints."""
    asked = parse_arguments()
    root, experiments = asked.workspace, [(asked.experiment, asked.set)]
    if asked.second:
        experiments.append((asked.second, asked.second_set))
    teachers = []
    for base, words in experiments:
        teachers.append(f"{asked.data.name}-{base}{''.join(f'-{word}' for word in words)}".replace("=", "_"))
        trained.write_variant(root, teachers[-1], base, list_keys(asked, base, words))
        print(f"{teachers[-1]}: {trained.train(root, teachers[-1]):.0f} CPU seconds", flush=True)
    changes = "".join(f"-{word}".replace("=", "_") for word in asked.student_set)
    student = f"{'+'.join(teachers)}-student{changes}"
    named = [word for name in teachers for word in ("--experiment", name)]
    if not (root / "experiments" / student / "config.toml").is_file():
        trained.run(root, "distill", *named, "--student", student, *(f"--set={word}" for word in asked.student_set))
    if asked.refit_only:
        trained.run(root, "train-folds", "--experiment", student, "--folds", "refit", "--accept", trained.ACCEPTED)
        show(read_scores(root, teachers), read_refit(root, student))
        return
    print(f"{student}: {trained.train(root, student):.0f} CPU seconds", flush=True)
    show(read_scores(root, teachers), read_scores(root, [student]))
    show_speeds(root, named, student)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("--data", "--weights", "--workspace"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--experiment", default="resnet18-fast")
    parser.add_argument("--second")
    parser.add_argument("--second-set", action="append", default=[])
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--student-set", action="append", default=[])
    parser.add_argument("--refit-only", action="store_true")
    return parser.parse_args()


def list_keys(asked: argparse.Namespace, base: str, words: list[str]) -> Keys:
    """What an experiment changes: only the first one has the weights, because they fit its backbone."""
    keys: Keys = {"data.root": str(asked.data.resolve())}
    keys |= trained.parse_keys(words)
    if base == asked.experiment:
        keys |= {"model.backbone": asked.backbone, "model.weights_file": str(asked.weights.resolve())}
    return keys


def read_scores(root: Path, names: list[str]) -> Scores:
    """Raises:
    SystemExit: the data have no validation split.
    """
    workspace = Workspace(root.resolve(), trained.PROJECT)
    ensemble = Ensemble.from_experiments([workspace.get_experiment(name) for name in names])
    found = ensemble.read_val_logits()
    if found is None:
        raise SystemExit("the data have no validation split")
    scored, logits = found
    return Scores(scored.target, sigmoid(logits.astype(np.float64)), ensemble.combine(logits))


def read_refit(root: Path, student: str) -> Scores:
    """The same by a student's network on all images."""
    experiment = Workspace(root.resolve(), trained.PROJECT).get_experiment(student)
    config, _ = experiment.load_training()
    found = predictions.read_predictions(experiment.get_refit(config.folds.k).val_path)
    return Scores(found.target, found.y_pred[None], found.y_pred)


def show(teachers: Scores, student: Scores) -> None:
    """AUC of the single networks, of all together and of the student, and the differences."""
    single = [metrics.evaluate(teachers.target, one)["auc"] for one in teachers.alone]
    both = np.stack([teachers.together, student.together])
    one_fold = np.zeros(len(teachers.target), np.int64)
    against = differences.compare_with_first(both, teachers.target, one_fold, None, intervals.LEVEL)
    together, alone = against[0].auc, float(np.mean(single))
    print(f"{len(teachers.target)} validation images")
    print(f"single networks: {' '.join(f'{auc:.4f}' for auc in single)}, mean {alone:.4f}")
    print(f"together: {together:.4f}, a gain of {together - alone:+.4f}")
    change = f"{against[1].difference:+.4f} ({console.interval(against[1].interval, '+.4f')}) against all together"
    part = (against[1].auc - alone) / (together - alone)
    print(f"student: {against[1].auc:.4f}, {change}; {part:.2f} of the gain over the mean of the single networks")
    try:
        replacement.check_scores(Verdict("the validation split", teachers.target, *both))
        print("export-onnx lets it take the place of its teachers")
    except ParityError as error:
        print(f"export-onnx keeps the teachers: {'; '.join(error.problems)}", flush=True)


def show_speeds(root: Path, named: list[str], student: str) -> None:
    """Exports both, and prints the speeds of their graphs."""
    workspace = Workspace(root.resolve(), trained.PROJECT)
    for words in (named, ["--experiment", student]):
        trained.run(root, "export-onnx", *words)
    exports = [
        workspace.get_export([word for word in named if word != "--experiment"]),
        workspace.get_export([student]),
    ]
    graphs = [(one.model_path, bundle.read_resize_policy(bundle.read_bundle(one))) for one in exports]
    before, after = replacement.measure_speeds(graphs, 32, machine.count_cores())
    print(f"images per second: {before:.0f} together, {after:.0f} student: {after / before:.2f} times as many")


if __name__ == "__main__":
    main()
