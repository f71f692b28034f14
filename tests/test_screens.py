"""What several commands show, on terminals of several widths."""

from __future__ import annotations

import re
import sys

import pytest

from ffdi.commands import leaderboard, train_folds
from ffdi.commands.shared import engines, score_tables
from ffdi.core import console
from ffdi.training.loop import Step
from ffdi.training.state import EpochRecord

SCORE = {
    "auc": 0.9059,
    "intervals": {"auc": [0.887, 0.922]},
    "tpr_at_fpr_1e-3": 0.1317,
    "tpr_at_fpr_1e-2": 0.5867,
    "accuracy": 0.8358,
    "log_loss": 0.3904,
}


def set_terminal(width: int, monkeypatch: pytest.MonkeyPatch, *, colour: bool = False) -> None:
    """A terminal so wide."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    if colour:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", "1")


def read_plain(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on the terminal, without bold."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out).splitlines()


def shown(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines of a table of scores on a terminal so wide."""
    set_terminal(width, monkeypatch)
    score_tables.show_scores("scores", [("quickstart: OOF, pooled", SCORE), ("ensemble", SCORE)])
    return read_plain(capsys)


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
    assert lines[4] == "│ quickstart: OOF, pooled │ 0.9059 │ no interval │          0.1317 │  0.5867 │"
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
    set_terminal(width, monkeypatch)
    (line,) = train_folds._describe_progress(EpochRecord(2, 1e-3, 0.5914, 0.7049, 0.54, 0.7168, 136.2, 9.0), 9)
    assert line == f"epoch  3/9  loss 0.5914  held-out: loss 0.7049  {accuracy}AUC 0.7168  136 images/s"
    assert len(f"fold 0  {line}") <= width


def test_sixty_columns_have_the_auc_and_its_interval(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(60, monkeypatch, capsys)
    assert lines[2] == "┃                         ┃    AUC ┃           95 % ┃"
    assert lines[7:] == ["not shown in 60 columns: TPR at FPR 1e-3, at 1e-2, accuracy, log loss"]


def test_cells_that_do_not_fit_break_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_terminal(40, monkeypatch)
    console.table("pixels", ["", "as they are", "re-encoded"], [("brightness", "0.586 (0.4 to 0.7)", "none at all")])
    assert read_plain(capsys)[5:7] == [
        "│ brightness │ 0.586 (0.4 │    none at │",
        "│            │    to 0.7) │        all │",
    ]


def test_a_table_that_is_no_terminal_has_all_columns(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("x" * 200, ["", "AUC", "p"], [("y " * 60, 0.5, 0.25)], details=["p"])
    assert "0.2500" in capsys.readouterr().out


FAILURE = "error: no data\n  a.jpg line 2: next: none\nnext: invoke doctor"


def test_errors_look_like_errors_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_terminal(80, monkeypatch, colour=True)
    console.show_failure(FAILURE)
    console.warn("few images", ["b.jpg"])
    console.advise("invoke doctor")
    answer = capsys.readouterr()
    assert answer.err == (
        "\x1b[1;31merror:\x1b[0m no data\n  a.jpg line 2: next: none\n\x1b[1;36mnext:\x1b[0m invoke doctor\n"
    )
    assert answer.out == "\x1b[1;33mwarning:\x1b[0m few images\n  b.jpg\n\x1b[1;36mnext:\x1b[0m invoke doctor\n"


@pytest.mark.parametrize(("name", "value"), [("FORCE_COLOR", ""), ("NO_COLOR", "1"), ("TERM", "dumb")])
def test_errors_have_no_colours_elsewhere(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_terminal(80, monkeypatch, colour=True)
    monkeypatch.setenv(name, value)
    console.show_failure(FAILURE)
    assert capsys.readouterr().err.replace("\x1b[1m", "").replace("\x1b[0m", "") == f"{FAILURE}\n"


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (100, r"scoring the test split with 3 networks [ ━]+ 40/1,200 images  0:00:00 left -:--:--"),
        (60, r"scoring the test split with… [ ━]+ 40/1,200 images left -:--:--"),
    ],
)
def test_a_bar_says_what_it_counts(
    width: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_terminal(width, monkeypatch)
    with console.bar("scoring the test split with 3 networks", 1200, unit="images") as bar:
        bar.advance(40)
        bar.rename("scoring the test split with 3 networks")
    lines = [one.rstrip() for one in read_plain(capsys)]
    assert any(re.fullmatch(line, one.replace("╸", "━").replace("╺", "━")) for one in lines), lines
    assert max(map(len, lines)) <= width


def test_a_step_says_which() -> None:
    assert engines.describe_step(Step(1, 11, 40, 96), 5) == "epoch 2/5, batch 12/40"
