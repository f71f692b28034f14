"""The scores of teachers for the images that a student is trained on, by networks that know no held-out image.

A student's network of fold i learns the scores of the teachers' networks of fold i alone. These were not trained on the
images that fold i holds out, and neither was the student's. Out-of-fold scores would not do: the network that holds an
image of fold j out was trained on fold i, and hands on what it knows of it. The network on all images has no held-out
images, and learns the out-of-fold scores, so that no label comes back that a teacher has learned by heart.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ffdi import __version__
from ffdi.commands.shared import member_scores
from ffdi.config.schema import Config, DistillConfig
from ffdi.core import console, csvs, files, manifests
from ffdi.core.errors import ConfigError, DataError, ExperimentError, format_count
from ffdi.data.labels.pseudo_labels import ALL
from ffdi.data.labels.table import Table
from ffdi.ensemble.combine import METHODS
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation.predictions import compute_target_logits, sigmoid
from ffdi.evaluation.score_table import FLOAT
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.training.runtime.device import Device


class TeacherScores(NamedTuple):
    """What a student learns of its teachers.

    Attributes:
        folder: of the experiment that has the files.
        sha256: of teachers.csv.
        logits: float32 [k + 1, N], by row of the training images: of the networks of each fold, NaN for images that the
            fold holds out; last, out of fold.
    """

    folder: Path
    sha256: str
    logits: np.ndarray

    def check_folds(self, student: str, fold_of: np.ndarray) -> None:
        """Checks that a student has the folds of its teachers.

        Args:
            student: name of the experiment.
            fold_of: int64 [N], the fold that holds each training image out.

        Raises:
            ExperimentError: it has others, so that the teachers know its held-out images.
        """
        held_out = fold_of == np.arange(len(self.logits) - 1)[:, None]
        if not np.array_equal(held_out, np.isnan(self.logits[:-1])):
            raise ExperimentError(
                f"{student} has other folds than its teachers, which know the images that it holds out",
                hint="set the keys of [folds] to those of the teachers, as distill does",
            )


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


def find_teachers(workspace: Workspace, config: DistillConfig) -> list[Experiment]:
    """The teachers that have out-of-fold scores in the workspace."""
    found = [one for name in config.teachers if (one := workspace.find_experiment(name)) is not None]
    return [one for one in found if one.oof_path.is_file()]


def write_scores(experiment: Experiment, ensemble: Ensemble, train: Table, device: Device) -> None:
    """Scores the training images by each fold's networks, and writes teachers.csv and teachers.json.

    Args:
        experiment: the student.
        ensemble: the teachers.
        train: training images; those that the teachers do not know are left out.
        device: that computes.

    Raises:
        DataError: an image is unreadable.
    """
    assignment, places = ensemble.assignment, train.rows(ensemble.assignment.img_name)
    known = places >= 0
    table, fold = train.take(places[known]), assignment.fold[known]
    networks = member_scores.list_fold_members(ensemble)
    members = [member for part in networks for member in part]
    y_pred = sigmoid(member_scores.predict_logits(members, ensemble.resize_policy, table, device))
    folds = compute_target_logits(y_pred.reshape(len(networks), -1, len(table)).mean(1))
    folds[np.arange(len(networks))[:, None] == fold] = np.nan
    logits = np.stack([*folds, compute_target_logits(ensemble.choice.y_pred[known])])
    cells = [["" if np.isnan(logit) else FLOAT % logit for logit in row] for row in logits.T.tolist()]
    names, target = table.img_name.tolist(), assignment.target[known].tolist()
    rows = [[name, label, *row] for name, label, row in zip(names, target, cells, strict=True)]
    files.write_text(experiment.teachers_path, csvs.format_csv([_list_columns(len(networks)), *rows]))
    record = {
        "sha256": manifests.hash_file(experiment.teachers_path),
        "k": len(networks),
        "teachers": _describe(ensemble.experiments),
        "version": __version__,
    }
    manifests.write_manifest(experiment.teachers_record_path, record)
    console.written(experiment.teachers_path)


def load_scores(
    workspace: Workspace,
    experiment: Experiment,
    config: DistillConfig,
    train: Table,
    choose_device: Callable[[list[Config]], Device],
) -> TeacherScores | None:
    """Reads the teachers.csv of a student, which is written if it is missing; None without teachers.

    Where the teachers are not in the workspace, the file is enough.

    Args:
        workspace: may have the teachers.
        experiment: the student.
        config: names the teachers.
        train: the student's training images.
        choose_device: chooses the device that scores, for networks with these settings.

    Raises:
        ConfigError: the file is missing, and a teacher does not exist.
        ExperimentError: the file is missing or damaged, or a teacher was trained again since it was written.
        DataError: an image has no score of the teachers, or another label than theirs.
    """
    if not config.teachers:
        return None
    if not experiment.teachers_record_path.is_file():
        ensemble = load_teachers(workspace, config.teachers)
        device = choose_device([one.config for one in ensemble.members])
        console.say(f"device: {device.why}")
        write_scores(experiment, ensemble, train, device)
    record = read_record(experiment)
    here = find_teachers(workspace, config)
    if changed := [one["experiment"] for one in _describe(here) if one not in record["teachers"]]:
        raise ExperimentError(
            f"{experiment.teachers_path} has the scores of other networks than {', '.join(changed)} has now",
            hint=_remove(experiment),
        )
    logits = _match(train, experiment, record["k"])
    return TeacherScores(experiment.folder, record["sha256"], logits)


def read_record(experiment: Experiment) -> dict[str, Any]:
    """Reads teachers.json, and checks teachers.csv against it.

    Raises:
        ExperimentError: a file is missing or damaged.
    """
    if not experiment.teachers_record_path.is_file():
        raise ExperimentError(
            f"{experiment.teachers_record_path} does not exist: {experiment.name} has no scores of its teachers",
            hint="it comes from the workspace of the teachers, where distill or train-folds writes it",
        )
    record = manifests.read_manifest(experiment.teachers_record_path, {"sha256": str, "k": int, "teachers": list})
    manifests.check_hash(
        experiment.teachers_path, record["sha256"], experiment.teachers_record_path, _remove(experiment)
    )
    return record


def adopt_scores(experiment: Experiment, scores: TeacherScores) -> None:
    """Copies the scores to an experiment that shares them with another student, such as the trial of a sweep.

    Raises:
        ExperimentError: it has other scores.
    """
    if experiment.folder == scores.folder:
        return
    if experiment.teachers_record_path.is_file():
        if read_record(experiment)["sha256"] != scores.sha256:
            raise ExperimentError(
                f"{experiment.teachers_path} has other scores than those in {scores.folder}", hint=_remove(experiment)
            )
        return
    other = Experiment(scores.folder)
    copy_scores(other, experiment)


def copy_scores(experiment: Experiment, to: Experiment) -> None:
    """Copies teachers.csv and teachers.json."""
    files.copy(experiment.teachers_path, to.teachers_path)
    manifests.write_manifest(to.teachers_record_path, manifests.read_manifest(experiment.teachers_record_path))


def _list_columns(k: int) -> list[str]:
    return ["img_name", "target", *(f"fold_{fold}" for fold in range(k)), ALL]


def _describe(teachers: Sequence[Experiment]) -> list[dict[str, Any]]:
    """The teachers with the weights of their folds' networks."""
    return [{"experiment": one.name, "weights_sha256": one.list_fold_weights()} for one in teachers]


