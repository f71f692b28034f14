"""What several commands show, on terminals of several widths."""

from __future__ import annotations

import sys

import pytest

from ffdi.commands import leaderboard, train_folds
from ffdi.commands.shared import score_tables
from ffdi.training.state import EpochRecord

SCORE = {
    "auc": 0.9059,
    "intervals": {"auc": [0.887, 0.922]},
    "tpr_at_fpr_1e-3": 0.1317,
    "tpr_at_fpr_1e-2": 0.5867,
    "accuracy": 0.8358,
    "log_loss": 0.3904,
}


def shown(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines of a table of scores on a terminal so wide."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    score_tables.show_scores("scores", [("quickstart: OOF, pooled", SCORE), ("ensemble", SCORE)])
    return capsys.readouterr().out.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()


def test_scores_fit_eighty_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(80, monkeypatch, capsys)
    assert max(map(len, lines)) <= 80
    assert lines[2] == "┃                         ┃    AUC ┃           95 % ┃ TPR at FPR 1e-3 ┃"
    assert lines[4] == "│ quickstart: OOF, pooled │ 0.9059 │ 0.887 to 0.922 │          0.1317 │"
    assert lines[7:] == ["not shown in 80 columns: at 1e-2, accuracy, log loss"]


def test_a_missing_interval_is_shown_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {**SCORE, "intervals": {}, "no_interval": {"auc": "there are fewer than 10 real images"}}
    monkeypatch.setattr(sys.modules[__name__], "SCORE", few)
    lines = shown(80, monkeypatch, capsys)
    assert lines[4] == "│ quickstart: OOF, pooled │ 0.9059 │ no interval │          0.1317 │"
    assert lines[8] == "no interval of an AUC: there are fewer than 10 real images"
    row = dict.fromkeys(leaderboard.COLUMNS) | {"experiment": "few", "oof_auc": 0.9, "gap": 0.1}
    assert leaderboard._cells(row)[2:7] == ["0.9000", "no interval", "", "+0.1000", "no interval"]
    assert leaderboard._cells(dict.fromkeys(leaderboard.COLUMNS) | {"experiment": "new"})[2:7] == [""] * 5


def test_wide_terminals_have_every_score(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(110, monkeypatch, capsys)
    assert lines[2].split("┃")[4:-1] == [" TPR at FPR 1e-3 ", " at 1e-2 ", " accuracy ", " log loss "]
    assert lines[4].split("│")[5:-1] == ["  0.5867 ", "   0.8358 ", "   0.3904 "]


@pytest.mark.parametrize(("width", "accuracy"), [(80, ""), (110, "accuracy 0.5400  ")])
def test_an_epoch_is_one_line(width: int, accuracy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    (line,) = train_folds._describe_progress(EpochRecord(2, 1e-3, 0.5914, 0.7049, 0.54, 0.7168, 136.2, 9.0), 9)
    assert line == f"epoch  3/9  loss 0.5914  held-out: loss 0.7049  {accuracy}AUC 0.7168  136 images/s"
    assert len(f"fold 0  {line}") <= width
