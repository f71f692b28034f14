"""The schema of config.toml: every setting that changes a result, with its type, default and limits.

Paths and settings of speed are flags of the commands, not keys. `data.root` is a default for the flag --data, and
no part of an experiment's identity.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ffdi.config import renames
from ffdi.core.errors import ConfigError, format_count, suggest_nearest


class Section(BaseModel):
    """A table of config.toml: refuses unknown keys and values of another type; immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


MIN_SIZE = 32
"""Smallest edge of an image in pixels; below it the last feature map of a backbone has one point."""
MAX_SIZE = 2048
"""Largest edge of an image in pixels."""
MAX_EPOCHS = 100_000


AUGMENTATION_VERSION = 4
"""Part of an experiment's identity; raised when the same recipe or pseudo-fake gives other training images."""
OUTSIDE_IDENTITY = {"checkpoint_seconds", "deterministic"}
"""Keys of [train] that are no part of an experiment's identity."""


class SplitFiles(Section):
    """Paths of one split, relative to the data folder, and its columns; a missing path is searched for."""

    folder: str | None = None
    labels: str | None = None
    image_column: str | None = None
    target_column: str | None = None


class DataConfig(Section):
    """The label files: paths and columns."""

    root: str | None = None
    prefix: str = ""
    labels: dict[str, Annotated[int, Field(ge=0, le=1)]] = {}
    image_column: str = "img_name"
    target_column: str = "target"
    group_column: str | None = None
    groups_file: str | None = None
    kind_column: str | None = None
    pair_column: str | None = None
    landmarks_file: str | None = None
    template: str | None = None
    train: SplitFiles = SplitFiles()
    val: SplitFiles = SplitFiles()
    test: SplitFiles = SplitFiles()

    def for_split(self, split: str) -> DataConfig:
        """Returns the same keys with the columns of a split, which may have names of its own."""
        files = getattr(self, split)
        columns = {"image_column": files.image_column, "target_column": files.target_column}
        return self.model_copy(update={key: column for key, column in columns.items() if column is not None})


class FoldsConfig(Section):
    """The assignment of training images to folds."""

    k: int = Field(5, ge=2, le=100)
    scheme: Literal["stratified", "clusters", "leave-kind-out"] = "stratified"
    split_groups: bool = False
    refit: bool = False
    seed: int | None = Field(None, ge=0, lt=2**31)


class ModelConfig(Section):
    """The network: a timm backbone with one logit."""

    backbone: str = "resnet18"
    pretrained: bool = True
    weights_file: str | None = None
    size: int = Field(256, ge=MIN_SIZE, le=MAX_SIZE)
    resize: Literal["squash", "crop", "pad"] = "squash"
    noise_residual: str = "none"
    drop_rate: float = Field(0.0, ge=0, lt=1)
    pool: Literal["avg", "topk"] = "avg"
    topk_fraction: float = Field(0.1, gt=0, le=1)
    tune: Literal["all", "head", "norm", "lora", "svd"] = "all"
    tune_rank: int = Field(8, ge=1, le=4096)
    tune_alpha: float = Field(16.0, gt=0, le=4096)
    normalize_features: bool = False

    @property
    def fits_device_augmentation(self) -> bool:
        """Whether images have no black border, which the operations of a recipe would change on the device."""
        return self.resize != "pad"

    @property
    def merged(self) -> ModelConfig:
        """The network after its training, when `tune` makes no difference any more."""
        return self.model_copy(update={"tune": "all"})

    @property
    def fits_decoded_cache(self) -> bool:
        """Whether images in the network's size are whole, as crops and fakes of every epoch need them."""
        return self.resize == "squash"


class AugmentConfig(Section):
    """The augmentation recipe, and the mixing of images in a batch."""

    recipe: str = "postprocess"
    device: bool = False
    decode: Literal["cpu", "device"] = "cpu"
    crop_size: int = Field(0, ge=0, le=2048)
    views: int = Field(0, ge=0, le=MAX_EPOCHS)
    mixup: float = Field(0.0, ge=0, le=10)
    cutmix: float = Field(0.0, ge=0, le=10)


class PseudoFakesConfig(Section):
    """Pseudo-fakes, made from real training images during the training."""

    fraction: float = Field(0.0, ge=0, le=0.5)
    methods: list[str] = Field(["self_blend"], min_length=1)
    autoencoder: str | None = None
    match_jpeg: bool = True

    @property
    def needs_reconstructions(self) -> bool:
        return self.fraction > 0 and "reconstruction" in self.methods

    @property
    def needs_landmarks(self) -> bool:
        return self.fraction > 0 and "self_blend" in self.methods


class PseudoLabelsConfig(Section):
    """Images without labels, and the scores that trained networks gave them, as more training images."""

    name: str | None = None
    weight: float = Field(1.0, gt=0, le=100)
    fraction: float = Field(0.25, gt=0, le=0.9)


