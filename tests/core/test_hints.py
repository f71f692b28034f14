"""Suggested commands read the data that this command was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffdi.core import hints
from tests.conftest import Invoke, write_split

DATA = {"data": False}
COMMANDS = {"train-folds": DATA, "doctor": DATA, "predict-onnx": DATA}


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        ("invoke train-folds --experiment a", "invoke train-folds --experiment a --data 'my data'"),
        (
            "remove it: invoke doctor --experiment a, then invoke train-folds.",
            "remove it: invoke doctor --experiment a --data 'my data', then invoke train-folds --data 'my data'.",
        ),
        ("pass --restart to invoke train-folds", "pass --restart to invoke train-folds --data 'my data'"),
        ("invoke doctor: it names them", "invoke doctor --data 'my data': it names them"),
        ("invoke train-folds --restart --folds 0", "invoke train-folds --restart --folds 0 --data 'my data'"),
        (
            "invoke train-folds --experiment 'a b' --restart, or not",
            "invoke train-folds --experiment 'a b' --restart --data 'my data', or not",
        ),
        ("invoke train-folds --data other", "invoke train-folds --data other"),
        ("invoke predict-onnx --images FOLDER", "invoke predict-onnx --images FOLDER"),
        ("invoke leaderboard", "invoke leaderboard"),
        (
            "invoke doctor --experiment base,lr=0.1, then",
            "invoke doctor --experiment base,lr=0.1 --data 'my data', then",
        ),
        ("invoke doctor --experiment a:b: it", "invoke doctor --experiment a:b --data 'my data': it"),
        ("set model.size in config.toml", "set model.size in config.toml"),
    ],
)
def test_a_command_that_takes_data_gets_it(hint: str, expected: str) -> None:
    with hints.carry_flags({"data": ["my data"]}, COMMANDS):
        assert hints.complete(hint) == expected
    assert hints.complete(hint) == hint


def test_a_command_without_data_leaves_hints_alone() -> None:
    with hints.carry_flags({"data": []}, COMMANDS):
        assert hints.complete("invoke doctor") == "invoke doctor"


def test_a_command_without_experiments_gets_those_of_the_running_one() -> None:
    accepted = {
        "score": {"experiment": False},
        "report": {"experiment": True, "name": False},
        "distill": {},
        "leaderboard": {},
    }
    one, two = ({"experiment": words, "name": ["both"]} for words in (["a b"], ["a", "b"]))
    with hints.carry_flags(one, accepted):
        assert hints.complete("invoke score, invoke report") == (
            "invoke score --experiment 'a b', invoke report --experiment 'a b' --name both"
        )
        assert hints.complete("invoke score --experiment c") == "invoke score --experiment c"
        assert hints.complete("invoke leaderboard") == "invoke leaderboard"
        assert hints.complete("invoke distill") == "invoke distill"  # its experiments are others: the teachers
    with hints.carry_flags(two, accepted):
        assert hints.complete("invoke score") == "invoke score"  # it takes one
        assert hints.complete("invoke report --name x") == "invoke report --name x --experiment a --experiment b"


def test_the_next_command_and_an_error_name_the_data(invoke: Invoke, tmp_path: Path) -> None:
    data = tmp_path / "faces"
    for split, start in (("train", 0), ("val", 20)):
        write_split(data, split, 4, start)
    answer = invoke("doctor", "--data", str(data))
    assert answer.out.splitlines()[-1] == f"next: invoke train-folds --experiment quickstart --data {data}"
    answer = invoke("ensemble-submit", "--data", str(data))
    assert answer.code == 1
    assert answer.err.splitlines()[-1].endswith(f"invoke train-folds --experiment quickstart --data {data}")
