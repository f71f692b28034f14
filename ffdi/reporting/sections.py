"""The sections of a report, except the gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from ffdi.config import schema
from ffdi.config.schema import list_differences
from ffdi.core import console, manifests
from ffdi.data.inspection.reencoded import STATES
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import metrics, score_names, scorecard
from ffdi.evaluation.predictions import OofPredictions, sigmoid
from ffdi.experiments.experiment import Experiment
from ffdi.reporting import charts
from ffdi.reporting.charts import Scored
from ffdi.reporting.page import ReportTable, Section

METRICS = {
    "auc": "AUC",
    "tpr_at_fpr_1e-3": "TPR at FPR 1e-3",
    "tpr_at_fpr_1e-2": "TPR at FPR 1e-2",
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "eer": "EER",
    "ece": "ECE",
    "average_precision": "average precision",
}
"""The headings of the columns, by the keys of metrics.json."""
INDENT = "\u2003"


class LineageRow(NamedTuple):
    """An experiment, or its teachers together, and what they learn from beside labels.

    Attributes:
        name: of the row.
        learns_from: words; '' for labels alone.
        oof, val: of `scorecard.score_predictions`; None if there are no scores.
    """

    name: str
    learns_from: str
    oof: Mapping[str, Any] | None
    val: Mapping[str, Any] | None


def collect_oof_scores(ensemble: Ensemble) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Labels and out-of-fold scores of each experiment and, if there are several, the nested scores of the ensemble."""
    target = ensemble.assignment.target
    pairs = zip(ensemble.experiments, ensemble.oof_logits, strict=True)
    scored = {one.name: (target, sigmoid(row)) for one, row in pairs}
    return scored if len(scored) == 1 else {**scored, score_names.ENSEMBLE: (target, ensemble.choice.y_pred)}


def build_scores(ensemble: Ensemble, lineage: Sequence[LineageRow]) -> Section:
    """All metrics of each experiment and its folds, with intervals, beside those of what they learn from."""
    rows = []
    for one in ensemble.experiments:
        found = manifests.read_manifest(one.metrics_path)
        rows.append(_format_scores(f"{one.name}: {score_names.POOLED}", found["pooled"]))
        mean = metrics.average_scores(list(found["folds"].values()))  # a file of an earlier version has none
        rows.append(_format_scores(f"{INDENT}{score_names.MEAN_OF_FOLDS}", mean))
        rows += [_format_scores(f"{INDENT}fold {fold}", score) for fold, score in found["folds"].items()]
        if "val" in found:
            rows.append(_format_scores(f"{INDENT}on val, {score_names.MEAN_OF_NETWORKS}", found["val"]["mean"]))
            if "refit" in found["val"]:
                rows.append(_format_scores(f"{INDENT}on val, its network on all images", found["val"]["refit"]))
    if len(ensemble.experiments) > 1:
        nested = scorecard.score_predictions(
            ensemble.assignment.target, ensemble.choice.y_pred, ensemble.assignment.group
        )
        label = f"{score_names.ENSEMBLE}, by {ensemble.method}: {score_names.POOLED}, nested"
        rows.append(_format_scores(label, nested))
    tables = [ReportTable("Out-of-fold scores", ["", *METRICS.values()], rows)]
    if len(ensemble.experiments) > 1:
        tables.append(_make_choice_table(ensemble))
    if lineage:
        tables.append(_make_lineage_table(lineage))
    tables += [table for one in ensemble.experiments if (table := _make_kind_table(one)) is not None]
    rule = manifests.read_manifest(ensemble.experiments[0].metrics_path)["interval_rule"]
    lines = ["Each training image is scored by the network that was not trained on it.", f"95 % intervals: {rule}."]
    lines += _explain_missing_intervals(manifests.read_manifest(ensemble.experiments[0].metrics_path)["pooled"])
    return Section("Scores", lines, tables=tables)


def _make_choice_table(ensemble: Ensemble) -> ReportTable:
    """The best single experiment, and each way to combine all of them."""
    heading, columns, rows = ensemble.choice.make_table([one.name for one in ensemble.experiments])
    cells = [[f"{cell:.4f}" if isinstance(cell, float) else cell for cell in row] for row in rows]
    return ReportTable(f"{heading[0].upper()}{heading[1:]}", columns, cells)


def _make_lineage_table(lineage: Sequence[LineageRow]) -> ReportTable:
    """Teachers, pseudo-labels and students, each after what it learns from."""
    rows = [
        [one.name, one.learns_from or "labels", *(cell for score in (one.oof, one.val) for cell in _format_auc(score))]
        for one in lineage
    ]
    header = ["", "learns from", f"AUC ({score_names.POOLED})", "95 %", "val AUC", "95 %"]
    return ReportTable("Teachers, pseudo-labels and students", header, rows)


def _format_auc(score: Mapping[str, Any] | None) -> list[str]:
    return ["-", "-"] if score is None else [f"{score['auc']:.4f}", console.interval(score["intervals"].get("auc"))]