class TrainConfig(Section):
    """Optimiser, schedule, loss, and the choice of the final weights."""

    epochs: int = Field(10, ge=1, le=MAX_EPOCHS)
    batch_size: int = Field(32, ge=1, le=65_536)
    micro_batches: int = Field(1, ge=1, le=65_536)
    optimizer: str = "adamw"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(5e-2, ge=0)
    schedule: str = "cosine"
    warmup_epochs: float = Field(0.5, ge=0, le=100_000)
    freeze_epochs: int = Field(0, ge=0, le=100_000)
    layer_decay: float = Field(1.0, gt=0, le=1)
    sam_rho: float = Field(0.0, ge=0, le=1)
    sampling: str = "balanced"
    loss: str = "bce"
    class_weights: bool = False
    hard_example_fraction: float = Field(1.0, gt=0, le=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    alignment: float = Field(0.0, ge=0, le=100)
    uniformity: float = Field(0.0, ge=0, le=100)
    consistency: float = Field(0.0, ge=0, le=100)
    clip_grad: float = Field(1.0, ge=0)
    ema_decay: float = Field(0.99, ge=0, lt=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    deterministic: bool = True
    select: Literal["last", "best"] = "last"
    checkpoint_seconds: float = Field(300, ge=0)

    @property
    def needs_pairs(self) -> bool:
        return self.sampling == "paired"

    @property
    def views(self) -> int:
        """Views of each image in a batch: with `consistency`, one with and one without the augmentation recipe."""
        return 2 if self.consistency else 1

    @property
    def needs_features(self) -> bool:
        """Whether the loss depends on more than the logits."""
        return max(self.alignment, self.uniformity, self.consistency) > 0


class DistillConfig(Section):
    """Distillation: the out-of-fold scores of other experiments, the teachers, as soft targets."""

    teachers: list[str] = []
    weight: float = Field(0.5, gt=0, le=1)
    temperature: float = Field(1.0, gt=0, le=100)
    features: float = Field(0.0, ge=0, le=100)


class CacheConfig(Section):
    """The training images before augmentation."""

    decoded: bool = False
    size: int = Field(0, ge=0, le=MAX_SIZE)


class PredictConfig(Section):
    """Test-time augmentation."""

    tta: Literal["none", "hflip", "crops", "hflip+crops"] = "hflip"


class EnsembleConfig(Section):
    """The combination of folds and experiments into one score."""

    method: str = "auto"
    calibration: str = "none"


class ExportConfig(Section):
    """Limits of an exported graph."""

    max_parameters: int = Field(200_000_000, ge=1)


class SubmissionConfig(Section):
    """The form of a submission: its columns are those of the template."""

    format: Literal["csv", "txt", "zip"] = "csv"
    header: bool = True
    decimals: int | None = Field(None, ge=1, le=17)


class GroupConfig(Section):
    """A group of experiments in place of one: every member, with every combination of the grid's values."""

    members: list[str] = Field([], min_length=1)
    grid: dict[str, list[Any]] = {}


class InputHashes(NamedTuple):
    """The sha256 of each file that a training reads beside its images, in hex; None where there is no such file."""

    weights: str | None = None
    autoencoder: str | None = None
    teachers: str | None = None
    pseudo_labels: str | None = None
    teacher_features: str | None = None

    @classmethod
    def from_identity(cls, identity: Mapping[str, Any]) -> InputHashes:
        """The hashes in a `Config.build_identity`."""
        return cls(
            identity["model"]["weights_sha256"],
            identity["pseudo_fakes"].get("autoencoder_sha256"),
            identity.get("distill", {}).get("sha256"),
            identity.get("pseudo_labels", {}).get("sha256"),
            identity.get("distill", {}).get("features_sha256"),
        )


NO_INPUTS = InputHashes()


class Config(Section):
    """The settings of one experiment or group, with all defaults."""

    seed: int = Field(0, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    folds: FoldsConfig = FoldsConfig()
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    pseudo_fakes: PseudoFakesConfig = PseudoFakesConfig()
    pseudo_labels: PseudoLabelsConfig = PseudoLabelsConfig()
    train: TrainConfig = TrainConfig()
    distill: DistillConfig = DistillConfig()
    predict: PredictConfig = PredictConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    submission: SubmissionConfig = SubmissionConfig()
    export: ExportConfig = ExportConfig()
    cache: CacheConfig = CacheConfig()
    group: GroupConfig = GroupConfig()

    @property
    def folds_seed(self) -> int:
        """Seed of the fold assignment, which experiments with several seeds can share."""
        return self.seed if self.folds.seed is None else self.folds.seed

    @property
    def training_size(self) -> int:
        """Edge of training images: of their crops, if they are cropped."""
        return self.augment.crop_size or self.model.size

    def with_epochs(self, epochs: int) -> Config:
        """Returns the same settings for another number of epochs."""
        return self.model_copy(update={"train": self.train.model_copy(update={"epochs": epochs})})

    def build_identity(self, inputs: InputHashes = NO_INPUTS) -> dict[str, Any]:
        """Returns all settings that change a trained fold, as plain JSON.

        It has no paths of data, no splits that are predicted later, no ensemble settings, no interval of checkpoints,
        no network on all images beside the folds, and no choice of a GPU's kernels, which changes as little as another
        GPU does. The files of `inputs` are identified by their content, not by their names. Names and labels are those
        of the image list, not of the label file, kinds of fakes those of folds.csv, and pairs, where they matter, those
        of the image list.
        """
        data = ("root", "val", "test", "template", "prefix", "labels", "kind_column", "pair_column")
        excluded: Any = {
            "ensemble": True,
            "submission": True,
            "export": True,
            "group": True,
            "folds": {"refit"},
            "data": {**dict.fromkeys(data, True), "train": {"image_column", "target_column"}},
            "train": OUTSIDE_IDENTITY,
        }
        content = self.model_dump(mode="json", exclude=excluded)
        if self.model.weights_file is not None:
            del content["model"]["weights_file"]
        content["model"]["weights_sha256"] = inputs.weights
        del content["pseudo_fakes"]["autoencoder"]
        content["pseudo_fakes"]["autoencoder_sha256"] = inputs.autoencoder
        for section, key, used, digest in (
            ("distill", "teachers", self.distill.teachers, inputs.teachers),
            ("pseudo_labels", "name", self.pseudo_labels.name, inputs.pseudo_labels),
        ):
            del content[section][key]
            if used:
                content[section]["sha256"] = digest
            else:
                del content[section]  # its other keys then have no effect
        if self.distill.teachers and self.distill.features:
            content["distill"]["features_sha256"] = inputs.teacher_features
        content["augment"]["version"] = AUGMENTATION_VERSION
        return content


def load_experiment(path: Path) -> Config:
    """Reads and validates the config.toml of one experiment.

    Raises:
        ConfigError: as in `load_config`; or it is a group.
    """
    config = load_config(path)
    if config.group.members:
        names = ", ".join(config.group.members)
        raise ConfigError(f"{path} is a group of experiments: {names}", hint="name one of them with --experiment")
    return config


def load_config(path: Path) -> Config:
    """Reads and validates the config.toml of an experiment or a group.

    Raises:
        ConfigError: the file is missing, is not TOML (names the line), or has unknown keys (names the nearest known
            key) or values out of range; lists all faults.
    """
    try:
        content = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, an endless number or nesting
        raise ConfigError(f"{path} is not valid TOML: {error}", hint=f"correct {path}") from None
    config = validate(content, str(path))
    if config.group.members and (others := sorted(config.model_fields_set - {"group"})):
        raise ConfigError(
            f"{path} is a group of experiments; it cannot have {', '.join(others)} in addition to [group]",
            hint="set them in the members of the group",
        )
    if config.group.grid and not config.group.members:
        raise ConfigError(f"{path}: [group.grid] without group.members", hint=f"correct {path}")
    for key, values in config.group.grid.items():
        if not values:
            raise ConfigError(f"{path}: group.grid has no value for {key}", hint=f"correct {path}")
    return config


def validate(content: dict[str, Any], name: str) -> Config:
    """Validates the parsed content of a config.toml.

    Raises:
        ConfigError: lists all unknown keys and values out of range; `name` is the name of the config in the error.
    """
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        problems = [problem for fault in error.errors() for problem in _describe_fault(fault)]
        raise ConfigError(
            f"{name} has {format_count(len(problems), 'bad key')}",
            problems=problems,
            hint=f"correct {name}; docs/config.md lists every key with its default",
        ) from None


def list_differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Lists the differences of two resolved configs, each as 'train.lr: 0.001 -> 0.003'."""
    found: list[str] = []
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += list_differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before!r} -> {after!r}")
    return found


def _describe_fault(fault: Any) -> list[str]:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        return [f"{place} = {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"]
    if place in renames.KEYS:
        return [f"{place} is now {renames.KEYS[place]}"]
    if place in renames.SECTIONS:
        new = renames.SECTIONS[place]
        keys = [f"{place}.{key}" for key in fault["input"]] if isinstance(fault["input"], dict) else []
        return [
            f"[{place}] is now [{new}]",
            *(f"{key} is now {renames.KEYS[key]}" for key in keys if key in renames.KEYS),
        ]
    return [f"unknown key '{place}': {suggest_nearest(str(fault['loc'][-1]), _list_known_keys(fault['loc'][:-1]))}"]


def _list_known_keys(place: tuple[Any, ...]) -> list[str]:
    section: type[BaseModel] = Config
    for part in place:
        annotation = section.model_fields[part].annotation
        section = annotation if isinstance(annotation, type) else get_args(annotation)[0]
    return list(section.model_fields)


def find_keys(word: str) -> list[str]:
    """Lists the keys whose last part is a word, such as 'train.epochs' for 'epochs'."""
    found = [word] if word in Config.model_fields else []
    for name, field in Config.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            found = [one for one in found if one != name]
            found += [f"{name}.{word}"] if word in section.model_fields else []
    return found
