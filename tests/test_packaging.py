"""ffdi as a source distribution and as a wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from ffdi import __version__
from ffdi.submission import kaggle_bundle
from tests.conftest import PROJECT

OWN = sorted(path.parent.name for path in (PROJECT / "experiments").glob("*/config.toml"))


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


def test_an_installed_ffdi_has_the_experiments_of_the_project_and_no_others(tmp_path: Path) -> None:
    """Built as pip builds it: from a source distribution of a checkout, which also has an experiment of a person."""
    source, made, site = tmp_path / "source", tmp_path / "made", tmp_path / "site"
    shutil.copytree(PROJECT / "ffdi", source / "ffdi", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "experiments/mine/config.toml"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name if (PROJECT / name).exists() else PROJECT / "LICENSE", source / name)
    for name in OWN:
        (source / "experiments" / name).mkdir()
        shutil.copy(PROJECT / "experiments" / name / "config.toml", source / "experiments" / name)
    build = "from setuptools import build_meta; build_meta.build_{}({!r})"
    made.mkdir()
    subprocess.run(
        [sys.executable, "-c", build.format("sdist", str(made))], cwd=source, check=True, capture_output=True
    )
    unpack = [sys.executable, "-m", "tarfile", "-e", str(made / f"ffdi-{__version__}.tar.gz"), str(tmp_path)]
    subprocess.run(unpack, check=True, capture_output=True)
    unpacked = tmp_path / f"ffdi-{__version__}"
    subprocess.run(
        [sys.executable, "-c", build.format("wheel", str(made))], cwd=unpacked, check=True, capture_output=True
    )
    zipfile.ZipFile(next(made.glob("*.whl"))).extractall(site)
    assert sorted(path.name for path in (site / "ffdi" / "shipped" / "experiments").iterdir()) == OWN
    (tmp_path / "work").mkdir()
    code = (
        "import ffdi\ntry:\n    ffdi.report('quickstart')\nexcept ffdi.FFDIError as error:\n    print(error.hint)\n"
        "print(ffdi.__file__)"
    )
    kept = {name: value for name, value in os.environ.items() if name != "FFDI_ROOT"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "work",
        env={**kept, "PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f'ffdi.train("quickstart")\n{site / "ffdi" / "__init__.py"}\n'
    assert (tmp_path / "work" / "experiments" / "quickstart" / "config.toml").is_file()
