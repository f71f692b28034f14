"""The structure of the code: who may import whom, and where each library is used."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "ffdi"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path.stat().st_size)
LAYERS = re.findall(r"^\| `(\S+)/` \|", (PACKAGE.parent / "docs" / "architecture.md").read_text(), re.MULTILINE)[::-1]
"""The folders of the map, the lowest first: the rows of docs/architecture.md are the rule."""
HOMES = {
    "torch": {"models/", "training/", "data/loading/loader.py", "export/onnx.py"},
    "timm": {"models/", "training/"},
    "albumentations": {"data/loading/augment.py"},
    "onnxruntime": {"inference/onnxruntime.py", "export/quantize.py", "export/standalone.py"},
    "openvino": {"inference/openvino.py"},
    "onnx": {"export/onnx.py", "export/quantize.py", "inference/onnx_safety.py"},
    "rich": {"core/console.py", "core/bars.py", "core/columns.py"},
    "matplotlib": {"reporting/charts.py"},
    "jinja2": {"pages/template.py"},
    "starlette": {"inference/server.py"},
    "uvicorn": {"inference/server.py"},
    "ray": {"engines/ray.py", "engines/servers.py", "engines/cluster.py"},
    "optuna": {"search/samplers.py"},
    "filelock": {"experiments/experiment.py"},
    "safetensors": {"models/", "training/"},
    "signal": {"core/signals.py", "data/loading/loader.py"},
}


def _imports(file: str) -> set[str]:
    """Dotted names of all that a file imports, wherever in the file the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _imported_files(file: str) -> set[str]:
    paths = {name.removeprefix("ffdi.").replace(".", "/") + ".py" for name in _imports(file)}
    return paths & set(FILES)


@pytest.mark.parametrize("file", [file for file in FILES if "/" in file])
def test_imports_run_downward(file: str) -> None:
    layer = {folder: number for number, folder in enumerate(LAYERS)}
    own = layer[file.rpartition("/")[0]]
    above = {other for other in _imported_files(file) if layer[other.rpartition("/")[0]] > own}
    assert above == set()


def test_no_files_import_each_other_in_a_circle() -> None:
    TopologicalSorter({file: _imported_files(file) for file in FILES}).prepare()


def test_a_command_imports_no_other_command() -> None:
    commands = {file for file in FILES if re.fullmatch(r"commands/\w+\.py", file)}
    below = [file for file in FILES if not file.startswith("notebook/")]  # its functions call the commands
    assert {file: _imported_files(file) & commands for file in below if _imported_files(file) & commands} == {}


def test_inference_needs_neither_torch_nor_the_export() -> None:
    seen, left = set(), [file for file in FILES if file.startswith("inference/")]
    while left:
        file = left.pop()
        if file not in seen:
            seen.add(file)
            left += _imported_files(file)
    users = {file for file in seen if any(name.partition(".")[0] == "torch" for name in _imports(file))}
    assert users == set()
    assert {file for file in seen if file.startswith("export/")} == set()


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    users = {file for file in FILES if any(name.partition(".")[0] == library for name in _imports(file))}
    strangers = {user for user in users if not any(user.startswith(home) for home in HOMES[library])}
    assert strangers == set()
    assert users, f"{library} is imported nowhere: is it still a dependency?"


def test_cuda_is_named_in_few_files() -> None:
    named = {file for file in FILES if re.search("cuda", (PACKAGE / file).read_text(), re.IGNORECASE)}
    assert named == {
        "core/cuda.py",
        "training/runtime/device.py",
        "inference/onnxruntime.py",
        "commands/shared/options.py",
    }  # help text


def test_paths_under_experiments_and_exports_are_made_in_one_file() -> None:
    made = {file for file in FILES if re.search(r"""["'](experiments|exports)["']""", (PACKAGE / file).read_text())}
    assert made == {"experiments/workspace.py"}


def test_nothing_is_pickled() -> None:
    users = {
        file for file in FILES if {name.partition(".")[0] for name in _imports(file)} & {"pickle", "joblib", "shelve"}
    }
    assert users == set()


def test_there_is_no_drawer() -> None:
    assert [file for file in FILES if re.search(r"util|helper|misc|common", file)] == []
