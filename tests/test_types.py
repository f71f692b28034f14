"""What annotations say holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def test_mypy_finds_nothing() -> None:
    """As pyproject.toml has it: strict, over ffdi, tasks.py and benchmarks; .mypy_cache keeps what has not changed."""
    result = subprocess.run([sys.executable, "-m", "mypy"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
