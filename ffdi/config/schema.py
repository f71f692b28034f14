"""What an experiment is: every choice that changes its result, typed, frozen and digested.

Where the files lie and what only changes speed is a flag of the command, never a key here; `data.root`
is a default for the flag and stays out of the digest.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ffdi.config import renamed
from ffdi.core.errors import ConfigError, nearest


class Section(BaseModel):
    """A table of config.toml: unknown keys and values of another type are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


SMALLEST = 32
"""Pixels of an image's edge: of fewer a backbone's last map is one point."""
LARGEST = 2048
"""Pixels of an image's edge."""


class SplitFiles(Section):
    """Where one split's files lie, relative to the data's root; what is left out is looked for."""

    folder: str | None = None
    labels: str | None = None


class DataConfig(Section):
    """The label files: where they are and what their columns are called."""

    root: str | None = None
    image_column: str = "img_name"
    target_column: str = "target"
    group_column: str | None = None
    groups_file: str | None = None
    landmarks_file: str | None = None
    template: str | None = None
    train: SplitFiles = SplitFiles()
    val: SplitFiles = SplitFiles()
    test: SplitFiles = SplitFiles()


class FoldsConfig(Section):
    """How training images are dealt into folds."""

    k: int = Field(5, ge=2, le=100)
    scheme: Literal["stratified", "clusters"] = "stratified"
    seed: int | None = Field(None, ge=0, lt=2**31)


class ModelConfig(Section):
    """The network: a timm backbone with one logit."""

    backbone: str = "resnet18"
    pretrained: bool = True
    weights_file: str | None = None
    size: int = Field(256, ge=SMALLEST, le=LARGEST)
    resize: Literal["squash", "crop", "pad"] = "squash"
    noise_residual: str = "none"
    drop_rate: float = Field(0.0, ge=0, lt=1)


class AugmentConfig(Section):
    """Which named recipe changes training images, and how images of a batch are mixed."""

    recipe: str = "postprocess"
    crop_size: int = Field(0, ge=0, le=2048)
    mixup: float = Field(0.0, ge=0, le=10)
    cutmix: float = Field(0.0, ge=0, le=10)


class PseudoFakesConfig(Section):
    """Fakes made from real training images while training goes on."""

    fraction: float = Field(0.0, ge=0, le=0.5)
    methods: list[str] = Field(["self_blend"], min_length=1)

    @property
    def needs_landmarks(self) -> bool:
        """Whether a method uses landmarks of the faces."""
        return self.fraction > 0 and "self_blend" in self.methods


