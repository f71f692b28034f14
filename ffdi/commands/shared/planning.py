"""From an experiment's config to a training plan: every setting is checked before a file is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ffdi.commands.shared import (
    inspection,
    pseudo_label_sets,
    reconstructions,
    setting_checks,
    sources,
    teacher_features,
    teachers,
)
from ffdi.commands.shared.options import ClusterOptions, LoadingOptions, TrainingOptions
from ffdi.commands.shared.teachers import TeacherScores
from ffdi.config import variants
from ffdi.config.schema import Config, InputHashes
from ffdi.config.variants import Keys
from ffdi.core import console, files, machine, manifests
from ffdi.core.errors import ConfigError, DeviceError, format_count
from ffdi.data.inspection import doctor
from ffdi.data.inspection.doctor import Diagnosis
from ffdi.data.labels.pseudo_labels import PseudoLabels
from ffdi.data.labels.table import Table
from ffdi.data.splits import folds, image_list, kinds
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.fold import Identity
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.training.fold import TrainingPlan
    from ffdi.training.runtime.device import Device


class _FrozenWeights(NamedTuple):
    """A file of frozen weights that this process has written, and its network's numbers of parameters."""

    path: Path
    sha256: str
    trained: int
    whole: int


_PASSED = set[object]()
"""The networks that `_check_network` has tried, with all that the result depends on."""
_WRITTEN: dict[object, _FrozenWeights] = {}
"""The last frozen weights by network and starting weights."""


class PreparedData(NamedTuple):
    """The scanned images of an experiment.

    Attributes:
        diagnosis: of the whole data set.
        train: the usable training images.
        val: the usable images of the validation split; None without such a split, or if its labels are of one class.
        image_list: the list of the training images, as from `image_list.format_image_list`.
        sha256: uint8 [N, 32] for `train` and for `val`: the hash of each image's file.
        autoencoder: the hash of the autoencoder that made the reconstructions of `train`; None without them.
        teachers: the teachers' scores of `train`; None without teachers.
        taught_by: the teachers that are in the workspace.
        pseudo_labels: more training images, without labels; None without such images.
    """

    diagnosis: Diagnosis
    train: Table
    val: Table | None
    image_list: str
    sha256: tuple[np.ndarray, np.ndarray | None]
    autoencoder: str | None
    teachers: TeacherScores | None
    taught_by: list[Experiment]
    pseudo_labels: PseudoLabels | None


def make_variant(base: Experiment, keys: Keys, hint: str) -> Config:
    """The checked settings of a variant of an experiment.

    Args:
        base: the experiment.
        keys: the changed keys with their values.
        hint: the hint of an error: the place to correct the keys.

    Raises:
        ConfigError: a key is unknown or does not accept its value, or changes the folds.
    """
    try:
        settings = variants.build_variant(base.name, base.config_path.read_text(encoding="utf-8"), keys)
        setting_checks.check_settings(settings)
    except ConfigError as error:
        raise ConfigError(error.what, problems=error.problems, hint=hint) from None
    if settings.folds.scheme == "clusters" and (model_keys := [key for key in keys if key.startswith("model.")]):
        raise ConfigError(
            f"{base.name} has folds.scheme = 'clusters', which assigns folds by the features of its network: another "
            f"{model_keys[0]} changes the folds",
            hint=hint,
        )
    return settings


def choose_device(workspace: Workspace, settings: Config, options: TrainingOptions) -> tuple[Device, Path | None]:
    """The device and the file of starting weights, after `check_config`.

    With --engine ray, other machines train, which choose their own devices. This one then only computes features for
    the folds, on a CPU if it has no such device.

    Raises:
        ConfigError: as in `check_config`; or other machines would need the features of a teacher.
        DeviceError: the device does not exist.
    """
    from ffdi.data.loading import loader
    from ffdi.training.runtime import device as devices

    weights = check_config(workspace, settings)
    elsewhere = isinstance(options, ClusterOptions) and options.engine == "ray"
    if elsewhere and settings.distill.features:
        raise ConfigError(
            "--engine ray: the features of a teacher stay on this machine",
            hint="omit --engine, or set distill.features = 0 in config.toml",
        )
    choose = partial(
        devices.choose_device,
        precision=None if elsewhere else settings.train.precision,
        workers=options.workers,
        batch_bytes=loader.measure_batch(settings),
    )
    try:
        return choose(options.device), weights
    except DeviceError:
        if not elsewhere:
            raise
        return choose("cpu"), weights


