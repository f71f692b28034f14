"""Computes and writes the scores of an experiment."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffdi.commands.shared import score_tables
from ffdi.config import schema
from ffdi.core import console, manifests
from ffdi.core.errors import ExperimentError
from ffdi.data.splits import folds
from ffdi.data.splits.folds import FoldAssignment
from ffdi.evaluation import predictions, score_names, scorecard
from ffdi.evaluation.predictions import OofPredictions
from ffdi.experiments.experiment import Experiment


def publish_scores(
    experiment: Experiment, oof: OofPredictions, group: np.ndarray | None, kind: np.ndarray | None
) -> None:
    """Writes metrics.json from out-of-fold predictions, and shows the scores."""
    numbers = np.unique(oof.fold).tolist()
    val, refit = read_val_predictions(experiment, numbers), experiment.get_refit(len(numbers))
    on_val = predictions.read_predictions(refit.val_path) if refit.val_path.is_file() else None
    scored = scorecard.make_scorecard(oof, group, val, kind, on_val)
    content = {"experiment": experiment.name, "oof_sha256": manifests.hash_file(experiment.oof_path), **scored}
    manifests.write_manifest(experiment.metrics_path, content)
    rows = [(f"fold {fold}", score) for fold, score in content["folds"].items()]
    rows += [(score_names.MEAN_OF_FOLDS, content["mean"]), (score_names.POOLED, content["pooled"])]
    tta = score_names.describe_tta(schema.load_experiment(experiment.config_path).predict.tta)
    score_tables.show_scores(f"{score_names.OOF_SCORES}, {tta}", rows)
    ranked = content["rank_normalised"]
    console.say(f"{score_names.RANKED}: AUC {ranked['auc']:.4f} ({score_tables.format_interval(ranked)})")
    if "kinds" in content:
        _show_kinds(content["kinds"])
    if "val" in content:
        _show_val(content["val"])


def read_oof(experiment: Experiment) -> tuple[FoldAssignment, OofPredictions]:
    """The folds of the training images, and their out-of-fold predictions in the same order.

    Raises:
        ExperimentError: a file is missing or damaged, or an image was scored by a network that was trained on it.
    """
    assignment = folds.read_assignment(experiment.folds_path)
    oof = predictions.merge_predictions(
        [predictions.read_predictions(experiment.oof_path)], assignment.img_name, assignment.fold, assignment.target
    )
    return assignment, oof


def _show_kinds(kinds: dict[str, Any]) -> None:
    scored = {name: one for name, one in kinds["scores"].items() if "auc" in one}
    rows = [(f"{name} ({one['fake']})", one["auc"], score_tables.format_interval(one)) for name, one in scored.items()]
    if not rows:
        return
    mean = kinds["mean"]
    rows.append(("mean of the kinds", mean["auc"], score_tables.format_interval(mean)))
    left_out = ", each by a network that has never seen this kind" if kinds["left_out"] else ""
    console.table(f"AUC by kind of fake{left_out}", ["", "AUC", "95 %"], rows)
    console.say(f"worst kind: {kinds['worst']}, AUC {scored[kinds['worst']]['auc']:.4f}")
    if few := [f"{name} ({one['fake']})" for name, one in kinds["scores"].items() if "auc" not in one]:
        console.say(f"too few fakes for an AUC: {', '.join(few)}")


def _show_val(val: dict[str, Any]) -> None:
    rows = [(f"fold {fold}", score) for fold, score in val["folds"].items()]
    rows += [(score_names.MEAN_OF_NETWORKS, val["mean"]), *([("refit", val["refit"])] if "refit" in val else [])]
    score_tables.show_scores("the same networks on the validation split", rows)
    gap = val["gap"]
    interval = score_tables.format_interval(gap)
    console.say(f"gap: a network's AUC on its held-out fold less that on val: {gap['auc']:+.4f} ({interval})")
    if why := gap["no_interval"].get("auc"):
        console.say(f"no interval of the gap: {why}")


def read_val_predictions(experiment: Experiment, numbers: list[int]) -> list[OofPredictions]:
    """Each fold's predictions of the validation split, in the same order; [] if a fold has none."""
    paths = [experiment.get_fold(number).val_path for number in numbers]
    if not all(path.is_file() for path in paths):
        return []
    first, *others = (predictions.read_predictions(path) for path in paths)
    try:
        return [
            first,
            *(predictions.merge_predictions([one], first.img_name, one.fold, first.target) for one in others),
        ]
    except ExperimentError:
        console.say("the folds were trained with different validation splits: no gap")
        return []
