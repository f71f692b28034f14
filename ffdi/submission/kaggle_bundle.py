"""Files for an offline Kaggle notebook: the notebook itself, and wheels of ffdi and its dependencies."""

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

from ffdi.core.errors import DataError, ExperimentError
from ffdi.core.names import escape_markdown
from ffdi.experiments.workspace import Workspace

SETUP = """import os, platform, shutil, subprocess, sys
from importlib import invalidate_caches, metadata
from pathlib import Path

INPUT, WORK = Path("/kaggle/input"), Path("/kaggle/working")
BUNDLE = next(INPUT.rglob("ffdi-*.whl")).parent
os.environ["FFDI_ROOT"] = str(WORK)


def run(*words):
    subprocess.run([sys.executable, "-m", *words], cwd=BUNDLE, check=True)


def copy_folder(source, target):
    for path in source.rglob("*"):
        if path.is_file():  # without permissions: inputs are read-only, and their copies must be writable
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / path.relative_to(source))


def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


print("Python " + platform.python_version(), *(f"{name} {version(name)}" for name in ("torch", "timm")), sep=", ")
if shutil.which("nvidia-smi"):
    subprocess.run(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"])
else:
    print("no GPU")
wheels = BUNDLE / "wheels"
if wheels.is_dir():
    run("pip", "install", "--no-index", "--find-links", str(wheels), "-r", str(wheels / "requirements.txt"))
run("pip", "install", "--no-index", "--no-deps", str(next(BUNDLE.glob("ffdi-*.whl"))))
invalidate_caches()
from ffdi.submission.kaggle_bundle import gather_inputs"""


class Code(NamedTuple):
    """Source code of a cell; other words, such as names, become literals."""

    text: str


DATA, IMAGES, OUTPUT = Code("DATA"), Code("IMAGES"), Code('str(WORK / "submission.csv")')
GATHERED = Code("gather_inputs(INPUT, NAMES)")
RESUME = """# folds of earlier sessions: attach their output as another input
for earlier in sorted(INPUT.rglob("*/experiments")):
    copy_folder(earlier, WORK / earlier.name)
copy_folder(BUNDLE / "weights", WORK / "weights")"""


def build_training_notebook(name: str, names: Sequence[str], patterns: Sequence[str], max_time: str) -> str:
    """Builds a notebook that trains experiments offline, and writes a submission, a graph and a report.

    Args:
        name: of their export.
        names: of the experiments.
        patterns: of the files and folders to gather as the data, as from `layout.list_patterns`.
        max_time: --max-time of the training.
    """
    named = [word for one in names for word in ("--experiment", one)]
    then = [
        _format_call("invoke", command, *named, "--name", name, "--data", DATA)
        for command in ("ensemble-submit", "export-onnx", "report")
    ]
    return _format_notebook(
        [
            f"# {escape_markdown(name)}: training\n"
            "Attach this bundle and the competition's data, and choose a GPU. If the time ends before "
            "the training, attach this session's output as another input and run again.",
            SETUP,
            f'{DATA.text} = ""  # the folder with the label files; empty: all of these from the inputs\n'
            f"{_format_names(patterns)}\n{DATA.text} = {DATA.text} or {GATHERED.text}\n\n{RESUME}",
            _format_call("invoke", "train-folds", *named, "--data", DATA, "--max-time", max_time),
            "\n".join([*then, f"shutil.copy(WORK / {_quote(f'exports/{name}/submission.csv')}, {OUTPUT.text})"]),
        ]
    )


def build_inference_notebook(name: str, names: Sequence[str], patterns: Sequence[str]) -> str:
    """Builds a notebook that scores images offline with an exported graph, without torch.

    Args:
        name: of the export.
        names: of its experiments.
        patterns: as in `build_training_notebook`.
    """
    named = [word for one in names for word in ("--experiment", one)]
    scoring = ("invoke", "predict-onnx", *named, "--name", name)
    return _format_notebook(
        [
            f"# {escape_markdown(name)}: scoring\n"
            "Attach this bundle and the competition's data, or set `IMAGES` to other images.",
            SETUP,
            f'copy_folder(BUNDLE / "export", WORK / {_quote(f"exports/{name}")})\n'
            f'{IMAGES.text} = ""  # a folder of images, or a CSV with a column img_name; empty: the test images\n'
            f"{_format_names(patterns)}\n"
            f"if {IMAGES.text}:\n"
            f"    {_format_call(*scoring, '--images', IMAGES, '--output', OUTPUT)}\n"
            "else:\n"
            f"    {_format_call(*scoring, '--data', GATHERED, '--output', OUTPUT)}",
        ]
    )


def _format_names(patterns: Sequence[str]) -> str:
    rows = [", ".join(map(_quote, patterns[start : start + 6])) for start in range(0, len(patterns), 6)]
    return "NAMES = [\n" + "".join(f"    {row},\n" for row in rows) + "]"


