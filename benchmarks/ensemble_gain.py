"""Claim: experiments together never score lower out of fold than the best of them, by more than the interval of the
difference; how they are combined is fitted without the images that it is scored on.

    python benchmarks/ensemble_gain.py EXPERIMENT EXPERIMENT [...]

A list stands for what it lists; $FFDI_ROOT is heeded. All are trained, on the same folds. The AUC is taken within each
fold and averaged; the best member is the one with the best such AUC, which favours it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ffdi.commands.shared import groups
from ffdi.core import console
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import differences
from ffdi.evaluation.predictions import sigmoid
from ffdi.experiments.workspace import Workspace

PROJECT = Path(__file__).resolve().parent.parent


def main(names: list[str]) -> None:
    """Prints each member's AUC, and the difference of all together against the best."""
    workspace = Workspace.from_environment(PROJECT)
    members, _ = groups.resolve_experiments(workspace, names)
    ensemble = Ensemble.from_experiments([workspace.get_experiment(name) for name in members])
    together = [*(sigmoid(row) for row in ensemble.oof_logits), ensemble.choice.y_pred]
    rows = ensemble.assignment.target, ensemble.assignment.fold, ensemble.assignment.group
    alone = differences.compare_with_first(np.stack(together), *rows, 0.95)[:-1]
    for name, member in zip(members, alone, strict=True):
        print(f"{name:50} {member.auc:.4f}")
    best = int(np.argmax([member.auc for member in alone]))
    gain = differences.compare_with_first(np.stack([together[best], together[-1]]), *rows, 0.95)[1]
    print(f"{'together, by ' + ensemble.method:50} {gain.auc:.4f}")
    print(f"against {members[best]}: {gain.difference:+.4f} ({console.interval(gain.interval, '+.4f')})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", nargs="+")
    main(parser.parse_args().experiment)
