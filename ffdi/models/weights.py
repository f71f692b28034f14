"""Where a backbone's starting weights come from: a local file, or timm's hub; a file that does not fit is refused."""

from __future__ import annotations

import atexit
import logging
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import huggingface_hub as hub
import safetensors
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError
from torch import nn

from ffdi.config.schema import ModelConfig
from ffdi.core.errors import ConfigError, nearest
from ffdi.models import unpickle

if TYPE_CHECKING:
    from timm.models import FeatureInfo

    class Backbone(nn.Module):
        """What timm's networks have beside an nn.Module's own; none of their classes says so for all of them."""

        feature_info: list[dict[str, Any]] | FeatureInfo
        pretrained_cfg: dict[str, Any]
        forward_features: Callable[[torch.Tensor], torch.Tensor]
        forward_head: Callable[..., torch.Tensor]
        get_classifier: Callable[[], nn.Module | tuple[nn.Module, nn.Module]]


import os
import re
from collections.abc import Mapping

import safetensors.torch

HUB_SECONDS = 5
"""How long the hub may take to answer at all."""
EMPTY = "there is no tensor in it"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def find_weights(config: ModelConfig, root: Path) -> Path | None:
    """The local file with the backbone's starting weights, fetched from timm's hub where it must be.

    Args:
        config: `weights_file` first, else the hub where `pretrained` is set.
        root: what a relative `weights_file` is relative to.

    Returns:
        None where the experiment starts from random weights.

    Raises:
        ConfigError: the file is missing or holds no weights, or the hub cannot be reached; the ways out are named.
    """
    check_name(config.backbone)
    if config.weights_file is None:
        return _from_hub(config.backbone) if config.pretrained else None
    path = root / config.weights_file
    if not path.is_file():
        raise ConfigError(f"model.weights_file names {path}, which does not exist", hint="correct it in config.toml")
    _safe(path)  # whoever asks may copy, hash or send it: a config from elsewhere must not name just any file
    return path


def create_backbone(backbone: str, **options: Any) -> Backbone:
    """timm's network of that name."""
    return cast("Backbone", timm.create_model(backbone, **options))


def load_weights(backbone: str, weights: Path, options: dict[str, Any]) -> Backbone:
    """timm's network with the weights of a file.

    Args:
        backbone: timm's name.
        weights: .safetensors, or a .pth that holds tensors alone.
        options: for `timm.create_model`.

    Raises:
        ConfigError: the file cannot be read, or leaves weights of the backbone as they were drawn: timm passes
            over what it does not find.
    """
    weights, given = _safe(weights), weights
    logging.getLogger("timm").setLevel(logging.ERROR)  # what it warns of here is refused below
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            drawn = create_backbone(backbone, **options)
            torch.manual_seed(0)
            loaded = create_backbone(
                backbone, pretrained=True, pretrained_cfg_overlay={"file": str(weights)}, **options
            )
    except (RuntimeError, KeyError) as error:
        raise _misfit(given, backbone, first_line(error)) from None
    if left := list(_left_as_drawn(drawn, loaded)):
        raise _misfit(given, backbone, f"{left[0]} and {len(left) - 1} more are not in it")
    return loaded


def head_modules(backbone: Backbone) -> list[nn.Module]:
    """The modules of the classifier, or of both where a network has two."""
    head = backbone.get_classifier()
    return [module for one in (head if isinstance(head, tuple) else (head,)) for module in one.modules()]


def check_name(backbone: str) -> None:
    """Refuses what timm does not know.

    Raises:
        ConfigError: names the nearest known one.
    """
    name, _, tag = backbone.partition(".")
    if not timm.is_model(name):
        close = nearest(name, models := timm.list_models())
        if len(close) > 200:
            close = f'timm has {len(models)}: python -c "import timm; print(timm.list_models())"'
        raise ConfigError(f"unknown backbone '{backbone}': {close}", hint="correct model.backbone in config.toml")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if tag and tag not in tags:
        raise ConfigError(
            f"unknown weights '{tag}' of {name}: {nearest(tag, tags)}", hint="correct model.backbone in config.toml"
        )


