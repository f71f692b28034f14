"""Starting weights of a backbone: from a local file or timm's hub. A file that does not fit is refused."""

from __future__ import annotations

import atexit
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from unittest import mock

import huggingface_hub as hub
import safetensors
import safetensors.torch
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError
from torch import nn

from ffdi.config.schema import ModelConfig
from ffdi.core.errors import ConfigError, format_count, get_first_line, suggest_nearest
from ffdi.models import unpickle

if TYPE_CHECKING:
    from timm.models import FeatureInfo

    class Backbone(nn.Module):
        """Attributes that all networks of timm have; timm has no base class with them."""

        feature_info: list[dict[str, Any]] | FeatureInfo
        pretrained_cfg: dict[str, Any]
        forward_features: Callable[[torch.Tensor], torch.Tensor]
        forward_head: Callable[..., torch.Tensor]
        get_classifier: Callable[[], nn.Module | tuple[nn.Module, nn.Module]]


HUB_SECONDS = 5
"""Time limit of the hub for its first answer."""
EMPTY = "there is no tensor in it"
HUB_PREFIX = re.compile(r"(hf[-_]hub:)?timm/|(hf[-_]hub:)(?=[^/]+$)")
"""Where timm's networks are on the hub; also how people write their names."""
HUB_PREFIX_OF_OTHERS = re.compile(r"hf[-_]hub:|[^/]+/")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def find_weights(config: ModelConfig, root: Path) -> Path | None:
    """The local file with the backbone's starting weights; downloads it from timm's hub if necessary.

    Args:
        config: `weights_file` if it is set, else the hub if `pretrained` is set.
        root: the folder that a relative `weights_file` is relative to.

    Returns:
        None if the experiment starts from random weights.

    Raises:
        ConfigError: the file is missing or has no weights, or the hub cannot be reached; the hint has the next steps.
    """
    name = resolve_name(config.backbone)
    if config.weights_file is None:
        return _download(name) if config.pretrained else None
    path = root / config.weights_file
    if not path.is_file():
        raise ConfigError(f"model.weights_file names {path}, which does not exist", hint="correct it in config.toml")
    _make_safe(path)  # the caller may copy, hash or send it: a foreign config must not name any other file
    return path


def create_backbone(backbone: str, **options: Any) -> Backbone:
    """`timm.create_model` by a result of `resolve_name`, with the type of timm's networks."""
    return cast("Backbone", timm.create_model(backbone, **options))


def has_fixed_size(backbone: str) -> bool:
    """Whether the network is made for one image size, such as a ViT with its position embedding."""
    published = timm.get_pretrained_cfg(backbone)
    return bool(published and published.fixed_input_size)


def get_published_size(backbone: str) -> int | None:
    """The edge of the images that timm's weights of a backbone were trained for; None if timm has none."""
    published = timm.get_pretrained_cfg(backbone)
    return max(published.input_size) if published else None


FREE_LICENCES = frozenset({"apache-2.0", "mit", "bsd-3-clause"})
"""Licences that let everyone use weights for anything."""


class Licence(NamedTuple):
    """The licence of starting weights.

    Attributes:
        name: as timm gives it, such as 'apache-2.0'; '' if it is unknown.
        whose: the weights, in words.
    """

    name: str
    whose: str

    @property
    def is_free(self) -> bool:
        return self.name in FREE_LICENCES


def find_licence(config: ModelConfig) -> Licence | None:
    """The licence of the starting weights of a network; None if it started from random ones."""
    if config.weights_file is not None:
        return Licence("", f"the weights in {config.weights_file}")
    if not config.pretrained:
        return None
    name = resolve_name(config.backbone)
    published = timm.get_pretrained_cfg(name)
    licence = published.license if published is not None else None
    return Licence("" if licence in (None, "unknown") else str(licence), f"timm's weights of {name}")


