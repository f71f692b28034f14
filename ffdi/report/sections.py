"""What a report says of experiments beside their images, section by section."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from ffdi.config import schema
from ffdi.config.schema import differences
from ffdi.core import console, manifests
from ffdi.ensemble.group import Ensemble
from ffdi.evaluation import scorecard
from ffdi.evaluation.predictions import OofPredictions, sigmoid
from ffdi.experiments.experiment import Experiment
from ffdi.report import charts
from ffdi.report.charts import Scored
from ffdi.report.page import Section, Sheet

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
"""Keys of metrics.json, and headings."""
TOGETHER = "all together"
INDENT = "\u2003"


def out_of_fold(ensemble: Ensemble) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Labels and out-of-fold scores by an experiment's name; of several also those of all together, nested."""
    target = ensemble.deal.target
    pairs = zip(ensemble.experiments, ensemble.held_out, strict=True)
    scored = {one.name: (target, sigmoid(row)) for one, row in pairs}
    return scored if len(scored) == 1 else {**scored, TOGETHER: (target, ensemble.choice.y_pred)}


def scores(ensemble: Ensemble) -> Section:
    """Every metric of every experiment and its folds, with intervals."""
    rows = []
    for one in ensemble.experiments:
        found = manifests.read_manifest(one.metrics_path)
        rows.append(_scores(one.name, found["pooled"]))
        rows += [_scores(f"{INDENT}fold {fold}", score) for fold, score in found["folds"].items()]
        if "val" in found:
            rows.append(_scores(f"{INDENT}on val, mean of its networks", found["val"]["mean"]))
    if len(ensemble.experiments) > 1:
        together = scorecard.score(ensemble.deal.target, ensemble.choice.y_pred, ensemble.deal.group)
        rows.append(_scores(f"{TOGETHER}, by {ensemble.method}, nested", together))
    rule = manifests.read_manifest(ensemble.experiments[0].metrics_path)["interval_rule"]
    lines = ["Every training image by the network that has not seen it.", f"95 % intervals: {rule}."]
    lines += _without(manifests.read_manifest(ensemble.experiments[0].metrics_path)["pooled"])
    return Section("Scores", lines, sheets=[Sheet("Out-of-fold scores", ["", *METRICS.values()], rows)])


def curves(experiments: Sequence[Experiment], k: int) -> Section:
    """How each fold's training went."""
    drawn = []
    for one in experiments:
        history = {f"fold {number}": one.fold(number).history() for number in range(k)}
        named = {f"{one.name} {name}" if len(experiments) > 1 else name: epochs for name, epochs in history.items()}
        drawn += charts.curves({name: _columns(epochs) for name, epochs in named.items()})
    return Section("Learning curves", charts=drawn)


def separation(scored: Scored, val: Scored) -> Section:
    """ROC, precision, calibration and histograms.

    Args:
        scored: out of fold.
        val: the mean of each experiment's networks on the validation split, where it has labels.
    """
    histograms = [charts.histogram(f"{name}, out of fold", *pair) for name, pair in scored.items()]
    histograms += [charts.histogram(f"{name}, validation split", *pair) for name, pair in val.items()]
    drawn = [*charts.roc(scored), charts.precision_recall(scored), charts.calibration(scored), *histograms]
    return Section("Real against fake", charts=drawn)


def agreement(ensemble: Ensemble, val: Mapping[str, list[OofPredictions]]) -> Section:
    """Rank correlations: of experiments out of fold, and of each one's folds on the validation split."""
    sheets = []
    if len(ensemble.experiments) > 1:
        names = [one.name for one in ensemble.experiments]
        sheets.append(_correlations("Experiments, on their out-of-fold logits", names, ensemble.held_out))
    for name, ledgers in val.items():
        folds = [f"fold {ledger.fold[0]}" for ledger in ledgers]
        logits = np.stack([ledger.logit for ledger in ledgers])
        sheets.append(_correlations(f"{name}: its folds' networks, on the validation split", folds, logits))
    line = "Spearman's rank correlation: networks that agree less have more to give each other."
    alone = "There is one experiment, and no validation split that all its folds have scored."
    return Section("Agreement", [line if sheets else alone], sheets=sheets)


def kinds(experiments: Sequence[Experiment]) -> Section:
    """AUC by family, cluster, band and distortion, as `invoke score --shift --stress` have found it."""
    sheets, lacking = [], []
    for one in experiments:
        if one.shift_path.is_file():
            sheets.append(_parts(one.name, manifests.read_manifest(one.shift_path)["slices"]))
        if one.stress_path.is_file():
            sheets.append(_stress(one.name, manifests.read_manifest(one.stress_path)))
        flags = [flag for flag, path in (("shift", one.shift_path), ("stress", one.stress_path)) if not path.is_file()]
        if flags:
            words = " ".join(f"--{flag}" for flag in flags)
            lacking.append(
                f"Not looked at: invoke score --experiment {shlex.quote(one.name)} {words}, then this report again."
            )
    return Section("Kinds of images", lacking, sheets=sheets)


