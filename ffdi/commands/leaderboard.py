"""Compares all experiments in one table."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ffdi.commands.shared import lineage
from ffdi.commands.shared.options import LeaderboardOptions
from ffdi.config import schema
from ffdi.config.schema import Config
from ffdi.core import console, csvs, files, manifests, names
from ffdi.core.errors import ExperimentError, FFDIError, format_count
from ffdi.evaluation import score_names
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.export import PublicScore
from ffdi.experiments.fold import FoldFolder
from ffdi.experiments.workspace import Workspace

COLUMNS = {
    "experiment": "experiment",
    "folds": "folds",
    "oof_auc": score_names.POOLED,
    "oof_interval": "95 %",
    "val_auc": "val AUC",
    "gap": "gap",
    "gap_interval": "95 %",
    "public_auc": "public",
    "public_gap": "less OOF",
    "left_out_auc": "left out",
    "left_out_interval": "95 %",
    "worst_kind_auc": "worst",
    "stress_auc": "stress",
    "minutes": "min",
    "parameters": "params",
    "learns_from": "learns from",
    "data": "data",
    "state": "state",
}
"""Names in the CSV, and headings on the screen."""
SCHEMES = {
    "clusters": "clusters of faces unlike the training faces",
    "leave-kind-out": "kinds of fakes that were left out",
}
"""Values of folds.scheme that make a held-out fold unlike the training images, each with what is held out."""
INTERVALS = {"oof_interval": "oof_auc", "gap_interval": "gap", "left_out_interval": "left_out_auc"}
"""Columns of intervals, each with that of its score."""
OPTIONAL = (
    ("left_out_auc", "left_out_interval", "worst_kind_auc"),
    ("public_auc", "public_gap"),
    ("learns_from",),
)
"""Columns that a terminal shows only if an experiment has a value in the first of them."""
DETAILS = (
    ("learns_from",),
    ("folds", "oof_interval", "gap_interval", "left_out_interval"),
    ("gap", "stress_auc", "minutes", "parameters"),
)
"""Columns that a narrow terminal omits: the first ones first."""
SHORTEST_NAME, SHORTEST_STATE = 28, 16
"""The fewest letters of a name and a state in a narrow terminal."""
NEVER_TRAINED, GROUP = "not trained", "a group of"
"""How the states begin that are shown with --all only."""
CHANGED = "config changed since"
"""The state of an experiment that only a new training makes usable again."""


def run(workspace: Workspace, options: LeaderboardOptions) -> None:
    """Shows every experiment by its data, the best out-of-fold AUC first, and writes all as CSV and Markdown.

    An experiment that leaves kinds of fakes out is ranked by the mean AUC of these kinds, behind the others.
    """
    experiments = _list_experiments(workspace)
    places = [workspace.get_leaderboard_path(ending) for ending in ("csv", "md")]
    public = _read_public_scores(workspace)
    rows = [_row(experiment, public) for experiment in experiments]
    rows.sort(key=_rank)
    shown = [row for row in rows if options.all or not row["state"].startswith((NEVER_TRAINED, GROUP))]
    by_data: dict[str | None, list[dict[str, Any]]] = {}
    for row in sorted(shown, key=lambda row: row["data"] is None):
        by_data.setdefault(row["data"], []).append(row)
    for data, part in by_data.items():
        _show(data, part)
    if len(shown) < len(rows):
        console.say(f"not trained: {format_count(len(rows) - len(shown), 'experiment')}, which --all shows")
    for line in _compare_schemes(experiments):
        console.say(line)
    for place, content in zip(places, (_format_csv(rows), _format_markdown(rows)), strict=True):
        files.write_text(place, content)
    console.written(*places)
    usable = [row["experiment"] for row in rows if _get_auc(row) is not None and CHANGED not in row["state"]]
    if usable:
        console.advise(f"invoke report --experiment {shlex.quote(usable[0])}")


def _show(data: str | None, rows: Sequence[dict[str, Any]]) -> None:
    """A table of the experiments on the same images, with the columns that fit into the terminal."""
    width, columns = console.width(), dict(COLUMNS)
    if width < console.CAPTURED_WIDTH:
        unused = [part for part in OPTIONAL if all(row[part[0]] is None for row in rows)]
        left_out = ["data", *(name for part in unused for name in part)]  # the heading has the data
        columns = {name: heading for name, heading in COLUMNS.items() if name not in left_out}
    shown = columns
    for details in ((), *DETAILS):
        shown = {name: heading for name, heading in shown.items() if name not in details}
        cells = [_cells(row, list(shown)) for row in rows]
        if _measure(_cut(cells, SHORTEST_NAME, SHORTEST_STATE), list(shown.values())) <= width:
            break
    heading = f"AUC of {format_count(len(rows), 'experiment')} {f'on {data}' if data else 'without data'}"
    console.table(heading, list(shown.values()), _fit(cells, list(shown.values()), width))
    console.say_hidden([columns[name] for name in columns if name not in shown], ", but in leaderboard.csv")
    for row in rows:
        if row["learns_from"] is not None and "learns_from" not in shown:
            console.say(f"{row['experiment']} learns from {row['learns_from']}")


def _measure(rows: Sequence[Sequence[str]], headings: Sequence[str]) -> int:
    """The width of a table."""
    return sum(max(map(console.count_columns, column)) + 3 for column in zip(headings, *rows, strict=True)) + 1


def _fit(rows: Sequence[Sequence[str]], headings: Sequence[str], width: int) -> list[list[str]]:
    """Shortens states and then names so that each row takes one line of the terminal."""
    longest_name, longest_state = (max(console.count_columns(row[column]) for row in rows) for column in (0, -1))
    excess = max(0, _measure(rows, headings) - width)
    state = max(SHORTEST_STATE, longest_state - excess)
    excess -= max(0, longest_state - state)
    return _cut(rows, max(SHORTEST_NAME, longest_name - excess), state)


def _cut(rows: Sequence[Sequence[str]], name: int, state: int) -> list[list[str]]:
    """Shortens the first and the last cell of each row to a number of columns."""
    return [[console.cut_middle(first, name), *cells, console.cut_end(last, state)] for first, *cells, last in rows]


def _read_public_scores(workspace: Workspace) -> dict[str, float]:
    """The public score of the last submission of each experiment alone."""
    found: dict[str, PublicScore] = {}
    for folder in workspace.list_exports():
        try:
            scores = workspace.get_export((), folder.name).read_public_scores()
        except FFDIError as error:
            console.warn(f"no public scores of {folder.name}: {error.what}")
            continue
        for one in scores:
            if len(one.experiments) == 1:
                name = one.experiments[0]
                found[name] = max(one, found.get(name, one))
    return {name: one.score for name, one in found.items()}


def _rank(row: dict[str, Any]) -> tuple[object, ...]:
    """The key of a row's place in the table."""
    auc = _get_auc(row)
    return row["oof_auc"] is None, auc is None, -(auc or 0), row["experiment"]


