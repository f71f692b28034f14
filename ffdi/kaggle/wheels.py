"""ffdi as a wheel, and those of what it needs, for a machine without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from ffdi.core.errors import ExperimentError

THERE = ("torch", "torchvision", "timm")
"""What a notebook on Kaggle has, built for its own GPU; five gigabytes."""
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
"""Of a notebook on Kaggle."""
SOURCE = ("pyproject.toml", "README.md", "LICENSE", "ffdi")


def build(project: Path, into: Path) -> Path:
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


def download(project: Path, into: Path) -> int:
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
