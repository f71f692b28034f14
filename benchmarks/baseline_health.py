"""Claim: the settings that people start from (experiments/baseline: Adam 3e-3, two epochs) on a small set, without
pretrained weights, end in every fold with a symptom and advice.

    python benchmarks/baseline_health.py [--data FOLDER] [--size 256]

Without --data the demonstration competition is used as the small set, at its own 80 px. Of three folds two are trained.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
CHANGES = (("pretrained = true", "pretrained = false"), ("k = 5", "k = 3"))


def main() -> None:
    """Trains and counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--size", type=int)
    asked = parser.parse_args()
    size = asked.size or (256 if asked.data else 80)
    config = (PROJECT / "experiments" / "baseline" / "config.toml").read_text()
    for old, new in (*CHANGES, ("size = 256", f"size = {size}"), ('"data/phase1"', '"data/quickstart"')):
        assert old in config, old
        config = config.replace(old, new)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "experiments" / "baseline"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(config)
        command = ["invoke", "train-folds", "--experiment", "baseline", "--folds", "0,1"]
        output = subprocess.run(
            [sys.executable, "-m", *command, *(["--data", str(asked.data.resolve())] if asked.data else [])],
            cwd=PROJECT,
            env={**os.environ, "FFDI_ROOT": scratch},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    print("\n".join(line for line in output.splitlines() if line.startswith("fold ")))
    ill = {line.split("  ")[0] for line in output.splitlines() if "  unhealthy: " in line}
    print(f"folds with a symptom: {len(ill)} of 2")


if __name__ == "__main__":
    main()