def findings(experiment: Experiment) -> Section:
    """What the doctor found in the images."""
    if not experiment.doctor_path.is_file():
        look = f"Not looked at: invoke doctor --experiment {shlex.quote(experiment.name)}, then this report again."
        return Section("Data", [look])
    found = manifests.read_manifest(experiment.doctor_path)
    lines = [f"{fault['what']}: {'; '.join(fault['where'][:3])}" for fault in found["faults"]]
    copies = found["duplicates"]
    lines.append(f"Copies of a picture: {copies['exact']} exact, {copies['near']} near, {copies['images']} images.")
    counts = ("images", "real", "fake", "groups", "unusable")
    rows = [[name, *(_count(split[key]) for key in counts)] for name, split in found["splits"].items()]
    facts = [
        [f"{split}: {fact}", f"{area['auc']:.3f}", console.interval(area["interval"])]
        for split, areas in found["shortcuts"].items()
        for fact, area in areas.items()
    ]
    sheets = [Sheet("Images", ["split", *counts], rows)]
    if facts:
        sheets.append(Sheet("Labels told by facts about the files alone", ["", "AUC", "95 %"], facts))
    return Section("Data", lines, sheets=sheets)


def origin(experiments: Sequence[Experiment]) -> Section:
    """What was set differently, on what it was trained, and the hashes."""
    configs = [schema.load(one.config_path).model_dump() for one in experiments]
    keys = [line for other in configs[1:] for line in differences(configs[0], other)]
    lines = [f"Against {experiments[0].name}: {line}" for line in dict.fromkeys(keys)]
    rows = []
    for one in experiments:
        record = manifests.read_manifest(one.provenance_path)
        libraries = ", ".join(f"{name} {version}" for name, version in record["libraries"].items())
        rows += [
            [one.name, f"ffdi {record['version']}, Python {record['python']}, {record['platform']}"],
            ["libraries", libraries],
            ["commit", record["commit"] or "none"],
            ["data", f"{record['data_root']}, roster {one.data()}"],
            ["folds.csv", one.folds_digest()],
            ["oof.csv", manifests.read_manifest(one.metrics_path)["oof_sha256"]],
        ]
    return Section("Origin", lines, sheets=[Sheet("Where and on what it was trained", ["", ""], rows)])


def texts(experiments: Sequence[Experiment]) -> dict[str, str]:
    """Each config.toml as it stands."""
    return {f"{one.name}/config.toml": one.config_path.read_text(encoding="utf-8") for one in experiments}


def _columns(frame: pd.DataFrame) -> dict[str, list[float]]:
    return {str(name): column.tolist() for name, column in frame.items()}


def _scores(name: str, score: Mapping[str, Any]) -> list[str]:
    spread = score.get("intervals", {})
    return [name, *(f"{score[key]:.4f}" + _bracketed(spread.get(key)) for key in METRICS)]


def _without(score: Mapping[str, Any]) -> list[str]:
    """A line for each reason why metrics have no interval."""
    reasons: dict[str, list[str]] = {}
    for key, why in score.get("no_interval", {}).items():
        if key in METRICS:
            reasons.setdefault(why, []).append(METRICS[key])
    return [f"No interval of all images' {', '.join(names)}: {why}." for why, names in reasons.items()]


def _bracketed(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f" ({console.interval(ends)})"


def _correlations(caption: str, names: Sequence[str], logits: np.ndarray) -> Sheet:
    """Of logits float [M, N]."""
    found = np.ones((len(names), len(names)))
    for one in range(len(names)):
        for other in range(one):
            found[one, other] = found[other, one] = spearmanr(logits[one], logits[other]).statistic
    rows = [[name, *(f"{value:.3f}" for value in row)] for name, row in zip(names, found.tolist(), strict=True)]
    return Sheet(caption, ["", *names], rows)


def _parts(name: str, found: Mapping[str, list[dict[str, Any]]]) -> Sheet:
    rows = [
        [
            f"{kind}: {part['value']}",
            str(part["real"]),
            str(part["fake"]),
            part["against"],
            "too few" if part["auc"] is None else f"{part['auc']:.4f}{_bracketed(part['interval'])}",
        ]
        for kind, parts in found.items()
        for part in parts
    ]
    return Sheet(f"{name}: out-of-fold AUC by kind", ["", "real", "fake", "against", "AUC (95 %)"], rows)


def _stress(name: str, found: Mapping[str, Any]) -> Sheet:
    rows = [["as they are", f"{found['auc']:.4f}", ""]]
    rows += [
        [way, f"{row['auc']:.4f}", f"{row['difference']:+.4f}{_bracketed(row['interval'])}"]
        for way, row in found["distortions"].items()
    ]
    return Sheet(f"{name}: AUC of distorted images", ["", "AUC", "difference (95 %)"], rows)


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)
