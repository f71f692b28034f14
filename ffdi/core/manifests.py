"""Hashes of files, and JSON files that contain their schema version and their own hash."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ffdi.core import files
from ffdi.core.errors import ExperimentError

SCHEMA = 4
"""Version of the layout of all manifests; a reader refuses every other version."""
DIGEST = "content_sha256"
"""Key of a manifest's own hash: `hash_json` of all other keys."""


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Publishes a dictionary as indented JSON; its schema version and its hash come first."""
    whole = json.loads(json.dumps({"schema": SCHEMA, **content}, allow_nan=False))  # the types that a reader gets
    manifest = {"schema": SCHEMA, DIGEST: hash_json(whole), **content}
    files.write_text(path, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def read_manifest(path: Path, kinds: Mapping[str, type] = MappingProxyType({})) -> dict[str, Any]:
    """Reads a manifest, and checks its hash.

    Args:
        path: the file.
        kinds: required keys, with the types of their values.

    Raises:
        ExperimentError: it is missing, damaged, or was written by another version of ffdi.
    """
    hint = f"remove it and run again: rm {shlex.quote(str(path))}"
    try:
        written = path.read_bytes().decode("utf-8")
        content = json.loads(written)
    except FileNotFoundError:
        raise ExperimentError(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:
        raise ExperimentError(f"{path} is damaged: {error}", hint=hint) from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        raise ExperimentError(
            f"{path} was not written by this version of ffdi",
            hint="update ffdi"
            if newer
            else "create it again: train-folds --restart for an experiment, export-onnx for an export",
        )
    if content.pop(DIGEST, None) != hash_json(content):
        raise ExperimentError(f"{path} is damaged: its content does not match its hash", hint=hint)
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise ExperimentError(f"{path} is damaged: it has no '{key}'", hint=hint)
    document: dict[str, Any] = content  # a dictionary, because it has a schema
    return document


def hash_file(path: Path) -> str:
    """Returns the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_text(text: str) -> str:
    """Returns the sha256 of a text in UTF-8, in hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def hash_json(content: Any) -> str:
    """Returns the sha256 of a JSON value, in hex; the order of keys does not matter."""
    return hash_text(json.dumps(content, sort_keys=True, ensure_ascii=False))


def check_hash(path: Path, expected: str, record: Path, hint: str) -> None:
    """Refuses a missing or changed file.

    Args:
        path: the file.
        expected: its sha256, in hex.
        record: the file that lists this hash.
        hint: the next step in the error.

    Raises:
        ExperimentError: it is missing or damaged.
    """
    if not path.is_file():
        raise ExperimentError(f"{path} is missing: {record.name} lists it", hint=hint)
    if hash_file(path) != expected:
        raise ExperimentError(f"{path} is damaged: its hash is not the one in {record.name}", hint=hint)
