"""The network: a timm backbone with normalisation for uint8 RGB images and a head with one logit.

One logit z with binary cross entropy is the two-class softmax with cross entropy: softmax(a, b)[1] equals
sigmoid(b - a), so z = b - a has the same probability and the same loss (docs/training.md).
"""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from ffdi.config.schema import Config, ModelConfig
from ffdi.core import files
from ffdi.core.errors import ConfigError, ExperimentError, get_first_line
from ffdi.data.images import resizing
from ffdi.ensemble.ensemble import Member
from ffdi.experiments.fold import FROZEN
from ffdi.models import noise_residual, tuning
from ffdi.models import weights as starting
from ffdi.models.noise_residual import NoiseResidual
from ffdi.models.tuning import TunedNetwork

if TYPE_CHECKING:
    from ffdi.models.weights import Backbone

WINDOW = 7 / 8
"""Edge of the windows of test-time crops, in parts of the image's edge."""
ONEDNN_CHANNELS = 16
"""Input channels that oneDNN processes at once: 8 with AVX2, 16 with AVX-512."""
HEAD_STD = 0.01
"""Standard deviation of the new head's weights."""


class Detector(TunedNetwork):
    """uint8 [B, S, S, 3] RGB -> logit float32 [B]; the probability of a fake is its sigmoid.

    Attributes:
        topk: None for the backbone's own pooling; else the head scores each patch of the feature map, and the logit is
            the mean of this fraction of them, the highest ones: a forged part of an image then counts as much as a
            forged image.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        backbone: Backbone,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        residual: NoiseResidual | None = None,
        topk: float | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.residual, self.topk = backbone, residual, topk
        self.tune, self.trained = "all", frozenset(self.state_dict())
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(
        self, images: torch.Tensor, *, features: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """The logits; with `features`, also what the last layer made them from: float [B, D]."""
        if not features:
            return self._compute_logits(images)[0]
        given: list[torch.Tensor] = []
        with ExitStack() as hooks:
            for layer in starting.list_last_layers(self.backbone):
                hooks.enter_context(layer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0])))
            logits, best = self._compute_logits(images)
        used = torch.cat([one.flatten(1) for one in given], dim=1)
        if best is None:
            return logits, used
        patches = used.reshape(len(images), -1, used.shape[1])
        return logits, patches.gather(1, best[..., None].expand(-1, -1, used.shape[1])).mean(1)

    def _compute_logits(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The logits, and with top-k pooling the patches that they are the mean of: int64 [B, K]."""
        pixels = self.normalize(images)
        if self.topk is None:
            return self.backbone(pixels).squeeze(1).float(), None
        patches = _split_patches(self.backbone, self.backbone.forward_features(pixels))
        scores = self.backbone.forward_head(patches.flatten(0, 1)).float().reshape(patches.shape[:2])
        highest, best = scores.topk(max(1, round(self.topk * patches.shape[1])), dim=1)
        return highest.mean(1), best

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Features before the head: uint8 [B, S, S, 3] -> float32 [B, D]."""
        features = self.backbone.forward_features(self.normalize(images))
        return self.backbone.forward_head(features, pre_logits=True).float()

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Normalises the pixels and appends the residual's channels: float32 [B, 3 or 6, S, S]."""
        pixels = images.permute(0, 3, 1, 2).to(torch.float32)
        normalised = (pixels - self.mean) / self.std
        return normalised if self.residual is None else torch.cat([normalised, self.residual(pixels)], dim=1)


def _split_patches(backbone: Backbone, features: torch.Tensor) -> torch.Tensor:
    """The feature map of each patch, in the form of a whole one: float [B, N, ...].

    A map of a convolutional network is [B, D, H, W] or [B, H, W, D], and a patch [D, 1, 1] or [1, 1, D]. Tokens of a
    transformer are [B, P + N, D], with P tokens before those of patches, such as the class token; a patch then takes
    the places of these too, so that any pooling of the head gives the patch: [P + 1, D].
    """
    if features.ndim == 3:
        prefix = int(getattr(backbone, "num_prefix_tokens", 0))
        return features[:, prefix:, None].expand(-1, -1, prefix + 1, -1)
    if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        return features.flatten(1, 2)[:, :, None, None]
    return features.flatten(2).transpose(1, 2)[..., None, None]


class Scorer(nn.Module):
    """A Detector with test-time augmentation: uint8 [B, S, S, 3] -> mean logit over the views, float32 [B]."""

    def __init__(self, detector: Detector, tta: str) -> None:
        super().__init__()
        self.detector, self.tta = detector, tta

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.tta == "none":
            return self.detector(images)
        views = make_views(images, self.tta)
        together = torch.cat(views)  # one call: ONNX export folds BatchNorm only into weights that are used once
        return self.detector(together).reshape(len(views), -1).mean(0)


