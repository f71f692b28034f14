"""The scores of teachers for the images that a student is trained on, each by networks that have not seen it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np

from ffdi.config.schema import DistillConfig
from ffdi.core import console, csvs, files, manifests
from ffdi.core.errors import ConfigError, DataError, ExperimentError, format_count
from ffdi.data.labels.table import Table
from ffdi.ensemble.combine import METHODS
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import predictions
from ffdi.evaluation.score_table import FLOAT
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

COLUMNS = ("img_name", "target", "logit")


def load_teachers(workspace: Workspace, names: list[str]) -> Ensemble:
    """Loads the teachers of `distill.teachers`.

    Raises:
        ExperimentError: one is not trained, or they differ in their images or folds.
        ConfigError: one does not exist; or they are combined by ranks, which are no probabilities.
    """
    ensemble = Ensemble.from_experiments([workspace.get_experiment(name) for name in names])
    if not METHODS[ensemble.method].pointwise:
        raise ConfigError(
            f"ensemble.method = '{ensemble.method}' gives ranks, and a student learns probabilities",
            hint="set ensemble.method = 'auto' in the config.toml of the teachers",
        )
    return ensemble


def add_teachers(
    workspace: Workspace, experiment: Experiment, config: DistillConfig, train: Table
) -> tuple[Table, str | None]:
    """Adds the teachers' out-of-fold logits to the table, from teachers.csv, which is written if it is missing.

    A logit comes from the networks of the folds that hold the image out, so no network labels an image that it was
    trained on. Where the teachers are not in the workspace, the file is enough.

    Args:
        workspace: has the teachers.
        experiment: the student.
        config: names the teachers.
        train: the student's training images.

    Returns:
        The table, and the hash of teachers.csv; the same table and None without teachers.

    Raises:
        ConfigError: a teacher does not exist.
        ExperimentError: a teacher is not trained, or was trained again since teachers.csv was written.
        DataError: an image has no score of the teachers, or another label than theirs.
    """
    ensure_teachers(workspace, experiment, config)
    if not config.teachers:
        return train, None
    return _attach(train, experiment.teachers_path), manifests.hash_file(experiment.teachers_path)


def ensure_teachers(workspace: Workspace, experiment: Experiment, config: DistillConfig) -> None:
    """Writes the teachers.csv of a student if it is missing; errors as in `add_teachers`."""
    path = experiment.teachers_path
    if not config.teachers:
        return
    if not path.is_file() or len(find_teachers(workspace, config)) == len(config.teachers):
        content = format_teachers(load_teachers(workspace, config.teachers))
        if not path.is_file():
            files.write_text(path, content)
            console.written(path)
        elif manifests.hash_file(path) != manifests.hash_text(content):
            raise ExperimentError(
                f"{path} has other scores than the teachers, {', '.join(config.teachers)}, have now",
                hint=f"remove it to take the new scores: rm {shlex.quote(str(path))}",
            )


def format_teachers(ensemble: Ensemble) -> str:
    """The text of teachers.csv: the out-of-fold logit of each training image, with the teachers' label of it."""
    logits = [FLOAT % logit for logit in predictions.compute_target_logits(ensemble.choice.y_pred)]
    assignment = ensemble.assignment
    rows = zip(assignment.img_name.tolist(), assignment.target.tolist(), logits, strict=True)
    return csvs.format_csv([COLUMNS, *rows])


def find_teachers(workspace: Workspace, config: DistillConfig) -> list[Experiment]:
    """The teachers that have out-of-fold scores in the workspace."""
    found = [one for name in config.teachers if (one := workspace.find_experiment(name)) is not None]
    return [one for one in found if one.oof_path.is_file()]


def _attach(train: Table, path: Path) -> Table:
    assert train.target is not None
    known, problems = _read_teachers(path), []
    for name, label in zip(train.img_name.tolist(), train.target.tolist(), strict=True):
        if name not in known:
            problems.append(f"{name}: the teachers have not scored it")
        elif known[name][0] != label:
            problems.append(f"{name}: label {label} here, and {known[name][0]} for the teachers")
    if problems:
        raise DataError(
            f"{format_count(len(problems), 'training image')} without a score of the teachers, or with another label",
            problems=problems,
            hint="train the student on the images and labels that its teachers were trained on",
        )
    return replace(train, soft_logit=np.array([known[name][1] for name in train.img_name.tolist()], np.float32))


def _read_teachers(path: Path) -> dict[str, tuple[int, float]]:
    """The label and the logit of each image."""
    hint = f"remove it: rm {shlex.quote(str(path))}"
    rows = list(csvs.read_csv(path, ExperimentError, hint))
    if not rows or tuple(rows[0][1]) != COLUMNS:
        raise ExperimentError(f"{path} line 1: the header is not {','.join(COLUMNS)}", hint=hint)
    known = {}
    for line, fields in rows[1:]:
        if len(fields) != len(COLUMNS) or fields[1] not in ("0", "1") or not _is_finite(fields[2]):
            raise ExperimentError(f"{path} line {line}: not an image, its label and a logit", hint=hint)
        known[fields[0]] = int(fields[1]), float(fields[2])
    return known


def _is_finite(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False
