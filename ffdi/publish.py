"""A file that exists is complete: written beside, flushed to the disk, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ffdi.errors import ExperimentError

SCHEMA = 3
"""Version of the layout of every file here; a reader refuses another one."""
BESIDE = re.compile(r"\..+\.[0-9]+\.tmp")
"""The names that are written under before they are published."""
OLD = "old"
"""Where `together` moves what it replaces."""
TEXT = "text_sha256"
"""The key under which a document has the hash of its own text, taken while these digits were missing."""
DIGEST = re.compile(rf'"{TEXT}": "([0-9a-f]{{64}})"')


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; what was written there becomes `path` on a clean exit.

    On an error nothing of `path` changes and the temporary file is removed.

    Raises:
        ExperimentError: the disk is full, or the place cannot be written.
    """
    beside = _beside(path)
    try:
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield beside
            _flush(beside)
            beside.replace(path)
            _flush(path.parent)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


@contextmanager
def together(folder: Path, name: str) -> Iterator[Path]:
    """Yields a temporary folder inside of another one; on a clean exit all that is in it takes the place of its like.

    On an error everything stands as it was.

    Args:
        folder: is made where there is none.
        name: of one of the files; whoever writes it alone holds the lock.

    Raises:
        ExperimentError: the disk is full, or the place cannot be written.
    """
    beside = _beside(folder / name)
    new, old = beside / "new", beside / OLD
    try:
        with explained(folder):
            new.mkdir(parents=True)
            old.mkdir()
        yield new
        with explained(folder):
            for path in sorted(new.rglob("*")):
                _flush(path)
            _exchange(folder, new, old)
            _flush(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _exchange(folder: Path, new: Path, old: Path) -> None:
    """Moves a folder's files to `old` and their like from `new` to it; on an error all of it back."""
    names = sorted(path.name for path in new.iterdir())
    try:
        for name in names:
            if (folder / name).exists():
                (folder / name).rename(old / name)
        for name in names:
            (new / name).rename(folder / name)
    except BaseException:
        for name in names:
            if not (new / name).exists():
                (folder / name).rename(new / name)
        _put_back(folder, old)
        raise


def _put_back(folder: Path, old: Path) -> None:
    for path in sorted(old.iterdir()):
        _remove(folder / path.name)
        path.rename(folder / path.name)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def sweep(folder: Path, name: str = "") -> None:
    """Removes what writers left that were killed, and puts back what they had moved away.

    Args:
        folder: with those below it; whoever calls this holds its lock.
        name: of the file that was written, where that is the only one that is meant.
    """
    own = rf"\.{re.escape(name)}\.[0-9]+\.tmp" if name else BESIDE
    for path in sorted(folder.glob("*") if name else folder.rglob("*")) if folder.is_dir() else []:
        if re.fullmatch(own, path.name):
            if (path / OLD).is_dir():
                _put_back(path.parent, path / OLD)
            _remove(path)


def check_writable(path: Path) -> None:
    """Refuses a place before hours are spent on what is to stand there.

    Raises:
        ExperimentError: it is a folder, or cannot be written.
    """
    if path.is_dir():
        raise ExperimentError(f"{path} is a folder", hint="name a file")
    beside = _beside(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.touch()
        beside.unlink()


@contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """As `writing`, for a whole folder; an old one of that name is replaced at the end."""
    beside = _beside(folder)
    try:
        with explained(folder):
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
    """Publishes a dictionary as indented JSON, with its schema version and the hash of its text in front."""
    whole = {"schema": SCHEMA, TEXT: "", **content}
    blank = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    text(path, blank.replace(f'"{TEXT}": ""', f'"{TEXT}": "{_digest(blank)}"', 1))


def read(path: Path, kinds: Mapping[str, type] = MappingProxyType({})) -> dict[str, Any]:
    """Reads one of ffdi's JSON files.

    Args:
        path: the file.
        kinds: keys that it must have, and of which type.

    Raises:
        ExperimentError: missing, damaged, or written by an older or a newer ffdi.
    """
    again = f"remove it and run again: rm {path}"
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
    if not (found := DIGEST.search(written)) or found[1] != _digest(DIGEST.sub(f'"{TEXT}": ""', written, count=1)):
        raise ExperimentError(f"{path} is damaged: its text is not what its hash is of", hint=again)
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise ExperimentError(f"{path} is damaged: it has no '{key}'", hint=again)
    return content


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


def inside(folder: Path, name: str) -> Path:
    """The file of a folder that a document names.

    Raises:
        ExperimentError: it would lie elsewhere, or is a link.
    """
    parts = Path(name).parts
    path = folder.joinpath(*parts)
    links = any(folder.joinpath(*parts[: count + 1]).is_symlink() for count in range(len(parts)))
    if not parts or Path(name).is_absolute() or ".." in parts or links:
        raise ExperimentError(
            f"{folder} names a file outside of itself: {name}",
            hint="do not use this folder; somebody has tampered with it",
        )
    return path


def sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(content: Any) -> str:
    """Hex sha256 of anything JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()


def _digest(written: str) -> str:
    return hashlib.sha256(written.encode("utf-8")).hexdigest()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Says of what goes wrong inside that a path cannot be written.

    Raises:
        ExperimentError: the disk is full, or the place cannot be written.
    """
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
