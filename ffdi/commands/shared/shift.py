"""Compares the splits, and the out-of-fold AUC of different kinds of images."""

from __future__ import annotations

from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from ffdi.commands.shared import inspection, planning, scores, sources
from ffdi.commands.shared.options import LoadingOptions
from ffdi.config.schema import Config
from ffdi.core import console, manifests
from ffdi.core.errors import ExperimentError
from ffdi.data.inspection.doctor import Diagnosis
from ffdi.data.labels import metadata
from ffdi.data.labels.table import Table, find_rows
from ffdi.data.splits import folds
from ffdi.evaluation import error_analysis
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

IMAGES = 2000
"""The largest number of images of each split for the classifier."""
EXAMPLES = 10
"""Images of each split in shift.json: the least similar to the other split."""
CLUSTERS = 8
BANDS = {
    "brightness": ["darkest quarter", "darker", "brighter", "brightest quarter"],
    "size": ["smallest third", "middle", "largest third"],
    "compression": ["fewest bytes a pixel", "middle", "most bytes a pixel"],
}
"""Kinds of images by a quantity, from low to high."""


def run(workspace: Workspace, experiment: Experiment, options: LoadingOptions) -> None:
    """Trains a classifier to tell the splits apart, and computes the out-of-fold AUC of each kind of image."""
    config, _ = experiment.load_training()
    found = sources.find_experiment_dataset(workspace, experiment, options.data)
    diagnosis = inspection.scan_dataset(workspace, found)
    inspection.write_findings(experiment, diagnosis, inspection.format_image_list(config, diagnosis))
    samples = {name: _sample_images(diagnosis.select_usable(name), config.seed) for name in diagnosis.scans}
    features = _compute_features(workspace, config, samples, options)
    content = {
        "splits": _compare_splits(samples, features, config.seed),
        "slices": _score_slices(experiment, diagnosis, config, samples["train"], features["train"]),
    }
    manifests.write_manifest(experiment.shift_path, content)
    _show(content)
    console.written(experiment.shift_path)


def _sample_images(table: Table, seed: int) -> Table:
    """At most `IMAGES` rows of a split, drawn by `seed`."""
    rows = np.random.default_rng(seed).permutation(len(table))[:IMAGES]
    return table.take(np.sort(rows))


def _compute_features(
    workspace: Workspace, config: Config, samples: dict[str, Table], options: LoadingOptions
) -> dict[str, np.ndarray]:
    """float32 [n, D] by split: the features of the frozen backbone."""
    from ffdi.models import detector, weights
    from ffdi.training import fold, predict

    device = planning.choose_scoring_device(options, [config])
    console.say(f"device: {device.why}")
    network = device.prepare(detector.build_initialized(config, weights.find_weights(config.model, workspace.root)))
    seen = {}
    with console.bar(f"features of {', '.join(samples)}", sum(map(len, samples.values())), unit="images") as bar:
        for name, table in samples.items():
            seen[name] = predict.extract_features(
                network.embed, fold.make_eval_batches(table, config, device), device, bar.advance
            )
    return seen


def _compare_splits(samples: dict[str, Table], features: dict[str, np.ndarray], seed: int) -> list[dict[str, Any]]:
    """For each pair of splits: the AUC of a classifier, and the images that it separates best."""
    found = []
    for one, other in combinations(samples, 2):
        if min(len(samples[one]), len(samples[other])) < error_analysis.CV_FOLDS:
            continue
        verdict = error_analysis.validate_adversarially(features[one], features[other], seed)
        telling = {
            one: samples[one].img_name[np.argsort(verdict.first, kind="stable")[:EXAMPLES]].tolist(),
            other: samples[other].img_name[np.argsort(-verdict.second, kind="stable")[:EXAMPLES]].tolist(),
        }
        found.append({"splits": [one, other], "auc": verdict.auc, "interval": verdict.interval, "telling": telling})
    return found


def _score_slices(
    experiment: Experiment, diagnosis: Diagnosis, config: Config, sample: Table, features: np.ndarray
) -> dict[str, list[dict[str, Any]]]:
    """The out-of-fold AUC by attribute, band and cluster."""
    assignment, oof = scores.read_oof(experiment)
    found = {}
    for name, (images, value) in _group_images(diagnosis, config, sample, features).items():
        rows = find_rows(assignment.img_name, images)
        if (rows < 0).any():
            raise ExperimentError(
                f"{diagnosis.root} lacks images that the experiment was trained on",
                hint="pass --data FOLDER with the data that it was trained on",
            )
        group = None if assignment.group is None else assignment.group[rows]
        parts = error_analysis.slice_by(images, value, oof.target[rows], oof.ranks[rows], group)
        if name in BANDS:
            order = BANDS[name]
            parts.sort(key=lambda part: order.index(part.value))
        found[name] = [asdict(part) for part in parts]
    return {name: parts for name, parts in found.items() if parts}


def _group_images(
    diagnosis: Diagnosis, config: Config, sample: Table, features: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each attribute: the names of images, and the value of each."""
    scan = diagnosis.scans["train"]
    usable, table = scan.usable, diagnosis.select_usable("train")
    pixels = scan.width[usable].astype(np.int64) * scan.height[usable]
    quantities = {
        "brightness": scan.brightness[usable],
        "size": pixels,
        "compression": scan.size[usable] / pixels,
    }
    kinds = {
        **metadata.read_attributes(diagnosis.root, table, config.data),
        **{name: error_analysis.assign_bands(quantity, BANDS[name]) for name, quantity in quantities.items()},
    }
    cluster = folds.cluster_features(features, None, CLUSTERS, config.seed)
    named = np.array([f"cluster {number}" for number in cluster.tolist()])
    return {**{name: (table.img_name, value) for name, value in kinds.items()}, "looks": (sample.img_name, named)}


def _show(content: dict[str, Any]) -> None:
    rows = [
        (f"{' against '.join(pair['splits'])}", pair["auc"], console.interval(pair["interval"]))
        for pair in content["splits"]
    ]
    console.table("can a classifier tell the splits apart? (0.5: not at all)", ["", "AUC", "95 %"], rows)
    cells = []
    for name, parts in content["slices"].items():
        for part in parts:
            auc, spread = "too few", ""
            if part["auc"] is not None:
                auc, spread = part["auc"], console.interval(part["interval"])
            cells.append((f"{name}: {part['value']}", part["real"], part["fake"], part["against"], auc, spread))
    columns = ["", "real", "fake", "against", "AUC", "95 %"]
    console.table("out-of-fold AUC by kind of image", columns, cells, details=["real", "fake", "95 %"])
