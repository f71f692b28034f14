"""Claim: of thousands of data folders as people have them, each is read as an independent walk reads it, or is refused
with an error that names the cause.

    python benchmarks/data_folders.py              2,000 folders: layouts, labels, links, endings and junk files
    python benchmarks/data_folders.py COUNT SEED   as many others

Read, and equal to what `os.walk` and Pillow say; refused; and what is neither. Ends with 1 if anything is. A minute.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # tests/ is not installed

from tests.data import folder_mutants


def main(count: int = 2000, seed: int = 0) -> int:
    outcomes, drawn, faults = Counter[str](), Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        for case, fault in folder_mutants.cases(count, seed, Path(folder) / "set"):
            outcomes["refused by its cause" if case.rows is None else "read"] += not fault
            drawn.update(case.kinds)
            if fault:
                faults += 1
                print(f"{', '.join(case.kinds)}: {fault}")
    for kind, number in sorted(drawn.items()):
        print(f"  {number:5} {kind}")
    read, refused = outcomes["read"], outcomes["refused by its cause"]
    print(f"{count} folders: {read} read, {refused} refused by their cause, {faults} others")
    return int(faults > 0)


if __name__ == "__main__":
    if any(word in ("-h", "--help") for word in sys.argv[1:]):
        sys.exit(__doc__)
    sys.exit(main(*map(int, sys.argv[1:])))
