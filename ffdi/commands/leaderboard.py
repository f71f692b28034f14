"""All experiments beside each other."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from ffdi.config import schema
from ffdi.config.schema import Config
from ffdi.core import console, csvs, files, hashes, manifests, names
from ffdi.core.errors import ExperimentError, FFDIError
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.fold import FoldFolder
from ffdi.experiments.workspace import Workspace

COLUMNS = {
    "experiment": "experiment",
    "folds": "folds",
    "oof_auc": "OOF AUC",
    "oof_interval": "95 %",
    "val_auc": "val AUC",
    "gap": "gap",
    "gap_interval": "95 %",
    "stress_auc": "stress",
    "minutes": "min",
    "parameters": "params",
    "state": "state",
}
"""Names in the CSV, and headings on the screen."""
INTERVALS = {"oof_interval": "oof_auc", "gap_interval": "gap"}
"""Columns of intervals, each with that of its score."""
WIDE = 120
"""Letters in a line below which `DETAILS` stand in the files alone."""
DETAILS = ("folds", "oof_interval", "gap_interval")


def run(workspace: Workspace) -> None:
    """Shows every experiment, the best out-of-fold AUC first, and writes the table as CSV and Markdown."""
    experiments = _named(workspace)
    places = [workspace.leaderboard_path(ending) for ending in ("csv", "md")]
    rows = [_row(experiment) for experiment in experiments]
    rows.sort(key=lambda row: (row["oof_auc"] is None, -(row["oof_auc"] or 0), row["experiment"]))
    shown = console.fitting(COLUMNS, DETAILS, WIDE)
    console.table(f"{len(rows)} experiments", list(shown.values()), [_cells(row, list(shown)) for row in rows])
    for line in _twins(experiments):
        console.say(line)
    for place, content in zip(places, (_csv(rows), _markdown(rows)), strict=True):
        files.write_text(place, content)
    console.written(*places)
    if rows and rows[0]["oof_auc"] is not None:
        console.advise(f"invoke report --experiment {shlex.quote(rows[0]['experiment'])}")


def _named(workspace: Workspace) -> list[Experiment]:
    """The experiments whose names can stand in a table; of the others a person is told."""
    found = workspace.experiments()
    for one in found:
        if fault := names.find_fault(one.name):
            console.warn(f"{one.folder} is left out: its name {fault}; rename this folder")
    return [one for one in found if not names.find_fault(one.name)]


def _row(experiment: Experiment) -> dict[str, Any]:
    """What is known of an experiment; None for what is not."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row["experiment"] = experiment.name
    try:
        settings = schema.read(experiment.config_path)
        if listed := settings.group.members:
            return row | {"state": f"a list of {len(listed)}"}
        row["folds"] = f"{settings.folds.k} {settings.folds.scheme}"
        row.update(_trained(experiment, settings))
        row.update(_scores(experiment))
    except FFDIError as error:
        row["state"] = names.escape(error.what).replace(";", ",")  # a spreadsheet may begin a cell behind it
    return row


def _trained(experiment: Experiment, settings: Config) -> dict[str, Any]:
    k = settings.folds.k
    folders = [folder for folder in map(experiment.fold, range(k)) if folder.manifest_path.is_file()]
    if not folders:
        return {"state": _begun(experiment, settings)}
    symptoms = sorted({symptom for folder in folders for symptom in folder.symptoms()})
    unfinished = [f"{len(folders)} of {k} folds", f"AUC {_mean_auc(folders):.4f}"] if len(folders) < k else []
    states = [*unfinished, *(["config changed since"] if _changed(experiment) else []), *symptoms]
    return {
        "minutes": sum(folder.history()["seconds"].sum() for folder in folders) / 60,
        "parameters": sum(folder.parameters() for folder in folders),
        "state": ", ".join(states) or "ok",
    }


def _begun(experiment: Experiment, settings: Config) -> str:
    """How far an experiment came of which no fold is finished."""
    for folder in map(experiment.fold, range(settings.folds.k)):
        if history := folder.begun():
            auc, epochs = history[-1]["heldout_auc"], settings.train.epochs
            return f"fold {folder.fold} stopped after {len(history)} of {epochs} epochs, AUC {auc:.4f}"
    return "not trained"


