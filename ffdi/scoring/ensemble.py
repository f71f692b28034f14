"""Many logits for an image become one probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ffdi.errors import ConfigError, nearest


@dataclass(frozen=True)
class Method:
    """An ensembling method.

    Attributes:
        space: what is averaged: probabilities, or logits.
        pointwise: whether an image's score depends on that image alone; only then can it be exported.
    """

    space: Literal["probability", "logit"]
    pointwise: bool


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in METHODS:
        raise ConfigError(
            f"unknown ensemble method '{name}': {nearest(name, METHODS)}",
            hint="correct ensemble.method in config.toml",
        )
    return METHODS[name]


def combine(logits: np.ndarray, weights: np.ndarray, name: str) -> np.ndarray:
    """Combines M members' logits for N images.

    Args:
        logits: float [M, N].
        weights: float [M], adding up to 1.
        name: a key of METHODS.

    Returns:
        y_pred float64 [N], in [0, 1].
    """
    logits = logits.astype(np.float64)
    if method(name).space == "probability":
        return np.clip(weights @ sigmoid(logits), 0, 1)  # 18 weights of 1/18 add up to a little more than 1
    return sigmoid(weights @ logits)


def equal_weights(members: list[int]) -> np.ndarray:
    """float64 [sum(members)]: every experiment counts the same, and so does each of its folds.

    Args:
        members: the number of folds of each experiment.
    """
    return np.concatenate([np.full(folds, 1 / (folds * len(members))) for folds in members])


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logits to probabilities, float64; does not overflow."""
    return 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))


METHODS = {
    "mean": Method(space="probability", pointwise=True),
    "logit_mean": Method(space="logit", pointwise=True),
}
