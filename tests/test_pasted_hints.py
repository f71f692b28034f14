"""Every command that another command suggests ends well where it is pasted, in the state in which it was printed."""

from __future__ import annotations

import ast
import inspect
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ffdi.core import console, hints
from ffdi.inference import server
from ffdi.submission import kaggle
from ffdi.submission.kaggle import Answer as KaggleAnswer
from ffdi.submission.kaggle import Verdict
from tests import face_networks
from tests.conftest import PROJECT, TINY, Answer, Invoke, skip_export_trial

SHORT = TINY.replace("epochs = 3", "epochs = 1")
PLACEHOLDERS = {"VALUE": "2", "FOLDER": ""}
"""What a person puts in."""
ELSEWHERE = {"kaggle_bundle.py": 2, "submit.py": 1}
"""Suggested commands of Kaggle's own program, by file."""
Follow = Callable[..., list[str]]


def list_calls() -> set[tuple[str, int]]:
    """File and line of each call of `console.advise`."""
    found = set()
    for path in sorted((PROJECT / "ffdi" / "commands").rglob("*.py")):
        calls = [one for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.Call)]
        advised = [one for one in calls if ast.unparse(one.func) == "console.advise"]
        found |= {(path.name, one.lineno) for one in advised}
    return found


def list_commands(answer: Answer) -> list[str]:
    """The suggested commands, with their placeholders filled in."""
    lines = [line for line in (answer.out + answer.err).splitlines() if line.startswith("next: ")]
    found = [one[0] for line in lines for one in hints.COMMAND.finditer(line)]
    for word, value in PLACEHOLDERS.items():
        found = [one.replace(word, value) for one in found]
    return found


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, int]]:
    """The calls of `console.advise` so far."""
    found: set[tuple[str, int]] = set()
    advise = console.advise

    def record(advice: str) -> None:
        caller = inspect.stack()[1]
        found.add((Path(caller.filename).name, caller.frame.f_lineno))
        advise(advice)

    monkeypatch.setattr(console, "advise", record)
    monkeypatch.setattr(server, "serve", lambda *_: None)
    monkeypatch.setattr(kaggle, "find_program", lambda: "kaggle")
    monkeypatch.setattr(kaggle, "submit", lambda *_: KaggleAnswer(0, "Submission ref: 1", "1"))
    monkeypatch.setattr(kaggle, "fetch_verdict", lambda *_: Verdict("COMPLETE", "0.9", ""))
    return found


@pytest.fixture
def follow(invoke: Invoke) -> Follow:
    """Runs a command, and then each one that it suggests; returns these."""

    def run(*words: str, fails: bool = False) -> list[str]:
        answer = invoke(*words)
        assert (answer.code != 0) == fails, answer.out + answer.err
        commands = list_commands(answer)
        for command in commands:
            pasted = invoke(*shlex.split(command)[1:])
            assert pasted.code == 0, f"{command}\n{pasted.out}{pasted.err}"
        return commands

    return run


def add(workspace: Path, name: str, config: str = SHORT) -> str:
    folder = workspace / "experiments" / name
    folder.mkdir()
    (folder / "config.toml").write_text(config)
    skip_export_trial(workspace, name)
    return name


