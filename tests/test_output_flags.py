"""--json and --quiet: output for a program, or only warnings and errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ffdi.commands import leaderboard
from ffdi.core import console
from ffdi.core.console import CapturedOutput
from tests.conftest import Invoke, write_split


def test_json_is_one_line_with_everything(copy: Path, invoke: Invoke) -> None:
    answer = invoke("score", "--experiment", "tiny", "--json")
    assert (answer.code, answer.err, answer.out.count("\n")) == (0, "", 1)
    output = json.loads(answer.out)
    folder = copy / "experiments" / "tiny"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert list(output) == ["command", "error", "written", "next", "warnings", "lines", "tables", "values"]
    assert (output["command"], output["error"], output["warnings"]) == ("score", None, [])
    assert output["written"] == [str(folder / "metrics.json")]
    assert output["next"] == ["invoke report --experiment tiny"]
    assert output["lines"][0] == "score tiny: 64 out-of-fold predictions"
    scores = output["tables"][0]
    assert scores["heading"] == "out-of-fold (OOF) scores, without TTA"
    assert scores["columns"][:3] == ["", "AUC", "95 %"]
    assert [row[0] for row in scores["rows"]] == ["fold 0", "fold 1", "OOF, mean of folds", "OOF, pooled"]
    assert scores["rows"][3][1] == metrics["pooled"]["auc"]  # to the last digit


def test_each_command_is_a_line(copy: Path, invoke: Invoke) -> None:
    answer = invoke("score", "--experiment", "tiny", "--json", "leaderboard", "--json")
    assert [json.loads(line)["command"] for line in answer.out.splitlines()] == ["score", "leaderboard"]
    shown = json.loads(answer.out.splitlines()[1])["tables"][0]
    assert shown["columns"] == list(leaderboard.COLUMNS.values())  # however narrow the terminal is
    assert copy.is_dir()


def test_json_has_the_error(copy: Path, invoke: Invoke) -> None:
    shutil.rmtree(copy / "experiments" / "tiny" / "fold_1")
    answer = invoke("report", "--experiment", "tiny", "--json")
    assert (answer.code, answer.err) == (1, "")
    assert json.loads(answer.out)["error"] == {
        "what": "experiment tiny is not complete; still to train: fold 1",
        "problems": [],
        "next": "invoke train-folds --experiment tiny",
    }
    answer = invoke("train-folds", "--experiment", "tiny", "--folds", "7,x", "--json")
    assert (answer.code, answer.err, json.loads(answer.out)["command"]) == (1, "", "train-folds")


def test_quiet_prints_only_errors_and_warnings(copy: Path, tmp_path: Path, invoke: Invoke) -> None:
    answer = invoke("score", "--experiment", "tiny", "--quiet")
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    write_split(tmp_path / "more", "test", 2, 9, labels=False)
    empty = next((tmp_path / "more" / "testset").iterdir())
    empty.write_bytes(b"")
    words = ["--images", str(empty.parent), "--output", str(tmp_path / "scores.csv"), "--on-error", "score=0.5"]
    answer = invoke("predict-onnx", "--experiment", "tiny", "--device", "cpu", *words, "--quiet")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == (f"warning: 1 of 2 images cannot be used and were given 0.5:\n  {empty} is empty\n")
    assert (tmp_path / "scores.csv").is_file()
    answer = invoke("score", "--experiment", "tony", "--quiet")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("error: no experiment 'tony'")
    assert copy.is_dir()


def test_nan_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    with console.capture_output() as output:
        console.table("sizes", ["", "AUC", "count"], [("one", float("nan"), 3)])
        console.warn("so")
        with console.bar("waiting", 2) as bar:
            bar.say("half")
            bar.warn("ill")
        with console.capture_output() as inner:
            console.say("deeper")
    assert output == CapturedOutput(
        [],
        [],
        ["so", "ill"],
        ["half"],
        [{"heading": "sizes", "columns": ["", "AUC", "count"], "rows": [["one", None, 3]]}],
    )
    assert inner.lines == ["deeper"]
    assert json.loads(output.json(command="x"))["tables"][0]["rows"][0][1] is None
    console.say("again")
    assert capsys.readouterr().out == "again\n"


def test_announcements_are_printed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    facts = list[dict[str, str]]()
    with console.capture_output(facts.append) as output:
        console.announce("open a", url="a")
        assert facts == [{"url": "a"}]
        with console.capture_output():
            console.announce("open b", url="b")
    assert (facts, output.lines) == ([{"url": "a"}], ["open a"])
    assert capsys.readouterr().out == ""
    console.announce("open c", url="c")
    assert capsys.readouterr().out == "open c\n"


def test_captured_output_asks_no_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert console.can_ask()
    with console.capture_output():
        assert not console.can_ask()
