"""The head with its skin, its relief, its beard and its mouth."""

from __future__ import annotations

import numpy as np

from ffdi.demo.canvas import Array, Frame, Light, Points, Sheet, noise, pairs
from ffdi.demo.eyes import brows
from ffdi.demo.sitter import CHIN, EYE_LINE, EYE_OFFSET, MOUTH_LINE, NOSE_LINE, Sitter, half_width, outline, place


def head(
    rng: np.random.Generator,
    frame: Frame,
    sitter: Sitter,
    light: Light,
    sheet: Sheet,
    front: Array,
) -> None:
    """Lays the head with its painted features; `front`, float32 [n, n], is hair that throws a shadow on it."""
    edge = outline(sitter)
    mask = frame.area(edge)
    frame.fill(sheet.albedo, edge, sitter.skin)
    _lips(frame, sitter, sheet.albedo)
    brows(rng, frame, sitter, sheet.albedo)
    _flush(frame, sitter, sheet.albedo)
    if sitter.beard > 0:
        _beard(rng, frame, sitter, sheet.albedo, mask)
    shadow = np.roll(frame.blurred(front, 0.018), round(0.02 * frame.n), axis=0)
    tone = (1 - 0.36 * shadow) * _texture(rng, frame, sitter)
    facing = frame.facing(_relief(frame, sitter), light)
    gloss = 0.13 * np.clip(facing, 0, 1) ** 16
    sheet.lay(mask, facing, tone + gloss)


def _relief(frame: Frame, sitter: Sitter) -> Array:
    """The face's height towards the viewer, float32 [n, n] in fractions of the side."""
    half = np.maximum(half_width(sitter, frame.axis), 1e-3)[:, None]
    centre = 0.5 + 0.012 * sitter.yaw
    across = ((frame.axis[None, :] - centre) / (half * 1.04)) ** 2
    height = 0.17 * np.sqrt(np.clip(1 - across, 0.01, 1)) * np.sqrt(half / sitter.width)
    x, y, wide, high, depth = (c[:, None] for c in np.array(_bumps(sitter), np.float32).T)
    rows = np.exp(-0.5 * ((frame.axis - y) / high) ** 2) * depth
    columns = np.exp(-0.5 * ((frame.axis - x) / wide) ** 2)
    height += np.einsum("ky,kx->yx", rows, columns)
    return frame.blurred(height.astype(np.float32), 0.006)


def _bumps(sitter: Sitter) -> list[tuple[float, float, float, float, float]]:
    """Rows (x, y, width, height, depth) of the Gaussian bumps that make a face."""
    nose, smile, age = sitter.nose_width, max(sitter.smile, 0), sitter.age
    soft, lip, middle = sitter.femininity, sitter.lip_fullness, place(sitter, 0)
    rows = [
        (place(sitter, 0, 1.3), 0.50, 0.016 * nose, 0.050, 0.019),
        (place(sitter, 0, 1.6), NOSE_LINE - 0.012, 0.021 * nose, 0.021, 0.026),
        (middle, MOUTH_LINE - 0.022, 0.05, 0.02, 0.005),
        (middle, MOUTH_LINE + 0.016, 0.034, 0.012, 0.007 * lip),
        (middle, MOUTH_LINE + 0.042, 0.03, 0.012, -0.007),
        (middle, CHIN - 0.05, 0.04, 0.03, 0.015),
        (middle, 0.26, 0.13, 0.06, 0.012),
    ]
    for side in (-1, 1):
        eye = place(sitter, side * EYE_OFFSET)
        rows += [
            (eye, EYE_LINE - 0.004, 0.042, 0.028, -0.015),
            (eye, EYE_LINE - 0.06, 0.06, 0.018, 0.010 - 0.005 * soft),
            (eye, EYE_LINE + 0.045, 0.03, 0.006, -0.001 - 0.004 * age),
            (place(sitter, side * 0.13), 0.54, 0.045, 0.036, 0.013 + 0.008 * smile),
            (place(sitter, side * 0.036 * nose, 1.4), NOSE_LINE, 0.013, 0.012, 0.011),
            (place(sitter, side * 0.088), 0.62, 0.009, 0.032, -0.002 - 0.004 * (smile + age)),
        ]
    return rows


