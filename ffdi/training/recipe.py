"""Optimiser, schedule, loss and averaged weights, as a config names them; schedules are functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn import functional

from ffdi.config import TrainConfig
from ffdi.errors import ConfigError, nearest

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits float32 [B], target float32 [B]) -> mean loss."""


def check(config: TrainConfig) -> None:
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


def optimizer(config: TrainConfig, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser; weight decay spares biases and normalisation, which have one dimension."""
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    spared = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return OPTIMIZERS[config.optimizer](groups, config.lr)


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


def loss(config: TrainConfig) -> Loss:
    """The loss of a batch; label smoothing moves targets towards 1/2."""
    function, smoothing = LOSSES[config.loss], config.label_smoothing
    return lambda logits, target: function(logits, target * (1 - smoothing) + smoothing / 2)


def average(config: TrainConfig, network: nn.Module) -> ModelEmaV3 | None:
    """The exponential moving average of the weights, with the warm-up that short runs need; None at 0."""
    return ModelEmaV3(network, decay=config.ema, use_warmup=True) if config.ema else None


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


OPTIMIZERS = {"adam": _adam, "adamw": _adamw}
SCHEDULES = {"cosine": _cosine, "step": _step, "constant": _constant}
LOSSES = {"bce": functional.binary_cross_entropy_with_logits}
