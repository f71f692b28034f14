"""Colours to paint with: float32 RGB in 0..255."""

from __future__ import annotations

import cv2
import numpy as np

from ffdi.demo.canvas import Array

SKINS = np.array(
    [
        (248, 222, 205),
        (238, 204, 180),
        (226, 186, 156),
        (204, 156, 122),
        (170, 120, 90),
        (130, 90, 68),
        (98, 68, 54),
    ],
    np.float32,
)
HAIRS = np.array(
    [
        (30, 26, 26),
        (46, 34, 29),
        (70, 47, 36),
        (104, 71, 48),
        (134, 76, 46),
        (180, 138, 90),
        (216, 182, 130),
    ],
    np.float32,
)
GREYS = np.array([(120, 118, 118), (176, 174, 172), (222, 220, 216)], np.float32)
IRISES = np.array(
    [(70, 44, 28), (92, 62, 36), (110, 96, 52), (84, 112, 82), (78, 112, 150), (110, 124, 134)], np.float32
)


def between(palette: Array, where: float) -> Array:
    """The colour at `where` in 0..1 of a palette float32 [k, 3], mixed from its neighbours; float32 [3]."""
    position = float(np.clip(where, 0, 1)) * (len(palette) - 1)
    below = min(int(position), len(palette) - 2)
    return palette[below] + (palette[below + 1] - palette[below]) * np.float32(position - below)


def muted(rng: np.random.Generator) -> Array:
    """Any hue, but no loud one: for walls, clothes and rims; float32 [3]."""
    hue, saturation, value = rng.uniform(0, 180), rng.uniform(15, 110), rng.uniform(60, 225)
    pixel = np.array([[[hue, saturation, value]]], np.uint8)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)