def _mean_auc(folders: Sequence[FoldFolder]) -> float:
    """Of the last epochs, on the folds that are held out."""
    return sum(float(folder.history()["heldout_auc"].iloc[-1]) for folder in folders) / len(folders)


def _changed(experiment: Experiment) -> bool:
    try:
        experiment.trained()
    except ExperimentError:
        return True
    return False


def _scores(experiment: Experiment) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    if experiment.metrics_path.is_file():
        metrics = manifests.read_manifest(experiment.metrics_path)
        scores["oof_auc"], scores["oof_interval"] = metrics["pooled"]["auc"], metrics["pooled"]["intervals"].get("auc")
        if "val" in metrics:
            gap = metrics["val"]["gap"]
            scores["val_auc"] = metrics["val"]["mean"]["auc"]
            scores["gap"], scores["gap_interval"] = gap["auc"], gap["intervals"].get("auc")
    if experiment.stress_path.is_file():
        scores["stress_auc"] = manifests.read_manifest(experiment.stress_path)["mean_auc"]
    return scores


def _twins(experiments: Sequence[Experiment]) -> list[str]:
    """What experiments lose when folds hold out clusters, where there is a twin with random folds."""
    by_recipe: dict[str, dict[str, Experiment]] = {}
    for experiment in experiments:
        with suppress(FFDIError):  # which its row has said
            if experiment.metrics_path.is_file() and experiment.resolved_path.is_file():
                begun = manifests.read_manifest(experiment.resolved_path)
                scheme = begun["config"]["folds"].pop("scheme")
                by_recipe.setdefault(hashes.hash_json([begun["config"], begun["data"]]), {})[scheme] = experiment
    return [_comparison(**twins) for twins in by_recipe.values() if len(twins) == 2]


def _comparison(stratified: Experiment, clusters: Experiment) -> str:
    """Folds' mean AUC of both schemes; the pooled one is lower where folds are offset."""
    random, unlike = (_mean_of_folds(one) for one in (stratified, clusters))
    return (
        f"{stratified.name} and {clusters.name} differ in their folds alone: AUC {random:.4f} on random folds, "
        f"{unlike:.4f} on clusters of faces unlike the training ones ({unlike - random:+.4f})"
    )


def _mean_of_folds(experiment: Experiment) -> float:
    folds = manifests.read_manifest(experiment.metrics_path)["folds"].values()
    return sum(float(score["auc"]) for score in folds) / len(folds)


def _cells(row: dict[str, Any], columns: Iterable[str] = COLUMNS) -> list[str]:
    """A row as words."""
    shown: dict[str, Callable[[Any], str]] = {
        "folds": lambda folds: folds.removesuffix(" stratified"),
        "oof_auc": lambda auc: f"{auc:.4f}",
        "oof_interval": console.interval,
        "val_auc": lambda auc: f"{auc:.4f}",
        "gap": lambda gap: f"{gap:+.4f}",
        "gap_interval": lambda ends: console.interval(ends, "+.3f"),
        "stress_auc": lambda auc: f"{auc:.4f}",
        "minutes": lambda minutes: f"{minutes:.1f}",
        "parameters": lambda count: f"{count / 1e6:.1f} M",
    }
    row = row | {name: "no interval" for name in INTERVALS if row[name] is None and row[INTERVALS[name]] is not None}
    shown |= {name: str for name in INTERVALS if isinstance(row[name], str)}
    return ["" if row[name] is None else shown.get(name, str)(row[name]) for name in columns]


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    header = [name for column in COLUMNS for name in _parts(column)]
    values = [[part for column in COLUMNS for part in _values(column, row[column])] for row in rows]
    return csvs.format_csv([header, *values])


def _parts(column: str) -> list[str]:
    name = column.removesuffix("_interval")
    return [f"{name}_low", f"{name}_high"] if column.endswith("_interval") else [column]


def _values(column: str, value: Any) -> list[Any]:
    if column.endswith("_interval"):
        return ["", ""] if value is None else list(value)
    return ["" if value is None else value]


def _markdown(rows: Sequence[dict[str, Any]]) -> str:
    lines = [list(COLUMNS.values()), ["---"] * len(COLUMNS), *map(_cells, rows)]
    return "".join(f"| {' | '.join(map(names.in_markdown, line))} |\n" for line in lines)
