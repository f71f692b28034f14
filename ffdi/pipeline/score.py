"""Draws an experiment's scores up anew from its files alone."""

from __future__ import annotations

import numpy as np

from ffdi import console, publish
from ffdi.pipeline import screens
from ffdi.scoring import ledger, scorecard
from ffdi.scoring.ledger import Ledger
from ffdi.store.experiment import Experiment
from ffdi.store.workspace import Workspace


def run(workspace: Workspace, name: str) -> None:
    """Draws up an experiment's scores anew from folds.csv and oof.csv alone."""
    from ffdi.data import folds

    experiment = workspace.experiment(name)
    experiment.check_scored()
    with experiment.locked():
        deal = folds.recorded(experiment.folds_path)
        oof = ledger.merge([ledger.read(experiment.oof_path)], deal.img_name, deal.fold, deal.target)
        console.title(f"score {experiment.name}: {len(oof.img_name)} out-of-fold predictions")
        publish_scores(experiment, oof, deal.group)
    console.say(f"written: {experiment.metrics_path}")


def publish_scores(experiment: Experiment, oof: Ledger, group: np.ndarray | None) -> None:
    """Draws up metrics.json from a ledger, and shows it."""
    scores = {"experiment": experiment.name, **scorecard.draw_up(oof, group)}
    publish.document(experiment.metrics_path, scores)
    rows = [(f"fold {fold}", score) for fold, score in scores["folds"].items()]
    screens.show_scores("out-of-fold scores", [*rows, ("all folds", scores["pooled"])])
    ranked = scores["rank_normalised"]
    console.say(f"AUC of ranks within each fold: {ranked['auc']:.4f} ({screens.interval(ranked)})")
