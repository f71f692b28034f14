"""The rules of the house: who may import whom, and which word stands where."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "ffdi"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
LEVELS = {
    "names": 0,
    "errors": 0,
    "hints": 0,
    "memory": 1,
    "links": 1,
    "csvs": 1,
    "publish": 1,
    "hashes": 1,
    "bounded": 2,
    "documents": 2,
    "config": 2,
    "variants": 2,
    "machine": 1,
    "stopping": 1,
    "provenance": 2,
    "console": 2,
    "store": 3,
    "scoring": 4,
    "search": 4,
    "forge": 4,
    "blend": 5,
    "data": 5,
    "training": 6,
    "deploy": 7,
    "engines": 7,
    "pages": 1,
    "report": 7,
    "app": 7,
    "kaggle": 7,
    "pipeline": 8,
}
"""Imports run downward: a room may import its own level and those below."""
HOMES = {
    "torch": {"training/", "data/loader.py", "deploy/export.py"},
    "timm": {"training/"},
    "albumentations": {"data/augment.py"},
    "onnxruntime": {"deploy/ort.py", "deploy/precision.py", "deploy/standalone.py"},
    "openvino": {"deploy/vino.py"},
    "onnx": {"deploy/export.py", "deploy/precision.py", "deploy/half.py", "deploy/vetting.py"},
    "rich": {"console.py"},
    "matplotlib": {"report/plots.py", "report/charts.py"},
    "jinja2": {"pages/template.py"},
    "starlette": {"app/server.py"},
    "uvicorn": {"app/server.py"},
    "ray": {"engines/ray.py", "engines/parcel.py", "engines/servers.py", "engines/cluster.py"},
    "optuna": {"search/samplers.py"},
    "filelock": {"store/lock.py"},
    "safetensors": {"training/"},
    "signal": {"stopping.py", "data/loader.py"},
}


def _imports(file: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _room(module: str) -> str:
    return module.removeprefix("ffdi.").partition(".")[0].partition("/")[0]


@pytest.mark.parametrize("file", FILES)
def test_imports_run_downward(file: str) -> None:
    if file == "__init__.py":
        assert _imports(file) == set()
        return
    own = LEVELS[_room(file.removesuffix(".py").replace("/", "."))]
    rooms = {_room(name) for name in _imports(file) if name.startswith("ffdi.")} & LEVELS.keys()
    assert {room for room in rooms if LEVELS[room] > own} == set()


@pytest.mark.parametrize("library", HOMES)
def test_a_library_stays_in_its_room(library: str) -> None:
    users = {file for file in FILES if any(name.partition(".")[0] == library for name in _imports(file))}
    strangers = {user for user in users if not any(user.startswith(home) for home in HOMES[library])}
    assert strangers == set()
    assert users, f"{library} is imported nowhere: is it still a dependency?"


def test_cuda_is_named_in_two_files_only() -> None:
    named = {file for file in FILES if re.search("cuda", (PACKAGE / file).read_text(), re.IGNORECASE)}
    assert named == {"training/device.py", "deploy/ort.py"}


def test_paths_under_experiments_and_exports_are_made_in_one_file() -> None:
    made = {file for file in FILES if re.search(r"""["'](experiments|exports)["']""", (PACKAGE / file).read_text())}
    assert made == {"store/workspace.py"}


def test_nothing_is_pickled() -> None:
    users = {
        file for file in FILES if {name.partition(".")[0] for name in _imports(file)} & {"pickle", "joblib", "shelve"}
    }
    assert users == set()


def test_there_is_no_drawer() -> None:
    assert [file for file in FILES if re.search(r"util|helper|misc|common", file)] == []
