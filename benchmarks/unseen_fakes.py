"""Claim: a network that saw self-blended images in training ranks a kind of fake that it was never shown better than
the same network without them, by more than the paired interval.

    python benchmarks/unseen_fakes.py --data FOLDER --data FOLDER [--backbone resnet18] [--weights FILE]
        [--experiment resnet18-fast] [--set train.lr=3e-3] [--share 0.25] [--epochs 8] [--seeds 0,1,2]

Each FOLDER is in FFDI layout with a labelled validation split, and has another kind of fakes. Trained on all training
images of the one, scored on the training and validation images of the other, none of which it has seen, and the other
way; for every seed once without and once with pseudo-fakes, a --share of the real ones, all else alike. The interval:
bootstrap of the images (or their groups), of the mean of the seeds' differences in AUC. --one-way does the first alone.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import score

from ffdi.config.schema import Config
from ffdi.core import console, machine
from ffdi.data.labels import layout
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.table import Table
from ffdi.evaluation import differences, intervals, metrics


def main() -> None:
    """Trains on each, scores on the other, and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--experiment", default="resnet18-fast")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--one-way", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(machine.count_cores())
    for here, there in list(itertools.permutations(asked.data, 2))[: 1 if asked.one_way else None]:
        print(f"trained on {here}, scored on {there}", flush=True)
        compare(asked, layout.find_dataset(here, Config().data), layout.find_dataset(there, Config().data))


def compare(asked: argparse.Namespace, here: Dataset, there: Dataset) -> None:
    """Every seed with and without, and the interval of the mean difference."""
    unseen = [there.split("train"), there.split("val")]
    target = np.concatenate([table.target for table in unseen])
    grouped = any(table.group is not None for table in unseen)
    groups = [table.img_name if table.group is None else table.group for table in unseen]
    group = np.concatenate(groups) if grouped else None
    wrong = []
    for seed in map(int, asked.seeds.split(",")):
        scores = [y_pred(asked, here, unseen, seed, share) for share in (0.0, asked.share)]
        auc = [metrics.auc(metrics.count_scores(target, one)) for one in scores]
        print(f"  seed {seed}: AUC {auc[0]:.4f} without, {auc[1]:.4f} with", flush=True)
        wrong.append([intervals.compute_misranked(target, one) for one in scores])
    units = intervals.Units(target, group)
    found = differences.compare_parts([differences.Part(units, np.mean(wrong, axis=0))], 0.95)[1]
    ends = console.interval(found.interval, "+.4f")
    print(f"  mean difference {found.difference:+.4f} ({ends}), {len(target)} images", flush=True)


def y_pred(asked: argparse.Namespace, here: Dataset, unseen: list[Table], seed: int, share: float) -> np.ndarray:
    """float [N], of all images there."""
    settings = score.configured(asked, seed).with_epochs(asked.epochs)
    settings = settings.model_copy(
        update={"pseudo_fakes": settings.pseudo_fakes.model_copy(update={"fraction": share})}
    )
    where = score.place(settings)
    state = score.trained(settings, asked.weights, here, where)
    return np.concatenate([score.scored(state, settings, table, where, None) for table in unseen])


if __name__ == "__main__":
    main()