def load_weights(backbone: str, weights: Path, options: dict[str, Any]) -> Backbone:
    """Creates timm's network with the weights of a file.

    Args:
        backbone: a result of `resolve_name`.
        weights: .safetensors, or a .pth with nothing but tensors.
        options: for `timm.create_model`.

    Raises:
        ConfigError: the file cannot be read, or it lacks weights of the backbone, which timm would leave random.
    """
    safe = _make_safe(weights)
    logging.getLogger("timm").setLevel(logging.ERROR)  # the causes of its warnings are refused below
    try:
        with torch.random.fork_rng(devices=[]), _record_missing_keys() as missing:
            torch.manual_seed(0)
            loaded = create_backbone(backbone, pretrained=True, pretrained_cfg_overlay={"file": str(safe)}, **options)
    except (RuntimeError, KeyError) as error:
        raise _refuse_weights(weights, backbone, get_first_line(error)) from None
    if lacking := _list_random_weights(loaded, set(missing)):
        raise _refuse_weights(
            weights, backbone, f"it lacks {format_count(len(lacking), 'tensor')}, such as {lacking[0]}"
        )
    return loaded


def head_modules(backbone: Backbone) -> list[nn.Module]:
    """The modules of the classifier, or of both classifiers if a network has two."""
    head = backbone.get_classifier()
    return [module for one in (head if isinstance(head, tuple) else (head,)) for module in one.modules()]


def list_last_layers(backbone: Backbone) -> list[nn.Linear | nn.Conv2d]:
    """The last layer of the classifier, or of both classifiers if a network has two; the layers before it are trained.

    Some classifiers have several layers, such as CAFormer's.
    """
    head = backbone.get_classifier()
    heads = head if isinstance(head, tuple) else (head,)
    layers = [[module for module in one.modules() if isinstance(module, nn.Linear | nn.Conv2d)] for one in heads]
    return [found[-1] for found in layers if found]


def resolve_name(backbone: str) -> str:
    """timm's current name of a backbone: without the hub's prefix ('hf_hub:timm/'), and a new name for an old one.

    Raises:
        ConfigError: timm has no such backbone; the message has the nearest name.
    """
    backbone = HUB_PREFIX.sub("", backbone)
    if HUB_PREFIX_OF_OTHERS.match(backbone):
        raise ConfigError(
            f"'{backbone}' is not one of timm's own networks on the hub",
            hint="set model.backbone to timm's name of this network, and model.weights_file to its downloaded weights",
        )
    backbone = timm.models.get_deprecated_models().get(backbone) or backbone
    name, _, tag = backbone.partition(".")
    if not timm.is_model(name):
        close = suggest_nearest(name, models := timm.list_models())
        if len(close) > 200:
            close = f'timm has {len(models)}: python -c "import timm; print(timm.list_models())"'
        raise ConfigError(f"unknown backbone '{backbone}': {close}", hint="correct model.backbone in config.toml")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if tag and tag not in tags:
        raise ConfigError(
            f"unknown weights '{tag}' of {name}: {suggest_nearest(tag, tags)}",
            hint="correct model.backbone in config.toml",
        )
    return backbone


@contextmanager
def _record_missing_keys() -> Iterator[list[str]]:
    """Collects the missing keys of every `load_state_dict` in the block: timm calls it, and only logs them."""
    missing: list[str] = []
    original = nn.Module.load_state_dict

    def load(module: nn.Module, *args: Any, **options: Any) -> Any:
        result = original(module, *args, **options)
        missing.extend(result.missing_keys)
        return result

    with mock.patch.object(nn.Module, "load_state_dict", load):
        yield missing


def _list_random_weights(backbone: Backbone, missing: set[str]) -> list[str]:
    """Names of missing weights, without the last layer, which is new, and without vectors, which start alike."""
    head = {id(parameter) for layer in list_last_layers(backbone) for parameter in layer.parameters()}
    parameters = backbone.named_parameters()
    return [name for name, one in parameters if name in missing and one.ndim > 1 and id(one) not in head]


def _make_safe(weights: Path) -> Path:
    """The same weights in a readable file that cannot hold anything but tensors."""
    if weights.suffix == ".safetensors" and not _has_prefix(weights):
        safe, fault = weights, _find_fault(weights)
    else:
        safe, fault = _convert(weights, weights.stat().st_mtime_ns)
    if fault:
        raise ConfigError(
            f"{weights} cannot be read as weights: {fault}",
            hint="model.weights_file takes a .safetensors file or a .pth that holds tensors only",
        )
    return safe


