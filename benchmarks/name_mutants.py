"""Claim: of more than 2,000 kinds of names (Unicode categories, separators, formulas, markup x places in the name),
brought in as images, groups, kinds, columns, experiments, exports and messages, none ends in a traceback, comes back
changed, is dropped in silence, or is refused where a second judge finds nothing against it.

    python benchmarks/name_mutants.py [--step 1]

`--step 10` tries every tenth. Ends with 1 if anything is at fault.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # tests/ is not installed

from tests import name_mutants
from tests.name_mutants import OUTCOMES


def main() -> int:
    """Prints a table; 1 if anything is at fault."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--step", type=int, default=1)
    names = name_mutants.every(parser.parse_args().step)
    with tempfile.TemporaryDirectory() as folder:
        found = list(name_mutants.results(Path(folder), names))
    counts = Counter((one.way, one.outcome) for one in found)
    print(f"{len(names)} names, {len(found)} results")
    print(f"{'':34}" + "".join(f"{outcome:>{len(outcome) + 3}}" for outcome in OUTCOMES))
    for way in [*dict.fromkeys(one.way for one in found), "all"]:
        row = [sum(counts[one] for one in counts if way in (one[0], "all") and one[1] == what) for what in OUTCOMES]
        print(f"{way:34}" + "".join(f"{n:{len(what) + 3}}" for n, what in zip(row, OUTCOMES, strict=True)))
    faults = name_mutants.at_fault(found)
    for way in dict.fromkeys(one.way for one in faults):
        for one in [one for one in faults if one.way == way][:5]:
            print(one.way, ascii(one.name), one.outcome, ascii(one.detail)[:300])
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
