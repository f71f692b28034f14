"""Whether the splits are alike, and for which images an experiment's out-of-fold AUC holds."""

from __future__ import annotations

from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from ffdi.commands.shared import inspection, sources
from ffdi.config.schema import Config
from ffdi.core import console, manifests
from ffdi.core.errors import ExperimentError
from ffdi.data.inspection.doctor import Diagnosis
from ffdi.data.labels import attributes
from ffdi.data.labels.table import Table
from ffdi.data.splits import clusters, folds
from ffdi.evaluation import domain_shift, predictions, slices
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

IMAGES = 2000
"""Images of each split that a classifier is asked to tell apart."""
TELLING = 10
"""Images of each split that are named as the least like the other."""
CLUSTERS = 8
BANDS = {
    "brightness": ["darkest quarter", "darker", "brighter", "brightest quarter"],
    "size": ["smallest third", "middle", "largest third"],
    "compression": ["fewest bytes a pixel", "middle", "most bytes a pixel"],
}
"""Kinds by a quantity, from low to high."""


def run(workspace: Workspace, experiment: Experiment, *, data: str | None, device: str, workers: int | None) -> None:
    """Compares the splits with each other, and the out-of-fold AUC of images of one kind with that of others."""
    config, _ = experiment.trained()
    found = sources.of_experiment(workspace, experiment, data)
    diagnosis = inspection.inspect(workspace, experiment, found)
    samples = {name: _sample(diagnosis.usable(name), config.seed) for name in diagnosis.surveys}
    features = _features(workspace, config, samples, device, workers)
    content = {
        "splits": _splits(samples, features, config.seed),
        "slices": _slices(experiment, diagnosis, config, samples["train"], features["train"]),
    }
    manifests.write_manifest(experiment.shift_path, content)
    _show(content)
    console.written(experiment.shift_path)


def _sample(table: Table, seed: int) -> Table:
    """At most `IMAGES` rows of a split, drawn by `seed`."""
    rows = np.random.default_rng(seed).permutation(len(table))[:IMAGES]
    return table.take(np.sort(rows))


def _features(
    workspace: Workspace, config: Config, samples: dict[str, Table], device: str, workers: int | None
) -> dict[str, np.ndarray]:
    """What the frozen backbone sees of each sample: float32 [n, D] by split."""
    from ffdi.models import detector, weights
    from ffdi.training import fold, predict
    from ffdi.training.runtime import device as devices

    where = devices.choose(device, None, workers)
    console.say(f"device: {where.why}")
    network = where.prepare(detector.build_initialized(config, weights.find_weights(config.model, workspace.root)))
    seen = {}
    with console.bar("features", sum(map(len, samples.values()))) as bar:
        for name, table in samples.items():
            seen[name] = predict.features(network, fold.reader(table, config, where), where, bar.advance)
    return seen


def _splits(samples: dict[str, Table], features: dict[str, np.ndarray], seed: int) -> list[dict[str, Any]]:
    """For each two splits: the AUC of a classifier that tells them apart, and the images it tells best."""
    found = []
    for one, other in combinations(samples, 2):
        if min(len(samples[one]), len(samples[other])) < domain_shift.PARTS:
            continue
        verdict = domain_shift.validate_adversarially(features[one], features[other], seed)
        telling = {
            one: samples[one].img_name[np.argsort(verdict.first, kind="stable")[:TELLING]].tolist(),
            other: samples[other].img_name[np.argsort(-verdict.second, kind="stable")[:TELLING]].tolist(),
        }
        found.append({"splits": [one, other], "auc": verdict.auc, "interval": verdict.interval, "telling": telling})
    return found


def _slices(
    experiment: Experiment, diagnosis: Diagnosis, config: Config, sample: Table, features: np.ndarray
) -> dict[str, list[dict[str, Any]]]:
    """The out-of-fold AUC by every attribute, band and cluster."""
    deal = folds.read_assignment(experiment.folds_path)
    oof = predictions.merge_predictions(
        [predictions.read_predictions(experiment.oof_path)], deal.img_name, deal.fold, deal.target
    )
    place = {name: row for row, name in enumerate(deal.img_name.tolist())}
    found = {}
    for name, (images, value) in _kinds(diagnosis, config, sample, features).items():
        rows = np.array([place.get(image, -1) for image in images.tolist()])
        if (rows < 0).any():
            raise ExperimentError(
                f"{diagnosis.root} does not hold the images that the experiment was trained on",
                hint="pass --data FOLDER with the data that it was trained on",
            )
        group = None if deal.group is None else deal.group[rows]
        parts = slices.slice_by(value, oof.target[rows], oof.ranks[rows], group)
        if name in BANDS:
            order = BANDS[name]
            parts.sort(key=lambda part: order.index(part.value))
        found[name] = [asdict(part) for part in parts]
    return {name: parts for name, parts in found.items() if parts}


def _kinds(
    diagnosis: Diagnosis, config: Config, sample: Table, features: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Image names, and the value that sorts each of them, by what they are sorted by."""
    survey = diagnosis.surveys["train"]
    usable, table = survey.usable, diagnosis.usable("train")
    pixels = survey.width[usable].astype(np.int64) * survey.height[usable]
    quantities = {
        "brightness": survey.brightness[usable],
        "size": pixels,
        "compression": survey.size[usable] / pixels,
    }
    kinds = {
        **attributes.read(diagnosis.root, table, config.data),
        **{name: slices.bands(quantity, BANDS[name]) for name, quantity in quantities.items()},
    }
    cluster = clusters.cluster_features(features, None, CLUSTERS, config.seed)
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
    console.table("out-of-fold AUC by kind of image", ["", "real", "fake", "against", "AUC", "95 %"], cells)
