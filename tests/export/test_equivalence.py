"""The equivalence check of a graph that is not exact."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ffdi.core.errors import ParityError
from ffdi.data.labels.table import Table
from ffdi.export.equivalence import EquivalenceCheck, spread_rows

RNG = np.random.default_rng(0)
TARGET = np.arange(400) % 2
SCORES = np.clip(0.5 + 0.15 * (TARGET - 0.5) * 4 + RNG.normal(0, 0.15, 400), 0, 1)


def make_check() -> EquivalenceCheck:
    """400 images, well separated."""
    table = Table("val", Path(), np.arange(400).astype(str), TARGET, None, Path())
    return EquivalenceCheck(table, SCORES, "y_pred", lambda found: found.astype(np.float64))


def test_a_rounding_graph_passes() -> None:
    record = make_check().compare((SCORES + RNG.normal(0, 1e-3, 400)).astype(np.float32), "this graph on fast")
    assert (record["images"], record["split"]) == (400, "val")
    assert 1e-3 < record["largest_difference"] < 6e-3
    assert abs(record["auc"]["here"] - record["auc"]["fp32"]) < 0.002


def test_a_graph_that_loses_is_refused_with_its_figures() -> None:
    noisy = np.clip(SCORES + RNG.normal(0, 0.2, 400), 0, 1)
    with pytest.raises(ParityError) as caught:
        make_check().compare(noisy, "this graph on fast")
    first, second, *rest = str(caught.value).splitlines()
    assert first == "this graph on fast loses too much against fp32 on 400 val images"
    assert re.fullmatch(r"  auc: 0\.9\d+ -> 0\.\d+, a loss of 0\.\d+; at most 0\.002", second)
    assert re.fullmatch(r"  tpr_at_fpr_1e-3: 0\.\d+ -> 0\.\d+, a loss of 0\.\d+; at most 0\.02", rest[0])
    assert rest[1] == "next: export in another precision, or without --soup"


def test_a_graph_that_is_better_is_not_refused() -> None:
    better = np.clip(SCORES + 0.3 * (TARGET - 0.5), 0, 1)
    assert (
        make_check().compare(better, "this graph")["auc"]["here"]
        > make_check().compare(SCORES, "this graph")["auc"]["here"]
    )


def test_scores_that_are_not_finite_are_refused() -> None:
    broken = SCORES.copy()
    broken[7] = np.nan
    with pytest.raises(ParityError) as caught:
        make_check().compare(broken, "this graph on fast")
    assert str(caught.value) == "this graph on fast gives scores that are not finite\nnext: export in another precision"


def test_rows_are_spread_evenly_without_duplicates() -> None:
    assert spread_rows(10, 4).tolist() == [0, 3, 6, 9]
    assert spread_rows(3, 4).tolist() == [0, 1, 2]
    assert spread_rows(1, 4).tolist() == [0]