def test_every_suggested_command_ends_well(
    copy: Path, competition: Path, tmp_path: Path, follow: Follow, advised: set[tuple[str, int]]
) -> None:
    data, other = ("--data", str(competition)), tmp_path / "other"
    shutil.copytree(competition, other)
    (other / "trainset_label.txt").write_text("".join((competition / "trainset_label.txt").open().readlines()[:-4]))
    new = add(copy, "new")
    assert follow("doctor", "-e", new, *data) == [f"invoke train-folds --experiment new --data {competition}"]
    assert follow("doctor", "-e", new) == ["invoke report --experiment new"]
    as_2 = f"invoke train-folds --experiment new --as new-2 --data {other}"
    assert follow("doctor", "-e", new, "--data", str(other)) == [as_2]
    assert follow("train-folds", "-e", new) == ["invoke ensemble-submit --experiment new"]
    assert follow("train-folds", "-e", add(copy, "part"), "--folds", "0", *data)
    refit = add(copy, "refit", SHORT.replace("[folds]\n", "[folds]\nrefit = true\n"))
    assert follow("train-folds", "-e", refit, "--folds", "0,1", *data)
    assert follow("train-folds", "-e", new, "-e", "part", *data)
    assert follow("train-folds", "-e", add(copy, "profiled"), "--profile", *data)
    assert follow("find-lr", "-e", add(copy, "rated"), "--steps", "40", *data)
    assert "--as rated-2" in follow("find-lr", "-e", "rated", "--steps", "40")[0]
    assert follow("sweep", "-e", add(copy, "swept"), "--set", "train.lr=3e-3,5e-3", *data)
    assert follow("sweep", "-e", new, "--set", "train.lr=3e-3") == ["invoke train-folds --experiment new"]
    assert follow("sweep", "-e", add(copy, "wild"), "--set", "train.lr=1e30,1e31", *data)
    assert follow("cache", "-e", add(copy, "cached"), *data)
    mesh = str(face_networks.write_mesh(tmp_path / "face_landmark.onnx"))
    points = str(tmp_path / "landmarks.csv")
    assert follow("landmarks", "-e", add(copy, "meshed"), "--model", mesh, "--output", points, *data)
    assert follow("distill", "-e", new, "--student", "student")
    words = ("--images", str(competition / "testset"), "--confidence", "0.5", "--name", "more, of these")
    assert follow("pseudo-label", "-e", new, *words)
    assert follow("score", "-e", new) == ["invoke report --experiment new"]
    assert follow("leaderboard")
    assert follow("ensemble-submit", "-e", new, "--name", "named")
    assert follow("export-onnx", "-e", new, "--name", "named")
    assert follow("predict-onnx", "-e", new, "--name", "named")
    assert follow("predict-onnx", "-e", new, "--name", "named", "--images", str(competition / "testset"))
    assert follow("report", "-e", new, "--name", "named")
    assert follow("report", "--live", "-e", new) == ["invoke report --experiment new"]
    assert not follow("submit", "-e", new, "--name", "named", "--competition", "ffdi", "--wait", "0")
    assert not follow("kaggle-bundle", "-e", new, "--name", "named")
    missed = list_calls() - advised
    assert {name for name, _ in missed} <= set(ELSEWHERE), missed
    assert all(sum(one[0] == name for one in missed) <= count for name, count in ELSEWHERE.items()), missed


def test_an_experiment_elsewhere_is_named_by_its_folder(
    workspace: Path, competition: Path, tmp_path: Path, follow: Follow
) -> None:
    skip_export_trial(workspace, "tiny")
    folder = tmp_path / "my own"
    folder.mkdir()
    (folder / "config.toml").write_text(SHORT)
    commands = follow("train-folds", "-e", str(folder), "--data", str(competition))
    assert commands == [f"invoke ensemble-submit --experiment '{folder}' --data {competition}"]
    (folder / "oof.csv").unlink()
    assert follow("report", "-e", str(folder), fails=True) == [f"invoke train-folds --experiment '{folder}'"]


def test_an_error_names_a_command_that_mends_it(copy: Path, competition: Path, follow: Follow, invoke: Invoke) -> None:
    data = ("--data", str(competition))
    add(copy, "untrained")
    commands = follow("ensemble-submit", "-e", "untrained", *data, fails=True)
    assert commands == [f"invoke train-folds --experiment untrained --data {competition}"]
    add(copy, "late", f'{SHORT}\n[data]\nroot = "{competition}"\n')
    for command in ("report", "export-onnx", "distill", "ensemble-submit", "score"):
        extra = ("--student", "one") if command == "distill" else ()
        shutil.rmtree(copy / "experiments" / "late" / "fold_0", ignore_errors=True)
        (copy / "experiments" / "late" / "oof.csv").unlink(missing_ok=True)
        commands = follow(command, "-e", "late", *extra, fails=True)
        assert commands == ["invoke train-folds --experiment late"], command
    shutil.rmtree(copy / "exports" / "tiny")
    assert follow("predict-onnx", "-e", "tiny", fails=True) == ["invoke export-onnx --experiment tiny"]
    oof = copy / "experiments" / "tiny" / "oof.csv"
    oof.write_text(oof.read_text().replace(",1,", ",0,", 1))
    assert follow("score", "-e", "tiny", fails=True) == ["invoke train-folds --experiment tiny"]
    config = copy / "experiments" / "tiny" / "config.toml"
    config.write_text(config.read_text().replace("lr = 3e-3", "lr = 2e-3"))
    commands = follow("train-folds", "-e", "tiny", fails=True)
    assert commands == [
        "invoke train-folds --experiment tiny --as tiny-2",
        "invoke train-folds --experiment tiny --restart",
    ]
    assert invoke("ensemble-submit", "-e", "tiny").code == 0
