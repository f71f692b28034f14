"""Files for notebooks on Kaggle and Colab: the notebooks, and wheels of ffdi and of what they may lack.

A notebook imports this module before the dependencies of ffdi are installed, so its own imports are few.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from ffdi.core import machine
from ffdi.core.errors import DataError, ExperimentError, FFDIError
from ffdi.core.names import escape_markdown

IMPORTS = """import os, shutil, subprocess, sys
from importlib import invalidate_caches
from pathlib import Path

"""
FIND_ON_KAGGLE = """INPUT, WORK = Path("/kaggle/input"), Path("/kaggle/working")
wheels = (one for depth in range(1, 6) for one in sorted(INPUT.glob("*/" * depth + "ffdi-*.whl")))
if (WHEEL := next(wheels, None)) is None:
    sys.exit("No input has a file ffdi-*.whl: attach the data set that `invoke kaggle-bundle` made (Add Input).")


"""
COLAB_SETTINGS = """\
# Where the bundle and the data are: a folder or a .zip file, on Google Drive or on this machine; or on Kaggle:
# kaggle:OWNER/NAME is a data set, kaggle:NAME is a competition. RESULTS_TO is a folder that outlives this session.
BUNDLE_FROM = $bundle  # @param {type:"string"}
DATA_FROM = "/content/drive/MyDrive/ffdi/data"  # @param {type:"string"}
RESULTS_TO = $results  # @param {type:"string"}


"""
FIND_ON_COLAB = """LOCAL = Path("/content/ffdi")  # to read many files from Drive is slow
WORK, RESULTS = LOCAL / "work", Path(RESULTS_TO)
if any(one.startswith("/content/drive/") for one in (BUNDLE_FROM, DATA_FROM, RESULTS_TO)):
    from google.colab import drive

    drive.mount("/content/drive")
for folder in (WORK, RESULTS):
    folder.mkdir(parents=True, exist_ok=True)


def fetch(setting, place):
    if place.startswith("kaggle:"):
        import kagglehub

        handle = place.removeprefix("kaggle:")
        return Path(kagglehub.dataset_download(handle) if "/" in handle else kagglehub.competition_download(handle))
    source, target = Path(place), LOCAL / setting.lower()
    if not source.exists():
        sys.exit(f"{setting}: there is no {place}. Upload it, or correct {setting} in the first cell.")
    target.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        copy_folder(source, target, leave_out=".zip")
    for archive in sorted(source.rglob("*.zip")) if source.is_dir() else [source]:
        shutil.unpack_archive(archive, target)
    return target


found = fetch("BUNDLE_FROM", BUNDLE_FROM)
if (WHEEL := next(found.rglob("ffdi-*.whl"), None)) is None:
    sys.exit(f"BUNDLE_FROM: {BUNDLE_FROM} has no file ffdi-*.whl. `invoke kaggle-bundle` makes the bundle.")
"""
TOOLS = """def run(*words):
    command, folder = [sys.executable, "-m", *words], WHEEL.parent
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        for line in process.stdout:  # a notebook may not show what another process prints
            print(line.decode(errors="replace"), end="")
    if process.returncode not in (0, 75):  # 75: the time is over, and another call continues
        sys.exit(f"{' '.join(words[:2])} did not succeed: the lines above say why.")
    return process.returncode == 0


def copy_folder(source, target, leave_out=None):
    for path in source.rglob("*"):
        if path.is_file() and path.suffix != leave_out:  # without permissions: inputs are read-only, copies are not
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / path.relative_to(source))


"""
INSTALL = """
BUNDLE = WHEEL.parent
os.environ.update(FFDI_ROOT=str(WORK), PYTHONIOENCODING="utf-8", PYTHONUNBUFFERED="1")
os.environ.update(PIP_ROOT_USER_ACTION="ignore", PIP_DISABLE_PIP_VERSION_CHECK="1")
run("pip", "install", "--quiet", "--no-index", "--no-deps", str(WHEEL))
invalidate_caches()
from ffdi.submission.kaggle_bundle import gather_inputs, install_wheels, plain_errors

