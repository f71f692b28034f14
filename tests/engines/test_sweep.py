"""Concurrent trials, in processes or on Ray, have the same scores as one after the other."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests import faults
from tests.conftest import TINY

SEARCH = ["--set", "train.lr=1e-3,3e-3,1e30", "--set", "train.clip_grad=0"]


def swept(root: Path, data: Path, *words: str) -> pd.DataFrame:
    """The trials of a new workspace, by name."""
    folder = root / "experiments" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(TINY)
    result = faults.run(["sweep", "--experiment", "tiny", "--data", str(data), *SEARCH, *words], root)
    assert result.code == 0, result.output
    assert "tiny-lr_1e+30-clip_grad_0: the " in result.output
    return pd.read_csv(folder / "sweep.csv", index_col="experiment").sort_index()


@pytest.fixture(scope="module")
def one_by_one(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return swept(tmp_path_factory.mktemp("one_by_one") / "root", competition)


@pytest.mark.parametrize("words", [["--jobs", "2"], ["--jobs", "2", "--engine", "ray"]], ids=["processes", "ray"])
def test_concurrent_trials_have_the_same_scores(
    words: list[str], one_by_one: pd.DataFrame, competition: Path, tmp_path: Path
) -> None:
    at_once = swept(tmp_path / "root", competition, *words)
    assert list(at_once.index) == list(one_by_one.index)
    pd.testing.assert_series_equal(at_once.auc_after_1, one_by_one.auc_after_1, rtol=1e-4)
    assert at_once.loc["tiny-lr_1e+30-clip_grad_0", "auc_after_1"] == float("-inf")
    assert at_once.auc_after_3.notna().sum() >= 1
    both = at_once.auc_after_3.notna() & one_by_one.auc_after_3.notna()
    pd.testing.assert_series_equal(at_once.auc_after_3[both], one_by_one.auc_after_3[both], rtol=1e-4)
