"""The features of a teacher for the images that a student is trained on: those of each of its folds' networks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ffdi.config.schema import Config
from ffdi.core import console, manifests
from ffdi.core.errors import ConfigError, ExperimentError, format_are, format_count
from ffdi.data.labels.table import Table
from ffdi.experiments.experiment import Experiment

if TYPE_CHECKING:
    from ffdi.training.runtime.device import Device


def check_features(settings: Config, teachers: Sequence[Experiment]) -> None:
    """Checks `distill.features` against the teachers.

    Raises:
        ConfigError: features are to be matched, and no teacher has the student's backbone.
    """
    if settings.distill.features:
        _choose_teacher(settings, teachers)


def ensure_features(
    experiment: Experiment, settings: Config, teachers: Sequence[Experiment], train: Table, device: Device
) -> None:
    """Writes the teacher_features.safetensors of a student if it is missing; else checks it.

    The teacher is the first one with the student's backbone. `TeacherFeatures` reads the file.

    Args:
        experiment: the student.
        settings: of the student.
        teachers: those that are in the workspace; without any, the file is enough.
        train: the student's training images.
        device: that computes them.

    Raises:
        ConfigError: no teacher has the student's backbone.
        ExperimentError: the file is damaged, or the teacher was trained again since it was written.
    """
    from ffdi.training.teacher_features import TeacherFeatures

    path = experiment.teacher_features_path
    if not path.is_file():
        if not teachers:
            raise ExperimentError(
                f"{path} does not exist, and the teachers {', '.join(settings.distill.teachers)} are not here",
                hint="copy it from the workspace of the teachers, where train-folds writes it",
            )
        teacher = _choose_teacher(settings, teachers)
        TeacherFeatures(path).write(_compute(teacher, train, device), _hash_networks(teacher))
        console.written(path)
    networks, images = TeacherFeatures(path).read_origin(_remove(path))
    if teachers and networks != _hash_networks(teacher := _choose_teacher(settings, teachers)):
        raise ExperimentError(
            f"{path} has the features of other networks than {teacher.name} has now", hint=_remove(path)
        )
    if images != len(train):
        raise ExperimentError(
            f"{path} has features of {format_count(images, 'image')}, and there {format_are(len(train))}",
            hint=_remove(path),
        )


def _choose_teacher(settings: Config, teachers: Sequence[Experiment]) -> Experiment:
    """The first teacher whose features are those of the student's network."""
    for teacher in teachers:
        if _describe_features(teacher.load_training()[0]) == _describe_features(settings):
            return teacher
    backbones = ", ".join(f"{one.name} {one.load_training()[0].model.backbone}" for one in teachers)
    raise ConfigError(
        f"distill.features needs a teacher with the student's backbone, {settings.model.backbone}, with its noise "
        f"residual and its pooling; the teachers have: {backbones}",
        hint="set distill.features = 0, or the model.backbone of a teacher",
    )


def _describe_features(config: Config) -> tuple[str, str, str]:
    """What two networks have in common if their features mean the same."""
    from ffdi.models import weights as starting

    return starting.resolve_name(config.model.backbone), config.model.noise_residual, config.model.pool


def _hash_networks(teacher: Experiment) -> str:
    return manifests.hash_json(teacher.list_fold_weights())


def _compute(teacher: Experiment, train: Table, device: Device) -> dict[int, np.ndarray]:
    """The features of all images by each fold's network, float32 [N, D]."""
    from ffdi.models import detector
    from ffdi.training import fold, teacher_features

    config, identity = teacher.load_training()
    folders, features = teacher.list_finished_folds(config.folds.k, identity), dict[int, np.ndarray]()
    with console.bar(f"features by {teacher.name}", len(train) * len(folders), unit="images") as bar:
        for folder in folders:
            bar.rename(f"features by {teacher.name}, {folder.label} of {len(folders)}")
            network = device.prepare(detector.load_detector(config.model, folder.weights_path))
            batches = fold.make_eval_batches(train, config, device)
            features[folder.fold] = teacher_features.compute_features(network, batches, device, bar.advance)
    return features


def _remove(path: Path) -> str:
    return f"remove it, and train-folds computes the features again: rm {shlex.quote(str(path))}"
