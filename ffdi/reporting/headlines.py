"""The first lines of a report: the main numbers, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ffdi.core import console, manifests
from ffdi.core.errors import ExperimentError
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import score_names
from ffdi.experiments.export import ExportFolder

NONE = "\u2013"
"""The value of a tile that has none."""


class Tile(NamedTuple):
    """A main number.

    Attributes:
        label: what it is.
        value: with four digits; `NONE` if it is unknown.
        note: its interval, what it is compared with, or why it is unknown.
    """

    label: str
    value: str
    note: str


class Step(NamedTuple):
    """Something to do next: why, and the command."""

    why: str
    command: str


def build_tiles(ensemble: Ensemble, export: ExportFolder) -> list[Tile]:
    """The out-of-fold score, the validation score with the gap, the ensemble, the stress score, and the submission."""
    best = ensemble.experiments[ensemble.choice.single[0]]
    metrics = manifests.read_manifest(best.metrics_path)
    whose = f"{best.name}, " if len(ensemble.experiments) > 1 else ""
    tta = score_names.describe_tta(ensemble.members[0].config.predict.tta)
    pooled = metrics["pooled"]
    tiles = [
        Tile(
            f"AUC ({score_names.POOLED})",
            f"{pooled['auc']:.4f}",
            f"{whose}95 %: {console.interval(pooled['intervals'].get('auc'))}; {tta}",
        ),
        _make_val_tile(metrics, whose),
    ]
    if len(ensemble.experiments) > 1:
        taken = next(row for row in ensemble.choice.rows if row.chosen)
        gain = f"{taken.gain:+.4f} against the best single experiment, {best.name}"
        tiles.append(Tile(f"ensemble, AUC ({score_names.MEAN_OF_FOLDS})", f"{taken.auc:.4f}", gain))
    if best.stress_path.is_file():
        found = manifests.read_manifest(best.stress_path)
        worst, row = min(found["distortions"].items(), key=lambda pair: pair[1]["auc"])
        tiles.append(Tile("AUC under stress", f"{found['mean_auc']:.4f}", f"{whose}worst: {worst}, {row['auc']:.4f}"))
    else:
        tiles.append(Tile("AUC under stress", NONE, "not measured"))
    tiles.append(_make_submission_tile(export, pooled["auc"] if len(ensemble.experiments) == 1 else None))
    return tiles


def list_next_steps(ensemble: Ensemble, export: ExportFolder, flags: str) -> list[Step]:
    """What is missing, the most useful first.

    Args:
        ensemble: of the report.
        export: of the report.
        flags: of a command for the same experiments.
    """
    best = ensemble.experiments[ensemble.choice.single[0]]
    metrics, steps = manifests.read_manifest(best.metrics_path), list[Step]()
    gap = metrics["val"]["gap"]["intervals"].get("auc") if "val" in metrics else None
    if gap is not None and gap[0] > 0 and not best.shift_path.is_file():
        why = "The folds are easier than the validation split. See how the splits differ:"
        steps.append(Step(why, f"invoke score --experiment {best.argument} --shift"))
    if not best.stress_path.is_file():
        why = "See how the score holds under compression, blur and noise:"
        steps.append(Step(why, f"invoke score --experiment {best.argument} --stress"))
    if not export.submission_record_path.is_file():
        steps.append(Step("Write a checked submission:", f"invoke ensemble-submit{flags}"))
    elif not export.submissions_path.is_file():
        steps.append(Step("Send the submission:", f"invoke submit{flags} --competition NAME"))
    if not export.bundle_path.is_file():
        steps.append(Step("Put all networks into one graph:", f"invoke export-onnx{flags}"))
    return steps


def _make_val_tile(metrics: Mapping[str, Any], whose: str) -> Tile:
    label = f"validation AUC ({score_names.MEAN_OF_NETWORKS})"
    if "val" not in metrics:
        return Tile(label, NONE, "there is no labelled validation split")
    gap = metrics["val"]["gap"]
    ends = console.interval(gap["intervals"].get("auc"), "+.3f")
    return Tile(label, f"{metrics['val']['mean']['auc']:.4f}", f"{whose}gap to the folds {gap['auc']:+.4f}: {ends}")


def _make_submission_tile(export: ExportFolder, oof: float | None) -> Tile:
    """The public score of the last submission, compared with `oof`, or how far it came."""
    try:
        sent, scores = export.read_sent(), export.read_public_scores()
    except ExperimentError as error:
        return Tile("submission", NONE, error.what)
    if scores:
        last = scores[-1]
        against = "" if oof is None else f", {last.score - oof:+.4f} against {score_names.POOLED}"
        return Tile("submission", f"{last.score:.4f}", f"public score, {last.time[:10]}{against}")
    written = "written, not sent" if export.submission_record_path.is_file() else "not written"
    return Tile("submission", NONE, "sent, no score yet" if sent else written)
