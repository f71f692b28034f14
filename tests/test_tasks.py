"""The commands and flags as `invoke` lists them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Invoke

COMMANDS = (
    *("doctor", "cache", "train-folds", "find-lr", "sweep", "score", "report"),
    *(
        "ensemble-submit",
        "submit",
        "export-onnx",
        "predict-onnx",
        "serve",
        "kaggle-bundle",
        "verify",
        "landmarks",
        "distill",
        "pseudo-label",
    ),
)


def test_the_list_shows_every_command_with_one_line(invoke: Invoke) -> None:
    lines = invoke("--list").out.splitlines()
    assert [line.strip() for line in lines if line.strip()] == [
        "Available tasks:",
        "cache             Pack all images into one file, which is faster to read.",
        "compare           Test if the scores of two experiments or files differ.",
        "distill           Make a student that learns the scores of experiments.",
        "doctor            Scan every image for problems that would spoil a training.",
        "ensemble-submit   Average all folds into a submission CSV.",
        "export-onnx       Put all folds into one ONNX graph, and check its scores.",
        "find-lr           Find a learning rate, with a chart of the losses.",
        "kaggle-bundle     Make one folder for notebooks on Kaggle and Colab.",
        "landmarks         Find the faces' landmarks, for self-blending.",
        "leaderboard       Compare all experiments in one table.",
        "predict-onnx      Score images with the ONNX graph, without torch.",
        "pseudo-label      Score images without labels, as more training images.",
        "report            Write one page of scores, charts and example images.",
        "score             Score the out-of-fold predictions again.",
        "serve             Show scores and heat maps in a browser.",
        "submit            Check a submission and send it to Kaggle.",
        "sweep             Search a few keys on one fold; losing trials end early.",
        "train-folds       Train k folds and score every image out of fold.",
        "verify            Check every file against its recorded hash.",
    ]


def test_the_list_imports_nothing_heavy() -> None:
    code = (
        "import sys; from invoke import Program\n"
        "Program().run(['invoke', '--list'], exit=False)\n"
        "print('heavy:', sorted({'torch', 'pandas', 'numpy', 'pydantic', 'rich', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_explained(command: str, invoke: Invoke) -> None:
    text = invoke("--help", command).out
    options = text[text.index("Options:") :]
    flags = re.findall(r"^  (?:-e(?: STRING)?, )?(--[\w-]+)(?:=STRING)?\s+\S", options, re.MULTILINE)
    assert "--experiment" in flags
    assert len(flags) == len(re.findall(r"^  -", options, re.MULTILINE))


@pytest.mark.parametrize("command", COMMANDS)
def test_only_experiment_has_a_short_form(command: str, invoke: Invoke) -> None:
    options = [
        line.split()[0].rstrip(",") for line in invoke("--help", command).out.splitlines() if line.startswith("  -")
    ]
    assert "-e" in options
    assert all(option.startswith("--") for option in options if option != "-e")