def first_line(error: Exception) -> str:
    """What a library said, without the rest."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _left_as_drawn(drawn: Backbone, loaded: Backbone) -> Iterator[str]:
    """Names of weights that a file did not change; vectors are passed over, for all of them may begin alike."""
    head = {id(parameter) for module in head_modules(loaded) for parameter in module.parameters()}
    pairs = zip(drawn.named_parameters(), loaded.parameters(), strict=True)
    for (name, before), after in pairs:
        if before.ndim > 1 and id(after) not in head and torch.equal(before, after):
            yield name


def _safe(weights: Path) -> Path:
    """The same weights in a file that can hold nothing but tensors, and is known to be readable."""
    if weights.suffix == ".safetensors":
        safe, fault = weights, _unreadable(weights)
    else:
        safe, fault = _converted(weights, weights.stat().st_mtime_ns)
    if fault:
        raise ConfigError(
            f"{weights} cannot be read as weights: {fault}",
            hint="model.weights_file takes a .safetensors file or a .pth that holds tensors only",
        )
    return safe


def _unreadable(weights: Path) -> str:
    try:
        with safetensors.safe_open(weights, "pt") as file:
            return "" if file.keys() else EMPTY
    except (safetensors.SafetensorError, OSError) as error:
        return first_line(error)


@cache
def _converted(weights: Path, _changed: int) -> tuple[Path, str]:
    """A .pth as safetensors, made once in a process, and what is wrong with it."""
    folder = tempfile.TemporaryDirectory(prefix="ffdi-")
    atexit.register(folder.cleanup)
    converted = Path(folder.name) / "weights.safetensors"
    return converted, unpickle.convert_to_safetensors(weights, converted) or _unreadable(converted)


def _misfit(weights: Path, backbone: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{weights} does not hold weights of {backbone}: {reason}",
        hint="correct model.weights_file or model.backbone in config.toml",
    )


def _from_hub(backbone: str) -> Path:
    published = timm.get_pretrained_cfg(backbone)
    if published is None or not (repository := published.hf_hub_id):
        raise ConfigError(
            f"timm has no published weights of {backbone}",
            hint="set model.pretrained = false, or model.weights_file, in config.toml",
        )
    for name in HUB_FILES:
        cached = hub.try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    _check_hub(backbone)
    try:
        return Path(hub.hf_hub_download(repository, HUB_FILES[0]))
    except EntryNotFoundError:
        return Path(hub.hf_hub_download(repository, HUB_FILES[1]))


def _check_hub(backbone: str) -> None:
    """One question, no retries: the hub's own client asks an unreachable hub for about a minute."""
    reason = "HF_HUB_OFFLINE is set"
    try:
        if not hub.constants.HF_HUB_OFFLINE:
            hub.get_session().head(hub.constants.ENDPOINT, timeout=HUB_SECONDS)
            return
    except Exception as error:  # every HTTP client has errors of its own, and all of them say: not reached
        reason = type(error).__name__
    raise ConfigError(
        f"the ImageNet weights of {backbone} are not on this machine and the hub cannot be reached ({reason})",
        hint="either set model.weights_file in config.toml to a .safetensors or .pth of this backbone, or run "
        f"once with a network: python -c \"import timm; timm.create_model('{backbone}', pretrained=True)\" "
        "and bring its cache along ($HF_HOME); model.pretrained = false starts from random weights",
    )


_NUMBER = re.compile(r"\(os error ([0-9]+)\)")


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Writes a safetensors file.

    Args:
        tensors: contiguous, on the CPU, none of them twice.
        path: where to.

    Raises:
        OSError: the disk is full, or the place cannot be written; safetensors has an error of its own for that.
    """
    path.touch()
    usual = path.stat().st_mode
    try:
        safetensors.torch.save_file(dict(tensors), path)
    except safetensors.SafetensorError as error:
        if found := _NUMBER.search(str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number)) from error
        raise
    path.chmod(usual)  # safetensors leaves what nobody but its writer may read
