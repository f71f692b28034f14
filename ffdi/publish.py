"""A file that exists is complete: written beside, flushed to the disk, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ffdi.errors import ExperimentError

SCHEMA = 2
"""Version of the layout of every file here; a reader refuses another one."""


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; what was written there becomes `path` on a clean exit.

    On an error nothing of `path` changes and the temporary file is removed.

    Raises:
        ExperimentError: the disk is full, or the place cannot be written.
    """
    beside = _beside(path)
    try:
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield beside
            _flush(beside)
            beside.replace(path)
            _flush(path.parent)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Refuses a place before hours are spent on what is to stand there.

    Raises:
        ExperimentError: it is a folder, or cannot be written.
    """
    if path.is_dir():
        raise ExperimentError(f"{path} is a folder", hint="name a file")
    beside = _beside(path)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.touch()
        beside.unlink()


@contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """As `writing`, for a whole folder; an old one of that name is replaced at the end."""
    beside = _beside(folder)
    try:
        beside.mkdir(parents=True)
        yield beside
        shutil.rmtree(folder, ignore_errors=True)
        beside.replace(folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def text(path: Path, content: str) -> None:
    """Publishes `content` as UTF-8 with the line ends it has."""
    with writing(path) as beside:
        beside.write_bytes(content.encode("utf-8"))


def document(path: Path, content: dict[str, Any]) -> None:
    """Publishes a dictionary as indented JSON with its schema version first; keys keep their order."""
    text(path, json.dumps({"schema": SCHEMA, **content}, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Reads one of ffdi's JSON files.

    Raises:
        ExperimentError: missing, damaged, or written by an older or a newer ffdi.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExperimentError(f"{path} is missing") from None
    except ValueError as error:
        raise ExperimentError(f"{path} is damaged: {error}", hint=f"remove it and run again: rm {path}") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        raise ExperimentError(
            f"{path} was not written by this version of ffdi",
            hint="update ffdi" if newer else "make it anew: train-folds --fresh an experiment, export-onnx an export",
        )
    return content


def sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(content: Any) -> str:
    """Hex sha256 of anything JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExperimentError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="free the disk or name another place; what stood there is as it was",
        ) from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
