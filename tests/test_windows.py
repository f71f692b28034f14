"""The whole way without the calls that only POSIX systems have. `windows/sitecustomize.py` fakes the platform.

Without loader workers: their queues ask for the platform, and would use functions of Windows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import PROJECT

SCRIPT = """
import sys
from invoke import Program
for line in sys.argv[1:]:
    try:
        Program().run(["invoke", *line.split(" ")])
    except SystemExit as end:
        if end.code:
            raise
"""


def test_the_whole_way_needs_no_call_of_posix(workspace: Path, competition: Path) -> None:
    commands = (
        f"train-folds --experiment tiny --data {competition} --workers 0",
        f"ensemble-submit --experiment tiny --data {competition}",
        "export-onnx --experiment tiny --runtimes cpu",
        "predict-onnx --experiment tiny --device cpu",
        "report --experiment tiny",
    )
    paths = os.pathsep.join([str(PROJECT / "tests" / "windows"), str(PROJECT)])
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *commands],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    for name in ("submission.csv", "model.onnx", "onnx_scores.csv", "report.html"):
        assert (workspace / "exports" / "tiny" / name).is_file(), result.stdout


def test_the_platform_is_faked_in_this_process_and_its_children() -> None:
    code = "import sys; print(sys.platform, sys.modules['fcntl'])"
    script = f"import subprocess, sys; {code}; subprocess.run([sys.executable, '-c', {code!r}], check=True)"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "tests" / "windows")}
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["win32 None"] * 2, result.stderr
