"""The features of a teacher for the images that a student is trained on, each by a network that has not seen it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors
from safetensors.numpy import save_file

from ffdi.config.schema import Config
from ffdi.core import console, files, manifests
from ffdi.core.errors import ConfigError, ExperimentError
from ffdi.data.labels.table import Table, find_rows
from ffdi.ensemble.ensemble import Ensemble
from ffdi.experiments.experiment import Experiment

if TYPE_CHECKING:
    import torch

    from ffdi.models.detector import Detector
    from ffdi.training.runtime.device import Device

TENSOR, WEIGHTS = "features", "weights"
"""The tensor in the file, and its metadata: the hash of the networks' weights."""


def check_features(settings: Config, teachers: Sequence[Experiment]) -> None:
    """Checks `distill.features` against the teachers.

    Raises:
        ConfigError: features are to be matched, and no teacher has the student's backbone.
    """
    if settings.distill.features:
        _choose_teacher(settings, teachers)


def load_features(
    experiment: Experiment, settings: Config, teachers: Sequence[Experiment], train: Table, device: Device
) -> np.ndarray:
    """Reads teacher_features.safetensors of a student, which is written if it is missing.

    The features of an image are those of the fold that holds it out, of the first teacher with the student's backbone.

    Args:
        experiment: the student.
        settings: of the student.
        teachers: those that are in the workspace; without any, the file is enough.
        train: the student's training images.
        device: that computes them.

    Returns:
        float16 [N, D], in the order of the table.

    Raises:
        ConfigError: no teacher has the student's backbone.
        ExperimentError: the file is damaged, or the teacher was trained again since it was written.
    """
    path = experiment.teacher_features_path
    if not path.is_file() and not teachers:
        raise ExperimentError(
            f"{path} does not exist, and the teachers {', '.join(settings.distill.teachers)} are not here",
            hint="copy it from the workspace of the teachers, where train-folds writes it",
        )
    if teachers:
        teacher = _choose_teacher(settings, teachers)
        digest = _hash_networks(teacher)
        if not path.is_file():
            features = _compute(teacher, train, device)
            with files.open_atomic(path) as beside:
                save_file({TENSOR: features}, beside, {WEIGHTS: digest})
            console.written(path)
        elif _read(path)[1] != digest:
            raise ExperimentError(
                f"{path} has the features of other networks than {teacher.name} has now", hint=_remove(path)
            )
    features, _ = _read(path)
    if len(features) != len(train):
        raise ExperimentError(
            f"{path} has features of {len(features)} images, and there are {len(train)}", hint=_remove(path)
        )
    return features


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
    config, identity = teacher.load_training()
    folders = teacher.list_finished_folds(config.folds.k, identity)
    return manifests.hash_json([folder.read_weights_sha256() for folder in folders])


def _compute(teacher: Experiment, train: Table, device: Device) -> np.ndarray:
    from ffdi.models import detector
    from ffdi.training import fold, predict

    config, identity = teacher.load_training()
    assignment = Ensemble.from_experiments([teacher]).assignment
    fold_of = assignment.fold[find_rows(assignment.img_name, train.img_name)]
    features = np.empty((0, 0), np.float16)
    with console.bar(f"features of {teacher.name}", len(train)) as bar:
        for folder in teacher.list_finished_folds(config.folds.k, identity):
            network = device.prepare(detector.load_detector(config.model, folder.weights_path)).eval()
            rows = np.flatnonzero(fold_of == folder.fold)
            batches = fold.make_eval_batches(train.take(rows), config, device)
            part = predict.extract_features(partial(_embed, network), batches, device, bar.advance)
            if not len(features):
                features = np.zeros((len(train), part.shape[1]), np.float16)
            features[rows] = part
    return features


def _embed(network: Detector, images: torch.Tensor) -> torch.Tensor:
    """What a training compares: the input of the last layer, with top-k pooling of the best patches."""
    features: torch.Tensor = network(images, features=True)[1]
    return features.float()


def _read(path: Path) -> tuple[np.ndarray, str]:
    """The features, and the hash of the networks' weights."""
    try:
        with safetensors.safe_open(path, "np") as file:
            return file.get_tensor(TENSOR), (file.metadata() or {}).get(WEIGHTS, "")
    except (OSError, safetensors.SafetensorError) as error:
        raise ExperimentError(f"{path} is damaged: {error}", hint=_remove(path)) from None


def _remove(path: Path) -> str:
    return f"remove it: rm {shlex.quote(str(path))}; train-folds then computes the features again"