class TrainConfig(Section):
    """Optimiser, schedule, loss and what is kept."""

    epochs: int = Field(10, ge=1, le=100_000)
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
    clip_grad: float = Field(1.0, ge=0)
    ema_decay: float = Field(0.99, ge=0, lt=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    select: Literal["last", "best"] = "last"
    checkpoint_seconds: float = Field(300, ge=0)


class CacheConfig(Section):
    """What training images are before they are changed."""

    decoded: bool = False


class PredictConfig(Section):
    """How a trained network is asked."""

    tta: Literal["none", "hflip", "crops", "hflip+crops"] = "hflip"


class EnsembleConfig(Section):
    """How folds and experiments become one score."""

    method: str = "auto"
    calibration: str = "none"


class ExportConfig(Section):
    """What a graph may be."""

    max_parameters: int = Field(200_000_000, ge=1)


class GroupConfig(Section):
    """A list of experiments in place of one: each of them, in every variant of the grid."""

    members: list[str] = Field([], min_length=1)
    grid: dict[str, list[Any]] = {}


class Config(Section):
    """One experiment, as config.toml has it, with the defaults filled in."""

    seed: int = Field(0, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    folds: FoldsConfig = FoldsConfig()
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    pseudo_fakes: PseudoFakesConfig = PseudoFakesConfig()
    train: TrainConfig = TrainConfig()
    predict: PredictConfig = PredictConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    export: ExportConfig = ExportConfig()
    cache: CacheConfig = CacheConfig()
    group: GroupConfig = GroupConfig()

    @property
    def folds_seed(self) -> int:
        """What decides the folds: experiments of several seeds can share them."""
        return self.seed if self.folds.seed is None else self.folds.seed

    def identity(self, weights_sha256: str | None = None) -> dict[str, Any]:
        """All that decides a trained fold, as plain JSON.

        Left out: where the data lie, what is only predicted later, how members are combined, and how often a training
        writes down where it is. A weights file counts by its content, not its name.
        """
        left_out: Any = {
            "ensemble": True,
            "export": True,
            "group": True,
            "data": {"root", "val", "test", "template"},
            "train": {"checkpoint_seconds"},
        }
        content = self.model_dump(mode="json", exclude=left_out)
        if self.model.weights_file is not None:
            del content["model"]["weights_file"]
        content["model"]["weights_sha256"] = weights_sha256
        return content


def load(path: Path) -> Config:
    """Reads and checks the config.toml of one experiment.

    Raises:
        ConfigError: as `read`; or it is a list of experiments.
    """
    config = read(path)
    if config.group.members:
        names = ", ".join(config.group.members)
        raise ConfigError(f"{path} is a list of experiments: {names}", hint="name one of them with --experiment")
    return config


def read(path: Path) -> Config:
    """Reads and checks a config.toml, of one experiment or of several.

    Raises:
        ConfigError: no such file, bad TOML (with its line), unknown keys (with the nearest known one) or
            values out of range; all faults at once.
    """
    try:
        content = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except (ValueError, RecursionError) as error:  # bad TOML, no UTF-8, a number or a nesting without end
        raise ConfigError(f"{path} is no valid TOML: {error}", hint=f"correct {path}") from None
    config = checked(content, str(path))
    if config.group.members and (others := sorted(config.model_fields_set - {"group"})):
        raise ConfigError(
            f"{path} is a list of experiments; it cannot have {', '.join(others)} beside [group]",
            hint="set them in the experiments that it lists",
        )
    if config.group.grid and not config.group.members:
        raise ConfigError(f"{path}: [group.grid] without group.members", hint=f"correct {path}")
    for key, values in config.group.grid.items():
        if not values:
            raise ConfigError(f"{path}: group.grid has no value for {key}", hint=f"correct {path}")
    return config


def checked(content: dict[str, Any], name: str) -> Config:
    """A config from what its TOML says.

    Raises:
        ConfigError: unknown keys or values out of range, all of them at once; calls the config by that name.
    """
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        problems = [problem for fault in error.errors() for problem in _problems(fault)]
        raise ConfigError(
            f"{name} has {len(problems)} bad {'key' if len(problems) == 1 else 'keys'}",
            problems=problems,
            hint=f"correct {name}; every key with its default stands in docs/config.md",
        ) from None


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Keys whose values differ between two resolved configs, as 'train.lr: 0.001 -> 0.003'."""
    found: list[str] = []
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before!r} -> {after!r}")
    return found


def _problems(fault: Any) -> list[str]:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        return [f"{place} = {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"]
    if place in renamed.KEYS:
        return [f"{place} is now {renamed.KEYS[place]}"]
    if place in renamed.SECTIONS:
        new = renamed.SECTIONS[place]
        keys = [f"{place}.{key}" for key in fault["input"]] if isinstance(fault["input"], dict) else []
        return [
            f"[{place}] is now [{new}]",
            *(f"{key} is now {renamed.KEYS[key]}" for key in keys if key in renamed.KEYS),
        ]
    return [f"unknown key '{place}': {nearest(str(fault['loc'][-1]), _known_keys(fault['loc'][:-1]))}"]


def _known_keys(place: tuple[Any, ...]) -> list[str]:
    section: type[BaseModel] = Config
    for part in place:
        annotation = section.model_fields[part].annotation
        section = annotation if isinstance(annotation, type) else get_args(annotation)[0]
    return list(section.model_fields)