def check_config(workspace: Workspace, settings: Config) -> Path | None:
    """Checks all settings, and their network on blank images; returns the file of starting weights.

    Raises:
        ConfigError: a setting is impossible, there are no starting weights, or the network does not accept the image
            size or the batch size.
    """
    from ffdi.models import weights as starting

    setting_checks.check_settings(settings)
    reconstructions.find_autoencoder(workspace.root, settings.pseudo_fakes)
    weights = starting.find_weights(settings.model, workspace.root)
    if weights is None and settings.model.tune != "all":
        raise ConfigError(
            f"model.tune = '{settings.model.tune}' freezes most of the network, and it has no starting weights",
            hint="set model.pretrained = true, or model.weights_file, or model.tune = 'all', in config.toml",
        )
    _check_network(settings, weights)
    return weights


def _check_network(settings: Config, weights: Path | None) -> None:
    """Tries a network on blank images; a network that has passed is not tried again in this process.

    Raises:
        ConfigError: it does not accept the weights, the image size or the batch size.
    """
    from ffdi.models import detector

    crop = settings.augment.crop_size
    tried = settings.model, _identify_weights(weights), crop, settings.train.batch_size == 1
    if tried in _PASSED:
        return
    network = detector.build_detector(settings.model, weights, starts=False)
    detector.check_size(network, "model.size", settings.model.size)
    if crop:
        detector.check_size(network, "augment.crop_size", crop)
    detector.check_batch(network, settings.train.batch_size, settings.training_size)
    _PASSED.add(tried)


def _identify_weights(weights: Path | None) -> object:
    """What identifies a file of weights within a process, without reading it."""
    return weights and (weights, weights.stat().st_mtime_ns, weights.stat().st_size)


def choose_scoring_device(options: LoadingOptions, configs: Iterable[Config]) -> Device:
    """The device that scores images, for networks with these settings.

    Raises:
        DeviceError: the device does not exist.
    """
    from ffdi.data.loading import loader
    from ffdi.training.runtime import device as devices

    largest = max(map(loader.measure_batch, configs))
    return devices.choose_device(options.device, None, options.workers, batch_bytes=largest)


def warn_if_not_exportable(workspace: Workspace, settings: Config) -> None:
    """Warns of a network that `export-onnx` could not export after the training.

    The export takes as long as `export-onnx` needs for one network, so it is tried once in a workspace for each network
    and each version of its libraries. A training does not need it.
    """
    path = get_export_trial_path(workspace, settings)
    if not path.is_file():
        console.say(f"trying to export {settings.model.backbone} to ONNX, once before its first training")
        try:
            files.write_text(path, _find_export_fault(settings))
        except (MemoryError, RuntimeError) as error:
            if not machine.is_memory_error(error):
                raise
            console.warn(f"there is too little memory to export {settings.model.backbone} here; the training continues")
            return
    if fault := path.read_text(encoding="utf-8"):
        console.warn(f"{settings.model.backbone}: {fault}; train-folds and ensemble-submit do not need ONNX")


def get_export_trial_path(workspace: Workspace, settings: Config) -> Path:
    """The path of the result of trying an export: what is wrong, or nothing."""
    network = settings.model.merged.model_dump(exclude={"pretrained", "weights_file"})
    versions = {name: metadata.version(name) for name in ("torch", "timm", "onnx", "onnxscript")}
    return workspace.get_export_trial_path(json.dumps([network, settings.predict.tta, versions]))


def _find_export_fault(settings: Config) -> str:
    """Why a network cannot be exported; empty if it can."""
    from ffdi.export import onnx
    from ffdi.models import detector

    size, merged = settings.model.size, settings.model_copy(update={"model": settings.model.merged})
    network = detector.prepare_for_inference(detector.build_initialized(merged, None), settings, size)
    try:
        onnx.check_exportable(network, size)
    except ConfigError as error:
        return error.what
    return ""