def _get_auc(row: dict[str, Any]) -> float | None:
    """The out-of-fold AUC, or the mean AUC of kinds that were left out; None without scores."""
    auc: float | None = row["left_out_auc"] if row["oof_auc"] is None else row["oof_auc"]
    return auc


def _list_experiments(workspace: Workspace) -> list[Experiment]:
    """The experiments with names that a table can show; warns of the others."""
    found = workspace.list_experiments()
    for one in found:
        if fault := names.find_fault(one.name):
            console.warn(f"{one.folder} is left out: its name {fault}; rename this folder")
    return [one for one in found if not names.find_fault(one.name)]


def _row(experiment: Experiment, public: Mapping[str, float]) -> dict[str, Any]:
    """The cells of an experiment; None for an unknown value."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row["experiment"] = experiment.name
    try:
        settings = schema.load_config(experiment.config_path)
        if members := settings.group.members:
            return row | {"state": f"{GROUP} {len(members)}"}
        row["folds"] = f"{settings.folds.k} {settings.folds.scheme}"
        row["learns_from"] = lineage.describe_sources(settings) or None
        row.update(_describe_training(experiment, settings))
        if experiment.resolved_path.is_file():
            row["data"] = f"{experiment.read_data_root().name}, images {experiment.read_data_digest()[:8]}"
        row.update(_read_scores(experiment))
        if (score := public.get(experiment.name)) is not None:
            row["public_auc"] = score
            row["public_gap"] = None if row["oof_auc"] is None else score - row["oof_auc"]
    except FFDIError as error:
        row["state"] = names.escape(error.what).replace(";", ",")  # a spreadsheet may split a cell there
    return row


def _describe_training(experiment: Experiment, settings: Config) -> dict[str, Any]:
    k = settings.folds.k
    folders = [folder for folder in map(experiment.get_fold, range(k)) if folder.manifest_path.is_file()]
    if not folders:
        return {"state": _describe_unfinished(experiment, settings)}
    unfinished = [f"{len(folders)} of {k} folds", f"AUC {_mean_auc(folders):.4f}"] if len(folders) < k else []
    networks = folders
    if settings.folds.refit:
        refit = experiment.get_refit(k)
        networks = [refit] if refit.manifest_path.is_file() else []
        folders = [*folders, *networks]
        unfinished += [] if networks else ["refit is not trained"]
    symptoms = sorted({symptom for folder in folders for symptom in folder.read_symptoms()})
    states = [*unfinished, *([CHANGED] if _has_changed(experiment) else []), *symptoms]
    return {
        "minutes": sum(folder.read_history()["seconds"].sum() for folder in folders) / 60,
        "parameters": sum(folder.count_parameters() for folder in networks),
        "state": ", ".join(states) or "ok",
    }


def _describe_unfinished(experiment: Experiment, settings: Config) -> str:
    """The progress of an experiment without a finished fold."""
    for folder in map(experiment.get_fold, range(settings.folds.k)):
        if history := folder.read_checkpoint_history():
            auc, epochs = history[-1]["heldout_auc"], settings.train.epochs
            return f"fold {folder.fold} stopped after {len(history)} of {epochs} epochs, AUC {auc:.4f}"
    return NEVER_TRAINED


def _mean_auc(folders: Sequence[FoldFolder]) -> float:
    return sum(float(folder.read_history()["heldout_auc"].iloc[-1]) for folder in folders) / len(folders)


def _has_changed(experiment: Experiment) -> bool:
    try:
        experiment.load_training()
    except ExperimentError:
        return True
    return False


def _read_scores(experiment: Experiment) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    if experiment.metrics_path.is_file():
        metrics = manifests.read_manifest(experiment.metrics_path)
        kinds = metrics.get("kinds")
        if kinds is not None and kinds["left_out"] and kinds["mean"] is not None:
            scores["left_out_auc"] = kinds["mean"]["auc"]
            scores["left_out_interval"] = kinds["mean"]["intervals"].get("auc")
            scores["worst_kind_auc"] = kinds["scores"][kinds["worst"]]["auc"]
        else:
            scores["oof_auc"] = metrics["pooled"]["auc"]
            scores["oof_interval"] = metrics["pooled"]["intervals"].get("auc")
        if "val" in metrics:
            gap = metrics["val"]["gap"]
            scores["val_auc"] = metrics["val"]["mean"]["auc"]
            scores["gap"], scores["gap_interval"] = gap["auc"], gap["intervals"].get("auc")
    if experiment.stress_path.is_file():
        scores["stress_auc"] = manifests.read_manifest(experiment.stress_path)["mean_auc"]
    return scores


def _compare_schemes(experiments: Sequence[Experiment]) -> list[str]:
    """The difference in AUC between experiments that differ in [folds] only."""
    by_recipe: dict[str, dict[str, Experiment]] = {}
    for experiment in experiments:
        with suppress(FFDIError):  # its row shows the error
            if experiment.metrics_path.is_file() and experiment.resolved_path.is_file():
                resolved = manifests.read_manifest(experiment.resolved_path)
                scheme = resolved["config"].pop("folds")["scheme"]
                by_recipe.setdefault(manifests.hash_json([resolved["config"], resolved["data"]]), {})[scheme] = (
                    experiment
                )
    lines = []
    for schemes in by_recipe.values():
        for scheme in SCHEMES:
            if "stratified" in schemes and scheme in schemes:
                with suppress(FFDIError):  # its row shows the error
                    lines += _describe_difference(schemes["stratified"], schemes[scheme], scheme)
    return lines


def _describe_difference(stratified: Experiment, other: Experiment, scheme: str) -> list[str]:
    """A line that compares the mean AUC of the folds, or of the kinds; none if the kinds of one are not scored."""
    random, harder = (_average(manifests.read_manifest(one.metrics_path), scheme) for one in (stratified, other))
    if random is None or harder is None:
        return []
    return [
        f"{stratified.name} and {other.name} differ in their folds alone: AUC {random:.4f} on random folds, "
        f"{harder:.4f} on {SCHEMES[scheme]} ({harder - random:+.4f})"
    ]


def _average(scores: dict[str, Any], scheme: str) -> float | None:
    """The mean AUC of the kinds, if a scheme leaves them out, or of the folds: offsets lower the pooled AUC."""
    if scheme == "leave-kind-out":
        mean = scores["kinds"]["mean"] if "kinds" in scores else None
        return None if mean is None else float(mean["auc"])
    return sum(float(score["auc"]) for score in scores["folds"].values()) / len(scores["folds"])


def _cells(row: dict[str, Any], columns: Iterable[str] = COLUMNS) -> list[str]:
    shown: dict[str, Callable[[Any], str]] = {
        "folds": lambda folds: folds.removesuffix(" stratified"),
        "oof_auc": lambda auc: f"{auc:.4f}",
        "oof_interval": console.interval,
        "val_auc": lambda auc: f"{auc:.4f}",
        "gap": lambda gap: f"{gap:+.4f}",
        "gap_interval": lambda ends: console.interval(ends, "+.3f"),
        "public_auc": lambda auc: f"{auc:.4f}",
        "public_gap": lambda gap: f"{gap:+.4f}",
        "left_out_auc": lambda auc: f"{auc:.4f}",
        "left_out_interval": console.interval,
        "worst_kind_auc": lambda auc: f"{auc:.4f}",
        "stress_auc": lambda auc: f"{auc:.4f}",
        "minutes": lambda minutes: f"{minutes:.1f}",
        "parameters": lambda count: f"{count / 1e6:.1f} M",
    }
    row = row | {name: "no interval" for name in INTERVALS if row[name] is None and row[INTERVALS[name]] is not None}
    shown |= {name: str for name in INTERVALS if isinstance(row[name], str)}
    return ["" if row[name] is None else shown.get(name, str)(row[name]) for name in columns]


def _format_csv(rows: Sequence[dict[str, Any]]) -> str:
    header = [name for column in COLUMNS for name in _csv_columns(column)]
    values = [[part for column in COLUMNS for part in _csv_values(column, row[column])] for row in rows]
    return csvs.format_csv([header, *values])


def _csv_columns(column: str) -> list[str]:
    name = column.removesuffix("_interval")
    return [f"{name}_low", f"{name}_high"] if column.endswith("_interval") else [column]


def _csv_values(column: str, value: Any) -> list[Any]:
    if column.endswith("_interval"):
        return ["", ""] if value is None else list(value)
    return ["" if value is None else value]


def _format_markdown(rows: Sequence[dict[str, Any]]) -> str:
    lines = [list(COLUMNS.values()), ["---"] * len(COLUMNS), *map(_cells, rows)]
    return "".join(f"| {' | '.join(map(names.escape_markdown, line))} |\n" for line in lines)
