"""The network: a timm backbone that takes uint8 RGB images, normalises them itself and gives one logit.

One logit z with binary cross entropy is the two-class softmax with cross entropy: softmax(a, b)[1] equals
sigmoid(b - a), so z = b - a has the same probability and the same loss (docs/training.md).
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
import torch
from torch import nn

from ffdi.config.schema import Config, ModelConfig
from ffdi.core import files
from ffdi.core.errors import ConfigError, ExperimentError
from ffdi.data.images import decode
from ffdi.ensemble.group import Member
from ffdi.models import noise_residual
from ffdi.models import weights as starting
from ffdi.models.noise_residual import NoiseResidual

if TYPE_CHECKING:
    from ffdi.models.weights import Backbone

WINDOW = 7 / 8
"""Edge of the windows of test-time crops, in parts of the image's."""
HEAD_STD = 0.01
"""Standard deviation of the new head's weights."""


class Detector(nn.Module):
    """uint8 [B, S, S, 3] RGB -> logit float32 [B]; the probability of a fake is its sigmoid."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        backbone: Backbone,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        residual: NoiseResidual | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.residual = backbone, residual
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, S, S, 3] -> logit float32 [B]."""
        return self.backbone(self._prepared(images)).squeeze(1).float()

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """What the head would see: uint8 [B, S, S, 3] -> float32 [B, D]."""
        seen = self.backbone.forward_features(self._prepared(images))
        return self.backbone.forward_head(seen, pre_logits=True).float()

    def _prepared(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised, with the residual's channels behind the colours."""
        pixels = images.permute(0, 3, 1, 2).to(torch.float32)
        normalised = (pixels - self.mean) / self.std
        return normalised if self.residual is None else torch.cat([normalised, self.residual(pixels)], dim=1)


class Scorer(nn.Module):
    """A Detector asked through test-time augmentation: uint8 [B, S, S, 3] -> mean logit over the views [B]."""

    def __init__(self, detector: Detector, tta: str) -> None:
        super().__init__()
        self.detector, self.tta = detector, tta

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, S, S, 3] -> the mean logit over the views, float32 [B]."""
        if self.tta == "none":
            return self.detector(images)
        views = VIEWS[self.tta](images)
        seen = torch.cat(views)  # BatchNorm is folded into weights that are used once
        return self.detector(seen).reshape(len(views), -1).mean(0)


class CenterCropInput(nn.Module):
    """A network asked through larger images: uint8 [B, L, L, 3], of which it sees the middle -> logit [B]."""

    def __init__(self, network: nn.Module, large: int, small: int) -> None:
        super().__init__()
        self.network = network
        self.start = round((large - small) / 2)
        self.end = self.start + small

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, L, L, 3] -> logit float32 [B]."""
        return self.network(images[:, self.start : self.end, self.start : self.end])


