"""Optimizers, learning rate schedules, losses, EMA and SAM, by their names in config.toml."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from timm.optim import param_groups_layer_decay
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from ffdi.config.schema import TrainConfig
from ffdi.models import tuning
from ffdi.models.tuning import TunedNetwork


class Loss(Protocol):
    """The loss of a batch."""

    def __call__(self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """float32 [], from logits float32 [B], labels float32 [B] in [0, 1], and a weight for each image."""


FOCUS = 2.0
"""The exponent gamma of the focal loss."""


def create_optimizer(config: TrainConfig, backbone: nn.Module) -> torch.optim.Optimizer:
    """Makes the optimizer; parameters of one dimension (biases, normalization) have no weight decay.

    With `layer_decay` < 1, the learning rate of each layer is that of the next layer times `layer_decay` (BEiT, Bao et
    al., ICLR 2022). A parameter group's `lr_scale` is its factor of the learning rate.
    """
    groups: list[dict[str, Any]]
    if config.layer_decay < 1:
        groups = param_groups_layer_decay(backbone, config.weight_decay, layer_decay=config.layer_decay)
    else:
        decay = [p for p in backbone.parameters() if p.requires_grad and p.ndim > 1]
        no_decay = [p for p in backbone.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    return OPTIMIZERS[config.optimizer]([{"lr_scale": 1.0, **group} for group in groups], config.lr)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of each group, scaled by its `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def compute_learning_rate(config: TrainConfig, step: int, steps: int, steps_per_epoch: int) -> float:
    """The learning rate of a step: a linear warm-up to `lr`, then the schedule over the remaining steps.

    Args:
        config: has `lr`, `schedule` and `warmup_epochs`.
        step: from 0, over all epochs.
        steps: of all epochs.
        steps_per_epoch: converts `warmup_epochs` to steps.
    """
    warmup = min(round(config.warmup_epochs * steps_per_epoch), steps - 1)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * SCHEDULES[config.schedule]((step - warmup) / (steps - warmup))


def create_loss(config: TrainConfig, fakes: float) -> Loss:
    """Makes the loss of a batch: the mean over all images, or over the hardest fraction of them.

    Label smoothing moves targets towards 1/2; class weights give both classes the same total weight.

    Args:
        config: has the loss and its options.
        fakes: the fraction of fakes in an epoch.
    """
    each, smoothing = LOSSES[config.loss], config.label_smoothing
    real_weight, fake_weight = (0.5 / (1 - fakes), 0.5 / fakes) if config.class_weights else (1.0, 1.0)

    def compute_loss(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        losses = each(logits, target * (1 - smoothing) + smoothing / 2)
        losses = losses * (real_weight + (fake_weight - real_weight) * target)
        losses = losses if weight is None else losses * weight
        if config.hard_example_fraction < 1:  # Shrivastava et al., online hard example mining (CVPR 2016)
            losses = losses.topk(max(1, round(config.hard_example_fraction * len(losses)))).values
        return losses.mean()

    return compute_loss


def compute_prior_loss(config: TrainConfig, fakes: float) -> float:
    """The lowest loss of a network that gives each image the same logit, where `fakes` is the fraction of fakes."""
    target = (torch.arange(1000) < round(1000 * fakes)).float()
    criterion = create_loss(config, fakes)
    return min(criterion(torch.full_like(target, logit), target).item() for logit in torch.arange(-8, 8.05, 0.05))


def create_ema(config: TrainConfig, network: TunedNetwork) -> ModelEmaV3 | None:
    """The exponential moving average of the trained weights; None if `ema_decay` is 0.

    Its warm-up is for short trainings.
    """
    if not config.ema_decay:
        return None
    average = ModelEmaV3 if network.tune == "all" else _PartialEma
    return average(network, decay=config.ema_decay, use_warmup=True)


class _PartialEma(ModelEmaV3):
    """Averages what is trained, and shares the frozen tensors with the network."""

    def __init__(self, network: TunedNetwork, **options: Any) -> None:
        super().__init__(network, **options)
        tuning.share_frozen(self.module, network)

    def apply_update_(self, model: TunedNetwork, decay: float) -> None:
        """Takes the place of timm's update of all tensors."""
        averages, values = (list(tuning.get_trained(one).values()) for one in (self.module, model))
        for average, value in zip(averages, values, strict=True):
            if not average.is_floating_point():
                average.copy_(value)
        first, second = ([one for one in part if one.is_floating_point()] for part in (averages, values))
        torch._foreach_lerp_(first, second, weight=1 - decay)


def _create_adam(groups: list[dict[str, object]], lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr, fused=True)


def _create_adamw(groups: list[dict[str, object]], lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr, fused=True)


def _decay_by_cosine(progress: float) -> float:
    """Loshchilov and Hutter, SGDR (2017), without restarts."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def _decay_by_step(progress: float) -> float:
    """A factor of 0.1 after 60 % of the steps, and of 0.01 after 80 %."""
    return 0.1 ** ((progress >= 0.6) + (progress >= 0.8))


def _keep_constant(_progress: float) -> float:
    return 1.0


def _compute_bce(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


def _compute_focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Lin et al., Focal Loss (ICCV 2017), for soft targets as in Li et al., Generalized Focal Loss (NeurIPS 2020)."""
    return (target - logits.sigmoid()).abs() ** FOCUS * _compute_bce(logits, target)


OPTIMIZERS = {"adam": _create_adam, "adamw": _create_adamw}
SCHEDULES = {"cosine": _decay_by_cosine, "step": _decay_by_step, "constant": _keep_constant}
LOSSES = {"bce": _compute_bce, "focal": _compute_focal}
"""(logits float32 [B], target float32 [B]) -> loss of each image, float32 [B]."""


@contextmanager
def perturb_weights(network: nn.Module, rho: float) -> Iterator[None]:
    """Moves the weights by `rho` along their gradient, for the time of the context.

    SAM, sharpness-aware minimization (Foret et al., ICLR 2021), computes the gradient there, where the loss is highest
    in the neighbourhood. BatchNorm does not update its running statistics: they belong to the unmoved weights.
    """
    moved: list[torch.Tensor] = [one for one in network.parameters() if one.grad is not None]
    gradients = [one.grad for one in moved if one.grad is not None]
    before = [torch.empty_like(one) for one in moved]
    paused = [one for one in network.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]
    with torch.no_grad():  # a kernel for many tensors; the norm stays on the device
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        torch._foreach_copy_(before, moved)
        torch._foreach_add_(moved, torch._foreach_mul(gradients, rho / (norm + 1e-12)))
    for layer in paused:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in paused:
            layer.track_running_stats = True
        with torch.no_grad():
            torch._foreach_copy_(moved, before)
