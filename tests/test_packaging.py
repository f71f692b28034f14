"""ffdi as a source distribution and as a wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from ffdi import __version__
from ffdi.submission import kaggle_bundle
from tests.conftest import PROJECT


def test_a_source_distribution_makes_the_same_wheel_which_has_all_that_is_needed(tmp_path: Path) -> None:
    source, made = tmp_path / "source", tmp_path / "made"
    shutil.copytree(PROJECT / "ffdi", source / "ffdi", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source / name)
    made.mkdir()
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(made)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    unpack = [sys.executable, "-m", "tarfile", "-e", str(made / f"ffdi-{__version__}.tar.gz"), str(tmp_path)]
    subprocess.run(unpack, check=True, capture_output=True)  # extractall has its filter from Python 3.11.4 on only
    names = []
    for place, folder in (("from-source", PROJECT), ("from-sdist", tmp_path / f"ffdi-{__version__}")):
        (tmp_path / place).mkdir()
        with zipfile.ZipFile(kaggle_bundle.build_wheel(folder, tmp_path / place)) as wheel:
            names.append(sorted(wheel.namelist()))
    assert names[0] == names[1]
    shipped = {
        path.relative_to(PROJECT).as_posix()
        for path in (PROJECT / "ffdi").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in names[0] if ".dist-info/" not in name} == shipped
