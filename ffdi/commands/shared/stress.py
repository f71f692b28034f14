"""Scores out-of-fold images under compression, blur, shrinking and noise."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ffdi import __version__
from ffdi.commands.shared import planning, sources
from ffdi.commands.shared.options import LoadingOptions
from ffdi.core import console, files, links, manifests
from ffdi.core.errors import format_count
from ffdi.data.labels.table import Table
from ffdi.data.loading.dataset import DISTORTIONS
from ffdi.data.splits import folds
from ffdi.data.splits.folds import FoldAssignment
from ffdi.ensemble.ensemble import Member
from ffdi.evaluation import differences, intervals
from ffdi.evaluation.differences import Difference
from ffdi.evaluation.predictions import HASH_DIGITS, sigmoid
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

IMAGES = 2000
"""The largest number of images to distort, the same fraction of every fold and class."""

RULE = "AUC within each fold, averaged; intervals of the difference are paired; null: none"


def run(workspace: Workspace, experiment: Experiment, options: LoadingOptions) -> None:
    """Scores a sample of the training images under every distortion, each with the network that did not train on it."""
    rows = score_distorted(workspace, experiment, options, list(DISTORTIONS))
    content = _summarize(rows)
    manifests.write_manifest(experiment.stress_path, content)
    _show(content)
    console.written(experiment.stress_path)


class DistortedScores(NamedTuple):
    """The AUC of a sample of images.

    Attributes:
        images: their number.
        undistorted: the AUC of the images as they are.
        distorted: the AUC by distortion, compared with it.
    """

    images: int
    undistorted: Difference
    distorted: dict[str, Difference]


def score_distorted(
    workspace: Workspace, experiment: Experiment, options: LoadingOptions, distortions: list[str]
) -> DistortedScores:
    """Scores a sample of the training images as they are and distorted, with the network that did not train on each.

    Args:
        workspace: has the data of the experiment.
        experiment: all its folds are trained.
        options: the data, the device and the loader.
        distortions: of `EvalDataset`.

    Raises:
        ExperimentError: a fold is not trained, or the data are not those of the training.
        DataError: an image cannot be used.
    """
    config, identity = experiment.load_training()
    folders = experiment.list_finished_folds(config.folds.k, identity)
    assignment = folds.read_assignment(experiment.folds_path)
    chosen = sample_images(assignment, config.seed)
    table = sources.select_images(
        sources.find_experiment_dataset(workspace, experiment, options.data).split("train"), assignment, chosen
    )
    members = [Member(experiment, config, folder) for folder in folders]
    logits = _compute_logits(members, table, assignment.fold[chosen], options, distortions)
    files.remove(experiment.distorted_path)
    group = None if assignment.group is None else assignment.group[chosen]
    undistorted, *others = differences.compare_with_first(
        sigmoid(logits), assignment.target[chosen], assignment.fold[chosen], group, level=intervals.LEVEL
    )
    return DistortedScores(len(chosen), undistorted, dict(zip(distortions, others, strict=True)))


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


def _compute_logits(
    members: list[Member], table: Table, fold_of: np.ndarray, options: LoadingOptions, names: list[str]
) -> np.ndarray:
    """float32 [1 + distortions, n]: first for the undistorted images."""
    from ffdi.models import detector
    from ffdi.training import fold, predict

    device = planning.choose_scoring_device(options, [one.config for one in members])
    console.say(f"device: {device.why}")
    distortions = [None, *names]
    logits = np.empty((len(distortions), len(table)), np.float32)
    with console.bar("scoring distorted images", logits.size, unit="images") as bar:
        for member in members:
            rows = np.flatnonzero(fold_of == member.folder.fold)
            network = device.prepare(detector.load_scorer(member, member.config.model.size))
            some = table.take(rows)
            used = _hash_inputs(member, some)
            for number, distortion in enumerate(distortions):
                bar.rename(f"{member.folder.label} of {len(members)}, {distortion or 'as they are'}")
                digest = manifests.hash_json([used, distortion])[:HASH_DIGITS]
                path = links.join(member.experiment.distorted_path, f"{digest}.json")
                if path.is_file():
                    logits[number, rows] = manifests.read_manifest(path, {"logits": list})["logits"]
                    bar.advance(len(rows))
                    continue
                batches = fold.make_eval_batches(some, member.config, device, distortion)
                logits[number, rows] = predict.predict_logits([network], batches, device, bar.advance)[0]
                manifests.write_manifest(path, {"logits": logits[number, rows].tolist()})
    return logits


def _hash_inputs(member: Member, table: Table) -> str:
    """All that a network's scores of some images depend on, so that those of an interrupted run are used again."""
    states = [table.path(row).stat() for row in range(len(table))]
    images = [table.img_name.tolist(), [(one.st_size, one.st_mtime_ns) for one in states]]
    return manifests.hash_json([images, member.folder.read_weights_sha256(), member.config.predict.tta, __version__])


def _summarize(scores: DistortedScores) -> dict[str, Any]:
    return {
        "images": scores.images,
        "auc": scores.undistorted.auc,
        "mean_auc": float(np.mean([row.auc for row in scores.distorted.values()])),
        "distortions": {
            name: {"auc": row.auc, "difference": row.difference, "interval": row.interval}
            for name, row in scores.distorted.items()
        },
        "rule": RULE,
    }


def _show(content: dict[str, Any]) -> None:
    cells: list[tuple[object, ...]] = [("as they are", content["auc"], "", "")]
    for name, row in content["distortions"].items():
        cells.append((name, row["auc"], f"{row['difference']:+.4f}", console.interval(row["interval"], "+.3f")))
    cells.append(("mean of these", content["mean_auc"], f"{content['mean_auc'] - content['auc']:+.4f}", ""))
    console.table(
        f"AUC of {format_count(content['images'], 'image')}, each with the network that did not train on it",
        ["", "AUC", "difference", "95 %"],
        cells,
        details=["difference"],
    )
