"""Compares the scores of two experiments, or of score files from elsewhere, on the same images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ffdi.commands.shared import score_files, scores, sources
from ffdi.commands.shared.options import CompareOptions
from ffdi.commands.shared.score_files import ScoreFile
from ffdi.config import schema
from ffdi.config.schema import Config
from ffdi.core import console
from ffdi.core.errors import ConfigError, DataError, ExperimentError, format_count
from ffdi.data.labels import metadata
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.table import find_rows
from ffdi.data.splits.folds import FoldAssignment
from ffdi.evaluation import comparison, score_names
from ffdi.evaluation.comparison import Comparison, Scores
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

ROW_FOR_EACH = "write a row for each image: img_name,y_pred"
Side = Experiment | ScoreFile


class _Matched(NamedTuple):
    """The images that both sides have scored.

    Attributes:
        what: words for them.
        images: with zeros as folds if one network scored all of them.
        y_pred: float64 [2, N].
        measured: what their AUC is of.
    """

    what: str
    images: FoldAssignment
    y_pred: np.ndarray
    measured: str


def run(workspace: Workspace, options: CompareOptions) -> None:
    """Compares the second side with the first on all images, on each kind of fake and on each slice."""
    first, second = (_read_side(workspace, word) for word in (options.first, options.second))
    dataset = _find_dataset(workspace, [first, second], options)
    if isinstance(first, ScoreFile):
        if isinstance(second, ScoreFile):
            matched = _match_files(first, second, dataset)
        else:
            matched = _match_file(second, first)
            matched = matched._replace(y_pred=matched.y_pred[::-1])
    elif isinstance(second, ScoreFile):
        matched = _match_file(first, second)
    else:
        matched = _match_experiments(first, second)
    images = matched.images
    console.title(f"compare {options.first} with {options.second}: {matched.what}")
    slices = _find_slices(images, dataset)
    rows = comparison.compare(Scores(matched.y_pred, images.target, images.fold, images.group), slices)
    if not rows or rows[0].name != comparison.ALL:
        raise ExperimentError(f"{matched.what}: too few of a class for a comparison")
    _show(rows, options, matched.measured)


def _read_side(workspace: Workspace, word: str) -> Side:
    """A CSV, or an experiment with out-of-fold scores.

    Raises:
        FFDIError: it is neither, or cannot be read.
    """
    if Path(word).is_file():
        return score_files.read_score_file(Path(word))
    if (experiment := workspace.find_experiment(word)) is None:
        known = ", ".join(one.name for one in workspace.list_experiments())
        raise ConfigError(f"{word} is neither a file nor an experiment", hint=f"name a CSV or one of these: {known}")
    schema.load_experiment(experiment.config_path)  # a group has no scores of its own
    experiment.check_scores()
    return experiment


def _find_dataset(workspace: Workspace, sides: list[Side], options: CompareOptions) -> Dataset | None:
    """The data set of --data, read as the first experiment reads it; None without the flag."""
    if not options.data:
        return None
    configs = [schema.load_experiment(one.config_path) for one in sides if isinstance(one, Experiment)]
    return sources.find_dataset(workspace, configs[0] if configs else Config(), Path(options.data))


def _describe_oof(images: FoldAssignment) -> str:
    return f"out-of-fold scores of {format_count(len(images.target), 'training image')}"


def _match_experiments(first: Experiment, second: Experiment) -> _Matched:
    """Out-of-fold scores; by ranks within each experiment's folds if these differ."""
    (images, one), (others, two) = scores.read_oof(first), scores.read_oof(second)
    rows = find_rows(others.img_name, images.img_name)
    if (rows < 0).any() or len(rows) != len(others.img_name) or (others.target[rows] != images.target).any():
        raise ExperimentError(
            f"{first.name} and {second.name} were not trained on the same images with the same labels",
            hint="compare experiments on the same data, or their scores of other images as files (img_name,y_pred)",
        )
    if np.array_equal(others.fold[rows], images.fold):
        y_pred = np.stack([one.y_pred, two.y_pred[rows]])
        return _Matched(_describe_oof(images), images, y_pred, score_names.MEAN_OF_FOLDS)
    console.say("their folds differ: compared by the ranks of the scores within each experiment's folds")
    return _Matched(
        _describe_oof(images),
        replace(images, fold=np.zeros_like(images.fold)),
        np.stack([one.ranks, two.ranks[rows]]),
        score_names.RANKED,
    )


