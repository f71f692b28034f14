"""What a graph that is not exact is worth, and by which images that is judged."""

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


def jury() -> EquivalenceCheck:
    """400 images, well told apart."""
    table = Table("val", Path(), np.arange(400).astype(str), TARGET, None, Path())
    return EquivalenceCheck(table, SCORES, "y_pred", lambda found: found.astype(np.float64))


def test_a_graph_that_rounds_is_worth_as_much() -> None:
    heard = jury().hear((SCORES + RNG.normal(0, 1e-3, 400)).astype(np.float32), "this graph on fast")
    assert (heard["images"], heard["split"]) == (400, "val")
    assert 1e-3 < heard["largest_difference"] < 6e-3
    assert abs(heard["auc"]["here"] - heard["auc"]["fp32"]) < 0.002


def test_a_graph_that_loses_is_refused_with_its_figures() -> None:
    noisy = np.clip(SCORES + RNG.normal(0, 0.2, 400), 0, 1)
    with pytest.raises(ParityError) as caught:
        jury().hear(noisy, "this graph on fast")
    first, second, *rest = str(caught.value).splitlines()
    assert first == "this graph on fast loses too much against fp32 on 400 val images"
    assert re.fullmatch(r"  auc: 0\.9\d+ -> 0\.\d+, a loss of 0\.\d+; at most 0\.002", second)
    assert re.fullmatch(r"  tpr_at_fpr_1e-3: 0\.\d+ -> 0\.\d+, a loss of 0\.\d+; at most 0\.02", rest[0])
    assert rest[1] == "next: export in another precision, or without --soup"


def test_a_graph_that_is_better_is_not_refused() -> None:
    better = np.clip(SCORES + 0.3 * (TARGET - 0.5), 0, 1)
    assert jury().hear(better, "this graph")["auc"]["here"] > jury().hear(SCORES, "this graph")["auc"]["here"]


def test_scores_that_are_no_numbers_are_refused() -> None:
    broken = SCORES.copy()
    broken[7] = np.nan
    with pytest.raises(ParityError) as caught:
        jury().hear(broken, "this graph on fast")
    assert str(caught.value) == "this graph on fast gives scores that are no numbers\nnext: export in another precision"


def test_rows_are_spread_evenly_and_none_comes_twice() -> None:
    assert spread_rows(10, 4).tolist() == [0, 3, 6, 9]
    assert spread_rows(3, 4).tolist() == [0, 1, 2]
    assert spread_rows(1, 4).tolist() == [0]
