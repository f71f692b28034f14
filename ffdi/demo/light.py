"""The lamp that a portrait is lit by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Light:
    """A distant lamp: unit direction towards it, its colour and that of the shade (RGB factors); float32 [3] each."""

    direction: np.ndarray
    colour: np.ndarray
    shade: np.ndarray
    strength: float


def random_light(rng: np.random.Generator) -> Light:
    """A lamp before the sitter and above, near to white, with a dimmer shade."""
    side, above = rng.normal(0, 0.6), rng.uniform(0.25, 0.8)
    direction = np.array([side, -above, 1.0], np.float32)
    warmth = rng.normal(0, 0.035)
    return Light(
        direction=direction / np.linalg.norm(direction),
        colour=np.array([1 + warmth, 1, 1 - warmth], np.float32),
        shade=np.array([0.62, 0.52, 0.50], np.float32)
        + np.array([-1, 0, 1], np.float32) * np.float32(rng.normal(0.02, 0.03)),
        strength=float(rng.uniform(0.74, 0.97)),
    )
