"""Claim: ffdi can be installed on Linux, Windows and macOS with Python 3.11 to 3.14, with every file in constraints/,
and beside the packages of the Kaggle and Colab images.

    python benchmarks/resolve.py            prints the versions that uv selects; installs nothing

Only wheels count, from the package index that uv is configured for; macOS is 14 or later. The exceptions are in KNOWN.
Any other failure, and an exception that no longer holds, ends with exit status 1.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("linux", "windows", "macos")
CHOICES = {"cuda12.6": "cuda12", "cuda12.8": "cuda12", "cuda13": "cuda13", "": "cpu"}
"""File in constraints/ -> extra."""
IMAGES = {
    "Kaggle": ("3.12", "torch==2.10.0 timm==1.0.26 numpy==2.0.2 pandas==2.2.2 scikit-learn==1.6.1"),
    "Colab": ("3.13", "torch==2.11.0 timm==1.0.28 numpy==2.1.3 pandas==2.2.3 pillow==11.3.0"),
}
"""Image -> Python and the packages that an installation may not replace."""
KNOWN = {("cuda12.6", "3.14"): "torch 2.7 has no wheels for Python 3.14"}
SHOWN = re.compile(r"^(torch|onnxruntime|onnxruntime-gpu|timm|numpy|pandas)==(\S+)", re.MULTILINE)
"""Packages in the table."""


class Case(NamedTuple):
    """One installation; `pins` are requirements that it must keep."""

    title: str
    python: str
    platform: str
    constraints: str
    extra: str
    pins: str = ""

    @property
    def exception(self) -> str:
        return KNOWN.get((self.constraints, self.python), "")


def list_cases() -> list[Case]:
    cases = [
        Case(f"{platform}, {f'constraints/{name}.txt' if name else 'no constraints'}", python, platform, name, extra)
        for platform in PLATFORMS
        for name, extra in CHOICES.items()
        for python in PYTHONS
    ]
    images = [Case(f"{title} image", python, "linux", "", "cuda12", pins) for title, (python, pins) in IMAGES.items()]
    return cases + images


def resolve(case: Case) -> tuple[bool, str]:
    """Returns whether the versions can be resolved, and the versions or uv's error."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.write(case.pins.replace(" ", "\n"))
        pins.flush()
        command = ["uv", "pip", "compile", "--quiet", "--only-binary", ":all:", "--no-annotate", "--no-header"]
        command += ["--python-version", case.python, "--python-platform", case.platform, "--extra", case.extra]
        files = [pins.name, *([f"constraints/{case.constraints}.txt"] if case.constraints else [])]
        command += [word for file in files for word in ("--constraints", file)]
        environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}
        result = subprocess.run(
            [*command, "pyproject.toml"], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
        )
    if result.returncode:
        return False, " ".join(result.stderr.split())
    return True, ", ".join(f"{name} {version}" for name, version in SHOWN.findall(result.stdout))


def main() -> int:
    if shutil.which("uv") is None:
        print("uv is not installed: pip install uv", file=sys.stderr)
        return 2
    wrong = 0
    cases = list_cases()
    with ThreadPoolExecutor(4) as pool:
        for case, (resolved, text) in zip(cases, pool.map(resolve, cases), strict=True):
            expected = resolved != bool(case.exception)
            wrong += not expected
            mark = "" if expected else "UNEXPECTED: "
            result = text if resolved else case.exception or text
            print(f"{case.title}, Python {case.python}, [{case.extra}]: {mark}{result}")
    print(f"{len(cases)} installations, {wrong} unexpected")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
