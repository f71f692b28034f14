"""An experiment's scores, made from its predictions, written and shown."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffdi.commands.shared import screens
from ffdi.core import console, hashes, manifests
from ffdi.core.errors import ExperimentError
from ffdi.evaluation import predictions, scorecard
from ffdi.evaluation.predictions import OofPredictions
from ffdi.experiments.experiment import Experiment


def publish(experiment: Experiment, oof: OofPredictions, group: np.ndarray | None) -> None:
    """Draws up metrics.json from a ledger, and shows it."""
    val = on_val(experiment, np.unique(oof.fold).tolist())
    digest = hashes.sha256(experiment.oof_path)
    content = {"experiment": experiment.name, "oof_sha256": digest, **scorecard.make_scorecard(oof, group, val)}
    manifests.write_manifest(experiment.metrics_path, content)
    rows = [(f"fold {fold}", score) for fold, score in content["folds"].items()]
    screens.show_scores("out-of-fold scores", [*rows, ("all folds", content["pooled"])])
    ranked = content["rank_normalised"]
    console.say(f"AUC of ranks within each fold: {ranked['auc']:.4f} ({screens.interval(ranked)})")
    if "val" in content:
        _show_val(content["val"])


def _show_val(val: dict[str, Any]) -> None:
    rows = [(f"fold {fold}", score) for fold, score in val["folds"].items()]
    screens.show_scores("the same networks on the validation split", [*rows, ("mean", val["mean"])])
    gap = val["gap"]
    console.say(
        f"gap: a network's AUC on its held-out fold less that on val: {gap['auc']:+.4f} ({screens.interval(gap)})"
    )
    if why := gap["no_interval"].get("auc"):
        console.say(f"no interval of the gap: {why}")


def on_val(experiment: Experiment, numbers: list[int]) -> list[OofPredictions]:
    """What each fold's network says of the validation split, in one order; none where not all folds were asked."""
    paths = [experiment.fold(number).val_path for number in numbers]
    if not all(path.is_file() for path in paths):
        return []
    first, *others = (predictions.read_predictions(path) for path in paths)
    try:
        return [
            first,
            *(predictions.merge_predictions([one], first.img_name, one.fold, first.target) for one in others),
        ]
    except ExperimentError:
        console.say("the folds were trained beside different validation splits: no gap")
        return []
