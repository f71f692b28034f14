"""Whether every file of a folder is the one that was published there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ffdi.core import hashes, links, manifests
from ffdi.core.errors import ExperimentError
from ffdi.experiments.experiment import TRACE


class Checked(NamedTuple):
    """A file, and what is wrong with it; empty where nothing is."""

    path: Path
    fault: str


def folder(root: Path) -> Iterator[Checked]:
    """Checks each document below a folder, and each file that one lists, against its hash; no link may be there."""
    if links.is_link(root):
        yield Checked(root, _linked(root))
        return
    yield from (Checked(path, _linked(path)) for path in links.found(root))
    for path in sorted(root.rglob("*.json")):
        if (
            path.name == TRACE
            or links.is_link(path)
            or any(part.startswith(".") for part in path.relative_to(root).parts)
        ):
            continue
        try:
            content = manifests.read_manifest(path)
        except ExperimentError as error:
            yield Checked(path, error.what)
            continue
        try:
            listed = list(_listed(path, content).items())
        except (KeyError, AttributeError):
            yield Checked(path, f"{path} is damaged: it does not list its files")
            continue
        yield Checked(path, "")
        yield from (_checked(path, name, expected) for name, expected in listed)


def _linked(path: Path) -> str:
    return f"{path} is a link to {links.target(path)}: what it leads to is not checked"


def _checked(record: Path, name: str, expected: str) -> Checked:
    try:
        path = links.below(record.parent, name)
        hashes.check_hash(path, expected, record, hint="")
    except ExperimentError as error:
        return Checked(record.parent / name, error.what)
    return Checked(path, "")


def _listed(path: Path, content: dict[str, Any]) -> dict[str, str]:
    """The hashes of the files that a document is about."""
    kind = "checkpoint" if path.name.startswith("checkpoint-") else path.name
    listed = LISTED.get(kind)
    return {} if listed is None else listed(path, content)


LISTED: dict[str, Callable[[Path, dict[str, Any]], dict[str, str]]] = {
    "resolved.json": lambda _, content: {"folds.csv": content["folds"], "images.csv": content["data"]},
    "metrics.json": lambda _, content: {"oof.csv": content["oof_sha256"]},
    "manifest.json": lambda _, content: content["files"],
    "checkpoint": lambda path, content: {path.with_suffix(".safetensors").name: content["sha256"]},
    "bundle.json": lambda _, content: content["files"],
    "submission.json": lambda _, content: {"submission.csv": content["sha256"]},
    "onnx_scores.json": lambda _, content: {"onnx_scores.csv": content["sha256"]},
}
"""What each kind of document lists."""
