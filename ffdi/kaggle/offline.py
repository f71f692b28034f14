"""What a Kaggle notebook without a network needs: the notebook itself, and wheels of ffdi and its dependencies."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ffdi.core.errors import ExperimentError
from ffdi.core.names import in_markdown

SETUP = """import os, shutil, subprocess, sys
from pathlib import Path

INPUT, WORK = Path("/kaggle/input"), Path("/kaggle/working")
BUNDLE = next(INPUT.rglob("ffdi-*.whl")).parent
os.environ["FFDI_ROOT"] = str(WORK)


def run(*words):
    subprocess.run([sys.executable, "-m", *words], cwd=BUNDLE, check=True)


def bring(source, target):
    for path in source.rglob("*"):
        if path.is_file():  # by their bytes alone: what is attached cannot be written, and its copy must be
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / path.relative_to(source))


wheels = BUNDLE / "wheels"
if wheels.is_dir():
    run("pip", "install", "--no-index", "--find-links", str(wheels), "-r", str(wheels / "requirements.txt"))
run("pip", "install", "--no-index", "--no-deps", str(next(BUNDLE.glob("ffdi-*.whl"))))"""


class Code(NamedTuple):
    """What stands in a cell as it is; all else, names among it, stands there as a literal."""

    text: str


DATA, IMAGES, OUTPUT = Code("DATA"), Code("IMAGES"), Code('str(WORK / "submission.csv")')
GOES_ON = """# what earlier sessions have trained: attach their output as another input
for earlier in sorted(INPUT.rglob("*/experiments")):
    bring(earlier, WORK / earlier.name)
bring(BUNDLE / "weights", WORK / "weights")"""


def training(name: str, names: Sequence[str], max_time: str) -> str:
    """A notebook that trains experiments offline, and leaves a submission, a graph and a report.

    Args:
        name: of their export.
        names: of the experiments.
        max_time: after which training stops in good order.
    """
    named = [word for one in names for word in ("--experiment", one)]
    then = [
        _run("invoke", verb, *named, "--name", name, "--data", DATA)
        for verb in ("ensemble-submit", "export-onnx", "report")
    ]
    return _notebook(
        [
            f"# {in_markdown(name)}: training\n"
            "Attach this bundle and the competition's data, set `DATA`, choose a GPU. Where the time is over before "
            "all is trained, attach this session's output as a further input and run again.",
            SETUP,
            f'{DATA.text} = "/kaggle/input/FOLDER"  # with the label files\n\n{GOES_ON}',
            _run("invoke", "train-folds", *named, "--data", DATA, "--max-time", max_time),
            "\n".join([*then, f"shutil.copy(WORK / {_literal(f'exports/{name}/submission.csv')}, {OUTPUT.text})"]),
        ]
    )


def inference(name: str) -> str:
    """A notebook that scores images offline with an exported graph, without torch.

    Args:
        name: of the export.
    """
    return _notebook(
        [
            f"# {in_markdown(name)}: scoring\nAttach this bundle and the images, and set `IMAGES`.",
            SETUP,
            f'{IMAGES.text} = "/kaggle/input/FOLDER"  # a folder, or a CSV with a column img_name\n\n'
            f'bring(BUNDLE / "export", WORK / {_literal(f"exports/{name}")})\n'
            + _run("invoke", "predict-onnx", "--experiment", name, "--images", IMAGES, "--output", OUTPUT),
        ]
    )


def _run(*words: str | Code) -> str:
    """A cell's call of a verb."""
    return f"run({', '.join(word.text if isinstance(word, Code) else _literal(word) for word in words)})"


def _literal(word: str) -> str:
    """A word as Python has it; JSON's own escapes of letters beyond U+FFFF mean something else there."""
    return json.dumps(word, ensure_ascii=False)


def _notebook(texts: Sequence[str]) -> str:
    """The file of a notebook: a heading, and cells of code."""
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "id": "head", "metadata": {}, "source": _lines(texts[0])}]
    for number, text in enumerate(texts[1:], 1):
        code: dict[str, Any] = {"execution_count": None, "outputs": [], "source": _lines(text)}
        cells.append({"cell_type": "code", "id": f"cell-{number}", "metadata": {}, **code})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return [f"{line}\n" for line, _ in pairwise(lines)] + lines[-1:]


THERE = ("torch", "torchvision", "timm")
"""What a notebook on Kaggle has, built for its own GPU; five gigabytes."""
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
"""Of a notebook on Kaggle."""
SOURCE = ("pyproject.toml", "README.md", "LICENSE", "ffdi")


def build_wheel(project: Path, into: Path) -> Path:
    """The wheel of ffdi, made of a copy of its source.

    Args:
        project: the folder with pyproject.toml.
        into: where the wheel shall lie.

    Raises:
        ExperimentError: the source is not there, or pip fails; its words are given.
    """
    if missing := [name for name in SOURCE if not (project / name).exists()]:
        raise ExperimentError(
            f"{project} has no {missing[0]}: ffdi's wheel cannot be made of it",
            hint="run this verb in a clone of the project",
        )
    with tempfile.TemporaryDirectory(prefix="ffdi-") as folder:
        for name in SOURCE:
            (shutil.copytree if (project / name).is_dir() else shutil.copy)(project / name, Path(folder) / name)
        _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(into), folder)
    return next(into.glob("ffdi-*.whl"))


def download_wheels(project: Path, into: Path) -> int:
    """Wheels of all that ffdi needs beside torch, for a notebook on Kaggle, with a requirements.txt; how many they are.

    Args:
        project: the folder with pyproject.toml.
        into: a new folder.

    Raises:
        ExperimentError: one cannot be had; pip's words are given.
    """
    into.mkdir()
    (into / "requirements.txt").write_text("".join(f"{one}\n" for one in requirements(project)), encoding="utf-8")
    platforms = [word for one in PLATFORMS for word in ("--platform", one)]
    where = ["--only-binary", ":all:", "--python-version", PYTHON, *platforms]
    _pip("download", *where, "--dest", str(into), "-r", str(into / "requirements.txt"))
    return len(list(into.glob("*.whl")))


def requirements(project: Path) -> list[str]:
    """What ffdi needs on Kaggle and may not be there: no torch, nor the GPU's libraries that come with it."""
    listed = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    kept = [one for one in listed if _name(one) not in THERE and "platform_system ==" not in one]
    return [re.sub(r"\[.*?\]", "", one).partition(";")[0].strip() for one in kept]


def _name(requirement: str) -> str:
    return re.split(r"[^\w-]", requirement, maxsplit=1)[0]


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ExperimentError(
            f"pip {words[0]} failed (exit code {done.returncode})",
            problems=said[-10:],
            hint="mend that, and run the same command again; nothing was written",
        )
