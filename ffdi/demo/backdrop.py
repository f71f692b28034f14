"""What stands behind the person, out of focus."""

from __future__ import annotations

import cv2
import numpy as np

from ffdi.demo.canvas import Array, Frame, ink, muted


def background(rng: np.random.Generator, frame: Frame) -> Array:
    """A blurred backdrop of one of four kinds, float32 RGB [n, n, 3] in 0..255."""
    kind = rng.choice(("plain", "bokeh", "wall", "room"), p=(0.3, 0.3, 0.2, 0.2))
    base = muted(rng)
    coarse = _gradient(rng, base)
    if kind == "bokeh":
        _bokeh(rng, coarse)
    elif kind == "wall":
        _wall(rng, coarse)
    elif kind == "room":
        _room(rng, coarse)
    blur = rng.uniform(0.8, 2.0) if kind != "plain" else 2.0
    soft = cv2.GaussianBlur(coarse, (0, 0), blur).astype(np.float32)
    return np.clip(cv2.resize(soft, (frame.n, frame.n), interpolation=cv2.INTER_CUBIC), 0, 255)


def _gradient(rng: np.random.Generator, base: Array, side: int = 64) -> Array:
    axis = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.45)
    ramp = 1 + depth * (np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None])
    return np.clip(ramp[..., None] * base, 0, 255).astype(np.uint8)


def _bokeh(rng: np.random.Generator, coarse: Array) -> None:
    side = coarse.shape[0]
    tint = muted(rng)
    for _ in range(int(rng.integers(10, 26))):
        layer = coarse.copy()
        centre = tuple(int(c) for c in rng.integers(0, side, 2))
        glow = np.clip(tint * rng.uniform(0.6, 1.5) + rng.normal(0, 20, 3), 0, 255)
        cv2.circle(layer, centre, int(rng.integers(2, 9)), ink(glow), -1, cv2.LINE_AA)
        weight = rng.uniform(0.15, 0.5)
        cv2.addWeighted(layer, weight, coarse, 1 - weight, 0, dst=coarse)


def _wall(rng: np.random.Generator, coarse: Array) -> None:
    side = coarse.shape[0]
    joint = coarse.mean((0, 1)) * rng.uniform(0.75, 0.9)
    step, shift = int(rng.integers(7, 14)), int(rng.integers(0, 7))
    for row, y in enumerate(range(shift, side, step)):
        cv2.line(coarse, (0, y), (side, y), ink(joint), 1)
        for x in range(shift + (row % 2) * step, side, 2 * step):
            cv2.line(coarse, (x, y), (x, y + step), ink(joint), 1)


def _room(rng: np.random.Generator, coarse: Array) -> None:
    side = coarse.shape[0]
    for _ in range(int(rng.integers(3, 8))):
        x, y = (int(c) for c in rng.integers(-8, side, 2))
        wide, high = (int(c) for c in rng.integers(6, 34, 2))
        colour = np.clip(muted(rng) * 0.4 + coarse.mean((0, 1)) * 0.6, 0, 255)
        cv2.rectangle(coarse, (x, y), (x + wide, y + high), ink(colour), -1)


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
