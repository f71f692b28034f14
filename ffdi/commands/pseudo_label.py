"""Scores images without labels with the networks of each fold, as more training images."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ffdi import __version__
from ffdi.commands.shared import changes, groups, inspection, member_scores, planning, sources
from ffdi.commands.shared.options import PseudoLabelOptions
from ffdi.core import console, files, manifests
from ffdi.core.errors import ConfigError, DataError, format_count
from ffdi.data.labels import pseudo_labels
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.pseudo_labels import Limits
from ffdi.data.labels.table import Table
from ffdi.ensemble.ensemble import Ensemble, Member
from ffdi.evaluation.predictions import compute_target_logits, sigmoid
from ffdi.experiments.experiment import lock_folder
from ffdi.experiments.pseudo_labels import PseudoLabelFolder
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.training.runtime.device import Device

TEST = "test"
"""The value of --images for the test split of the data set."""


class _Usable(NamedTuple):
    """Which images can be in which set.

    Attributes:
        allowed: bool [k + 1, N].
        sha256: uint8 [N, 32], the hashes of the files.
        left_out: numbers of images by reason.
    """

    allowed: np.ndarray
    sha256: np.ndarray
    left_out: dict[str, int]


def run(workspace: Workspace, options: PseudoLabelOptions) -> None:
    """Writes labels.csv, with a set of pseudo-labels for each fold, and its record.

    Raises:
        ConfigError: a flag is missing or has a value that it does not accept, or the name is taken.
        DataError: no image can be used.
        ExperimentError: an experiment is not trained, or the data are not those of its training.
    """
    limits = Limits(options.confidence, options.disagreement, options.per_class)
    folder = _plan_folder(workspace, options.name)
    words, _ = groups.resolve_experiments(workspace, options.experiment)
    groups.write_group_variants(workspace, options.experiment)
    ensemble = Ensemble.from_experiments([workspace.get_experiment(word) for word in words])
    dataset = sources.find_ensemble_dataset(workspace, ensemble, options.data)
    images, where = _find_images(dataset, options)
    device = planning.choose_scoring_device(options, [one.config for one in ensemble.members])
    files.check_writable(folder.labels_path)
    console.title(f"pseudo-label {folder.name}: {format_count(len(images), 'image')} in {images.folder}")
    console.say(f"device: {device.why}")
    usable = _find_usable(workspace, ensemble, dataset, images)
    networks = [*member_scores.list_fold_members(ensemble), ensemble.members]
    logits = _label(ensemble, networks, images, usable.allowed, limits, device)
    names = pseudo_labels.list_columns(len(networks) - 1)[-len(networks) :]
    counts = {name: pseudo_labels.count_classes(one) for name, one in zip(names, logits, strict=True)}
    if not any(sum(one.values()) for one in counts.values()):
        raise DataError("no image is in any set", hint="pass a lower --confidence or a higher --disagreement")
    with lock_folder(folder.folder, "is making these pseudo-labels", "wait for it, or pass another --name"):
        files.write_text(folder.labels_path, pseudo_labels.format_labels(images, usable.sha256, logits))
        record = {
            "sha256": manifests.hash_file(folder.labels_path),
            "folds": ensemble.experiments[0].read_folds_digest(),
            "k": len(networks) - 1,
            "images": where,
            "limits": limits._asdict(),
            "sets": counts,
            "left_out": usable.left_out,
            "networks": {name: [_describe(one) for one in part] for name, part in zip(names, networks, strict=True)},
            "version": __version__,
        }
        manifests.write_manifest(folder.record_path, record)
    rows = [(name, *one.values()) for name, one in counts.items()]
    console.table("images in each set", ["", *pseudo_labels.CLASSES], rows)
    for reason, count in usable.left_out.items():
        console.say(f"left out: {format_count(count, 'image')}: {reason}")
    console.written(folder.labels_path, folder.record_path)
    console.advise(changes.suggest(ensemble.experiments[0], {"pseudo_labels.name": folder.name}))


def _plan_folder(workspace: Workspace, name: str | None) -> PseudoLabelFolder:
    if not name:
        raise ConfigError("--name is missing", hint="pass --name NAME, the name of these pseudo-labels")
    folder = workspace.get_pseudo_labels(name)
    if folder.record_path.is_file():
        raise ConfigError(
            f"the pseudo-labels {name} exist",
            hint=f"pass another --name, or remove them: rm -r {shlex.quote(str(folder.folder))}",
        )
    return folder


def _find_images(dataset: Dataset, options: PseudoLabelOptions) -> tuple[Table, dict[str, str]]:
    """The images, and where a training finds them: a split of its data set, or a folder."""
    if not options.images:
        raise ConfigError("--images is missing", hint="pass --images test, a folder of images, or a CSV")
    if options.images != TEST:
        table = sources.read_images(Path(options.images))
        return table, {"folder": str(table.folder.resolve())}
    if not options.rules:
        raise ConfigError(
            "--images test: some competitions forbid it to train on their test images",
            hint="read the rules of yours; if they allow it, pass --rules too",
        )
    return dataset.split(TEST), {"split": TEST}


def _find_usable(workspace: Workspace, ensemble: Ensemble, dataset: Dataset, images: Table) -> _Usable:
    """Leaves out what shows the same as labelled images, and from the set of a fold the scenes that it holds out.

    Raises:
        ExperimentError: the data lacks an image that the experiments were trained on.
    """
    assignment = ensemble.assignment
    train = sources.select_images(dataset.split("train"), assignment)
    tables = {"train": train, **({"val": dataset.splits["val"]} if "val" in dataset.splits else {}), "images": images}
    scans, duplicates = inspection.scan_tables(workspace, tables)
    start = sum(len(one) for name, one in tables.items() if name != "images")
    cluster, scene = duplicates.cluster, duplicates.scene
    decodable = scans["images"].usable
    known = np.isin(cluster[start:], cluster[:start])
    of_val = np.isin(scene[start:], scene[len(train) : start]) & ~known
    k = ensemble.members[0].config.folds.k
    held = [np.isin(scene[start:], scene[: len(train)][assignment.fold == fold]) for fold in range(k + 1)]
    left_out = {
        "they cannot be used": int((~decodable).sum()),
        "they show the picture of a labelled image": int((decodable & known).sum()),
        "they show a scene of the validation split": int((decodable & of_val).sum()),
        "from the sets of folds that hold out their scene": int((decodable & ~known & ~of_val & np.any(held, 0)).sum()),
    }
    allowed = (decodable & ~known & ~of_val) & ~np.array(held)
    if not allowed.any():
        raise DataError(
            f"none of the {format_count(len(images), 'image')} can be used",
            problems=[f"{count}: {reason}" for reason, count in left_out.items() if count],
            hint="pass other --images",
        )
    return _Usable(allowed, scans["images"].sha256, {reason: count for reason, count in left_out.items() if count})


def _label(
    ensemble: Ensemble,
    networks: Sequence[Sequence[Member]],
    images: Table,
    allowed: np.ndarray,
    limits: Limits,
    device: Device,
) -> np.ndarray:
    """The mean probability of the networks of each set, as logits float32 [k + 1, N]; NaN where one is not in it."""
    members = {member.label: member for part in networks for member in part}
    rows = np.flatnonzero(allowed.any(0))
    scored = member_scores.predict_logits(list(members.values()), ensemble.resize_policy, images.take(rows), device)
    y_pred = dict(zip(members, sigmoid(scored), strict=True))
    logits = np.full(allowed.shape, np.nan, np.float32)
    for number, part in enumerate(networks):
        ours = np.stack([y_pred[member.label] for member in part])
        chosen = pseudo_labels.select_images(ours, allowed[number, rows], limits)
        logits[number, rows[chosen]] = compute_target_logits(ours.mean(0)[chosen])
    return logits


def _describe(member: Member) -> dict[str, Any]:
    return {
        "experiment": member.experiment.name,
        "network": member.folder.label,
        "weights_sha256": member.folder.read_weights_sha256(),
    }
