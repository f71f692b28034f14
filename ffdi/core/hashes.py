"""Hashes, and whether a file is still the one that was written down."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ffdi.core.errors import ExperimentError


def sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_text(text: str) -> str:
    """Hex sha256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def hash_json(content: Any) -> str:
    """Hex sha256 of anything JSON can hold, whatever the order of its keys."""
    return hash_text(json.dumps(content, sort_keys=True, ensure_ascii=False))


def check_hash(path: Path, expected: str, record: Path, hint: str) -> None:
    """Refuses a file that is not the one that was written down.

    Args:
        path: the file.
        expected: its hex sha256.
        record: where that stands.
        hint: what to do where it is not.

    Raises:
        ExperimentError: it is missing or damaged.
    """
    if not path.is_file():
        raise ExperimentError(f"{path} is missing: {record.name} lists it", hint=hint)
    if sha256(path) != expected:
        raise ExperimentError(f"{path} is damaged: its hash is not the one in {record.name}", hint=hint)
