"""Checks of the settings that the schema does not make: they need the libraries, or several keys."""

from __future__ import annotations

from ffdi.commands.shared import sources
from ffdi.config.schema import MIN_SIZE, Config
from ffdi.core.errors import ConfigError, check_choice
from ffdi.ensemble import calibration, combine

LEAST_MIXED = 0.01
"""The smallest mixup and cutmix: a Beta distribution with a smaller parameter draws 0 or 1 in floating point."""


def check_settings(settings: Config) -> None:
    """Checks the values of settings that the schema does not check.

    Raises:
        ConfigError: a name is unknown, or two settings contradict each other.
    """
    from ffdi.data.loading import augment, sampler
    from ffdi.models import noise_residual
    from ffdi.synthetic import pseudo_fakes
    from ffdi.training import optim

    check_choice("augment.recipe", settings.augment.recipe, augment.RECIPES)
    check_choice("train.optimizer", settings.train.optimizer, optim.OPTIMIZERS)
    check_choice("train.schedule", settings.train.schedule, optim.SCHEDULES)
    check_choice("train.loss", settings.train.loss, optim.LOSSES)
    check_choice("train.sampling", settings.train.sampling, sampler.SAMPLINGS)
    for method in settings.pseudo_fakes.methods:
        check_choice("pseudo_fakes.methods", method, pseudo_fakes.NAMES)
    check_choice("model.noise_residual", settings.model.noise_residual, ("none", *noise_residual.RESIDUALS))
    check_choice("ensemble.method", settings.ensemble.method, (combine.AUTO, *combine.METHODS))
    check_choice("ensemble.calibration", settings.ensemble.calibration, calibration.KINDS)
    if 0 < settings.augment.crop_size < MIN_SIZE:
        raise ConfigError(
            f"augment.crop_size = {settings.augment.crop_size} is smaller than {MIN_SIZE}",
            hint="set a larger augment.crop_size, or 0 for whole images, in config.toml",
        )
    for key in ("mixup", "cutmix"):
        if 0 < getattr(settings.augment, key) < LEAST_MIXED:
            raise ConfigError(
                f"augment.{key} = {getattr(settings.augment, key)} mixes nothing",
                hint=f"set augment.{key} = 0, or {LEAST_MIXED} or more, in config.toml",
            )
    if settings.train.needs_features:
        _refuse_mixing(
            settings,
            "train.alignment, train.uniformity and train.consistency need images of one class",
            "them",
            "these three to 0",
        )
    if settings.folds.refit and settings.train.select == "best":
        raise ConfigError(
            "train.select = 'best' chooses an epoch by held-out images, and the network of folds.refit = true has none",
            hint="set train.select = 'last', or folds.refit = false, in config.toml",
        )
    _check_distillation(settings)
    _check_pseudo_labels(settings)
    if settings.augment.crop_size > settings.model.size:
        raise ConfigError(
            f"augment.crop_size = {settings.augment.crop_size} is larger than model.size = {settings.model.size}",
            hint="set a smaller augment.crop_size, or 0, in config.toml",
        )
    if settings.augment.device and not settings.model.fits_device_augmentation:
        raise ConfigError(
            f"augment.device = true changes the black beside an image of model.resize = '{settings.model.resize}' too",
            hint="set augment.device = false, or another model.resize, in config.toml",
        )
    _check_decoding(settings)
    sources.choose_packed_policy(settings)
    if settings.train.needs_pairs and settings.data.pair_column is None:
        raise ConfigError(
            "train.sampling = 'paired' needs the real image of each fake, and no column has it",
            hint="name the column with data.pair_column, or set another train.sampling, in config.toml",
        )
    if settings.train.needs_pairs and round(settings.train.batch_size * (1 - settings.pseudo_fakes.fraction)) < 2:
        raise ConfigError(
            f"train.sampling = 'paired' and train.batch_size = {settings.train.batch_size}: a pair has two images",
            hint="set a larger train.batch_size, or another train.sampling, in config.toml",
        )
    if settings.pseudo_fakes.fraction and settings.train.batch_size < 2:
        raise ConfigError(
            f"pseudo_fakes.fraction = {settings.pseudo_fakes.fraction} and "
            f"train.batch_size = {settings.train.batch_size}: a batch needs a real image for each pseudo-fake",
            hint="set a larger train.batch_size, or pseudo_fakes.fraction = 0, in config.toml",
        )


