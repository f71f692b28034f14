"""JSON files that know their schema and whether they are whole."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ffdi.core import files, hashes
from ffdi.core.errors import ExperimentError

SCHEMA = 4
"""Version of the layout of every file here; a reader refuses another one."""
DIGEST = "content_sha256"
"""The key of a document's own hash: `hashes.hash_json` of all its other keys."""


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Publishes a dictionary as indented JSON, with its schema version and the hash of its content in front."""
    whole = json.loads(json.dumps({"schema": SCHEMA, **content}, allow_nan=False))  # as a reader will have it
    sealed = {"schema": SCHEMA, DIGEST: hashes.hash_json(whole), **content}
    files.write_text(path, json.dumps(sealed, indent=2, ensure_ascii=False) + "\n")


def read_manifest(path: Path, kinds: Mapping[str, type] = MappingProxyType({})) -> dict[str, Any]:
    """Reads one of ffdi's JSON files.

    Args:
        path: the file.
        kinds: keys that it must have, and of which type.

    Raises:
        ExperimentError: missing, damaged, or written by an older or a newer ffdi.
    """
    again = f"remove it and run again: rm {shlex.quote(str(path))}"
    try:
        written = path.read_bytes().decode("utf-8")
        content = json.loads(written)
    except FileNotFoundError:
        raise ExperimentError(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:
        raise ExperimentError(f"{path} is damaged: {error}", hint=again) from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        raise ExperimentError(
            f"{path} was not written by this version of ffdi",
            hint="update ffdi" if newer else "make it anew: train-folds --restart an experiment, export-onnx an export",
        )
    if content.pop(DIGEST, None) != hashes.hash_json(content):
        raise ExperimentError(f"{path} is damaged: its content does not match its hash", hint=again)
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise ExperimentError(f"{path} is damaged: it has no '{key}'", hint=again)
    document: dict[str, Any] = content  # else it would have no schema
    return document