with plain_errors():
    install_wheels(BUNDLE / "wheels")
run("ffdi.commands.kaggle_bundle")  # prints what is here, and what ffdi will use"""
SAVE = ('shutil.copyfile(WORK / "submission.csv", RESULTS / "submission.csv")', 'print("results:", RESULTS)')
"""Copies a submission to where it outlives the session."""
SHARED_FOLDER = "/content/drive/MyDrive/ffdi"
"""The folder on Google Drive for all bundles."""


class Code(NamedTuple):
    """Source code of a cell; other words, such as names, become literals."""

    text: str


DATA, IMAGES, OUTPUT = Code("DATA"), Code("IMAGES"), Code('str(WORK / "submission.csv")')


class Service(NamedTuple):
    """What differs between the notebooks of two services.

    Attributes:
        how: the text below a notebook's title.
        setup: the first cell; $bundle and $results are folders of an export.
        gathered: an expression for the folder with the data.
        resume: copies what earlier sessions trained into the workspace.
        max_time: of one call of train-folds.
        train: the cell that sets `finished`; $train is the call of train-folds.
        saves: whether results have to be copied to RESULTS, a folder that outlives the session.
        metadata: of a notebook.
    """

    how: str
    setup: str
    gathered: Code
    resume: str
    max_time: str
    train: str
    saves: bool
    metadata: Mapping[str, Any]


SERVICES = {
    "Kaggle": Service(
        "Attach this bundle and the competition's data (Add Input), and choose a GPU (Settings, Accelerator).",
        IMPORTS + FIND_ON_KAGGLE + TOOLS + INSTALL.lstrip(),
        Code("gather_inputs(INPUT, NAMES)"),
        "# folds of earlier sessions: attach their output as another input\n"
        'for earlier in sorted(INPUT.rglob("*/experiments")):\n'
        "    copy_folder(earlier, WORK / earlier.name)",
        "11h",  # a session lasts 12 h
        "finished = $train\n"
        "if not finished:\n"
        '    print("The time is over: save this version, attach its output as another input, and run again.")',
        False,
        {},
    ),
    "Colab": Service(
        "Choose a GPU (Runtime, Change runtime type). Upload the bundle and the data to Google Drive, to where the "
        "first cell looks for them, or correct that cell. For data from Kaggle, save a token of your Kaggle account "
        "as Colab's secret KAGGLE_API_TOKEN.",
        IMPORTS + COLAB_SETTINGS + TOOLS + FIND_ON_COLAB + INSTALL,
        Code('gather_inputs(fetch("DATA_FROM", DATA_FROM), NAMES)'),
        '# folds of earlier sessions\ncopy_folder(RESULTS / "experiments/", WORK / "experiments/")',
        "1h",
        "finished = False\n"
        "while not finished:  # an hour at a time, because a session may end without notice\n"
        "    finished = $train\n"
        '    copy_folder(WORK / "experiments/", RESULTS / "experiments/")',
        True,
        {"accelerator": "GPU", "colab": {"provenance": []}},
    ),
}
"""Services by their names."""
OWN_FILES = """# the experiments of this bundle, and what they need
copy_folder(BUNDLE / "experiments/", WORK / "experiments/")
copy_folder(BUNDLE / "weights", WORK / "weights")
copy_folder(BUNDLE / "pseudo_labels", WORK / "data" / "pseudo_labels")"""