def _match_file(experiment: Experiment, file: ScoreFile) -> _Matched:
    """Out-of-fold scores, or those of the validation split, whichever images the file has."""
    images, oof = scores.read_oof(experiment)
    candidates = [_Matched(_describe_oof(images), images, oof.y_pred, score_names.MEAN_OF_FOLDS)]
    if val := scores.read_val_predictions(experiment, np.unique(images.fold).tolist()):
        assignment = FoldAssignment(val[0].img_name, np.zeros_like(val[0].fold), val[0].target, None)
        what = f"{format_count(len(val[0].target), 'image')} of the validation split, the mean of the folds' networks"
        candidates.append(_Matched(what, assignment, np.mean([one.y_pred for one in val], axis=0), "validation split"))
    problems = []
    for one in candidates:
        theirs = file.find(one.images.img_name)
        missing = one.images.img_name[np.isnan(theirs)].tolist()
        if not missing:
            return one._replace(y_pred=np.stack([one.y_pred, theirs]))
        problems.append(f"{one.what}: not in the file: {format_count(len(missing), 'image')}, such as {missing[0]}")
    raise DataError(f"{file.path} lacks images that {experiment.name} has scored", problems=problems, hint=ROW_FOR_EACH)


def _match_files(first: ScoreFile, second: ScoreFile, dataset: Dataset | None) -> _Matched:
    """The images of a file with labels, or of a split of the data set."""
    labelled = next((one for one in (first, second) if one.target is not None), None)
    if dataset is not None:
        what, images = _find_split(first, dataset)
    elif labelled is not None and labelled.target is not None:
        rows = len(labelled.target)
        images = FoldAssignment(np.array(labelled.listed), np.zeros(rows, np.int64), labelled.target, None)
        what = format_count(rows, "image")
    else:
        raise ConfigError(
            f"the labels are unknown: neither {first.path} nor {second.path} has a column target",
            hint="pass --data FOLDER with the label files",
        )
    y_pred = np.stack([one.find(images.img_name) for one in (first, second)])
    for one, row in zip((first, second), y_pred, strict=True):
        if missing := images.img_name[np.isnan(row)].tolist():
            raise DataError(f"{one.path} lacks {len(missing)} of {what}", problems=missing, hint=ROW_FOR_EACH)
    return _Matched(what, images, y_pred, what)


def _find_split(file: ScoreFile, dataset: Dataset) -> tuple[str, FoldAssignment]:
    """The labelled split whose images a file has, and words for it."""
    for name, table in dataset.splits.items():
        if table.target is not None and not np.isnan(file.find(table.img_name)).any():
            no_folds = np.zeros(len(table), np.int64)
            return f"{format_count(len(table), 'image')} of the {name} split", FoldAssignment(
                table.img_name, no_folds, table.target, table.group, table.kind
            )
    raise DataError(f"{file.path} lacks images of each labelled split under {dataset.root}", hint=ROW_FOR_EACH)


def _find_slices(images: FoldAssignment, dataset: Dataset | None) -> dict[str, np.ndarray]:
    """bool [N] by name: kinds of fakes and, of a data set, the values of further columns of the label files."""
    kinds = [] if images.kind is None else np.unique(images.kind[images.target == 1]).tolist()
    slices = {f"kind: {one}": images.kind == one for one in kinds if one}
    if dataset is None:
        return slices
    for table in dataset.splits.values():
        rows = find_rows(table.img_name, images.img_name)
        if (rows >= 0).all():
            for column, value in metadata.read_attributes(dataset.root, table, dataset.config).items():
                values = np.unique(value[rows]).tolist()
                slices |= {f"{column}: {one}": value[rows] == one for one in values if one}
    return slices


def _show(rows: list[Comparison], options: CompareOptions, measured: str) -> None:
    cells = [
        (
            one.name,
            one.real,
            one.fake,
            one.first,
            one.second,
            f"{one.difference:+.4f}",
            console.interval(one.interval, "+.4f"),
            console.interval(one.bootstrap, "+.4f"),
            "" if one.corrected is None else f"{one.corrected:.3g}",
        )
        for one in rows
    ]
    columns = ["", "real", "fake", options.first, options.second, "difference", "95 %", "bootstrap", "p"]
    console.table(f"AUC ({measured})", columns, cells, details=["bootstrap", "p", "real", "fake"])
    if len(rows) > 1:
        console.say("p of kinds and slices: with Holm's correction for all of them")
    console.say(_judge(rows[0], options))


def _judge(row: Comparison, options: CompareOptions) -> str:
    """The result in a sentence."""
    if row.interval is None:
        return "too few images, or too few that are ranked differently, to tell the two apart"
    measured = f"{row.difference:+.4f} ({console.interval(row.interval, '+.4f')})"
    if row.interval[0] > 0 or row.interval[1] < 0:
        return f"{options.second} is {'better' if row.difference > 0 else 'worse'} than {options.first}: {measured}"
    return f"no difference between {options.first} and {options.second} is proven: {measured}"
