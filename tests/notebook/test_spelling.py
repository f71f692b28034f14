"""Suggested commands as calls of functions."""

from __future__ import annotations

import pytest

from ffdi.notebook import spelling


@pytest.mark.parametrize(
    ("command", "call"),
    [
        ("invoke leaderboard", "ffdi.leaderboard()"),
        ("invoke train-folds --experiment mine", 'ffdi.train("mine")'),
        ("invoke report --experiment a --experiment 'b c' --name d", 'ffdi.report(["a", "b c"], name="d")'),
        (
            "invoke train-folds --experiment a --set train.lr=0.003 --set 'augment.recipe=\"light\"' --as a-2",
            'ffdi.train("a", set={"train.lr": 0.003, "augment.recipe": "light"}, name="a-2")',
        ),
        (
            """invoke train-folds --experiment a --set 'pseudo_fakes.methods=["x", "y"]'""",
            'ffdi.train("a", set={"pseudo_fakes.methods": ["x", "y"]})',
        ),
        ("invoke train-folds --experiment a --restart --jobs 2", 'ffdi.train("a", restart=True, jobs=2)'),
        ("invoke doctor --data FOLDER", 'ffdi.doctor(data="FOLDER")'),
        ("invoke score --experiment 'it'\"'\"'s'", 'ffdi.score("it\'s")'),
        ("invoke serve --experiment a", "invoke serve --experiment a"),
        ("invoke train-folds --new-flag 2", "invoke train-folds --new-flag 2"),
    ],
)
def test_a_command_becomes_a_call(command: str, call: str) -> None:
    assert spelling.rewrite(command) == call
