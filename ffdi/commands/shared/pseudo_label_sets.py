"""Reads the pseudo-labels that an experiment is trained on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ffdi.commands.shared import inspection
from ffdi.config.schema import Config
from ffdi.core import console, manifests, names
from ffdi.core.errors import ConfigError, DataError, format_count
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.pseudo_labels import PseudoLabels, read_labels
from ffdi.data.labels.table import Table
from ffdi.experiments.pseudo_labels import PseudoLabelFolder
from ffdi.experiments.workspace import Workspace

KEYS = {"sha256": str, "folds": str, "k": int, "images": dict}
"""What a training needs of pseudo_labels.json."""
MAKE = "invoke pseudo-label --experiment TEACHERS --images IMAGES --name"
"""The command that makes pseudo-labels; the name follows."""


def read_record(folder: PseudoLabelFolder) -> dict[str, Any]:
    """Reads pseudo_labels.json, and checks labels.csv against it.

    Raises:
        ConfigError: there are no such pseudo-labels.
        ExperimentError: a file is damaged.
    """
    if not folder.record_path.is_file():
        raise ConfigError(
            f"pseudo_labels.name = '{folder.name}': {folder.record_path} does not exist",
            hint=_make(folder),
        )
    record = manifests.read_manifest(folder.record_path, KEYS)
    manifests.check_hash(folder.labels_path, record["sha256"], folder.record_path, _remove(folder))
    return record


def load_pseudo_labels(workspace: Workspace, settings: Config, dataset: Dataset) -> PseudoLabels | None:
    """Reads the pseudo-labels of an experiment, and checks that their images have not changed.

    Args:
        workspace: has the pseudo-labels.
        settings: name them.
        dataset: of the experiment; its splits may have the images.

    Returns:
        None if the experiment uses none.

    Raises:
        ConfigError: there are none of this name, or their folds are too many or too few.
        DataError: images are missing or changed.
    """
    if settings.pseudo_labels.name is None:
        return None
    folder = workspace.get_pseudo_labels(settings.pseudo_labels.name)
    record = read_record(folder)
    if record["k"] != settings.folds.k:
        raise ConfigError(
            f"the pseudo-labels {folder.name} have {format_count(record['k'], 'fold')}, and folds.k "
            f"is {settings.folds.k}",
            hint=f"set folds.k = {record['k']} in config.toml, or make others under another name: {MAKE} NAME",
        )
    listed, hashes, logits = read_labels(folder.labels_path, record["k"], _remove(folder))
    place = _find_folder(record["images"], dataset, folder)
    table = Table("pseudo-labels", place, listed, None, None, folder.labels_path)
    _check_images(workspace, table, hashes)
    console.say(f"pseudo-labels: {folder.name}, {format_count(len(table), 'image')} in {place}")
    return PseudoLabels(folder.name, record["sha256"], record["folds"], table, logits)


def _remove(folder: PseudoLabelFolder) -> str:
    return f"make them again: rm -r {shlex.quote(str(folder.folder))}, then {_make(folder)}"


def _make(folder: PseudoLabelFolder) -> str:
    return f"{MAKE} {shlex.quote(folder.name)}"


def _find_folder(images: dict[str, str], dataset: Dataset, folder: PseudoLabelFolder) -> Path:
    """The folder of the images: that of a split of the data set, or another one."""
    if "split" in images:
        return dataset.split(images["split"]).folder.resolve()
    place = Path(images["folder"])
    if not place.is_dir():
        raise DataError(
            f"the images of the pseudo-labels {folder.name} were in {place}, which does not exist",
            hint=f"restore that folder, or make others: {MAKE} NAME",
        )
    return place


def _check_images(workspace: Workspace, table: Table, hashes: list[str]) -> None:
    scan = inspection.scan_table(workspace, table)
    problems = []
    for row, (name, expected) in enumerate(zip(table.img_name.tolist(), hashes, strict=True)):
        if row in scan.faults:
            problems.append(f"{names.quote(name)}: {scan.faults[row]}")
        elif scan.sha256[row].tobytes().hex() != expected:
            problems.append(f"{names.quote(name)} has changed since it got its pseudo-label")
    if problems:
        raise DataError(
            f"{format_count(len(problems), 'image')} with pseudo-labels cannot be used",
            problems=problems,
            hint=f"restore these images, or make others: {MAKE} NAME",
        )