def _has_prefix(weights: Path) -> bool:
    """Whether all names of a readable .safetensors have a prefix that is to be removed."""
    with suppress(safetensors.SafetensorError, OSError), safetensors.safe_open(weights, "pt") as file:
        return unpickle.find_prefix(file.keys()) != ""
    return False


def _find_fault(weights: Path) -> str:
    try:
        with safetensors.safe_open(weights, "pt") as file:
            return "" if file.keys() else EMPTY
    except (safetensors.SafetensorError, OSError) as error:
        return get_first_line(error)


@cache
def _convert(weights: Path, _mtime: int) -> tuple[Path, str]:
    """Converts weights to a .safetensors with timm's names, once in a process; returns it and its fault, '' if none."""
    folder = tempfile.TemporaryDirectory(prefix="ffdi-")
    atexit.register(folder.cleanup)
    converted = Path(folder.name) / "weights.safetensors"
    if weights.suffix == ".safetensors":
        safetensors.torch.save_file(unpickle.strip_prefixes(safetensors.torch.load_file(weights)), converted)
        return converted, _find_fault(converted)
    return converted, unpickle.convert_to_safetensors(weights, converted) or _find_fault(converted)


def _refuse_weights(weights: Path, backbone: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{weights} does not hold weights of {backbone}: {reason}",
        hint="correct model.weights_file or model.backbone in config.toml",
    )


def _download(backbone: str) -> Path:
    published = timm.get_pretrained_cfg(backbone)
    if published is not None and isinstance(published.url, str) and published.url and not published.hf_hub_id:
        return _download_file(backbone, published.url)
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
        return _download_from_hub(repository)
    except Exception as error:  # also of the HTTP client
        raise _refuse_hub(backbone, f"their download from {_name_hub()} failed ({get_first_line(error)})") from None


def _download_from_hub(repository: str) -> Path:
    try:
        return Path(hub.hf_hub_download(repository, HUB_FILES[0]))
    except EntryNotFoundError:
        return Path(hub.hf_hub_download(repository, HUB_FILES[1]))


def _download_file(backbone: str, url: str) -> Path:
    """Downloads weights that are not on the hub, into torch's cache."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except OSError as error:
            raise ConfigError(
                f"the weights of {backbone} are not on this machine and cannot be downloaded: {error}",
                hint=f"download {url} elsewhere and name the file with model.weights_file in config.toml, or set "
                "model.pretrained = false",
            ) from None
    return path


def _check_hub(backbone: str) -> None:
    """Sends one request without retries: the hub's own client tries for about a minute."""
    reason = "HF_HUB_OFFLINE is set"
    try:
        if not hub.constants.HF_HUB_OFFLINE:
            hub.get_session().head(hub.constants.ENDPOINT, timeout=HUB_SECONDS)
            return
    except Exception as error:  # every HTTP client has its own errors; all of them mean: not reached
        reason = type(error).__name__
    raise _refuse_hub(backbone, f"{_name_hub()} cannot be reached ({reason})")


def _name_hub() -> str:
    return f"the hub at HF_ENDPOINT={hub.constants.ENDPOINT}" if "HF_ENDPOINT" in os.environ else "the hub"


def _refuse_hub(backbone: str, fault: str) -> ConfigError:
    return ConfigError(
        f"the ImageNet weights of {backbone} are not on this machine and {fault}",
        hint="set model.weights_file in config.toml to a .safetensors or .pth of this backbone; or set HF_ENDPOINT to "
        "the address of a mirror of the hub; or run once with a network: "
        f"python -c \"import timm; timm.create_model('{backbone}', pretrained=True)\" "
        "and bring its cache along ($HF_HOME); model.pretrained = false starts from random weights",
    )


_NUMBER = re.compile(r"\(os error ([0-9]+)\)")


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Writes a safetensors file.

    Args:
        tensors: contiguous, on the CPU, no two with the same memory.
        path: the file.

    Raises:
        OSError: the disk is full, or the folder cannot be written (safetensors has its own error for these).
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
    path.chmod(usual)  # safetensors makes files that only their owner can read
