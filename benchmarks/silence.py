"""Claim: every command gives a first sign within 2 s, and is never silent for more than 30 s, in a log.

    python benchmarks/silence.py

Runs the commands on the demonstration competition, from the training on, without a terminal, in a folder of its own.
Shows for each the seconds to its first output, the longest silence after that, and all of its seconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
NAME = ["--experiment", "quickstart"]
COMMANDS = (
    ["train-folds", *NAME],
    ["doctor", *NAME],
    ["find-lr", *NAME],
    ["score", *NAME, "--stress", "--shift"],
    ["report", *NAME],
    ["ensemble-submit", *NAME],
    ["export-onnx", *NAME],
    ["predict-onnx", *NAME],
    ["leaderboard"],
    ["compare", "quickstart", "quickstart"],
    ["verify"],
    ["cache", *NAME],
)
FIRST, LONGEST = 2.0, 30.0


def measure(words: list[str], root: Path) -> tuple[float, float, float, int]:
    """Seconds to the first output, of the longest silence after it, and of the whole command; and its exit code."""
    start = last = time.monotonic()
    first, longest = None, 0.0
    process = subprocess.Popen(
        [sys.executable, "-m", "invoke", *words],
        cwd=PROJECT,
        env={**os.environ, "FFDI_ROOT": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    while os.read(process.stdout.fileno(), 65_536):
        now = time.monotonic()
        if first is None:
            first = now - start
        else:
            longest = max(longest, now - last)
        last = now
    code = process.wait()
    end = time.monotonic()
    return first if first is not None else end - start, max(longest, end - last), end - start, code


def main() -> None:
    slow = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = root / "experiments" / "quickstart" / "config.toml"
        config.parent.mkdir(parents=True)
        shutil.copy(PROJECT / "experiments" / "quickstart" / "config.toml", config)
        print(f"{'command':42}{'first sign':>12}{'longest silence':>17}{'all':>8}")
        for words in COMMANDS:
            first, longest, whole, code = measure(words, root)
            line = f"{' '.join(words):42}{first:10.1f} s{longest:15.1f} s{whole:6.0f} s"
            print(line + (f"  exit code {code}" if code else ""), flush=True)
            if code or first > FIRST or longest > LONGEST:
                slow.append(words[0])
    print(f"the claim fails for: {', '.join(slow)}" if slow else "the claim holds")
    sys.exit(bool(slow))


if __name__ == "__main__":
    main()
