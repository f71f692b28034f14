"""Claims: `invoke --list` takes under half a second without torch; a finished experiment's submission and its ONNX
scores by a runtime in fp32 differ by at most 1e-4; all folds together score at least as well on the test split as they
do on average.

    python benchmarks/first_run.py            the quickstart, after the README's first command
    python benchmarks/first_run.py NAME       another experiment, in the workspace $FFDI_ROOT

Prints each figure with its bound. The tests train again and compare the bytes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from ffdi.core import manifests
from ffdi.evaluation import metrics
from ffdi.experiments.workspace import Workspace

PROJECT = Path(__file__).resolve().parent.parent


def seconds_to_list(runs: int = 7) -> float:
    """Median wall seconds of `invoke --list`, process start included."""
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "invoke", "--list"], cwd=PROJECT, check=True, capture_output=True)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def largest_difference(submission: Path, scores: Path) -> float:
    """The largest |difference of y_pred| over the images of both files, joined by name."""
    both = pd.merge(pd.read_csv(submission), pd.read_csv(scores), on="img_name", validate="one_to_one")
    assert len(both) == len(pd.read_csv(submission)), "the files do not hold the same images"
    return float((both.y_pred_x - both.y_pred_y).abs().max())


def families(oof: Path, table: Path) -> dict[str, float | int]:
    """AUC of each family of fakes against all real images, out of fold."""
    rows = pd.merge(pd.read_csv(oof), pd.read_csv(table), on="img_name", validate="one_to_one")
    kinds = sorted(set(rows.family) - {"real"})
    parts = {kind: rows[rows.family.isin(["real", kind])] for kind in kinds}
    return {
        kind: metrics.evaluate(part.target.to_numpy(), part.y_pred.to_numpy())["auc"] for kind, part in parts.items()
    }


def main(name: str) -> None:
    """Prints the figures."""
    workspace = Workspace.from_environment(PROJECT)
    export, experiment = workspace.get_export([name]), workspace.get_experiment(name)
    record = manifests.read_manifest(export.submission_record_path)
    print(f"invoke --list             {seconds_to_list():.2f} s (bound 0.5)")
    print(f"out-of-fold AUC           {manifests.read_manifest(experiment.metrics_path)['pooled']['auc']:.4f}")
    table = experiment.read_data_root() / "families.csv"
    for family, auc in (families(experiment.oof_path, table) if table.is_file() else {}).items():
        print(f"  {family:24}{auc:.4f}")
    for split, score in record["scores"].items():
        print(f"{split + ' AUC, mean of folds':26}{score['mean']['auc']:.4f}")
        print(f"{split + ' AUC, ensemble':26}{score['ensemble']['auc']:.4f}")
    difference = largest_difference(export.submission_path, export.scores_path)
    runtime = manifests.read_manifest(export.scores_path.with_suffix(".json"))["runtime"]
    print(f"submission against ONNX   {difference:.1e} over {record['rows']} images by {runtime} (fp32: bound 1e-4)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="quickstart", help="the experiment")
    main(parser.parse_args().name)
