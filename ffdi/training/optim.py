"""Optimiser, schedule, loss and averaged weights, as a config names them; schedules are functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from timm.optim import param_groups_layer_decay
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn import functional

from ffdi.config.schema import TrainConfig
from ffdi.core.errors import ConfigError, nearest
from ffdi.models.weights import head_modules

if TYPE_CHECKING:
    from ffdi.models.weights import Backbone
from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn.modules.batchnorm import _BatchNorm

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits float32 [B], target float32 [B] in [0, 1]) -> loss of the batch."""
FOCUS = 2.0
"""By which power the focal loss forgets what is right already."""


def check_choices(config: TrainConfig) -> None:
    """Refuses names that no dictionary below has.

    Raises:
        ConfigError: names the key, the word, and the nearest known one.
    """
    for key, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("loss", LOSSES)):
        word = getattr(config, key)
        if word not in known:
            raise ConfigError(
                f"unknown {key} '{word}': {nearest(word, known)}", hint=f"correct train.{key} in config.toml"
            )


def optimizer(config: TrainConfig, backbone: nn.Module) -> torch.optim.Optimizer:
    """The optimiser; weight decay spares biases and normalisation, which have one dimension.

    With `layer_decay`, each layer of the backbone learns at that part of the rate of the layer behind it (BEiT, Bao et
    al., ICLR 2022); what a group's rate is multiplied by is its `lr_scale`.
    """
    groups: list[dict[str, Any]]
    if config.layer_decay < 1:
        groups = param_groups_layer_decay(backbone, config.weight_decay, layer_decay=config.layer_decay)
    else:
        decayed = [p for p in backbone.parameters() if p.requires_grad and p.ndim > 1]
        spared = [p for p in backbone.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return OPTIMIZERS[config.optimizer]([{"lr_scale": 1.0, **group} for group in groups], config.lr)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every group its part of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def set_frozen(backbone: Backbone, frozen: bool) -> None:
    """Puts a network in training mode; frozen, only its head learns, and BatchNorm stays as it is."""
    backbone.train(not frozen)
    for parameter in backbone.parameters():
        parameter.requires_grad_(not frozen)
    for module in head_modules(backbone):
        module.train()
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(True)


def learning_rate(config: TrainConfig, step: int, steps: int, steps_per_epoch: int) -> float:
    """The learning rate of a step: a linear warm-up, then the schedule over what remains.

    Args:
        config: `lr` is the rate after the warm-up.
        step: from 0.
        steps: of the whole training.
        steps_per_epoch: the unit of `warmup_epochs`.
    """
    warmup = min(round(config.warmup_epochs * steps_per_epoch), steps - 1)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * SCHEDULES[config.schedule]((step - warmup) / (steps - warmup))


def loss(config: TrainConfig, fakes: float) -> Loss:
    """The loss of a batch: of every image, or of the share of them that is hardest.

    Label smoothing moves targets towards 1/2; class weights give the rarer class as much weight as the other.

    Args:
        config: the recipe.
        fakes: their share among the images of an epoch.
    """
    each, smoothing = LOSSES[config.loss], config.label_smoothing
    real_weight, fake_weight = (0.5 / (1 - fakes), 0.5 / fakes) if config.class_weights else (1.0, 1.0)

    def of_batch(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        losses = each(logits, target * (1 - smoothing) + smoothing / 2)
        losses = losses * (real_weight + (fake_weight - real_weight) * target)
        if config.hard_example_fraction < 1:  # Shrivastava et al., online hard example mining (CVPR 2016)
            losses = losses.topk(max(1, round(config.hard_example_fraction * len(losses)))).values
        return losses.mean()

    return of_batch


def prior_loss(config: TrainConfig, fakes: float) -> float:
    """The least loss of a network that gives every image the same logit, where that share of them is fake."""
    target = (torch.arange(1000) < round(1000 * fakes)).float()
    of_batch = loss(config, fakes)
    return min(of_batch(torch.full_like(target, logit), target).item() for logit in torch.arange(-8, 8.05, 0.05))


def average(config: TrainConfig, network: nn.Module) -> ModelEmaV3 | None:
    """The exponential moving average of the weights, with the warm-up that short runs need; None at 0."""
    return ModelEmaV3(network, decay=config.ema_decay, use_warmup=True) if config.ema_decay else None


def _adam(groups: list[dict[str, object]], lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr, fused=True)


def _adamw(groups: list[dict[str, object]], lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr, fused=True)


def _cosine(progress: float) -> float:
    """Loshchilov and Hutter, SGDR (2017), without restarts."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def _step(progress: float) -> float:
    """A tenth after three fifths, a hundredth after four fifths."""
    return 0.1 ** ((progress >= 0.6) + (progress >= 0.8))


def _constant(_progress: float) -> float:
    return 1.0


def _bce(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


def _focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Lin et al., Focal Loss (ICCV 2017), for soft targets as in Li et al., Generalized Focal Loss (NeurIPS 2020)."""
    return (target - logits.sigmoid()).abs() ** FOCUS * _bce(logits, target)


OPTIMIZERS = {"adam": _adam, "adamw": _adamw}
SCHEDULES = {"cosine": _cosine, "step": _step, "constant": _constant}
LOSSES = {"bce": _bce, "focal": _focal}
"""(logits float32 [B], target float32 [B]) -> loss of each image, float32 [B]."""


@contextmanager
def perturb_weights(network: nn.Module, rho: float) -> Iterator[None]:
    """Moves the weights by `rho` along their gradient, for as long as what happens inside takes: sharpness-aware
    minimisation takes the gradient where the loss nearby is highest (Foret et al., ICLR 2021).

    BatchNorm does not count what it sees there, for those are not the weights that are kept.
    """
    moved = [one for one in network.parameters() if one.grad is not None]
    norm = torch.stack([one.grad.norm() for one in moved]).norm()  # type: ignore[union-attr]
    before = [one.detach().clone() for one in moved]
    paused = [one for one in network.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]
    with torch.no_grad():
        for one in moved:
            one.add_(one.grad * (rho / (norm + 1e-12)))
    for layer in paused:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in paused:
            layer.track_running_stats = True
        with torch.no_grad():
            for one, weights in zip(moved, before, strict=True):
                one.copy_(weights)
