"""How an experiment's out-of-fold AUC holds when its images are compressed, blurred, shrunk or noisy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffdi.commands.shared import sources
from ffdi.core import console, manifests
from ffdi.data.images.distort import DISTORTIONS
from ffdi.data.labels.table import Table
from ffdi.data.splits import folds
from ffdi.data.splits.folds import FoldAssignment
from ffdi.ensemble.group import Member
from ffdi.evaluation import differences, intervals
from ffdi.evaluation.predictions import sigmoid
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

IMAGES = 2000
"""Images that are distorted, the same share of every fold and class; each one is scored once for each distortion."""


def run(workspace: Workspace, experiment: Experiment, *, data: str | None, device: str, workers: int | None) -> None:
    """Scores a sample of the training images, each by the network that has not seen it, under every distortion."""
    config, identity = experiment.trained()
    folders = experiment.finished_folds(config.folds.k, identity)
    deal = folds.read_assignment(experiment.folds_path)
    chosen = sample(deal, config.seed)
    table = sources.locate(sources.of_experiment(workspace, experiment, data).split("train"), deal, chosen)
    members = [Member(experiment, config, folder) for folder in folders]
    logits = _logits(members, table, deal.fold[chosen], device, workers)
    group = None if deal.group is None else deal.group[chosen]
    rows = differences.against_first(
        sigmoid(logits), deal.target[chosen], deal.fold[chosen], group, level=intervals.LEVEL
    )
    content = _content(len(chosen), dict(zip(["as they are", *DISTORTIONS], rows, strict=True)))
    manifests.write_manifest(experiment.stress_path, content)
    _show(content)
    console.written(experiment.stress_path)


def sample(deal: FoldAssignment, seed: int) -> np.ndarray:
    """int64 [n <= IMAGES]: rows of the deal, the same share of each fold and class, drawn by `seed`."""
    share = min(1.0, IMAGES / len(deal.fold))
    rng = np.random.default_rng(seed)
    parts = []
    for number in np.unique(deal.fold):
        for label in (0, 1):
            rows = np.flatnonzero((deal.fold == number) & (deal.target == label))
            parts.append(rng.permutation(rows)[: max(1, round(share * len(rows)))])
    return np.sort(np.concatenate(parts))


def _logits(members: list[Member], table: Table, fold_of: np.ndarray, device: str, workers: int | None) -> np.ndarray:
    """float32 [1 + distortions, n]: first of the images as they are."""
    from ffdi.models import detector
    from ffdi.training import fold, predict
    from ffdi.training.runtime import device as devices

    where = devices.choose(device, None, workers)
    console.say(f"device: {where.why}")
    ways = [None, *DISTORTIONS]
    logits = np.empty((len(ways), len(table)), np.float32)
    with console.bar("distorted images", logits.size) as bar:
        for member in members:
            rows = np.flatnonzero(fold_of == member.folder.fold)
            network = where.prepare(detector.scorer(member, member.config.model.size))
            for number, way in enumerate(ways):
                batches = fold.reader(table.take(rows), member.config, where, way)
                logits[number, rows] = predict.logits([network], batches, where, bar.advance)[0]
    return logits


def _content(images: int, rows: dict[str, differences.Difference]) -> dict[str, Any]:
    clean, *others = rows.values()
    return {
        "images": images,
        "auc": clean.auc,
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
        f"AUC of {content['images']} images, each by the network that has not seen it",
        ["", "AUC", "difference", "95 %"],
        cells,
    )
