"""Checks every file in experiments/ and exports/ against its recorded hash."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ffdi.commands.shared import groups
from ffdi.commands.shared.options import VerifyOptions
from ffdi.core import console, links, manifests
from ffdi.core.errors import ExperimentError, format_count
from ffdi.experiments.experiment import TEACHER_FEATURES, TRACE
from ffdi.experiments.fold import FROZEN
from ffdi.experiments.workspace import Workspace


def run(workspace: Workspace, options: VerifyOptions) -> None:
    """Checks the files of experiments and of their export; without --experiment all files.

    Raises:
        ExperimentError: a file is damaged or missing.
    """
    faults: list[str] = []
    folders = _list_folders(workspace, options)
    if not folders:
        console.say(f"nothing to check: {workspace.root} has neither experiments/ nor exports/")
    for folder in folders:
        checked = list(audit_folder(folder))
        faults += [one.fault for one in checked if one.fault]
        console.say(
            f"{folder}: {format_count(len(checked), 'file')}, "
            f"{sum(bool(one.fault) for one in checked) or 'none'} at fault"
        )
    if faults:
        raise ExperimentError(
            f"{format_count(len(faults), 'file')} {'is' if len(faults) == 1 else 'are'} not what was written",
            problems=faults,
            hint="restore them from a copy, or remove their folder and run its command again",
        )


def _list_folders(workspace: Workspace, options: VerifyOptions) -> list[Path]:
    if not options.experiment:
        own = [one.folder for one in workspace.list_experiments()]
        return [*own, *workspace.list_exports(), *workspace.list_pseudo_labels()]
    names, name = groups.resolve_experiments(workspace, options.experiment, options.name)
    folders = [workspace.get_experiment(one).folder for one in names]
    export = workspace.get_export(names, name).folder
    return [*folders, export] if export.is_dir() else folders


class FileCheck(NamedTuple):
    """A file, and its fault; '' for a good file."""

    path: Path
    fault: str


def audit_folder(root: Path) -> Iterator[FileCheck]:
    """Checks each JSON document in a folder, and each file that it lists, against its hash; links are faults."""
    if links.is_link(root):
        yield FileCheck(root, _describe_link(root))
        return
    yield from (FileCheck(path, _describe_link(path)) for path in links.find_links(root))
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
            yield FileCheck(path, error.what)
            continue
        try:
            listed = list(_list_files(path, content).items())
        except (KeyError, AttributeError):
            yield FileCheck(path, f"{path} is damaged: it does not list its files")
            continue
        yield FileCheck(path, "")
        yield from (_check_file(path, name, expected) for name, expected in listed)


def _describe_link(path: Path) -> str:
    return f"{path} is a link to {links.read_target(path)}: what it leads to is not checked"


def _check_file(record: Path, name: str, expected: str) -> FileCheck:
    try:
        path = links.join(record.parent, name)
        manifests.check_hash(path, expected, record, hint="")
    except ExperimentError as error:
        return FileCheck(record.parent / name, error.what)
    return FileCheck(path, "")


def _list_files(path: Path, content: dict[str, Any]) -> dict[str, str]:
    """The hash of each file that a document lists."""
    kind = "checkpoint" if path.name.startswith("checkpoint-") else path.name
    listed = FILE_LISTS.get(kind)
    return {} if listed is None else listed(path, content)


def _list_teacher_features(identity: dict[str, Any]) -> dict[str, str]:
    sha256 = identity.get("distill", {}).get("features_sha256")
    return {} if sha256 is None else {TEACHER_FEATURES: sha256}


FILE_LISTS: dict[str, Callable[[Path, dict[str, Any]], dict[str, str]]] = {
    "resolved.json": lambda _, content: {
        "folds.csv": content["folds"],
        "images.csv": content["data"],
        **({FROZEN: content["frozen"]} if "frozen" in content else {}),
        **_list_teacher_features(content["config"]),
    },
    "metrics.json": lambda _, content: {"oof.csv": content["oof_sha256"]},
    "manifest.json": lambda _, content: content["files"],
    "checkpoint": lambda path, content: {path.with_suffix(".safetensors").name: content["sha256"]},
    "teachers.json": lambda _, content: {"teachers.csv": content["sha256"]},
    "pseudo_labels.json": lambda _, content: {"labels.csv": content["sha256"]},
    "bundle.json": lambda _, content: content["files"],
    "submission.json": lambda _, content: {"submission.csv": content["sha256"], **content["to_send"]},
    "onnx_scores.json": lambda _, content: {"onnx_scores.csv": content["sha256"]},
}
"""How to read the hashes from each kind of document."""