def _match(train: Table, experiment: Experiment, k: int) -> np.ndarray:
    """The logits for the images of a table, float32 [k + 1, N]."""
    assert train.target is not None
    known, problems = _read(experiment, k), []
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
    return np.array([known[name][1] for name in train.img_name.tolist()], np.float32).T


def _read(experiment: Experiment, k: int) -> dict[str, tuple[int, list[float]]]:
    """The label and the logits of each image."""
    path, hint = experiment.teachers_path, _remove(experiment)
    rows = list(csvs.read_csv(path, ExperimentError, hint))
    columns = _list_columns(k)
    if not rows or rows[0][1] != columns:
        raise ExperimentError(f"{path} line 1: the header is not {','.join(columns)}", hint=hint)
    known = {}
    for line, fields in rows[1:]:
        try:
            logits = [float(field) if field else np.nan for field in fields[2:]]
        except ValueError:
            logits = []
        if len(logits) != k + 1 or fields[1] not in ("0", "1") or not np.isfinite(logits[-1]):
            raise ExperimentError(
                f"{path} line {line}: not an image, its label and {format_count(k + 1, 'logit')}", hint=hint
            )
        known[fields[0]] = int(fields[1]), logits
    return known


def _remove(experiment: Experiment) -> str:
    paths = " ".join(shlex.quote(str(path)) for path in (experiment.teachers_path, experiment.teachers_record_path))
    return f"remove them, and train-folds makes new ones: rm {paths}"
