"""How the person stands before the lens, and what the lens and the sensor make of the scene."""

from __future__ import annotations

import cv2
import numpy as np

from ffdi.demo.canvas import Array


def posed(rng: np.random.Generator, person: Array, cover: Array) -> tuple[Array, Array]:
    """Tilts, scales and moves a person [n, n, 3] and its cover [n, n] a little; float32, as they came."""
    n = cover.shape[0]
    angle, scale = rng.normal(0, 4.0), rng.uniform(0.93, 1.06)
    turn = cv2.getRotationMatrix2D((n / 2, n * 0.5), float(angle), float(scale))
    turn[:, 2] += rng.normal(0, 0.012, 2) * n
    person = cv2.warpAffine(person, turn, (n, n), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(cover, turn, (n, n), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return person, cover


def photographed(rng: np.random.Generator, scene: Array) -> np.ndarray:
    """Lens blur, white balance, exposure and signal-dependent noise: float32 RGB [s, s, 3] becomes uint8."""
    image = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.3, 0.6))
    image = image * (1 + rng.normal(0, 0.025, 3)).astype(np.float32) * np.float32(rng.uniform(0.92, 1.08))
    shot, read = rng.uniform(0.07, 0.13), rng.uniform(1.2, 1.8)
    spread = np.sqrt(shot * np.clip(image, 0, 255) + read**2)
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.round(image + spread * grain), 0, 255).astype(np.uint8)