def _make_kind_table(experiment: Experiment) -> ReportTable | None:
    """The AUC of each kind of fake and their mean; None without kinds."""
    kinds = manifests.read_manifest(experiment.metrics_path).get("kinds")
    if kinds is None or kinds["mean"] is None:
        return None
    scored = {f"{name} ({one['fake']} fakes)": one for name, one in kinds["scores"].items() if "auc" in one}
    rows = [
        [name, f"{one['auc']:.4f}", console.interval(one["intervals"].get("auc"))]
        for name, one in {**scored, "mean of the kinds": kinds["mean"]}.items()
    ]
    never = ", by networks that have never seen this kind" if kinds["left_out"] else ""
    return ReportTable(f"{experiment.name}: AUC by kind of fake{never}", ["", "AUC", "95 %"], rows)


def build_curves(experiments: Sequence[Experiment], k: int) -> Section:
    """The learning curves of each fold."""
    drawn = []
    for one in experiments:
        history = {f"fold {number}": one.get_fold(number).read_history() for number in range(k)}
        named = {f"{one.name} {name}" if len(experiments) > 1 else name: epochs for name, epochs in history.items()}
        drawn += charts.draw_curves({name: _list_columns(epochs) for name, epochs in named.items()})
    return Section("Learning curves", charts=drawn)


def build_separation(scored: Scored, val: Scored) -> Section:
    """ROC, precision, calibration and histograms.

    Args:
        scored: the out-of-fold scores.
        val: the mean of each experiment's networks on a labelled validation split.
    """
    histograms = [charts.draw_histogram(f"{name}, out of fold", *pair) for name, pair in scored.items()]
    histograms += [charts.draw_histogram(f"{name}, validation split", *pair) for name, pair in val.items()]
    drawn = [
        *charts.draw_roc(scored),
        charts.draw_precision_recall(scored),
        charts.draw_calibration(scored),
        *histograms,
    ]
    return Section("Real against fake", charts=drawn)


def build_agreement(ensemble: Ensemble, val: Mapping[str, list[OofPredictions]]) -> Section:
    """Rank correlations between experiments, out of fold, and between the folds of each on the validation split."""
    tables = []
    if len(ensemble.experiments) > 1:
        names = [one.name for one in ensemble.experiments]
        tables.append(_make_correlation_table("Experiments, on their out-of-fold logits", names, ensemble.oof_logits))
    for name, predictions_of_folds in val.items():
        folds = [f"fold {predictions.fold[0]}" for predictions in predictions_of_folds]
        logits = np.stack([predictions.logit for predictions in predictions_of_folds])
        tables.append(_make_correlation_table(f"{name}: its folds' networks, on the validation split", folds, logits))
    line = "Spearman's rank correlation: an ensemble gains more from networks that agree less."
    missing = "There is only one experiment, and no validation split that all its folds have scored."
    return Section("Agreement", [line if tables else missing], tables=tables)


def build_kinds(experiments: Sequence[Experiment]) -> Section:
    """AUC by family, cluster, band and distortion, from `invoke score --shift --stress --reencoded`."""
    tables, lacking = [], []
    for one in experiments:
        if one.shift_path.is_file():
            tables.append(_make_slice_table(one.name, manifests.read_manifest(one.shift_path)["slices"]))
        if one.stress_path.is_file():
            tables.append(_make_stress_table(one.name, manifests.read_manifest(one.stress_path)))
        if one.reencoded_path.is_file():
            tables.append(_make_reencoded_table(one.name, manifests.read_manifest(one.reencoded_path)))
        flags = [flag for flag, path in (("shift", one.shift_path), ("stress", one.stress_path)) if not path.is_file()]
        if flags:
            words = " ".join(f"--{flag}" for flag in flags)
            lacking.append(
                f"Not available. Run: invoke score --experiment {one.argument} {words}, then this report again."
            )
    return Section("Kinds of images", lacking, tables=tables)


def build_findings(experiment: Experiment) -> Section:
    """The findings of `invoke doctor`."""
    found = manifests.read_manifest(experiment.doctor_path) if experiment.doctor_path.is_file() else {}
    if found.get("image_list") != experiment.read_data_digest():
        missing = f"Not available. Run: invoke doctor --experiment {experiment.argument}, then this report again."
        return Section("Data", [missing])
    lines = [f"{fault['what']}: {'; '.join(fault['where'][:3])}" for fault in found["faults"]]
    copies = found["duplicates"]
    lines.append(f"Copies of a picture: {copies['exact']} exact, {copies['near']} near, {copies['images']} images.")
    counts = ("images", "real", "fake", "groups", "unusable")
    rows = [[name, *(_format_count(split[key]) for key in counts)] for name, split in found["splits"].items()]
    facts = [
        [f"{split}: {fact}", f"{area['auc']:.3f}", console.interval(area["interval"])]
        for split, areas in found["shortcuts"].items()
        for fact, area in areas.items()
    ]
    tables = [ReportTable("Images", ["split", *counts], rows)]
    if facts:
        tables.append(ReportTable("Labels predicted from file properties only", ["", "AUC", "95 %"], facts))
    if "reencoded" in found:
        tables.append(_make_predictor_table(found["reencoded"]))
    return Section("Data", lines, tables=tables)