def prepare_data(
    workspace: Workspace, experiment: Experiment, settings: Config, options: TrainingOptions, *, restart: bool = False
) -> PreparedData:
    """Finds and scans an experiment's images.

    Args:
        workspace: of the experiment.
        experiment: its folder gets the findings.
        settings: of the experiment.
        options: of the command.
        restart: whether the experiment is to be trained again.

    Raises:
        DataError: there are no images, or the data has problems that --accept does not name.
    """
    accepted = doctor.parse_accept(options.accept)
    root = sources.find_data_root(workspace, experiment, settings, options.data)
    dataset = sources.find_dataset(workspace, settings, root)
    console.say(f"data: {sources.describe_images(dataset.split('train'))}")
    if (cached := sources.describe_cache(dataset)) is not None:
        console.say(cached)
    diagnosis = inspection.scan_dataset(workspace, dataset)
    listed = inspection.format_image_list(settings, diagnosis)
    inspection.write_findings(experiment, diagnosis, listed, restart=restart)
    diagnosis.refuse_faults(accepted)
    val = diagnosis.select_usable("val") if "val" in diagnosis.scans else None
    val = val if val is not None and val.has_both_classes else None
    hashes = {name: scan.sha256[scan.usable] for name, scan in diagnosis.scans.items()}
    train, autoencoder = reconstructions.add_reconstructions(
        workspace, settings.pseudo_fakes, diagnosis.select_usable("train"), hashes["train"], options
    )
    scores = teachers.load_scores(
        workspace, experiment, settings.distill, train, partial(choose_scoring_device, options)
    )
    if scores is not None:
        train = replace(train, soft_logit=scores.logits[-1])
    return PreparedData(
        diagnosis,
        train,
        val,
        listed,
        (hashes["train"], None if val is None else hashes["val"]),
        autoencoder,
        scores,
        teachers.find_teachers(workspace, settings.distill),
        pseudo_label_sets.load_pseudo_labels(workspace, settings, dataset),
    )


def prepare_all(
    workspace: Workspace,
    experiments: Sequence[tuple[Experiment, Config]],
    options: TrainingOptions,
    *,
    restart: bool = False,
) -> list[PreparedData]:
    """Calls `prepare_data` for several experiments; experiments on the same images share one result."""
    doctor.parse_accept(options.accept)  # a wrong flag is named before the data is looked for
    known: dict[object, PreparedData] = {}
    prepared = []
    for experiment, settings in experiments:
        key = (
            sources.find_data_root(workspace, experiment, settings, options.data),
            settings.data.model_dump_json(),
            sources.choose_packed_policy(settings),
            settings.pseudo_fakes.needs_landmarks,
            settings.train.needs_pairs,
            reconstructions.find_autoencoder(workspace.root, settings.pseudo_fakes),
            tuple(settings.distill.teachers),
            settings.pseudo_labels.name,
        )
        if key in known:
            inspection.write_findings(experiment, known[key].diagnosis, known[key].image_list, restart=restart)
        else:
            known[key] = prepare_data(workspace, experiment, settings, options, restart=restart)
        prepared.append(known[key])
    return prepared


