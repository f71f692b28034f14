"""Claim: where half of the training images have no labels, pseudo-labels on them give a higher AUC than the labelled
half alone, by more than the interval of the difference.

    python benchmarks/pseudo_labels.py --data FOLDER --weights FILE --workspace FOLDER [--seed 0]
        [--experiment resnet18-fast] [--backbone tf_efficientnet_lite0] [--set train.epochs=8]
        [--limit confidence=0.9] [--set-student pseudo_labels.fraction=0.5]

FOLDER is in FFDI layout with a labelled validation split, on which all folds together are judged. A new data set in the
workspace has the labels of one half. An epoch with pseudo-labels has more steps, so the labelled half alone is also
trained for as many steps ("longer"); "all" is a training on the labels of both halves, the most that could be reached.
The out-of-fold AUC of the same half, the mean of the folds, is beside it. --limit is a flag of `pseudo-label`.
Trainings that are in the workspace already are not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import distillation
import trained

from ffdi.config import schema
from ffdi.config.schema import Config
from ffdi.config.variants import Keys
from ffdi.core import console, csvs
from ffdi.data.labels import layout
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import differences, intervals
from ffdi.experiments.workspace import Workspace


def main() -> None:
    """Trains what is missing, and prints."""
    parser = argparse.ArgumentParser()
    for name in ("--data", "--weights", "--workspace"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--experiment", default="resnet18-fast")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--limit", action="append", default=[])
    parser.add_argument("--set-student", action="append", default=[])
    asked = parser.parse_args()
    half, unlabelled = write_halves(asked)
    name = f"{half.name}-{asked.seed}"
    labels = "-".join([name, *asked.limit]).replace("=", "_")
    more = trained.parse_keys(asked.set_student)
    pseudo = "-".join([labels, "pseudo", *map(str, more.values())])
    taught = trained.write_variant(
        asked.workspace, pseudo, asked.experiment, {**list_keys(asked, half), "pseudo_labels.name": labels, **more}
    )
    settings = schema.load_experiment(taught / "config.toml")
    longer = round(settings.train.epochs / (1 - settings.pseudo_labels.fraction))
    experiments: dict[str, tuple[Path, Keys]] = {
        name: (half, {}),
        f"{name}-longer": (half, {"train.epochs": longer}),
        pseudo: (half, {"pseudo_labels.name": labels, **more}),
        f"{asked.data.name}-all-{asked.seed}": (asked.data, {}),
    }
    root = asked.workspace
    for experiment, (data, keys) in experiments.items():
        if "pseudo_labels.name" in keys and not (root / "data" / "pseudo_labels" / labels).is_dir():
            flags = [f"--{limit}" for limit in asked.limit]
            words = ["--experiment", name, "--images", str(unlabelled), "--name", labels, *flags]
            print(trained.run(root, "pseudo-label", *words))
        trained.write_variant(root, experiment, asked.experiment, {**list_keys(asked, data), **keys})
        print(f"{experiment}: {trained.train(root, experiment):.0f} CPU seconds", flush=True)
    show(root, list(experiments))


def write_halves(asked: argparse.Namespace) -> tuple[Path, Path]:
    """Copies the data set, with the labels of one half of the training images, and the other half to a folder."""
    half = asked.workspace / "data" / f"{asked.data.name}-half-{asked.seed}"
    unlabelled = half.with_name(f"{half.name}-unlabelled")
    if not unlabelled.is_dir():
        train = layout.find_dataset(asked.data, Config().data).split("train")
        assert train.target is not None
        shutil.copytree(asked.data, half, ignore=shutil.ignore_patterns("testset*"), dirs_exist_ok=True)
        unlabelled.mkdir()
        order = np.random.default_rng(asked.seed).permutation(len(train))
        for name in train.img_name[order[: len(train) // 2]].tolist():
            shutil.move(half / "trainset" / name, unlabelled / name)
        kept = np.sort(order[len(train) // 2 :])
        rows = zip(train.img_name[kept].tolist(), train.target[kept].tolist(), strict=True)
        (half / "trainset_label.txt").write_text(csvs.format_csv([("img_name", "target"), *rows]))
    return half, unlabelled


def list_keys(asked: argparse.Namespace, data: Path) -> Keys:
    return {
        "seed": asked.seed,
        "data.root": str(data.resolve()),
        "model.backbone": asked.backbone,
        "model.weights_file": str(asked.weights.resolve()),
        **trained.parse_keys(asked.set),
    }


def show(root: Path, names: list[str]) -> None:
    """The AUC of all folds together on the validation split, and the differences to the first experiment.

    The last experiment has other training images, and so no out-of-fold difference.
    """
    scores = [distillation.read_scores(root, [name]) for name in names]
    target, together = scores[0].target, np.stack([one.together for one in scores])
    val = differences.compare_with_first(together, target, np.zeros(len(target), np.int64), None, intervals.LEVEL)
    workspace = Workspace(root.resolve(), trained.PROJECT)
    halves = [Ensemble.from_experiments([workspace.get_experiment(name)]) for name in names[:-1]]
    folds = halves[0].assignment
    y_pred = np.stack([one.choice.y_pred for one in halves])
    oof = differences.compare_with_first(y_pred, folds.target, folds.fold, folds.group, intervals.LEVEL)
    for name, *found in itertools.zip_longest(names, val, oof):
        words = [
            f"{one.auc:.4f}, {one.difference:+.4f} ({console.interval(one.interval, '+.4f')})" for one in found if one
        ]
        print(f"{name}: on val {'; out of fold '.join(words)}")


if __name__ == "__main__":
    main()