def build_training_notebook(service: str, name: str, names: Sequence[str], patterns: Sequence[str]) -> str:
    """Builds a notebook that trains experiments, and writes a submission, a graph and a report.

    Args:
        service: a key of SERVICES.
        name: of their export.
        names: of the experiments.
        patterns: of the files and folders to gather as the data, as from `layout.list_patterns`.
    """
    place = SERVICES[service]
    named = [word for one in names for word in ("--experiment", one)]
    train = _format_call("invoke", "train-folds", *named, "--data", DATA, "--max-time", place.max_time)
    then = [
        _format_call("invoke", command, *named, "--name", name, "--data", DATA)
        for command in ("ensemble-submit", "export-onnx", "report")
    ]
    then.append(f"shutil.copy(WORK / {_quote(f'exports/{name}/submission.csv')}, {OUTPUT.text})")
    if place.saves:
        then += ['copy_folder(WORK / "exports/", RESULTS / "exports/")', *SAVE]
    return _format_notebook(
        service,
        name,
        "training",
        "If the time ends before the training, run the notebook again: it continues.",
        [
            f'{DATA.text} = ""  # the folder with the label files; empty: all of these from the data\n'
            f"{_format_names(patterns)}\n"
            f"with plain_errors():\n    {DATA.text} = {DATA.text} or {place.gathered.text}\n\n"
            f"{place.resume}\n{OWN_FILES}",
            Template(place.train).substitute(train=train),
            "\n".join(["if finished:", *(f"    {line}" for line in then)]),
        ],
    )


def build_inference_notebook(service: str, name: str, names: Sequence[str], patterns: Sequence[str]) -> str:
    """Builds a notebook that scores images with an exported graph, without torch.

    Args:
        service: as in `build_training_notebook`.
        name: of the export.
        names: of its experiments.
        patterns: as in `build_training_notebook`.
    """
    place = SERVICES[service]
    named = [word for one in names for word in ("--experiment", one)]
    scoring = ("invoke", "predict-onnx", *named, "--name", name)
    return _format_notebook(
        service,
        name,
        "scoring",
        "To score other images than the test images of the data, set `IMAGES`.",
        [
            f'copy_folder(BUNDLE / "export", WORK / {_quote(f"exports/{name}")})\n'
            f'{IMAGES.text} = ""  # a folder of images, or a CSV with a column img_name; empty: the test images\n'
            f"{_format_names(patterns)}\n"
            f"if {IMAGES.text}:\n"
            f"    {_format_call(*scoring, '--images', IMAGES, '--output', OUTPUT)}\n"
            "else:\n"
            f"    with plain_errors():\n        {DATA.text} = {place.gathered.text}\n"
            f"    {_format_call(*scoring, '--data', DATA, '--output', OUTPUT)}"
            + "".join(f"\n{line}" for line in SAVE if place.saves)
        ],
    )


def _format_names(patterns: Sequence[str]) -> str:
    rows = [", ".join(map(_quote, patterns[start : start + 6])) for start in range(0, len(patterns), 6)]
    return "NAMES = [\n" + "".join(f"    {row},\n" for row in rows) + "]"


@contextmanager
def plain_errors() -> Iterator[None]:
    """Ends a cell with the text of an error of ffdi, without a traceback."""
    try:
        yield
    except FFDIError as error:
        raise SystemExit(str(error)) from None


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
    from ffdi.experiments.workspace import Workspace

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


def _format_notebook(service: str, name: str, purpose: str, more: str, texts: Sequence[str]) -> str:
    """Formats a notebook with a heading, the first cell of the service and other cells of code."""
    place = SERVICES[service]
    heading = f"# {escape_markdown(name)}: {purpose} on {service}\n{place.how} {more}"
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "id": "head", "metadata": {}, "source": _split_lines(heading)}
    ]
    folders = {key: _quote(f"{SHARED_FOLDER}/{name}{end}") for key, end in (("bundle", ""), ("results", "-results"))}
    for number, text in enumerate([Template(place.setup).substitute(folders), *texts], 1):
        code: dict[str, Any] = {"execution_count": None, "outputs": [], "source": _split_lines(text)}
        cells.append({"cell_type": "code", "id": f"cell-{number}", "metadata": {}, **code})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"kernelspec": kernel, **place.metadata}
    whole = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _split_lines(text: str) -> list[str]:
    lines = text.split("\n")
    return [f"{line}\n" for line, _ in pairwise(lines)] + lines[-1:]


REQUIREMENTS = "requirements.txt"
"""What ffdi needs in an environment, in a folder of the bundle's wheels."""
SOURCE_FILES = ("pyproject.toml", "README.md", "LICENSE", "ffdi")