def _texture(rng: np.random.Generator, frame: Frame, sitter: Sitter) -> Array:
    """Mottling, pores and freckles as a factor of the skin's tone, float32 [n, n]."""
    tone = 1 + 0.025 * noise(rng, frame.n, 14) + 0.03 * noise(rng, frame.n, frame.n // 2)
    if sitter.freckles > 0:
        spots = np.clip(noise(rng, frame.n, 48) - 1.0, 0, 1.0) * frame.bump(0.5, 0.53, 0.14, 0.06)
        tone *= 1 - 0.4 * sitter.freckles * spots
    return tone


def _flush(frame: Frame, sitter: Sitter, albedo: Array) -> None:
    """Reddens cheeks and nose on the uint8 albedo in place."""
    flush = 0.8 * frame.bump(place(sitter, 0, 1.5), NOSE_LINE - 0.01, 0.03, 0.025)
    for side in (-1, 1):
        flush += frame.bump(place(sitter, side * 0.135), 0.55, 0.055, 0.045)
    weight = 1 - flush[..., None] * np.array([0.09, 0.10], np.float32) * (0.5 + 0.6 * sitter.femininity)
    albedo[..., 1:] = np.round(albedo[..., 1:] * weight)


def _beard(rng: np.random.Generator, frame: Frame, sitter: Sitter, albedo: Array, head: Array) -> None:
    """Darkens jaw, chin and upper lip in place; light stubble to a full beard."""
    rows = np.s_[int(0.5 * frame.n) : int(0.9 * frame.n)]
    y, x = frame.axis[rows, None], np.abs(frame.axis[None, :] - place(sitter, 0))
    jaw = np.clip(0.5 + (y - 0.70 + 0.9 * (x - 0.06)) / 0.06, 0, 1)
    lip = frame.bump(place(sitter, 0), MOUTH_LINE - 0.036, 0.055, 0.011)[rows]
    bare = frame.bump(place(sitter, 0), MOUTH_LINE + 0.008, 0.05, 0.016)[rows]
    where = np.clip(np.maximum(jaw, lip) - 0.8 * bare, 0, 1) * head[rows]
    grain = np.clip(0.8 + 0.22 * noise(rng, frame.n, frame.n // 2)[rows], 0, 1)
    weight = (where * grain * np.float32(sitter.beard * 0.85))[..., None]
    albedo[rows] = albedo[rows] + weight * (sitter.hair * 0.9 - albedo[rows])


def _lips(frame: Frame, sitter: Sitter, albedo: Array) -> None:
    """Paints both lips on the uint8 albedo in place."""
    made_up = np.array([170, 52, 62], np.float32) * sitter.femininity + sitter.skin * (1 - sitter.femininity)
    rose = sitter.skin * np.array([0.90, 0.66, 0.66], np.float32) * 0.75 + made_up * 0.25
    upper, lower = _lip_curves(sitter)
    inner_top, inner_low = _inner_curves(sitter)
    rows = np.s_[int((MOUTH_LINE - 0.06) * frame.n) : int((MOUTH_LINE + 0.08) * frame.n)]
    frame.fill(albedo, upper + inner_top[::-1], rose * 0.9)
    frame.fill(albedo, inner_low + lower[::-1], np.clip(rose * 1.04, 0, 255))
    albedo[rows] = frame.blurred(albedo[rows], 0.005)


def _mouth_curve(sitter: Sitter, spans: Array, offset: Array) -> Points:
    """A curve of the mouth: spans in -1..1 between the corners, offset below its middle line."""
    smile = max(sitter.smile, 0)
    half = 0.064 + 0.014 * smile + 0.004 * (1 - sitter.femininity)
    x = [place(sitter, float(t) * half) for t in spans]
    lift = 0.018 * sitter.smile * (spans**2 - 0.4)
    return pairs(np.array(x), MOUTH_LINE - lift + offset)


def _lip_curves(sitter: Sitter) -> tuple[Points, Points]:
    """The outer edges of the upper and the lower lip."""
    t = np.linspace(-1, 1, 17)
    gap, full = 0.5 * _gap(sitter) * (1 - t * t), sitter.lip_fullness
    bow = 0.018 * full * (1 - np.abs(t) ** 1.6) - 0.005 * np.exp(-((t / 0.16) ** 2))
    bowl = 0.025 * full * (1 - t * t) ** 0.8
    return _mouth_curve(sitter, t, -bow - gap), _mouth_curve(sitter, t, bowl + gap)


def _inner_curves(sitter: Sitter) -> tuple[Points, Points]:
    """The inner edges of the lips; the same line where the mouth is closed."""
    t = np.linspace(-0.94, 0.94, 15)
    gap = 0.5 * _gap(sitter) * (1 - t * t)
    return _mouth_curve(sitter, t, -0.6 * gap), _mouth_curve(sitter, t, 1.2 * gap)


def _gap(sitter: Sitter) -> float:
    return 0.042 * sitter.opening


def mouth(frame: Frame, sitter: Sitter, light: Light, canvas: Array) -> None:
    """The line between the lips, or the open mouth with teeth, on the lit canvas, uint8 [n, n, 3], in place."""
    top, low = _inner_curves(sitter)
    dark = sitter.skin * np.array([0.40, 0.25, 0.23], np.float32) * light.strength
    if _gap(sitter) > 0:
        frame.fill(canvas, top + low[::-1], dark * 0.8)
        enamel = np.array([232, 226, 218], np.float32) * light.colour * light.strength * 0.92
        edge = [(x, y + 0.75 * (q - y)) for (x, y), (_, q) in zip(top, low, strict=True)]
        frame.fill(canvas, top[1:-1] + edge[1:-1][::-1], np.clip(enamel, 0, 245))
    frame.stroke(canvas, top, dark, 0.005)
