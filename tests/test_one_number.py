"""One score has one name and one value, on every screen, page, message and file."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import onnx
import pandas as pd
import pytest

from ffdi.evaluation import score_names
from ffdi.submission import kaggle
from ffdi.submission.kaggle import Answer as KaggleAnswer
from tests.conftest import TINY, Invoke, skip_export_trial

NUMBER = r"(\d\.\d{4})"


def read_tables(answer: str) -> list[dict[str, Any]]:
    tables: list[dict[str, Any]] = json.loads(answer.splitlines()[-1])["tables"]
    return tables


def find_cell(tables: list[dict[str, Any]], heading: str, row: str, column: str = "AUC") -> str:
    """A cell of a table of JSON output, with four digits."""
    (table,) = (one for one in tables if heading in one["heading"])
    (cells,) = (one for one in table["rows"] if one[0] == row)
    value = cells[table["columns"].index(column)]
    return value if isinstance(value, str) else f"{value:.4f}"


@pytest.fixture
def two(copy: Path, competition: Path, invoke: Invoke) -> Path:
    """A workspace with two experiments whose pooled scores differ from the means of their folds."""
    folder = copy / "experiments" / "other"
    folder.mkdir()
    config = TINY.replace("seed = 3", "seed = 4").replace("k = 2", "k = 2\nseed = 3").replace("3e-3", "5e-4")
    (folder / "config.toml").write_text(config.replace("[train]", "[train]\nlabel_smoothing = 0.1"))
    skip_export_trial(copy, "other")
    answer = invoke("train-folds", "-e", "other", "--data", str(competition))
    assert answer.code == 0, answer.err
    return copy


def test_the_same_score_has_the_same_value_everywhere(
    two: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = json.loads((two / "experiments" / "other" / "metrics.json").read_text())
    pooled, mean, ranked = (f"{metrics[key]['auc']:.4f}" for key in ("pooled", "mean", "rank_normalised"))
    on_val = f"{metrics['val']['mean']['auc']:.4f}"
    assert len({pooled, mean}) == 2, "two names of one value prove nothing"
    seen: dict[str, list[str]] = {"pooled": [], "mean": [], "val": []}

    tables = read_tables((answer := invoke("score", "-e", "other", "--json")).out)
    seen["pooled"].append(find_cell(tables, "out-of-fold (OOF) scores, without TTA", score_names.POOLED))
    seen["mean"].append(find_cell(tables, "out-of-fold (OOF) scores", score_names.MEAN_OF_FOLDS))
    seen["val"].append(find_cell(tables, "on the validation split", score_names.MEAN_OF_NETWORKS))
    assert f"{score_names.RANKED}: AUC {ranked}" in answer.out

    printed = invoke("train-folds", "-e", "other").out
    seen["pooled"] += re.findall(rf"│ {score_names.POOLED} +│ {NUMBER}", printed)
    seen["mean"] += re.findall(rf"│ {score_names.MEAN_OF_FOLDS} +│ {NUMBER}", printed)

    tables = read_tables(invoke("leaderboard", "--json").out)
    seen["pooled"].append(find_cell(tables, "AUC of 2 experiments", "other", score_names.POOLED))
    seen["val"].append(find_cell(tables, "AUC of 2 experiments", "other", "val AUC"))
    board = pd.read_csv(two / "experiments" / "leaderboard.csv").set_index("experiment")
    seen["pooled"].append(f"{board.oof_auc['other']:.4f}")

    answer = invoke("ensemble-submit", "-e", "tiny", "-e", "other", "--json")
    tables = read_tables(answer.out)
    seen["pooled"].append(find_cell(tables, "scores on the val split", f"other: {score_names.POOLED}"))
    record = json.loads((two / "exports" / "tiny+other" / "submission.json").read_text())
    seen["pooled"].append(f"{record['oof']['other']['auc']:.4f}")
    aucs = {
        name: json.loads((two / "experiments" / name / "metrics.json").read_text())["mean"]["auc"]
        for name in ("tiny", "other")
    }
    best = record["best_single"]
    assert aucs[best["experiment"]] == max(aucs.values())
    assert best["auc"] == pytest.approx(max(aucs.values()), abs=1e-12)
    single = f"best single experiment: {best['experiment']}"
    assert find_cell(tables, "ways to combine the experiments", single) == f"{best['auc']:.4f}"
    plain = next(row for row in record["nested"] if row["method"] == "mean")
    assert plain["gain"] == pytest.approx(plain["auc"] - best["auc"], abs=1e-12)

    tables = read_tables(invoke("distill", "-e", "tiny", "-e", "other", "--student", "small", "--json").out)
    seen["mean"].append(find_cell(tables, "AUC of the teachers", "other"))
    tables = read_tables(invoke("compare", "tiny", "other", "--json").out)
    seen["mean"].append(find_cell(tables, score_names.MEAN_OF_FOLDS, "all images", "other"))

    assert invoke("report", "-e", "tiny", "-e", "other").code == 0
    page = html.unescape((two / "exports" / "tiny+other" / "report.html").read_text())
    cells = re.sub(r"<[^>]+>", "|", page)
    cells = re.sub(r"[|\s]*\|[|\s]*", "|", cells)
    seen["pooled"] += re.findall(rf"\|other: {score_names.POOLED}\|{NUMBER}", cells)
    block = cells[cells.index(f"|other: {score_names.POOLED}|") :]
    seen["mean"] += re.findall(rf"{score_names.MEAN_OF_FOLDS}\|{NUMBER}", block)[:1]
    seen["val"] += re.findall(rf"on val, {score_names.MEAN_OF_NETWORKS}\|{NUMBER}", block)[:1]
    assert f"|{single}|{best['auc']:.4f}|" in cells

    assert invoke("export-onnx", "-e", "other", "--runtimes", "cpu").code == 0
    graph = onnx.load(two / "exports" / "other" / "model.onnx")
    (text,) = (one.value for one in graph.metadata_props if one.key == "oof_auc")
    assert text == f"AUC other {pooled} ({score_names.POOLED})"
    assert invoke("ensemble-submit", "-e", "other").code == 0
    sent: list[str] = []
    monkeypatch.setattr(kaggle, "find_program", lambda: "kaggle")
    monkeypatch.setattr(kaggle, "submit", lambda *words: sent.append(words[2]) or KaggleAnswer(0, "ref: 1", ""))
    assert invoke("submit", "-e", "other", "--competition", "ffdi").code == 0
    assert f"AUC other {pooled} ({score_names.POOLED})" in sent[0]

    assert seen["pooled"] == [pooled] * 7, seen
    assert seen["mean"] == [mean] * 5, seen
    assert seen["val"] == [on_val] * 3, seen
