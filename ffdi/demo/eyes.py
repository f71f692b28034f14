"""The eyes, and what stands above and before them: brows and glasses."""

from __future__ import annotations

import cv2
import numpy as np

from ffdi.demo.canvas import Array, Frame, Light, Points, muted, pairs
from ffdi.demo.sitter import EYE_LINE, EYE_OFFSET, Sitter, place


def brows(rng: np.random.Generator, frame: Frame, sitter: Sitter, albedo: Array) -> None:
    """Paints the eyebrows on the albedo, uint8 [n, n, 3], in place, with soft edges."""
    colour = np.clip(sitter.hair * 0.65 + sitter.skin * 0.15, 0, 190)
    thick, arch = 0.022 - 0.009 * sitter.femininity, rng.uniform(0.008, 0.022)
    lift, t = rng.uniform(-0.005, 0.005), np.linspace(0, 1, 9)
    rows = np.s_[int((EYE_LINE - 0.12) * frame.n) : int((EYE_LINE - 0.025) * frame.n)]
    before = albedo[rows].copy()
    y = EYE_LINE - 0.062 + lift - arch * np.sin(np.pi * np.minimum(t * 0.85, 1))
    body = 0.5 * thick * (1 - 0.75 * t)
    for side in (-1, 1):
        x = np.array([place(sitter, side * (0.054 + 0.112 * float(k)), 1.1) for k in t])
        rim, sill = pairs(x, y - body), pairs(x, y + body)
        frame.fill(albedo, rim + sill[::-1], colour)
    soft = frame.blurred(albedo[rows], 0.005)
    albedo[rows] = cv2.addWeighted(soft, 0.85, before, 0.15, 0)


def eye(frame: Frame, sitter: Sitter, light: Light, canvas: Array, side: int) -> None:
    """One eye on the lit canvas, uint8 [n, n, 3], in place; `side` is -1 for the one at the left of the picture."""
    x, y = place(sitter, side * EYE_OFFSET), EYE_LINE
    lid, sill = _lids(sitter, x, y, side)
    eyeball = canvas.copy()
    _eyeball(frame, sitter, light, eyeball, x, y)
    top, left, span = int((y - 0.06) * frame.n), int((x - 0.07) * frame.n), int(0.14 * frame.n)
    window = np.s_[top : top + span, left : left + span]
    opening = frame.area(lid + sill[::-1])[window][..., None]
    canvas[window] = canvas[window] * (1 - opening) + eyeball[window] * opening
    shade = sitter.skin * np.array([0.5, 0.4, 0.38], np.float32) * light.strength
    made_up = np.minimum(sitter.hair * 0.4, 60)
    lash = made_up * sitter.femininity + shade * 0.6 * (1 - sitter.femininity)
    crease = [(px, py - 0.013 * sitter.eye_size) for px, py in lid[2:-2]]
    frame.stroke(canvas, crease, shade * 1.35, 0.004)
    frame.stroke(canvas, sill[1:-1], shade * 1.3, 0.004)
    frame.stroke(canvas, lid, lash, 0.007)


def _lids(sitter: Sitter, x: float, y: float, side: int) -> tuple[Points, Points]:
    """The upper and the lower edge of an eye's opening."""
    half = 0.047 * sitter.eye_size
    high = 0.0285 * sitter.eye_size * (1 - 0.18 * max(sitter.smile, 0)) * (1 - 0.15 * sitter.age)
    t = np.linspace(-1, 1, 13)
    level = y - 0.004 * side * t
    lid = pairs(x + half * t, level - high * (1 - t * t) ** 0.8)
    return lid, pairs(x + half * t, level + 0.62 * high * (1 - t * t))


def _eyeball(frame: Frame, sitter: Sitter, light: Light, canvas: Array, x: float, y: float) -> None:
    """White, iris, pupil and catch-light, to be seen through the lids' opening."""
    white = np.array([228, 222, 218], np.float32) * light.colour * min(light.strength, 1.0)
    iris, radius = sitter.iris * light.strength, 0.0225
    gx, gy = x + 0.010 * (sitter.gaze + sitter.yaw * 0.5), y - 0.003
    for low, tone in ((0.05, 1.0), (-0.014, 0.72)):
        corners = [(-0.06, -0.05), (0.06, -0.05), (0.06, low), (-0.06, low)]
        frame.fill(canvas, [(x + dx, y + dy) for dx, dy in corners], white * tone)
    frame.disc(canvas, gx, gy, radius, iris * 0.5)
    frame.disc(canvas, gx, gy + 0.002, radius * 0.82, np.clip(iris * 1.15, 0, 255))
    frame.disc(canvas, gx, gy, radius * 0.42, np.array([12, 10, 10], np.float32))
    # The cornea mirrors the lamp on the side from which the light comes.
    dx, dy = 0.011 * float(light.direction[0]), 0.011 * float(light.direction[1])
    frame.disc(canvas, gx + dx, gy + dy, 0.006, np.array([252, 252, 250], np.float32))


def glasses(rng: np.random.Generator, frame: Frame, sitter: Sitter, light: Light, canvas: Array) -> None:
    """Rims, bridge and temples on the lit canvas, uint8 [n, n, 3], in place."""
    colour = muted(rng) * rng.uniform(0.15, 0.5) * light.strength
    power, thick = 2 / rng.uniform(2.0, 4.5), rng.uniform(0.006, 0.012)
    angle = np.linspace(0, 2 * np.pi, 40)
    c, s = np.cos(angle), np.sin(angle)
    reach = sitter.width - (0.02 if sitter.length in ("bob", "long") else -0.004)
    for side in (-1, 1):
        x = place(sitter, side * (EYE_OFFSET + 0.004), 1.3)
        px = x + 0.08 * np.sign(c) * np.abs(c) ** power
        py = EYE_LINE + 0.012 + 0.056 * np.sign(s) * np.abs(s) ** power
        frame.stroke(canvas, pairs(px, py), colour, thick)
        hinge = (x + side * 0.08, EYE_LINE)
        frame.stroke(canvas, [hinge, (0.5 + side * reach, EYE_LINE + 0.005)], colour, thick)
    bridge = [(place(sitter, d, 1.3), EYE_LINE - abs(d) * 0.3) for d in (-0.026, 0.0, 0.026)]
    frame.stroke(canvas, bridge, colour, thick)