def _make_predictor_table(found: Mapping[str, dict[str, Any]]) -> ReportTable:
    """From the section `reencoded` of doctor.json."""
    rows = [
        [
            f"{split}: {name}",
            *("-" if predictor[state] is None else f"{predictor[state]['auc']:.3f}" for state in STATES),
        ]
        for split, content in found.items()
        for name, predictor in content["predictors"].items()
    ]
    return ReportTable("Labels predicted without the forgery: AUC", ["", *STATES], rows)


def build_origin(experiments: Sequence[Experiment]) -> Section:
    """Differences of the settings, software versions, and hashes."""
    configs = [schema.load_experiment(one.config_path).model_dump() for one in experiments]
    keys = [line for other in configs[1:] for line in list_differences(configs[0], other)]
    lines = [f"Against {experiments[0].name}: {line}" for line in dict.fromkeys(keys)]
    rows = []
    for one in experiments:
        record = manifests.read_manifest(one.provenance_path)
        libraries = ", ".join(f"{name} {version}" for name, version in record["libraries"].items())
        rows += [
            [one.name, f"ffdi {record['version']}, Python {record['python']}, {record['platform']}"],
            ["libraries", libraries],
            ["commit", record["commit"] or "none"],
            ["data", f"{record['data_root']}, image list {one.read_data_digest()}"],
            ["folds.csv", one.read_folds_digest()],
            ["oof.csv", manifests.read_manifest(one.metrics_path)["oof_sha256"]],
        ]
    return Section("Origin", lines, tables=[ReportTable("Software and data of the training", ["", ""], rows)])


def collect_configs(experiments: Sequence[Experiment]) -> dict[str, str]:
    """The text of each config.toml."""
    return {f"{one.name}/config.toml": one.config_path.read_text(encoding="utf-8") for one in experiments}


def _list_columns(frame: pd.DataFrame) -> dict[str, list[float]]:
    return {str(name): column.tolist() for name, column in frame.items()}


def _format_scores(name: str, score: Mapping[str, Any]) -> list[str]:
    intervals = score.get("intervals", {})
    return [name, *(f"{score[key]:.4f}" + _format_interval(intervals.get(key)) for key in METRICS)]


def _explain_missing_intervals(score: Mapping[str, Any]) -> list[str]:
    """One line for each reason of missing intervals."""
    reasons: dict[str, list[str]] = {}
    for key, why in score.get("no_interval", {}).items():
        if key in METRICS:
            reasons.setdefault(why, []).append(METRICS[key])
    return [f"No interval of the pooled {', '.join(names)}: {why}." for why, names in reasons.items()]


def _format_interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f" ({console.interval(ends)})"


def _make_correlation_table(caption: str, names: Sequence[str], logits: np.ndarray) -> ReportTable:
    """From logits float [M, N]."""
    found = np.ones((len(names), len(names)))
    for one in range(len(names)):
        for other in range(one):
            found[one, other] = found[other, one] = spearmanr(logits[one], logits[other]).statistic
    rows = [[name, *(f"{value:.3f}" for value in row)] for name, row in zip(names, found.tolist(), strict=True)]
    return ReportTable(caption, ["", *names], rows)


def _make_slice_table(name: str, found: Mapping[str, list[dict[str, Any]]]) -> ReportTable:
    rows = [
        [
            f"{kind}: {part['value']}",
            str(part["real"]),
            str(part["fake"]),
            part["against"],
            "too few" if part["auc"] is None else f"{part['auc']:.4f}{_format_interval(part['interval'])}",
        ]
        for kind, parts in found.items()
        for part in parts
    ]
    return ReportTable(f"{name}: out-of-fold AUC by kind", ["", "real", "fake", "against", "AUC (95 %)"], rows)


def _make_stress_table(name: str, found: Mapping[str, Any]) -> ReportTable:
    rows = [["as they are", f"{found['auc']:.4f}", ""]]
    rows += [
        [way, f"{row['auc']:.4f}", f"{row['difference']:+.4f}{_format_interval(row['interval'])}"]
        for way, row in found["distortions"].items()
    ]
    return ReportTable(f"{name}: AUC of distorted images", ["", "AUC", "difference (95 %)"], rows)


def _make_reencoded_table(name: str, found: Mapping[str, Any]) -> ReportTable:
    difference = f"{found['difference']:+.4f}{_format_interval(found['interval'])}"
    rows = [["as they are", f"{found['auc']:.4f}", ""], ["encoded alike", f"{found['reencoded_auc']:.4f}", difference]]
    return ReportTable(f"{name}: AUC of images that are encoded alike", ["", "AUC", "difference (95 %)"], rows)


def _format_count(value: int | None) -> str:
    return "-" if value is None else str(value)
