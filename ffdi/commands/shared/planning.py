"""From an experiment's config to what its folds are trained on: every choice is checked before anything is written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ffdi.commands.shared import inspection, sources
from ffdi.config import variants
from ffdi.config.schema import SMALLEST, Config
from ffdi.config.variants import Keys
from ffdi.core import console, files, hashes, provenance
from ffdi.core.errors import ConfigError
from ffdi.data.inspection import doctor
from ffdi.data.labels.table import Table
from ffdi.data.splits import image_list
from ffdi.ensemble import calibration, combine
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.fold import Identity
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.training.fold import Plan
    from ffdi.training.runtime.device import Device


LEAST_MIXED = 0.01
"""Of mixup and cutmix: with less in a Beta distribution a draw is 0 or 1 in floating point."""


class Flags(NamedTuple):
    """What a person says beside the experiment: the data's folder, where to run, and faults that are known."""

    data: str | None
    device: str
    workers: int | None
    accept: str | None


class PreparedData(NamedTuple):
    """The images of an experiment, looked at.

    Attributes:
        root: where they lie.
        train: the usable training images.
        val: the usable images of a validation split whose labels can judge scores; None where there is none.
        image_list: of the training images, as `image_list.format_image_list` writes it.
    """

    root: Path
    train: Table
    val: Table | None
    image_list: str


def check_settings(settings: Config) -> None:
    """Refuses names that no dictionary knows, and what does not go together.

    Raises:
        ConfigError: names the key and the nearest known word.
    """
    from ffdi.data.loading import augment, sampler
    from ffdi.models import noise_residual
    from ffdi.synthetic import fakes
    from ffdi.training import optim

    augment.recipe(settings.augment.recipe)
    optim.check_choices(settings.train)
    sampler.check_sampling(settings.train.sampling)
    fakes.check_methods(settings.pseudo_fakes.methods)
    noise_residual.check_noise_residual(settings.model)
    combine.check_method(settings.ensemble.method)
    calibration.check_calibration(settings.ensemble.calibration)
    if 0 < settings.augment.crop_size < SMALLEST:
        raise ConfigError(
            f"augment.crop_size = {settings.augment.crop_size} is smaller than {SMALLEST}",
            hint="set a larger augment.crop_size, or 0 for whole images, in config.toml",
        )
    for key in ("mixup", "cutmix"):
        if 0 < getattr(settings.augment, key) < LEAST_MIXED:
            raise ConfigError(
                f"augment.{key} = {getattr(settings.augment, key)} mixes nothing",
                hint=f"set augment.{key} = 0, or {LEAST_MIXED} or more, in config.toml",
            )
    if settings.augment.crop_size > settings.model.size:
        raise ConfigError(
            f"augment.crop_size = {settings.augment.crop_size} is larger than model.size = {settings.model.size}",
            hint="set a smaller augment.crop_size, or 0, in config.toml",
        )
    sources.packed_framing(settings)
    if settings.pseudo_fakes.fraction and settings.train.batch_size < 2:
        raise ConfigError(
            f"pseudo_fakes.fraction = {settings.pseudo_fakes.fraction} and "
            f"train.batch_size = {settings.train.batch_size}: a batch needs a real image beside each pseudo-fake",
            hint="set a larger train.batch_size, or pseudo_fakes.fraction = 0, in config.toml",
        )


def make_variant(base: Experiment, keys: Keys, hint: str) -> Config:
    """The settings of an experiment that differs from another one in these keys, after `check_settings`.

    Args:
        base: the other one.
        keys: what differs.
        hint: where a person corrects them.

    Raises:
        ConfigError: a key is unknown or does not take its value, or deals other folds.
    """
    try:
        settings = variants.config(base.name, base.config_path.read_text(encoding="utf-8"), keys)
        check_settings(settings)
    except ConfigError as error:
        raise ConfigError(error.what, problems=error.problems, hint=hint) from None
    if settings.folds.scheme == "clusters" and (of_network := [one for one in keys if one.startswith("model.")]):
        raise ConfigError(
            f"{base.name} has folds.scheme = 'clusters', which deals images by what its network sees in them: another "
            f"{of_network[0]} is other folds",
            hint=hint,
        )
    return settings