class CenterCropInput(nn.Module):
    """A network for larger images, of which it gets the centre crop: uint8 [B, L, L, 3] -> logit float32 [B]."""

    def __init__(self, network: nn.Module, large: int, small: int) -> None:
        super().__init__()
        self.network = network
        self.start = round((large - small) / 2)
        self.end = self.start + small

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images[:, self.start : self.end, self.start : self.end])


class ResizeInput(nn.Module):
    """A network for larger images, which are shrunk by area: uint8 [B, L, L, 3] -> logit float32 [B].

    It uses two matrix products, which all runtimes compute alike; their resize operators differ.
    """

    area: torch.Tensor

    def __init__(self, network: nn.Module, large: int, small: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("area", torch.from_numpy(resizing.make_area_matrix(large, small)), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.permute(0, 3, 1, 2).to(torch.float32)
        return self.network((self.area @ pixels @ self.area.T).permute(0, 2, 3, 1))


def build_detector(config: ModelConfig, weights: Path | None, *, starts: bool = True) -> Detector:
    """Builds a Detector with the backbone's starting weights and a new head.

    Args:
        config: has the backbone and its options.
        weights: a result of `weights.find_weights`; None for random weights, which the caller seeds.
        starts: whether its training starts, so that `model.tune = "svd"` needs a decomposition of the weights, which
            takes seconds to minutes.

    Raises:
        ConfigError: timm has no such backbone, or the file does not fit it.
    """
    name = starting.resolve_name(config.backbone)
    residual = None if config.noise_residual == "none" else noise_residual.build_residual(config.noise_residual)
    options = {"num_classes": 1, "in_chans": 6 if residual else 3, "drop_rate": config.drop_rate}
    if starting.has_fixed_size(name):
        options["img_size"] = config.size
    try:
        backbone = (
            starting.create_backbone(name, **options)
            if weights is None
            else starting.load_weights(name, weights, options)
        )
    except (AssertionError, ValueError) as error:
        raise _refuse_size("model.size", config.size, starting.get_published_size(name), error) from None
    reset_head(backbone)
    _subsample_before_small_convolutions(backbone)
    if config.normalize_features:
        for layer in starting.list_last_layers(backbone):
            layer.register_forward_pre_hook(_normalize_features)
    published, topk = backbone.pretrained_cfg, config.topk_fraction if config.pool == "topk" else None
    detector = Detector(backbone, published["mean"], published["std"], residual, topk)
    tuning.prepare(detector, config, starts=starts)
    return detector


def check_size(detector: Detector, key: str, edge: int) -> None:
    """Raises:
    ConfigError: the network does not accept images of that size (some accept one size only).
    """
    try:
        with torch.inference_mode():
            detector.eval()(torch.zeros((1, edge, edge, 3), dtype=torch.uint8))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise _refuse_size(key, edge, max(detector.backbone.pretrained_cfg["input_size"]), error) from None


def _refuse_size(key: str, edge: int, published: int | None, error: Exception) -> ConfigError:
    reason = f": {get_first_line(error)}" if str(error) else ""
    own = f"; timm's weights of this backbone are for {published} px" if published else ""
    return ConfigError(
        f"{key} = {edge}: the backbone does not take images of that size{reason}",
        hint=f"correct {key} in config.toml{own}",
    )


def check_batch(detector: Detector, batch_size: int, edge: int) -> None:
    """Raises:
    ConfigError: the batch size is 1 and BatchNorm would have a single value for each channel.
    """
    try:
        with torch.no_grad():
            detector.train()(torch.zeros((min(batch_size, 2), edge, edge, 3), dtype=torch.uint8))
    except ValueError as error:
        raise ConfigError(
            f"train.batch_size = {batch_size}: the backbone does not train on that: {get_first_line(error)}",
            hint="set a larger train.batch_size in config.toml",
        ) from None


def build_initialized(config: Config, weights: Path | None) -> Detector:
    """An untrained Detector in evaluation mode; the same seed gives the same weights."""
    torch.manual_seed(config.seed)
    return build_detector(config.model, weights).eval()


def reset_head(backbone: Backbone) -> None:
    """Makes every network start near probability 1/2: timm scales some heads by the number of classes."""
    for layer in starting.list_last_layers(backbone):
        nn.init.normal_(layer.weight, std=HEAD_STD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _subsample_before_small_convolutions(backbone: Backbone) -> None:
    """Takes the stride out of 1x1 convolutions of few channels, and takes every other pixel before them.

    The result is the same. For channels_last images on a CPU, oneDNN computes wrong gradients for such convolutions,
    hangs or crashes, as in the first layers of FastViT and RepVGG (oneDNN 3.x, issue 6035).
    """
    for module in backbone.modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.kernel_size == (1, 1)
            and module.stride != (1, 1)
            and module.padding == (0, 0)
            and module.in_channels // module.groups < ONEDNN_CHANNELS
        ):
            module.register_forward_pre_hook(partial(_subsample, module.stride[0], module.stride[1]))
            module.stride = (1, 1)


def _subsample(rows: int, columns: int, _module: nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (given[0][:, :, ::rows, ::columns],)


def _normalize_features(_module: nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (functional.normalize(given[0], dim=1),)


def save_detector(detector: Detector, path: Path) -> None:
    """Writes the trained weights as safetensors, atomically."""
    _save(tuning.get_trained(detector), path)


def save_frozen(detector: Detector, path: Path) -> None:
    """Writes the weights that are not trained as safetensors, atomically."""
    _save(tuning.get_frozen(detector), path)


def _save(tensors: tuning.Tensors, path: Path) -> None:
    with files.open_atomic(path) as beside:
        starting.save_tensors({name: one.detach().cpu().contiguous() for name, one in tensors.items()}, beside)


def load_detector(config: ModelConfig, path: Path) -> Detector:
    """Loads a trained Detector, in evaluation mode, with all updates merged.

    Args:
        config: of the network.
        path: its trained weights; those that were frozen are in `FROZEN` in the folder above.

    Raises:
        ExperimentError: a file is missing, damaged, or belongs to another network.
    """
    detector = build_detector(config, None, starts=False)
    try:
        tensors = safetensors.torch.load_file(path)
        if config.tune != "all":
            tensors |= safetensors.torch.load_file(path.parent.parent / FROZEN)
        detector.load_state_dict(tensors)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise ExperimentError(
            f"{path} does not hold weights of {config.backbone}: {get_first_line(error)}",
            hint=f"remove the fold and train it again: rm -r {shlex.quote(str(path.parent))}",
        ) from None
    tuning.merge(detector)
    return detector.eval()


def load_scorer(member: Member, size: int) -> nn.Module:
    """Loads a member of an ensemble for scoring: uint8 [B, size, size, 3] -> logit [B]; on the CPU, evaluation mode."""
    return prepare_for_inference(load_detector(member.config.model, member.folder.weights_path), member.config, size)


def prepare_for_inference(detector: Detector, config: Config, size: int) -> nn.Module:
    """Adds test-time augmentation and, if images have another size than the network's, a crop or resize layer."""
    scorer = Scorer(detector, config.predict.tta)
    if size == config.model.size:
        return scorer.eval()
    through = CenterCropInput if config.model.resize == "crop" else ResizeInput
    return through(scorer, size, config.model.size).eval()


def _flip_views(images: torch.Tensor) -> list[torch.Tensor]:
    return [images, images.flip(2)]


def _crop_views(images: torch.Tensor) -> list[torch.Tensor]:
    """The whole image, and windows at its four corners, enlarged to its size."""
    size = images.shape[1]
    window = round(size * WINDOW)
    pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    enlarging = torch.from_numpy(resizing.make_cubic_matrix(window, size)).to(pixels.device)
    first, last = slice(0, window), slice(size - window, size)
    corners = [pixels[:, :, rows, columns] for rows in (first, last) for columns in (first, last)]
    enlarged = [(enlarging @ corner @ enlarging.T).permute(0, 2, 3, 1) for corner in corners]
    return [images.to(torch.float32), *enlarged]


def _flip_and_crop_views(images: torch.Tensor) -> list[torch.Tensor]:
    return [view for crop in _crop_views(images) for view in _flip_views(crop)]


def make_views(images: torch.Tensor, tta: str) -> list[torch.Tensor]:
    """The views of test-time augmentation, each [B, S, S, 3]; the first is the image as it is."""
    return VIEWS[tta](images) if tta != "none" else [images]


def count_views(tta: str) -> int:
    return len(make_views(torch.zeros((1, 32, 32, 3), dtype=torch.uint8), tta))


VIEWS = {"hflip": _flip_views, "crops": _crop_views, "hflip+crops": _flip_and_crop_views}
"""Test-time augmentations: uint8 [B, S, S, 3] -> views, each [B, S, S, 3]."""
