"""Where, when and with what a run was made: for people, never part of a result's identity."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ffdi import __version__

LIBRARIES = ("torch", "torchvision", "timm", "albumentations", "numpy", "opencv-python-headless", "onnx")


def record_provenance(data_root: Path, command: list[str]) -> dict[str, Any]:
    """Where, when and with what a run was made."""
    return {
        "data_root": str(data_root.resolve()),
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "commit": _commit(),
        "version": __version__,
    }


def _commit() -> str | None:
    """The git commit of the code, with '+' where it was changed since; None outside a repository."""
    here = Path(__file__).parent
    ask = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
