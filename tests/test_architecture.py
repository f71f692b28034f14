"""The rules of the house: who may import whom, and which word stands where."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "ffdi"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
LEVELS = {
    "core": 0,
    "config": 1,
    "pages": 1,
    "experiments": 2,
    "search": 2,
    "synthetic": 2,
    "demo": 3,
    "data/labels": 4,
    "data/images": 4,
    "data/inspection": 4,
    "data/splits": 4,
    "data/loading": 4,
    "evaluation": 4,
    "ensemble": 4,
    "submission": 4,
    "kaggle": 4,
    "models": 5,
    "training/runtime": 6,
    "training": 7,
    "training/tools": 8,
    "report": 8,
    "inference": 9,
    "export": 10,
    "engines": 10,
    "commands/shared": 11,
    "commands": 11,
}
"""Imports run downward: a folder may import its own level and those below."""
HOMES = {
    "torch": {"models/", "training/", "data/loading/loader.py", "export/onnx.py"},
    "timm": {"models/", "training/"},
    "albumentations": {"data/loading/augment.py"},
    "onnxruntime": {"inference/onnxruntime.py", "export/quantize.py", "export/standalone.py"},
    "openvino": {"inference/openvino.py"},
    "onnx": {"export/onnx.py", "export/quantize.py", "export/half.py", "inference/onnx_safety.py"},
    "rich": {"core/console.py"},
    "matplotlib": {"report/plots.py", "report/charts.py"},
    "jinja2": {"pages/template.py"},
    "starlette": {"inference/server.py"},
    "uvicorn": {"inference/server.py"},
    "ray": {"engines/ray.py", "engines/parcel.py", "engines/servers.py", "engines/cluster.py"},
    "optuna": {"search/samplers.py"},
    "filelock": {"experiments/lock.py"},
    "safetensors": {"models/", "training/"},
    "signal": {"core/signals.py", "data/loading/loader.py"},
}


def _imports(file: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


@pytest.mark.parametrize("file", FILES)
def test_imports_run_downward(file: str) -> None:
    if file == "__init__.py":
        assert _imports(file) == set()
        return
    paths = {
        name.removeprefix("ffdi.").replace(".", "/") + ".py" for name in _imports(file) if name.startswith("ffdi.")
    }
    imported = {_folder(path) for path in paths if path in FILES}
    assert {folder for folder in imported if LEVELS[folder] > LEVELS[_folder(file)]} == set()


@pytest.mark.parametrize("library", HOMES)
def test_a_library_stays_in_its_room(library: str) -> None:
    users = {file for file in FILES if any(name.partition(".")[0] == library for name in _imports(file))}
    strangers = {user for user in users if not any(user.startswith(home) for home in HOMES[library])}
    assert strangers == set()
    assert users, f"{library} is imported nowhere: is it still a dependency?"


def test_cuda_is_named_in_two_files_only() -> None:
    named = {file for file in FILES if re.search("cuda", (PACKAGE / file).read_text(), re.IGNORECASE)}
    assert named == {"training/runtime/device.py", "inference/onnxruntime.py"}


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
