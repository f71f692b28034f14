"""JSON files that know their schema and whether they are whole."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ffdi.core import files, hashes
from ffdi.core.errors import ExperimentError

SCHEMA = 3
"""Version of the layout of every file here; a reader refuses another one."""
TEXT = "text_sha256"
"""The key under which a document has the hash of its own text, taken while these digits were missing."""
DIGEST = re.compile(rf'"{TEXT}": "([0-9a-f]{{64}})"')


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Publishes a dictionary as indented JSON, with its schema version and the hash of its text in front."""
    whole = {"schema": SCHEMA, TEXT: "", **content}
    blank = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    files.write_text(path, blank.replace(f'"{TEXT}": ""', f'"{TEXT}": "{hashes.hash_text(blank)}"', 1))


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
            hint="update ffdi" if newer else "make it anew: train-folds --fresh an experiment, export-onnx an export",
        )
    if not (found := DIGEST.search(written)) or found[1] != hashes.hash_text(
        DIGEST.sub(f'"{TEXT}": ""', written, count=1)
    ):
        raise ExperimentError(f"{path} is damaged: its text is not what its hash is of", hint=again)
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise ExperimentError(f"{path} is damaged: it has no '{key}'", hint=again)
    document: dict[str, Any] = content  # else it would have no schema
    return document