class ResizeInput(nn.Module):
    """A network asked through larger images: uint8 [B, L, L, 3], shrunk by area to its own size -> logit [B].

    Two products of matrices, which every runtime multiplies alike; operators that resize differ between them.
    """

    area: torch.Tensor

    def __init__(self, network: nn.Module, large: int, small: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("area", torch.from_numpy(decode.area(large, small)), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, L, L, 3] -> logit float32 [B]; the network is given float32 in grey levels."""
        pixels = images.permute(0, 3, 1, 2).to(torch.float32)
        return self.network((self.area @ pixels @ self.area.T).permute(0, 2, 3, 1))


def build(config: ModelConfig, weights: Path | None) -> Detector:
    """A Detector with the backbone's starting weights and a head that knows nothing yet.

    Args:
        config: which backbone.
        weights: the file that `weights.find_weights` gave; None starts from random weights, which the caller seeds.

    Raises:
        ConfigError: timm has no such backbone, or the file does not fit it.
    """
    starting.check_name(config.backbone)
    residual = None if config.noise_residual == "none" else noise_residual.build(config.noise_residual)
    options = {"num_classes": 1, "in_chans": 6 if residual else 3, "drop_rate": config.drop_rate}
    if weights is None:
        backbone = starting.create_backbone(config.backbone, **options)
    else:
        backbone = starting.load_weights(config.backbone, weights, options)
    _reset_head(backbone)
    return Detector(backbone, backbone.pretrained_cfg["mean"], backbone.pretrained_cfg["std"], residual)


def check_size(detector: Detector, key: str, edge: int) -> None:
    """Refuses a size of images that the network does not take: some know but one.

    Raises:
        ConfigError: names the key, and says what the network says.
    """
    try:
        with torch.inference_mode():
            detector.eval()(torch.zeros((1, edge, edge, 3), dtype=torch.uint8))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{key} = {edge}: the backbone does not take images of that size: {starting.first_line(error)}",
            hint=f"correct {key} in config.toml",
        ) from None


def check_batch(detector: Detector, batch_size: int, edge: int) -> None:
    """Refuses batches of one image where BatchNorm would have one value of each channel to normalise.

    Raises:
        ConfigError: says what the network says.
    """
    try:
        with torch.no_grad():
            detector.train()(torch.zeros((min(batch_size, 2), edge, edge, 3), dtype=torch.uint8))
    except ValueError as error:
        raise ConfigError(
            f"train.batch_size = {batch_size}: the backbone does not train on that: {starting.first_line(error)}",
            hint="set a larger train.batch_size in config.toml",
        ) from None


def is_depthwise(network: nn.Module) -> bool:
    """Whether it has convolutions that filter each channel alone."""
    convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    return any(one.groups == one.in_channels > 1 for one in convolutions)


def build_initialized(config: Config, weights: Path | None) -> Detector:
    """A Detector that nothing was trained in, in evaluation mode; the same for the same seed."""
    torch.manual_seed(config.seed)
    return build(config.model, weights).eval()


def _reset_head(backbone: Backbone) -> None:
    """Begins every network near probability 1/2: timm scales some heads by the number of classes, and one is few."""
    for module in starting.head_modules(backbone):
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=HEAD_STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def save(detector: Detector, path: Path) -> None:
    """Publishes the weights as safetensors."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.state_dict().items()}
    with files.open_atomic(path) as beside:
        starting.save_tensors(weights, beside)


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
            f"{path} does not hold weights of {config.backbone}: {starting.first_line(error)}",
            hint=f"remove the fold and train it again: rm -r {shlex.quote(str(path.parent))}",
        ) from None
    return detector.eval()


def scorer(member: Member, size: int) -> nn.Module:
    """A blend's member as it is asked for scores: uint8 [B, size, size, 3] -> logit [B]; on the CPU, for evaluation."""
    return for_inference(load(member.config.model, member.folder.weights_path), member.config, size)


def for_inference(detector: Detector, config: Config, size: int) -> nn.Module:
    """A Detector behind what stands between it and images of that size: another size, test-time augmentation."""
    scorer = Scorer(detector, config.predict.tta)
    if size == config.model.size:
        return scorer.eval()
    through = CenterCropInput if config.model.resize == "crop" else ResizeInput
    return through(scorer, size, config.model.size).eval()


def _mirrored(images: torch.Tensor) -> list[torch.Tensor]:
    return [images, images.flip(2)]


def _cropped(images: torch.Tensor) -> list[torch.Tensor]:
    """The whole, and windows at its four corners enlarged to its size."""
    size = images.shape[1]
    window = round(size * WINDOW)
    pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    enlarging = torch.from_numpy(decode.enlarging(window, size)).to(pixels.device)
    first, last = slice(0, window), slice(size - window, size)
    corners = [pixels[:, :, rows, columns] for rows in (first, last) for columns in (first, last)]
    enlarged = [(enlarging @ corner @ enlarging.T).permute(0, 2, 3, 1) for corner in corners]
    return [images.to(torch.float32), *enlarged]


def _both(images: torch.Tensor) -> list[torch.Tensor]:
    return [view for crop in _cropped(images) for view in _mirrored(crop)]


VIEWS = {"hflip": _mirrored, "crops": _cropped, "hflip+crops": _both}
"""What a test-time augmentation shows the network: uint8 [B, S, S, 3] -> views of it, each [B, S, S, 3]."""
