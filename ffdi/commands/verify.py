"""Checks that everything in experiments/ and exports/ is what was written there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ffdi.commands.shared import lists
from ffdi.core import console
from ffdi.core.errors import ExperimentError
from ffdi.experiments import audit
from ffdi.experiments.workspace import Workspace


def run(workspace: Workspace, names: Sequence[str], *, name: str | None) -> None:
    """Checks the files of experiments and of their export, or, where none is named, of all there are.

    Raises:
        ExperimentError: names every file that is damaged or missing.
    """
    faults: list[str] = []
    folders = _folders(workspace, names, name)
    if not folders:
        console.say(f"nothing to check: neither experiments/ nor exports/ in {workspace.root}")
    for folder in folders:
        checked = list(audit.folder(folder))
        faults += [one.fault for one in checked if one.fault]
        console.say(f"{folder}: {len(checked)} files, {sum(bool(one.fault) for one in checked) or 'none'} at fault")
    if faults:
        raise ExperimentError(
            "1 file is not what was written" if len(faults) == 1 else f"{len(faults)} files are not what was written",
            problems=faults,
            hint="bring them back from a copy, or remove what they belong to and run its verb again",
        )


def _folders(workspace: Workspace, names: Sequence[str], name: str | None) -> list[Path]:
    if names:
        names, name = lists.resolve_experiments(workspace, names, name)
        folders = [workspace.experiment(one).folder for one in names]
        return [*folders, *([export] if (export := workspace.export(names, name).folder).is_dir() else [])]
    return [*(one.folder for one in workspace.experiments()), *workspace.exports()]
