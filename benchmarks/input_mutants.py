"""Claim: of 20,000 label files, images and configs with something wrong, none is taken for what it does not say, none
ends in a traceback, and no reader hangs.

    python benchmarks/input_mutants.py [--count 20001] [--seed 1]

What is let through is proven by a second reader of each sort to mean the same. What libjpeg and libpng print of damaged
images is of no interest: 2> /dev/null. Ends with 1 if anything slips through.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # tests/ is not installed

from tests.data import input_mutants
from tests.data.input_mutants import OUTCOMES

SORTS = 3
"""Labels, images, configs."""


def main() -> int:
    """Prints a table; 1 if anything slips through."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20_001)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = list(input_mutants.outcomes(asked.count // SORTS, asked.seed, Path(folder)))
    counts = Counter((one.base, outcome) for one, outcome in found)
    print(f"{'':24}" + "".join(f"{outcome:>{len(outcome) + 3}}" for outcome in OUTCOMES))
    for base in [*dict.fromkeys(one.base for one, _ in found), "all"]:
        row = [sum(counts[one] for one in counts if base in (one[0], "all") and one[1] == what) for what in OUTCOMES]
        print(f"{base:24}" + "".join(f"{n:{len(what) + 3}}" for n, what in zip(row, OUTCOMES, strict=True)))
    faults = input_mutants.at_fault(found)
    for fault in faults[:20]:
        print(*fault)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