def make_plan(
    experiment: Experiment, settings: Config, data: PreparedData, device: Device, weights: Path | None
) -> TrainingPlan:
    """Assigns folds, or reads the assignment, and writes the files that identify the training.

    Raises:
        ExperimentError: the experiment was started with other settings or data, or its pseudo-labels are of other
            folds.
    """
    from ffdi.training.fold import TrainingPlan
    from ffdi.training.teacher_features import TeacherFeatures

    autoencoder = data.autoencoder if settings.pseudo_fakes.needs_reconstructions else None
    if data.teachers is not None:
        teachers.adopt_scores(experiment, data.teachers)
    if settings.distill.features:
        teacher_features.ensure_features(experiment, settings, data.taught_by, data.train, device)
    inputs = InputHashes(
        None if weights is None else manifests.hash_file(weights),
        autoencoder,
        None if data.teachers is None else data.teachers.sha256,
        None if data.pseudo_labels is None else data.pseudo_labels.sha256,
        manifests.hash_file(experiment.teacher_features_path) if settings.distill.features else None,
    )
    identity = Identity.from_config(settings, manifests.hash_text(data.image_list), inputs)
    train = data.train
    assert train.target is not None
    if settings.pseudo_fakes.needs_reconstructions and autoencoder is None:
        raise ConfigError(
            f"{experiment.name} needs reconstructions, and the experiment that it is a variant of does not",
            hint="set pseudo_fakes.methods and pseudo_fakes.fraction so that both do, in config.toml",
        )
    if experiment.resolved_path.is_file():
        experiment.check_identity(identity, partial(image_list.list_differences, new=data.image_list))
        experiment.read_folds_digest()
    assigned = experiment.folds_path.is_file()
    if assigned:
        fold_of = folds.read_folds(experiment.folds_path, train, settings.folds)
    else:
        fold_of = assign_folds(settings, train, weights, device)
    if data.teachers is not None:
        data.teachers.check_folds(experiment.name, fold_of)
    if data.pseudo_labels is not None:
        data.pseudo_labels.check_folds(experiment.name, manifests.hash_text(folds.format_folds(train, fold_of)))
    if not assigned:
        files.write_text(experiment.folds_path, folds.format_folds(train, fold_of))
    if settings.model.tune != "all" and not experiment.resolved_path.is_file():
        _write_frozen(experiment, settings, weights)
    experiment.start(identity, data.image_list, machine.collect_provenance(data.diagnosis.root, sys.argv))
    folds_digest, labels = experiment.read_folds_digest(), data.pseudo_labels
    return TrainingPlan(
        settings,
        identity,
        train,
        fold_of,
        folds_digest,
        weights,
        data.val,
        pseudo_labels=labels,
        teacher_logits=None if data.teachers is None else data.teachers.logits,
        teacher_features=TeacherFeatures(experiment.teacher_features_path) if settings.distill.features else None,
    )


def _write_frozen(experiment: Experiment, settings: Config, weights: Path | None) -> None:
    """Writes the weights that no fold changes, and says how many are trained."""
    from ffdi.models import detector, tuning

    key = settings.model, _identify_weights(weights)
    known = _WRITTEN.get(key)
    if known is None or not experiment.adopt_frozen(known.path, known.sha256):
        network = detector.build_detector(settings.model, weights, starts=False)
        detector.save_frozen(network, experiment.frozen_path)
        experiment.share_frozen()
        trained = sum(one.numel() for one in network.parameters() if one.requires_grad)
        path, whole = experiment.frozen_path, tuning.count_parameters(network)
        known = _WRITTEN[key] = _FrozenWeights(path, manifests.hash_file(path), trained, whole)
    console.say(
        f"model.tune = '{settings.model.tune}': {known.trained:,} parameters are trained, and the network has "
        f"{known.whole:,}"
    )


def assign_folds(settings: Config, train: Table, weights: Path | None, device: Device) -> np.ndarray:
    """int64 [N]: the fold that holds each training image out."""
    assert train.target is not None
    scheme, k, seed = settings.folds.scheme, settings.folds.k, settings.folds_seed
    if scheme == "leave-kind-out":
        return kinds.assign_folds(train, k, seed, split_groups=settings.folds.split_groups)
    group = train.group if scheme == "stratified" else _cluster_images(settings, train, weights, device)
    return folds.assign_folds(train.target, group, k, seed)


def _cluster_images(settings: Config, train: Table, weights: Path | None, device: Device) -> np.ndarray:
    """str [N]: the cluster of each training image, by the features of the frozen backbone."""
    from ffdi.models import detector
    from ffdi.training import fold, predict

    with console.bar("features for the folds", len(train), unit="images") as bar:
        network = device.prepare(detector.build_initialized(settings, weights))
        features = predict.extract_features(
            network.embed, fold.make_eval_batches(train, settings, device), device, bar.advance
        )
    cluster = folds.cluster_features(features, train.group, folds.PER_FOLD * settings.folds.k, settings.folds_seed)
    console.say(
        f"folds of clusters: {format_count(len(np.unique(cluster)), 'cluster')} of images that look alike to "
        f"{settings.model.backbone}"
    )
    return np.asarray(cluster.astype(str))
