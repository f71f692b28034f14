"""Averages all folds' predictions into a submission."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ffdi import __version__
from ffdi.commands.shared import groups, member_scores, planning, score_tables, sources
from ffdi.commands.shared.options import EnsembleSubmitOptions
from ffdi.config.schema import SubmissionConfig
from ffdi.core import console, files, manifests
from ffdi.core.errors import format_count
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.table import Table
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import score_names
from ffdi.experiments.export import ExportFolder
from ffdi.experiments.workspace import Workspace
from ffdi.submission import gate
from ffdi.submission.gate import Direction, Template


def run(workspace: Workspace, options: EnsembleSubmitOptions) -> None:
    """Averages all folds' predictions of the test images into a submission; scores splits with labels."""
    members, name = groups.resolve_experiments(workspace, options.experiment, options.name)
    groups.write_group_variants(workspace, options.experiment)
    export = workspace.get_export(members, name)
    ensemble = Ensemble.from_experiments([workspace.get_experiment(one) for one in members])
    dataset = sources.find_ensemble_dataset(workspace, ensemble, options.data)
    table = sources.choose_split(dataset, options.split)
    settings = ensemble.members[0].config.submission
    template = _find_template(dataset, table, settings)
    device = planning.choose_scoring_device(options, [one.config for one in ensemble.members])
    files.check_writable(export.submission_path)
    networks = format_count(len(ensemble.members), "network")
    console.title(f"ensemble-submit {export.name}: {networks}, {format_count(len(table), f'{table.split} image')}")
    console.say(f"device: {device.why}")

    score_tables.show_choice(ensemble.choice, [one.name for one in ensemble.experiments])
    predict = partial(member_scores.predict_logits, ensemble.members, ensemble.resize_policy, device=device)
    logits = predict(table)
    direction = Direction(ensemble.weights @ logits, ensemble.compute_fold_aucs(), ensemble.compute_fold_auc_bounds())
    built = gate.build_submission(template, table.img_name, ensemble.combine(logits), direction)
    for warning in built.warnings:
        console.warn(warning)
    for line in _describe_pseudo_labels(ensemble):
        console.say(line)
    exact = {table.split: _score_split(ensemble, table, logits)}
    val = dataset.splits.get("val")
    if val is not None and val.split != table.split and val.target is not None:
        exact["val"] = _score_split(ensemble, val, predict(val))

    with export.lock():
        with export.publish(export.submission_path.name) as new:
            to_send = _write_submission(new, built.content, settings.format)
            record = {
                "split": table.split,
                "rows": len(table),
                "sha256": manifests.hash_file(new.submission_path),
                "to_send": {to_send.name: manifests.hash_file(to_send)},
                "template": _describe_template(dataset),
                **ensemble.describe(),
                "warnings": list(built.warnings),
                "oof": ensemble.read_oof_scores(),
                "scores": {split: score for split, score in exact.items() if score},
                "version": __version__,
            }
            manifests.write_manifest(new.submission_record_path, record)
        _remove_other_forms(export, to_send.name)
    console.written(export.folder / to_send.name, about=f" ({format_count(len(table), 'row')})")
    console.advise(f"invoke export-onnx{groups.repeat_flags(options.experiment, name)}")


def _describe_pseudo_labels(ensemble: Ensemble) -> list[str]:
    """A line for each experiment that was trained on images without labels."""
    named = {one.experiment.name: one.config.pseudo_labels.name for one in ensemble.members}
    return [
        f"{experiment} was trained on the pseudo-labels {labels}: check that the rules of your competition allow it"
        for experiment, labels in named.items()
        if labels is not None
    ]


def _find_template(dataset: Dataset, table: Table, settings: SubmissionConfig) -> Template:
    """The rows of the submission: those of the template, else those of the image list."""
    if dataset.template is not None:
        template = gate.read_template(dataset.template, table.index_names(dataset.config).find)
    else:
        images = table.img_name.tolist()
        template = Template(images if table.listed is None else table.listed.tolist(), images)
    number = template.number if settings.decimals is None else f"%.{settings.decimals}f"
    return replace(template, header=settings.header, number=number)


def _describe_template(dataset: Dataset) -> dict[str, str] | None:
    path = dataset.template
    return None if path is None else {"path": str(path.resolve()), "sha256": manifests.hash_file(path)}


def _write_submission(new: ExportFolder, content: str, form: str) -> Path:
    """Writes the submission, and once more in its form if that is not CSV; the file to send."""
    files.write_text(new.submission_path, content)
    if form == "txt":
        files.write_text(new.submission_txt_path, content)
        return new.submission_txt_path
    if form == "zip":
        with zipfile.ZipFile(new.submission_zip_path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(new.submission_path.name), content)  # without the time: equal bytes
        return new.submission_zip_path
    return new.submission_path


def _remove_other_forms(export: ExportFolder, sent: str) -> None:
    """Removes the files of an earlier `submission.format`, which have other scores."""
    for path in (export.submission_txt_path, export.submission_zip_path):
        if path.name != sent:
            path.unlink(missing_ok=True)


def _score_split(ensemble: Ensemble, table: Table, logits: np.ndarray) -> dict[str, Any] | None:
    """The score on a split with labels; None without labels."""
    if table.target is None:
        return None
    if not table.has_both_classes:
        console.say(f"{table.source} has labels of one class only: no score")
        return None
    score = ensemble.evaluate(table.target, logits)
    rows = [(f"{name}: {score_names.POOLED}", oof) for name, oof in ensemble.read_oof_scores().items()]
    rows += [*score["members"].items(), (score_names.MEAN_OF_NETWORKS, score["mean"])]
    rows.append((score_names.ENSEMBLE, score["ensemble"]))
    tta = score_names.describe_tta(ensemble.members[0].config.predict.tta)
    score_tables.show_scores(f"scores on the {table.split} split, {tta}", rows)
    return score
