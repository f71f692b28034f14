"""The network: a timm backbone that takes uint8 RGB images, normalises them itself and gives one logit.

One logit z with binary cross entropy is the two-class softmax with cross entropy: softmax(a, b)[1] equals
sigmoid(b - a), so z = b - a has the same probability and the same loss (docs/training.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import nn

from ffdi import publish
from ffdi.blend import Member
from ffdi.config import ModelConfig
from ffdi.errors import ConfigError, ExperimentError, nearest

HUB_SECONDS = 5
"""How long the hub may take to answer at all."""


class Detector(nn.Module):
    """uint8 [B, S, S, 3] RGB -> logit float32 [B]; the probability of a fake is its sigmoid."""

    def __init__(self, backbone: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.permute(0, 3, 1, 2).to(torch.float32)
        return self.backbone((pixels - self.mean) / self.std).squeeze(1).float()


class Scorer(nn.Module):
    """A Detector asked through test-time augmentation: uint8 [B, S, S, 3] -> mean logit over the views [B]."""

    def __init__(self, detector: Detector, tta: str) -> None:
        super().__init__()
        self.detector, self.tta = detector, tta

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        views = [view(images) for view in VIEWS[self.tta]]
        return torch.stack([self.detector(view) for view in views]).mean(0)


def build(config: ModelConfig, weights: Path | None) -> Detector:
    """A Detector with the backbone's starting weights.

    Args:
        config: which backbone.
        weights: the file that `starting_weights` gave; None starts from random weights, which the caller seeds.

    Raises:
        ConfigError: timm has no such backbone, or the file does not fit it.
    """
    options: dict[str, Any] = {"num_classes": 1, "in_chans": 3, "drop_rate": config.drop_rate}
    if weights is not None:
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(weights)}}
    _check_name(config.backbone)
    try:
        backbone = timm.create_model(config.backbone, **options)
    except (RuntimeError, KeyError, ValueError, OSError, EOFError) as error:
        if weights is None:
            raise
        raise ConfigError(
            f"{weights} does not hold weights of {config.backbone}: {str(error).splitlines()[0]}",
            hint="correct model.weights_file or model.backbone in config.toml",
        ) from None
    except Exception as error:  # unpickling a foreign file raises anything; a fault that is not the file's goes on
        if weights is None or type(error).__module__ not in ("_pickle", "safetensors_rust"):
            raise
        raise ConfigError(
            f"{weights} cannot be read as weights: {str(error).splitlines()[0]}",
            hint="model.weights_file takes a .safetensors file or a .pth that holds tensors only",
        ) from None
    return Detector(backbone, backbone.pretrained_cfg["mean"], backbone.pretrained_cfg["std"])


def starting_weights(config: ModelConfig, root: Path) -> Path | None:
    """The local file with the backbone's starting weights, fetched from timm's hub where it must be.

    Args:
        config: `weights_file` first, else the hub where `pretrained` is set.
        root: what a relative `weights_file` is relative to.

    Raises:
        ConfigError: the file is missing, or the hub cannot be reached; both ways out are named.
    """
    _check_name(config.backbone)
    if config.weights_file is not None:
        path = root / config.weights_file
        if not path.is_file():
            raise ConfigError(
                f"model.weights_file names {path}, which does not exist", hint="correct it in config.toml"
            )
        return path
    return _from_hub(config.backbone) if config.pretrained else None


def _from_hub(backbone: str) -> Path:
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    repository = timm.get_pretrained_cfg(backbone).hf_hub_id
    if not repository:
        raise ConfigError(
            f"timm has no ImageNet weights of {backbone}",
            hint="set model.pretrained = false, or model.weights_file, in config.toml",
        )
    for name in ("model.safetensors", "pytorch_model.bin"):
        cached = hub.try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    _check_hub(backbone)
    try:
        return Path(hub.hf_hub_download(repository, "model.safetensors"))
    except EntryNotFoundError:
        return Path(hub.hf_hub_download(repository, "pytorch_model.bin"))


def _check_hub(backbone: str) -> None:
    """One question, no retries: the hub's own client asks an unreachable hub for about a minute."""
    import huggingface_hub as hub

    offline = hub.constants.HF_HUB_OFFLINE
    try:
        if not offline:
            hub.get_session().head(hub.constants.ENDPOINT, timeout=HUB_SECONDS)
            return
    except Exception as error:  # every HTTP client has its own errors; none of them is ours
        offline = type(error).__name__
    raise ConfigError(
        f"the ImageNet weights of {backbone} are not on this machine and the hub cannot be reached ({offline})",
        hint="either set model.weights_file in config.toml to a .safetensors or .pth of this backbone, or run "
        f"once with a network: python -c \"import timm; timm.create_model('{backbone}', pretrained=True)\" "
        "and bring its cache along ($HF_HOME); model.pretrained = false starts from random weights",
    )


def save(detector: Detector, path: Path) -> None:
    """Publishes the weights as safetensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.state_dict().items()}
    with publish.writing(path) as beside:
        safetensors.torch.save_file(tensors, beside)


def load(config: ModelConfig, path: Path) -> Detector:
    """A trained Detector, in evaluation mode.

    Raises:
        ExperimentError: the file is missing, damaged, or holds another network.
    """
    detector = build(config, None)
    try:
        detector.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise ExperimentError(
            f"{path} does not hold weights of {config.backbone}: {str(error).splitlines()[0]}",
            hint=f"remove the fold and train it again: rm -r {path.parent}",
        ) from None
    return detector.eval()


def scorer(member: Member) -> Scorer:
    """A blend's member as it is asked for scores, on the CPU, in evaluation mode."""
    return Scorer(load(member.config.model, member.folder.weights_path), member.config.predict.tta).eval()


def _check_name(backbone: str) -> None:
    name = backbone.partition(".")[0]
    if not timm.is_model(name):
        models = timm.list_models()
        shown = nearest(name, models)
        close = shown if shown.startswith("did") else f"timm has {len(models)}: timm.list_models() names them"
        raise ConfigError(f"unknown backbone '{backbone}': {close}", hint="correct model.backbone in config.toml")


VIEWS = {
    "none": [lambda images: images],
    "hflip": [lambda images: images, lambda images: images.flip(2)],
}
"""What a test-time augmentation shows the network: uint8 [B, S, S, 3] -> the same."""