def build_wheel(project: Path, into: Path) -> Path:
    """Builds the wheel of ffdi from a copy of its source.

    Args:
        project: the folder with pyproject.toml.
        into: the folder for the wheel.

    Raises:
        ExperimentError: the source is missing, or pip fails.
    """
    if missing := [name for name in SOURCE_FILES if not (project / name).exists()]:
        raise ExperimentError(
            f"{project} has no {missing[0]}: the wheel of ffdi cannot be built from it",
            hint="run this command in a clone of the project",
        )
    with tempfile.TemporaryDirectory(prefix="ffdi-") as folder:
        for name in SOURCE_FILES:
            (shutil.copytree if (project / name).is_dir() else shutil.copy)(project / name, Path(folder) / name)
        where = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(into), folder]
        run_pip("the wheel of ffdi cannot be built", "wheel", *where)
    return next(into.glob("ffdi-*.whl"))


def install_wheels(wheels: Path) -> None:
    """Installs, in a notebook, what ffdi needs and does not find; keeps all packages in versions that ffdi can use.

    Args:
        wheels: of a bundle: it has a folder for each Python, with requirements.txt and perhaps wheels.

    Raises:
        ExperimentError: the bundle is not for this Python, or has no wheel of what is missing; or pip fails.
    """
    folder = wheels / format_tag(platform.python_version())
    if not folder.is_dir():
        known = ", ".join(f"{one.name[2]}.{one.name[3:]}" for one in sorted(wheels.iterdir()))
        raise ExperimentError(
            f"this notebook has Python {platform.python_version()}, and the bundle is for Python {known}",
            hint="choose an environment with such a Python in the notebook's settings, or make the bundle again",
        )
    paths = {one: path for path in folder.glob("*.whl") for one in metadata.distributions(path=[str(path)])}
    bundled = {canonicalize_name(one.metadata["Name"]): one for one in paths}
    chosen: dict[NormalizedName, str] = {}
    problems: list[str] = []
    waiting = [Requirement(line) for line in (folder / REQUIREMENTS).read_text(encoding="utf-8").splitlines()]
    for requirement in waiting:  # the list grows
        name = canonicalize_name(requirement.name)
        here = machine.find_version(name)
        if name in chosen or not (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            continue
        if here is not None and requirement.specifier.contains(here, prereleases=True):
            continue
        if name in bundled:
            new = f"{name} {bundled[name].version}"
            chosen[name] = new if here is None else f"{new} instead of {here}"
            waiting += map(Requirement, bundled[name].requires or ())
        else:
            problems.append(f"{name}{requirement.specifier}: here is {here or 'none'}")
    if problems:
        raise ExperimentError(
            "ffdi needs packages that this notebook lacks, and that the bundle does not bring",
            problems=problems,
            hint="make the bundle with invoke kaggle-bundle --wheels; or, with a network, install them by %pip install",
        )
    if chosen:
        words = [str(paths[bundled[name]]) for name in chosen]
        run_pip("the wheels cannot be installed", "install", "--quiet", "--no-index", "--no-deps", *words)
    print("installed:", ", ".join(chosen.values()) or "nothing", "- all other packages stay as they were")


def format_tag(python: str) -> str:
    """Returns 'cp312' for Python 3.12.13: the name of the folder with its wheels."""
    return "cp" + "".join(python.split(".")[:2])


def run_pip(fault: str, *words: str) -> str:
    """Returns the output of pip.

    Raises:
        ExperimentError: it fails; `fault` is what that means.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if not result.returncode:
        return result.stdout
    lines = [line.strip() for line in (result.stderr or result.stdout).splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        raise ExperimentError(f"{fault}: this environment has no pip", hint="python -m ensurepip")
    hint = "correct that, and run the same command again; nothing was written"
    if any("connection broken by" in line for line in lines):
        fault, hint = (
            f"{fault}: there is no connection to a package index",
            "connect to a network, or set PIP_INDEX_URL to the address of a mirror, and run the same command again; "
            "nothing was written",
        )
    else:
        fault = f"{fault}: pip {words[0]} failed (exit code {result.returncode})"
    raise ExperimentError(fault, problems=[one for one in lines if one.startswith("ERROR:")] or lines[-10:], hint=hint)
