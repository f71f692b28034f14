"""Claim: of fakes of a kind that training never showed, the recipe for unseen kinds ranks more above photographs than
plain fine-tuning does: the mean AUC over five left-out kinds is at least 0.08 higher, and that of the worst kind is not
lower.

    python benchmarks/unseen_kinds.py --data FOLDER --weights FILE [--autoencoder FILE] --workspace FOLDER
        [--recipe plain --recipe self_blend ...] [--experiment resnet18-fast] [--backbone tf_efficientnet_lite0]
        [--set train.lr=3e-3] [--seeds 0,1] [--epochs 8]

FOLDER is a set of five kinds, as benchmarks/five_kinds.py writes it, which also writes --autoencoder. Each recipe is
the experiment with some keys changed (RECIPES); --set changes keys of all. Folds leave one kind out each
(folds.scheme = "leave-kind-out"), so that each kind is scored by a network that saw the four others. Trainings that
are in the workspace already are not repeated. The CPU time is that of all five folds.

A pseudo-fake method that makes a left-out kind shows the network that kind after all: a star marks such scores, and the
mean "unseen" leaves the kind out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import trained

from ffdi.config import variants
from ffdi.core import console
from ffdi.synthetic.manipulations import MANIPULATIONS

SHOWN = {
    "self_blend": {"self_blend"},
    "reconstruction": {"reconstruction"},
    **{method: {"family"} for method in MANIPULATIONS},
}
"""The kinds of five_kinds.py that each method of pseudo_fakes makes."""


def _fakes(*methods: str, fraction: float = 0.25) -> dict[str, Any]:
    return {"pseudo_fakes.fraction": fraction, "pseudo_fakes.methods": list(methods)}


RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "self_blend": _fakes("self_blend"),
    "reconstruction": _fakes("reconstruction"),
    "blend+recon": _fakes("self_blend", "reconstruction"),
    "paired": {"train.sampling": "paired"},
    "consistency": {"train.consistency": 1.0},
    "topk": {"model.pool": "topk"},
    "gend": {"model.normalize_features": True, "train.alignment": 0.1, "train.uniformity": 0.5},
    "head": {"model.tune": "head"},
    "norm": {"model.tune": "norm"},
    "lora": {"model.tune": "lora"},
    "svd": {"model.tune": "svd", "model.tune_rank": 1},
}


def main() -> None:
    """Trains what is missing, and prints a row for each recipe and seed."""
    parser = argparse.ArgumentParser()
    for name in ("--data", "--weights", "--workspace"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--autoencoder", type=Path)
    parser.add_argument("--recipe", action="append")
    parser.add_argument("--experiment", default="resnet18-fast")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--epochs", type=int, default=8)
    asked = parser.parse_args()
    for recipe in asked.recipe or RECIPES:
        for seed in map(int, asked.seeds.split(",")):
            show(f"{recipe} {' '.join(asked.set)}".strip(), seed, *train(asked, recipe, seed))


def train(asked: argparse.Namespace, recipe: str, seed: int) -> tuple[dict[str, Any], set[str], float]:
    """The scores by kind, the kinds that pseudo-fakes show, and the CPU time; NaN if it was trained before."""
    keys = {
        "seed": seed,
        "data.root": str(asked.data.resolve()),
        "data.kind_column": "kind",
        "data.pair_column": "made_of",
        "folds.k": 5,
        "folds.scheme": "leave-kind-out",
        "model.backbone": asked.backbone,
        "model.weights_file": str(asked.weights.resolve()),
        "train.epochs": asked.epochs,
        **RECIPES[recipe],
        **trained.parse_keys(asked.set),
    }
    if "reconstruction" in keys.get("pseudo_fakes.methods", []):
        keys["pseudo_fakes.autoencoder"] = str(asked.autoencoder.resolve())
    changes = "".join(f"-{word}" for word in asked.set)
    name = variants.name_variant("kinds", {"recipe": recipe, "epochs": asked.epochs, "seed": seed}) + changes
    name = name.replace("=", "_").replace("[", "").replace("]", "").replace('"', "")
    folder = trained.write_variant(asked.workspace, name, asked.experiment, keys)
    seconds = trained.train(asked.workspace, name)
    methods = tomllib.loads((folder / "config.toml").read_text()).get("pseudo_fakes", {}).get("methods", [])
    kinds: dict[str, Any] = json.loads((folder / "metrics.json").read_text())["kinds"]
    return kinds, set().union(*(SHOWN[method] for method in methods)), seconds


def show(recipe: str, seed: int, kinds: dict[str, Any], shown: set[str], seconds: float) -> None:
    scores = {name: one["auc"] for name, one in kinds["scores"].items()}
    cells = "  ".join(f"{name} {auc:.3f}{'*' if name in shown else ''}" for name, auc in scores.items())
    unseen = np.mean([auc for name, auc in scores.items() if name not in shown])
    mean = kinds["mean"]
    ends = console.interval(mean["intervals"]["auc"] if "intervals" in mean else None)
    print(
        f"{recipe:<14} seed {seed}: {cells}  mean {mean['auc']:.3f} ({ends})  unseen {unseen:.3f}  "
        f"worst {min(scores.values()):.3f}  {seconds:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
