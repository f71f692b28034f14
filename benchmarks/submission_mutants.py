"""Claim: of thousands of submissions with one thing wrong, the gate lets none through that says something else.

    python benchmarks/submission_mutants.py [SEED]

Changes the texts that `check` reads, and the arrays that `build` is given; SEED is for other draws. Counted: let
through, and proven by csv and float alone to give the same scores to the same names; refused; and of those refused, how
many a lenient reader would have taken for the same. Ends with 1 if anything slips through. Three seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # tests/ is not installed

from ffdi.core.errors import SubmissionError
from ffdi.submission import gate
from ffdi.submission.gate import Direction, Template
from tests.submission import mutants

OUTCOMES = ("let through", "refused", "of these the same to others", "SLIPPED THROUGH")


def texts(seed: int) -> Iterator[tuple[str, str]]:
    """Kind and outcome of each mutant of a text."""
    for one in mutants.of_text(seed):
        same = mutants.harmless(one.content, one.base.names, one.base.y_pred)
        try:
            gate.check_submission_text(
                one.content, Template(one.base.names, one.base.names), np.array(one.base.names), one.base.y_pred
            )
        except SubmissionError:
            yield from ((one.kind, outcome) for outcome in OUTCOMES[1 : 3 if same else 2])
        else:
            yield one.kind, OUTCOMES[0] if same else OUTCOMES[3]


def arrays(seed: int) -> Iterator[tuple[str, str]]:
    """Kind and outcome of each mutant of the arrays."""
    for one in mutants.of_arrays(seed):
        same = mutants.lawful(one)
        try:
            direction = Direction(one.reference, {})
            content = gate.build_submission(
                Template(one.expected, one.expected), one.img_name, one.y_pred, direction
            ).content
        except SubmissionError:
            yield from ((one.kind, outcome) for outcome in OUTCOMES[1 : 3 if same else 2])
        else:
            same = same and mutants.harmless(content, one.img_name.tolist(), one.y_pred)
            yield one.kind, OUTCOMES[0] if same else OUTCOMES[3]


def show(title: str, found: Counter[tuple[str, str]]) -> int:
    """Prints a table; how many slipped through."""
    print(f"{title:34}" + "".join(f"{outcome:>{len(outcome) + 3}}" for outcome in OUTCOMES))
    for kind in [*dict.fromkeys(kind for kind, _ in found), "all"]:
        counts = [sum(found[one] for one in found if kind in (one[0], "all") and one[1] == what) for what in OUTCOMES]
        print(f"  {kind:32}" + "".join(f"{n:{len(what) + 3}}" for n, what in zip(counts, OUTCOMES, strict=True)))
    return sum(count for (_, outcome), count in found.items() if outcome == OUTCOMES[3])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", nargs="?", type=int, default=0)
    seed = parser.parse_args().seed
    sys.exit(show("texts", Counter(texts(seed))) + show("arrays", Counter(arrays(seed))) > 0)
