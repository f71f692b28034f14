"""The hair before and behind the head. It is made as masks and textures; its colour is painted by the caller."""

from __future__ import annotations

import cv2
import numpy as np

from ffdi.demo.canvas import Array, Frame, Light, Points, noise, pairs
from ffdi.demo.sitter import CROWN, Sitter, outline


def strands(rng: np.random.Generator, frame: Frame, sitter: Sitter) -> Array:
    """Hair texture in about -2..2, float32 [n, n]: streaks that leave the parting, or curls."""
    if sitter.style == "curls":
        return noise(rng, frame.n, 26) * 0.9 + 0.5 * noise(rng, frame.n, 60)
    x, y = frame.axis[None, :] - 0.5 - sitter.part, frame.axis[:, None] - CROWN + 0.13
    angle = cv2.phase(np.repeat(y, frame.n, 1), np.repeat(x, frame.n, 0))
    angle = (angle + np.pi) % (2 * np.pi) - np.pi
    bend = rng.uniform(0, 0.03) * np.sin(y * rng.uniform(20, 45) + rng.uniform(0, 6))
    streaks = sum(np.interp(np.arange(600), np.linspace(0, 600, k), rng.normal(0, 1, k)) for k in (40, 110, 260))
    index = np.clip((angle + bend) * 150 + 300, 0, 599).astype(np.int32)
    return np.asarray(streaks / 1.6, np.float32)[index]


def front_hair(rng: np.random.Generator, frame: Frame, sitter: Sitter, strands: Array) -> Array:
    """Cover of the hair in front of the head, float32 [n, n] like `strands`."""
    if sitter.style == "bald":
        return np.zeros((frame.n, frame.n), np.float32)
    thin, curls = sitter.style == "buzz", sitter.style == "curls"
    outer = frame.area(outline(sitter, 0.006 if thin else sitter.volume + 0.05 * curls))
    if sitter.length == "bun":
        knot = frame.bump(0.5, CROWN - 0.035, 0.075, 0.05) > 0.5
        outer = np.maximum(outer, knot.astype(np.float32))
    low = {"short": 0.455, "bun": 0.44, "bob": 0.75, "long": 1.2}[sitter.length]
    outer *= np.clip((low - frame.axis) / 0.04, 0, 1)[:, None]
    if sitter.length in ("bob", "long"):
        outer = np.maximum(outer, _curtain(frame, sitter, low))
    bare = 1 - frame.area(_window(rng, sitter))
    ragged = frame.blurred(outer * bare, 0.009) + (0.03 if thin else 0.10) * strands
    edge = np.clip((ragged - 0.36) / 0.28, 0, 1) * (frame.blurred(outer, 0.02) > 0.02)
    return edge.astype(np.float32) * np.float32(0.72 if thin else 1.0)


def _curtain(frame: Frame, sitter: Sitter, low: float) -> Array:
    """The two bands of longer hair that fall beside the face."""
    reach, tip, inner = sitter.width + sitter.volume, min(low, 1.1), sitter.width - 0.028
    band = [
        (0.5 + inner, 0.38),
        (0.5 + reach - 0.004, 0.38),
        (0.5 + reach, 0.48),
        (0.5 + reach + 0.016, 0.65),
        (0.5 + reach + 0.006, tip),
        (0.5 + inner - 0.03, tip),
        (0.5 + inner + 0.005, 0.62),
    ]
    return np.maximum(frame.area(band), frame.area([(1 - x, y) for x, y in band]))


def _window(rng: np.random.Generator, sitter: Sitter) -> Points:
    """The part of the head that the hair leaves free, as a polygon from temple to temple."""
    t = np.linspace(-1, 1, 25)
    side, away = float(np.sign(sitter.part)), np.abs(t)
    line = {"fringe": 0.335, "receding": 0.21, "curls": 0.265}.get(sitter.style, 0.24)
    shape = {
        "side": 0.075 * np.abs(t - side * 0.55) ** 1.2 + 0.05 * away**4 - 0.02,
        "curtain": 0.14 * away**1.1 - 0.05,
        "receding": 0.03 * np.cos(t * 6.5) + 0.10 * away**6,
        "fringe": 0.02 * away**2 + rng.normal(0, 0.007, len(t)),
    }.get(sitter.style, 0.10 * away**4)
    half = sitter.width - (0.012 if sitter.length in ("bob", "long") else 0.002)
    top = pairs(0.5 + half * t, line + rng.uniform(-0.01, 0.02) + shape)
    right = [(0.501 + half, 0.46), (0.488 + half, 1.2)]
    return top + right + [(1 - x, y) for x, y in reversed(right)]


def back_hair(frame: Frame, sitter: Sitter, strands: Array) -> Array:
    """Cover of the hair behind neck and ears, float32 [n, n] like `strands`."""
    if sitter.length not in ("bob", "long"):
        return np.zeros((frame.n, frame.n), np.float32)
    low = 0.79 if sitter.length == "bob" else 1.2
    reach = sitter.width + sitter.volume
    right = [(0.5 + reach - 0.02, 0.4), (0.5 + reach + 0.01, 0.65), (0.5 + reach + 0.01, low)]
    mask = frame.area(right + [(1 - x, y) for x, y in reversed(right)])
    return np.clip((frame.blurred(mask, 0.012) + 0.12 * strands - 0.36) / 0.28, 0, 1)


def hair_relief(frame: Frame, light: Light) -> Array:
    """The side of the hair towards the lamp, float32 [n, n]: a dome over the head."""
    across = 0.16 * np.sqrt(np.clip(1 - ((frame.axis - 0.5) / 0.34) ** 2, 0.05, 1))
    down = np.sqrt(np.clip((frame.axis - CROWN + 0.08) / 0.35, 0.02, 1))
    return frame.facing((down[:, None] * across[None, :]).astype(np.float32), light)


def sheen(frame: Frame, light: Light, strands: Array) -> Array:
    """The bright band across hair (Kajiya and Kay 1989, here only its place), float32 [n, n]."""
    x = 0.5 + 0.13 * float(light.direction[0])
    return frame.bump(x, 0.19, 0.12, 0.03) * np.clip(0.5 + 0.35 * strands, 0, 1)
