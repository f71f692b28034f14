"""Scores out-of-fold images under compression, blur, shrinking and noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffdi.commands.shared import planning, sources
from ffdi.commands.shared.options import LoadingOptions
from ffdi.core import console, manifests
from ffdi.data.labels.table import Table
from ffdi.data.loading.dataset import DISTORTIONS
from ffdi.data.splits import folds
from ffdi.data.splits.folds import FoldAssignment
from ffdi.ensemble.ensemble import Member
from ffdi.evaluation import differences, intervals
from ffdi.evaluation.predictions import sigmoid
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

IMAGES = 2000
"""The largest number of images to distort, the same fraction of every fold and class."""


def run(workspace: Workspace, experiment: Experiment, options: LoadingOptions) -> None:
    """Scores a sample of the training images under every distortion, each with the network that did not train on it."""
    config, identity = experiment.load_training()
    folders = experiment.list_finished_folds(config.folds.k, identity)
    assignment = folds.read_assignment(experiment.folds_path)
    chosen = sample_images(assignment, config.seed)
    table = sources.select_images(
        sources.find_experiment_dataset(workspace, experiment, options.data).split("train"), assignment, chosen
    )
    members = [Member(experiment, config, folder) for folder in folders]
    logits = _compute_logits(members, table, assignment.fold[chosen], options)
    group = None if assignment.group is None else assignment.group[chosen]
    rows = differences.compare_with_first(
        sigmoid(logits), assignment.target[chosen], assignment.fold[chosen], group, level=intervals.LEVEL
    )
    content = _summarize(len(chosen), dict(zip(["as they are", *DISTORTIONS], rows, strict=True)))
    manifests.write_manifest(experiment.stress_path, content)
    _show(content)
    console.written(experiment.stress_path)


def sample_images(assignment: FoldAssignment, seed: int) -> np.ndarray:
    """int64 [n <= IMAGES]: rows of the assignment, the same fraction of each fold and class, drawn by `seed`."""
    fraction = min(1.0, IMAGES / len(assignment.fold))
    rng = np.random.default_rng(seed)
    parts = []
    for number in np.unique(assignment.fold):
        for label in (0, 1):
            rows = np.flatnonzero((assignment.fold == number) & (assignment.target == label))
            parts.append(rng.permutation(rows)[: max(1, round(fraction * len(rows)))])
    return np.sort(np.concatenate(parts))


def _compute_logits(members: list[Member], table: Table, fold_of: np.ndarray, options: LoadingOptions) -> np.ndarray:
    """float32 [1 + distortions, n]: first for the undistorted images."""
    from ffdi.models import detector
    from ffdi.training import fold, predict

    device = planning.choose_scoring_device(options, [one.config for one in members])
    console.say(f"device: {device.why}")
    distortions = [None, *DISTORTIONS]
    logits = np.empty((len(distortions), len(table)), np.float32)
    with console.bar("distorted images", logits.size) as bar:
        for member in members:
            rows = np.flatnonzero(fold_of == member.folder.fold)
            network = device.prepare(detector.load_scorer(member, member.config.model.size))
            for number, distortion in enumerate(distortions):
                batches = fold.make_eval_batches(table.take(rows), member.config, device, distortion)
                logits[number, rows] = predict.predict_logits([network], batches, device, bar.advance)[0]
    return logits


def _summarize(images: int, rows: dict[str, differences.Difference]) -> dict[str, Any]:
    undistorted, *others = rows.values()
    return {
        "images": images,
        "auc": undistorted.auc,
        "mean_auc": float(np.mean([row.auc for row in others])),
        "distortions": {
            name: {"auc": row.auc, "difference": row.difference, "interval": row.interval}
            for name, row in list(rows.items())[1:]
        },
        "rule": "AUC within each fold, averaged; intervals of the difference are paired; null: none",
    }


def _show(content: dict[str, Any]) -> None:
    cells: list[tuple[object, ...]] = [("as they are", content["auc"], "", "")]
    for name, row in content["distortions"].items():
        cells.append((name, row["auc"], f"{row['difference']:+.4f}", console.interval(row["interval"], "+.3f")))
    cells.append(("mean of these", content["mean_auc"], f"{content['mean_auc'] - content['auc']:+.4f}", ""))
    console.table(
        f"AUC of {content['images']} images, each with the network that did not train on it",
        ["", "AUC", "difference", "95 %"],
        cells,
    )