def choose_device(workspace: Workspace, settings: Config, flags: Flags) -> tuple[Device, Path | None]:
    """The device and the starting weights, after `check_settings`.

    Raises:
        ConfigError: there are no starting weights, or the network does not take images or batches of that size.
        DeviceError: the device is not there.
    """
    from ffdi.models import detector
    from ffdi.models import weights as starting
    from ffdi.training.runtime import device

    check_settings(settings)
    weights = starting.find_weights(settings.model, workspace.root)
    network = detector.build(settings.model, weights)
    detector.check_size(network, "model.size", settings.model.size)
    if settings.augment.crop_size:
        detector.check_size(network, "augment.crop_size", settings.augment.crop_size)
    detector.check_batch(network, settings.train.batch_size, settings.augment.crop_size or settings.model.size)
    depthwise = detector.is_depthwise(network)
    where = device.choose(flags.device, settings.train.precision, flags.workers, depthwise=depthwise)
    return where, weights


def prepare_data(workspace: Workspace, experiment: Experiment, settings: Config, flags: Flags) -> PreparedData:
    """Finds an experiment's images and looks at those that nobody has looked at before.

    Raises:
        DataError: there are none, or they have faults that are not accepted.
    """
    accepted = doctor.parse_accept(flags.accept)
    found = sources.find_dataset(workspace, settings, sources.data_root(workspace, settings, flags.data))
    console.say(f"data: {sources.counts(found.split('train'))}")
    if (told := sources.describe_cache(found)) is not None:
        console.say(told)
    diagnosis = inspection.inspect(workspace, experiment, found)
    diagnosis.check(accepted)
    val = diagnosis.usable("val") if "val" in diagnosis.surveys else None
    return PreparedData(
        diagnosis.root,
        diagnosis.usable("train"),
        val if val is not None and val.both_classes else None,
        image_list.format_image_list(diagnosis.surveys["train"], settings.pseudo_fakes.needs_landmarks),
    )


def prepare_all(
    workspace: Workspace, experiments: Sequence[tuple[Experiment, Config]], flags: Flags
) -> list[PreparedData]:
    """As `prepare_data`, of several experiments; those that have the same images share what was found of them."""
    known: dict[object, tuple[Experiment, PreparedData]] = {}
    found = []
    for experiment, settings in experiments:
        key = settings.data.model_dump_json(), sources.packed_framing(settings), settings.pseudo_fakes.needs_landmarks
        if key in known:
            files.write_text(experiment.doctor_path, known[key][0].doctor_path.read_text(encoding="utf-8"))
        else:
            known[key] = experiment, prepare_data(workspace, experiment, settings, flags)
        found.append(known[key][1])
    return found


def make_plan(
    experiment: Experiment, settings: Config, material: PreparedData, where: Device, weights: Path | None
) -> Plan:
    """Deals the folds, or reads how they were dealt, and records what is about to be trained.

    Raises:
        ExperimentError: the experiment was begun differently.
    """
    from ffdi.data.splits import folds
    from ffdi.training.fold import Plan

    digest = None if weights is None else hashes.sha256(weights)
    identity = Identity.of(settings, digest, hashes.hash_text(material.image_list))
    train = material.train
    assert train.target is not None
    if experiment.resolved_path.is_file():
        experiment.check(identity, partial(image_list.list_differences, new=material.image_list))
        experiment.folds_digest()
    if experiment.folds_path.is_file():
        fold_of = folds.read_folds(experiment.folds_path, train, settings.folds.k)
    else:
        whole = train.group if settings.folds.scheme == "stratified" else _clusters(settings, train, weights, where)
        fold_of = folds.assign_folds(train.target, whole, settings.folds.k, settings.folds_seed)
        files.write_text(experiment.folds_path, folds.folds_to_csv(train, fold_of))
    experiment.begin(identity, material.image_list, provenance.record_provenance(material.root, sys.argv))
    return Plan(settings, identity, train, fold_of, experiment.folds_digest(), weights, material.val)


def _clusters(settings: Config, train: Table, weights: Path | None, where: Device) -> np.ndarray:
    """The cluster of each training image in the space of the frozen backbone's features, as groups str [N]."""
    from ffdi.data.splits import clusters
    from ffdi.models import detector
    from ffdi.training import fold, predict

    with console.bar("features of training images", len(train)) as bar:
        network = where.prepare(detector.build_initialized(settings, weights))
        features = predict.features(network, fold.reader(train, settings, where), where, bar.advance)
    found = clusters.cluster_features(features, train.group, clusters.PER_FOLD * settings.folds.k, settings.folds_seed)
    console.say(
        f"folds of clusters: {len(np.unique(found))} clusters of images that look alike to {settings.model.backbone}"
    )
    return found.astype(str)
