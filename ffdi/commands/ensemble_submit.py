"""Averages all folds' predictions into a submission."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi import __version__
from ffdi.commands.shared import lists, screens, sources
from ffdi.core import console, files, hashes, manifests
from ffdi.data.labels.table import Table
from ffdi.ensemble.group import Ensemble
from ffdi.experiments.workspace import Workspace
from ffdi.submission import gate
from ffdi.submission.gate import Direction

if TYPE_CHECKING:
    from ffdi.training.runtime.device import Device


def run(
    workspace: Workspace,
    names: Sequence[str],
    *,
    data: str | None,
    split: str,
    device: str,
    workers: int | None,
    name: str | None,
) -> None:
    """Averages all folds' predictions on the test images into a submission; scores what has labels exactly."""
    from ffdi.training.runtime import device as devices

    members, name = lists.resolve_experiments(workspace, names, name)
    lists.make_listed_experiments(workspace, names)
    export = workspace.export(members, name)
    ensemble = Ensemble.of([workspace.experiment(one) for one in members])
    found = sources.of_blend(workspace, ensemble, data)
    asked = sources.predicted_split(found, split)
    images = asked.img_name.tolist()
    template = gate.read_template(found.template, images) if found.template else images
    where = devices.choose(device, None, workers)
    files.check_writable(export.submission_path)
    console.title(f"ensemble-submit {export.name}: {len(ensemble.members)} networks, {len(asked)} {asked.split} images")
    console.say(f"device: {where.why}")

    screens.show_choice(ensemble.choice)
    logits = _logits(ensemble, asked, where)
    direction = Direction(ensemble.weights @ logits, ensemble.oof_auc(), ensemble.oof_high())
    built = gate.build(template, asked.img_name, ensemble.combine(logits), direction)
    for warning in built.warnings:
        console.warn(warning)
    scores = {asked.split: _exact_score(ensemble, asked, logits)}
    val = found.splits.get("val")
    if val is not None and val.split != asked.split and val.target is not None:
        scores["val"] = _exact_score(ensemble, val, _logits(ensemble, val, where))

    with export.locked(), export.publishing(export.submission_path.name) as new:
        files.write_text(new.submission_path, built.content)
        record = {
            "split": asked.split,
            "rows": len(asked),
            "sha256": hashes.sha256(new.submission_path),
            **ensemble.describe(),
            "warnings": list(built.warnings),
            "oof": ensemble.oof(),
            "scores": {split: score for split, score in scores.items() if score},
            "version": __version__,
        }
        manifests.write_manifest(new.submission_record_path, record)
    console.written(export.submission_path, about=f" ({len(asked)} rows)")
    console.advise(f"invoke export-onnx{screens.repeat_flags(names, name)}")


def _logits(ensemble: Ensemble, table: Table, device: Device) -> np.ndarray:
    """float32 [M, N]; each image is decoded once, as the exported graph would be given it."""
    from ffdi.models import detector
    from ffdi.training import fold, predict

    largest = max((member.config for member in ensemble.members), key=lambda config: config.model.size)
    with console.bar(f"{table.split} images", len(table)) as bar:
        networks = [device.prepare(detector.scorer(member, ensemble.framing.size)) for member in ensemble.members]
        return predict.logits(networks, fold.reader(table, largest, device), device, bar.advance)


def _exact_score(ensemble: Ensemble, table: Table, logits: np.ndarray) -> dict[str, Any] | None:
    """The score on a split whose labels are known; None without labels."""
    if table.target is None:
        return None
    if not table.both_classes:
        console.say(f"{table.source} has labels of one class only: no score")
        return None
    score = ensemble.evaluate(table.target, logits)
    rows = [(f"{name} out of fold", oof) for name, oof in ensemble.oof().items()]
    rows += [*score["members"].items(), ("mean of the folds", score["mean"]), ("ensemble", score["ensemble"])]
    screens.show_scores(f"exact score on the {table.split} split", rows)
    return score
