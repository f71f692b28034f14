"""How verbs speak: to a person, to a program, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ffdi.commands import leaderboard
from ffdi.core import console
from ffdi.core.console import CapturedOutput
from tests.conftest import Invoke, write_split


def test_a_program_is_told_all_in_one_line(copy: Path, invoke: Invoke) -> None:
    answer = invoke("score", "--experiment", "tiny", "--json")
    assert (answer.code, answer.err, answer.out.count("\n")) == (0, "", 1)
    told = json.loads(answer.out)
    folder = copy / "experiments" / "tiny"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert list(told) == ["verb", "error", "written", "next", "warnings", "lines", "tables"]
    assert (told["verb"], told["error"], told["warnings"]) == ("score", None, [])
    assert told["written"] == [str(folder / "metrics.json")]
    assert told["next"] == ["invoke report --experiment tiny"]
    assert told["lines"][0] == "score tiny: 64 out-of-fold predictions"
    scores = told["tables"][0]
    assert scores["heading"] == "out-of-fold scores"
    assert scores["columns"][:3] == ["", "AUC", "95 %"]
    assert [row[0] for row in scores["rows"]] == ["fold 0", "fold 1", "all folds"]
    assert scores["rows"][2][1] == metrics["pooled"]["auc"]  # to the last digit


def test_each_verb_of_a_command_is_a_line(copy: Path, invoke: Invoke) -> None:
    answer = invoke("score", "--experiment", "tiny", "--json", "leaderboard", "--json")
    assert [json.loads(line)["verb"] for line in answer.out.splitlines()] == ["score", "leaderboard"]
    shown = json.loads(answer.out.splitlines()[1])["tables"][0]
    assert shown["columns"] == list(leaderboard.COLUMNS.values())  # however narrow the terminal is
    assert copy.is_dir()


def test_a_program_is_told_why_it_ended(copy: Path, invoke: Invoke) -> None:
    shutil.rmtree(copy / "experiments" / "tiny" / "fold_1")
    answer = invoke("report", "--experiment", "tiny", "--json")
    assert (answer.code, answer.err) == (1, "")
    assert json.loads(answer.out)["error"] == {
        "what": "experiment tiny is not complete: fold 1 of 2 is not trained",
        "problems": [],
        "next": "invoke train-folds --experiment tiny",
    }
    answer = invoke("train-folds", "--experiment", "tiny", "--folds", "7,x", "--json")
    assert (answer.code, answer.err, json.loads(answer.out)["verb"]) == (1, "", "train-folds")


def test_quiet_leaves_errors_and_warnings_and_the_files(copy: Path, tmp_path: Path, invoke: Invoke) -> None:
    answer = invoke("score", "--experiment", "tiny", "--quiet")
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    write_split(tmp_path / "more", "test", 2, 9, labels=False)
    spoilt = next((tmp_path / "more" / "testset").iterdir())
    spoilt.write_bytes(b"")
    words = ["--images", str(spoilt.parent), "--output", str(tmp_path / "scores.csv"), "--on-error", "score=0.5"]
    answer = invoke("predict-onnx", "--experiment", "tiny", "--device", "cpu", *words, "--quiet")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == (f"warning: 1 of 2 images cannot be used and were given 0.5:\n  {spoilt} is empty\n")
    assert (tmp_path / "scores.csv").is_file()
    answer = invoke("score", "--experiment", "tony", "--quiet")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("error: no experiment 'tony'")
    assert copy.is_dir()


def test_what_is_no_number_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    with console.capture_output() as heard:
        console.table("sizes", ["", "AUC", "count"], [("one", float("nan"), 3)])
        console.warn("so")
        with console.bar("waiting", 2) as bar:
            bar.say("half")
            bar.warn("ill")
        with console.capture_output() as inner:
            console.say("deeper")
    assert heard == CapturedOutput(
        [],
        [],
        ["so", "ill"],
        ["half"],
        [{"heading": "sizes", "columns": ["", "AUC", "count"], "rows": [["one", None, 3]]}],
    )
    assert inner.lines == ["deeper"]
    assert json.loads(heard.json(verb="x"))["tables"][0]["rows"][0][1] is None
    console.say("again")
    assert capsys.readouterr().out == "again\n"


def test_what_is_announced_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    told = list[dict[str, str]]()
    with console.capture_output(told.append) as heard:
        console.announce("open a", url="a")
        assert told == [{"url": "a"}]
        with console.capture_output():
            console.announce("open b", url="b")
    assert (told, heard.lines) == ([{"url": "a"}], ["open a"])
    assert capsys.readouterr().out == ""
    console.announce("open c", url="c")
    assert capsys.readouterr().out == "open c\n"


def test_nobody_is_asked_where_a_program_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert console.answers()
    with console.capture_output():
        assert not console.answers()