def gather_inputs(inputs: Path, patterns: Sequence[str]) -> str:
    """Links the data of a competition, which may be in several inputs of a notebook, into one temporary folder.

    Kaggle has mounted inputs as input/NAME, input/competitions/NAME and input/datasets/OWNER/NAME. The bundle, and
    inputs with the experiments of earlier sessions, are passed over.

    Args:
        inputs: the folder with all inputs.
        patterns: of the names to link; what is below a linked folder comes with it.

    Returns:
        The path of the new folder.

    Raises:
        DataError: nothing has such a name, or two have the same.
    """
    found: dict[str, list[Path]] = {}
    waiting = [inputs]
    for folder in waiting:  # the list grows
        if Workspace(folder, folder).experiments_folder.is_dir():
            continue
        for entry in sorted(folder.iterdir()):
            if any(entry.match(pattern) for pattern in patterns):
                found.setdefault(entry.name, []).append(entry)
            elif entry.is_dir():
                waiting.append(entry)
    hint = "set DATA to the folder with the label files"
    if not found:
        there = ", ".join(str(one) for one in sorted(inputs.glob("*/*"))) or "nothing"
        raise DataError(f"{inputs} has no {', '.join(patterns)}; it has {there}", hint=f"attach the data, or {hint}")
    if problems := [f"{name}: {', '.join(map(str, places))}" for name, places in found.items() if len(places) > 1]:
        raise DataError("several inputs have data with the same name", problems=problems, hint=hint)
    data = Path(tempfile.mkdtemp(prefix="ffdi-data-"))  # not below the output, which Kaggle would copy it into
    for name, (place,) in sorted(found.items()):
        (data / name).symlink_to(place)
        print(f"data: {place}")
    return str(data)


def _format_call(*words: str | Code) -> str:
    return f"run({', '.join(word.text if isinstance(word, Code) else _quote(word) for word in words)})"


def _quote(word: str) -> str:
    """Returns a Python literal; the escapes of JSON beyond U+FFFF have another meaning in Python."""
    return json.dumps(word, ensure_ascii=False)


def _format_notebook(texts: Sequence[str]) -> str:
    """Formats a notebook; the first text is its heading, the others are cells of code."""
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "id": "head", "metadata": {}, "source": _split_lines(texts[0])}
    ]
    for number, text in enumerate(texts[1:], 1):
        code: dict[str, Any] = {"execution_count": None, "outputs": [], "source": _split_lines(text)}
        cells.append({"cell_type": "code", "id": f"cell-{number}", "metadata": {}, **code})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _split_lines(text: str) -> list[str]:
    lines = text.split("\n")
    return [f"{line}\n" for line, _ in pairwise(lines)] + lines[-1:]


PREINSTALLED = ("torch", "torchvision", "timm")
"""Libraries that Kaggle has, built for its GPUs; five gigabytes."""
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
"""Platforms of Kaggle's machines."""
SOURCE_FILES = ("pyproject.toml", "README.md", "LICENSE", "ffdi")


def build_wheel(project: Path, into: Path) -> Path:
    """Builds the wheel of ffdi from a copy of its source.

    Args:
        project: the folder with pyproject.toml.
        into: the folder for the wheel.

    Raises:
        ExperimentError: the source is missing, or pip fails; has its last lines.
    """
    if missing := [name for name in SOURCE_FILES if not (project / name).exists()]:
        raise ExperimentError(
            f"{project} has no {missing[0]}: the wheel of ffdi cannot be built from it",
            hint="run this command in a clone of the project",
        )
    with tempfile.TemporaryDirectory(prefix="ffdi-") as folder:
        for name in SOURCE_FILES:
            (shutil.copytree if (project / name).is_dir() else shutil.copy)(project / name, Path(folder) / name)
        _run_pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(into), folder)
    return next(into.glob("ffdi-*.whl"))


def download_wheels(project: Path, into: Path) -> int:
    """Downloads wheels of all dependencies except torch, and writes requirements.txt; returns the number of wheels.

    Args:
        project: the folder with pyproject.toml.
        into: a new folder.

    Raises:
        ExperimentError: a wheel is not available; has the last lines of pip.
    """
    into.mkdir()
    (into / "requirements.txt").write_text("".join(f"{one}\n" for one in list_requirements(project)), encoding="utf-8")
    platforms = [word for one in PLATFORMS for word in ("--platform", one)]
    where = ["--only-binary", ":all:", "--python-version", PYTHON, *platforms]
    _run_pip("download", *where, "--dest", str(into), "-r", str(into / "requirements.txt"))
    return len(list(into.glob("*.whl")))


def list_requirements(project: Path) -> list[str]:
    """Lists the dependencies that Kaggle may not have: without torch and its GPU libraries."""
    listed = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    selected = [one for one in listed if _parse_name(one) not in PREINSTALLED and "platform_system ==" not in one]
    return [re.sub(r"\[.*?\]", "", one).partition(";")[0].strip() for one in selected]


def _parse_name(requirement: str) -> str:
    return re.split(r"[^\w-]", requirement, maxsplit=1)[0]


def _run_pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line.strip() for line in (result.stderr or result.stdout).splitlines() if line.strip()]
        raise ExperimentError(
            f"pip {words[0]} failed (exit code {result.returncode})",
            problems=lines[-10:],
            hint="correct that, and run the same command again; nothing was written",
        )