def _refuse_mixing(settings: Config, needs: str, mixed: str, otherwise: str) -> None:
    """Refuses mixup and CutMix; the other arguments are parts of the error."""
    if max(settings.augment.mixup, settings.augment.cutmix) > 0:
        raise ConfigError(
            f"{needs}, and augment.mixup or augment.cutmix mixes {mixed}",
            hint=f"set augment.mixup = 0 and augment.cutmix = 0, or {otherwise}, in config.toml",
        )


def _check_distillation(settings: Config) -> None:
    """Checks what `distill.features` needs."""
    if not settings.distill.features:
        return
    weight = f"distill.features = {settings.distill.features}"
    if not settings.distill.teachers:
        raise ConfigError(
            f"{weight} needs teachers",
            hint="make a student: invoke distill --experiment TEACHER --student NAME; or set distill.features = 0 in "
            "config.toml",
        )
    if settings.model.tune == "head":
        raise ConfigError(
            f"{weight} changes the features, and model.tune = 'head' keeps them as they are",
            hint="set distill.features = 0, or another model.tune, in config.toml",
        )
    _refuse_mixing(settings, f"{weight} needs whole images", "them", "distill.features = 0")


def _check_pseudo_labels(settings: Config) -> None:
    if settings.pseudo_labels.name is None:
        return
    _refuse_mixing(
        settings,
        "pseudo_labels.name needs whole images",
        "images with and without labels",
        "omit pseudo_labels.name",
    )
    if settings.augment.views and settings.model.tune == "head":
        raise ConfigError(
            "augment.views with model.tune = 'head' trains on cached features, which images without labels do not have",
            hint="set augment.views = 0, or omit pseudo_labels.name, in config.toml",
        )
    left = 1 - settings.pseudo_labels.fraction - settings.pseudo_fakes.fraction
    if round(settings.train.batch_size * left) < 2:
        raise ConfigError(
            f"pseudo_labels.fraction = {settings.pseudo_labels.fraction} and train.batch_size = "
            f"{settings.train.batch_size} leave no two images with labels in a batch",
            hint="set a larger train.batch_size, or a smaller pseudo_labels.fraction, in config.toml",
        )


def check_judge(settings: Config, judge: str, usual: str) -> None:
    """Checks --judge.

    Args:
        settings: of the experiment.
        judge: the value of the flag.
        usual: its default.

    Raises:
        ConfigError: the value is unknown, or needs folds of left-out kinds.
    """
    if judge not in (usual, "ood"):
        raise ConfigError(f"--judge {judge}: known: {usual}, ood", hint=f"pass --judge {usual}")
    if judge == "ood" and settings.folds.scheme != "leave-kind-out":
        raise ConfigError(
            f"--judge ood needs folds that leave kinds of fakes out, and folds.scheme is '{settings.folds.scheme}'",
            hint="set folds.scheme = 'leave-kind-out' in config.toml, or omit --judge",
        )


def _check_decoding(settings: Config) -> None:
    if settings.augment.decode == "cpu":
        return
    if not settings.augment.device:
        raise ConfigError(
            "augment.decode = 'device' needs augment.device = true: the device also resizes what it decodes",
            hint="set augment.device = true, or augment.decode = 'cpu', in config.toml",
        )
    if settings.cache.decoded:
        raise ConfigError(
            "augment.decode = 'device' has no effect with cache.decoded = true, which decodes all images before",
            hint="set augment.decode = 'cpu', or cache.decoded = false, in config.toml",
        )
