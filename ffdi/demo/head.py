"""Draws the head: skin, relief, beard and mouth; eyes, brows and glasses; hair in front of the head and behind it."""

from __future__ import annotations

import cv2
import numpy as np

from ffdi.demo.canvas import Array, Frame, Light, Points, Sheet, make_noise, sample_muted_colour, to_points
from ffdi.demo.person import (
    CHIN,
    CROWN,
    EYE_LINE,
    EYE_OFFSET,
    MOUTH_LINE,
    NOSE_LINE,
    Person,
    locate,
    make_outline,
    measure_half_width,
)


def draw_head(
    rng: np.random.Generator,
    frame: Frame,
    person: Person,
    light: Light,
    sheet: Sheet,
    front: Array,
) -> None:
    """Lays the head with its painted features; `front`, float32 [n, n], is the hair that shades it."""
    edge = make_outline(person)
    mask = frame.make_mask(edge)
    frame.fill(sheet.albedo, edge, person.skin)
    _draw_lips(frame, person, sheet.albedo)
    paint_brows(rng, frame, person, sheet.albedo)
    _redden(frame, person, sheet.albedo)
    if person.beard > 0:
        _draw_beard(rng, frame, person, sheet.albedo, mask)
    shadow = np.roll(frame.blur(front, 0.018), round(0.02 * frame.n), axis=0)
    tone = (1 - 0.36 * shadow) * _make_texture(rng, frame, person)
    facing = frame.compute_facing(_compute_relief(frame, person), light)
    gloss = 0.13 * np.clip(facing, 0, 1) ** 16
    sheet.lay(mask, facing, tone + gloss)


def _compute_relief(frame: Frame, person: Person) -> Array:
    """The face's height towards the viewer, float32 [n, n] in fractions of the side."""
    half = np.maximum(measure_half_width(person, frame.axis), 1e-3)[:, None]
    centre = 0.5 + 0.012 * person.yaw
    across = ((frame.axis[None, :] - centre) / (half * 1.04)) ** 2
    height = 0.17 * np.sqrt(np.clip(1 - across, 0.01, 1)) * np.sqrt(half / person.width)
    x, y, wide, high, depth = (c[:, None] for c in np.array(_list_bumps(person), np.float32).T)
    rows = np.exp(-0.5 * ((frame.axis - y) / high) ** 2) * depth
    columns = np.exp(-0.5 * ((frame.axis - x) / wide) ** 2)
    height += np.einsum("ky,kx->yx", rows, columns)
    return frame.blur(height.astype(np.float32), 0.006)


def _list_bumps(person: Person) -> list[tuple[float, float, float, float, float]]:
    """Rows (x, y, width, height, depth) of the Gaussian bumps that make a face."""
    nose, smile, age = person.nose_width, max(person.smile, 0), person.age
    soft, lip, middle = person.femininity, person.lip_fullness, locate(person, 0)
    rows = [
        (locate(person, 0, 1.3), 0.50, 0.016 * nose, 0.050, 0.019),
        (locate(person, 0, 1.6), NOSE_LINE - 0.012, 0.021 * nose, 0.021, 0.026),
        (middle, MOUTH_LINE - 0.022, 0.05, 0.02, 0.005),
        (middle, MOUTH_LINE + 0.016, 0.034, 0.012, 0.007 * lip),
        (middle, MOUTH_LINE + 0.042, 0.03, 0.012, -0.007),
        (middle, CHIN - 0.05, 0.04, 0.03, 0.015),
        (middle, 0.26, 0.13, 0.06, 0.012),
    ]
    for side in (-1, 1):
        eye = locate(person, side * EYE_OFFSET)
        rows += [
            (eye, EYE_LINE - 0.004, 0.042, 0.028, -0.015),
            (eye, EYE_LINE - 0.06, 0.06, 0.018, 0.010 - 0.005 * soft),
            (eye, EYE_LINE + 0.045, 0.03, 0.006, -0.001 - 0.004 * age),
            (locate(person, side * 0.13), 0.54, 0.045, 0.036, 0.013 + 0.008 * smile),
            (locate(person, side * 0.036 * nose, 1.4), NOSE_LINE, 0.013, 0.012, 0.011),
            (locate(person, side * 0.088), 0.62, 0.009, 0.032, -0.002 - 0.004 * (smile + age)),
        ]
    return rows


def _make_texture(rng: np.random.Generator, frame: Frame, person: Person) -> Array:
    """Mottling, pores and freckles as a factor of the skin's tone, float32 [n, n]."""
    tone = 1 + 0.025 * make_noise(rng, frame.n, 14) + 0.03 * make_noise(rng, frame.n, frame.n // 2)
    if person.freckles > 0:
        spots = np.clip(make_noise(rng, frame.n, 48) - 1.0, 0, 1.0) * frame.make_bump(0.5, 0.53, 0.14, 0.06)
        tone *= 1 - 0.4 * person.freckles * spots
    return tone


def _redden(frame: Frame, person: Person, albedo: Array) -> None:
    """Reddens cheeks and nose on the uint8 albedo in place."""
    flush = 0.8 * frame.make_bump(locate(person, 0, 1.5), NOSE_LINE - 0.01, 0.03, 0.025)
    for side in (-1, 1):
        flush += frame.make_bump(locate(person, side * 0.135), 0.55, 0.055, 0.045)
    weight = 1 - flush[..., None] * np.array([0.09, 0.10], np.float32) * (0.5 + 0.6 * person.femininity)
    albedo[..., 1:] = np.round(albedo[..., 1:] * weight)


def _draw_beard(rng: np.random.Generator, frame: Frame, person: Person, albedo: Array, head: Array) -> None:
    """Darkens jaw, chin and upper lip in place; light stubble to a full beard."""
    rows = np.s_[int(0.5 * frame.n) : int(0.9 * frame.n)]
    y, x = frame.axis[rows, None], np.abs(frame.axis[None, :] - locate(person, 0))
    jaw = np.clip(0.5 + (y - 0.70 + 0.9 * (x - 0.06)) / 0.06, 0, 1)
    lip = frame.make_bump(locate(person, 0), MOUTH_LINE - 0.036, 0.055, 0.011)[rows]
    bare = frame.make_bump(locate(person, 0), MOUTH_LINE + 0.008, 0.05, 0.016)[rows]
    where = np.clip(np.maximum(jaw, lip) - 0.8 * bare, 0, 1) * head[rows]
    grain = np.clip(0.8 + 0.22 * make_noise(rng, frame.n, frame.n // 2)[rows], 0, 1)
    weight = (where * grain * np.float32(person.beard * 0.85))[..., None]
    albedo[rows] = albedo[rows] + weight * (person.hair * 0.9 - albedo[rows])


def _draw_lips(frame: Frame, person: Person, albedo: Array) -> None:
    """Paints both lips on the uint8 albedo in place."""
    made_up = np.array([170, 52, 62], np.float32) * person.femininity + person.skin * (1 - person.femininity)
    rose = person.skin * np.array([0.90, 0.66, 0.66], np.float32) * 0.75 + made_up * 0.25
    upper, lower = _make_lip_curves(person)
    inner_top, inner_low = _make_inner_curves(person)
    rows = np.s_[int((MOUTH_LINE - 0.06) * frame.n) : int((MOUTH_LINE + 0.08) * frame.n)]
    frame.fill(albedo, upper + inner_top[::-1], rose * 0.9)
    frame.fill(albedo, inner_low + lower[::-1], np.clip(rose * 1.04, 0, 255))
    albedo[rows] = frame.blur(albedo[rows], 0.005)


def _make_mouth_curve(person: Person, spans: Array, offset: Array) -> Points:
    """A curve of the mouth: spans in -1..1 between the corners, offset below its middle line."""
    smile = max(person.smile, 0)
    half = 0.064 + 0.014 * smile + 0.004 * (1 - person.femininity)
    x = [locate(person, float(t) * half) for t in spans]
    lift = 0.018 * person.smile * (spans**2 - 0.4)
    return to_points(np.array(x), MOUTH_LINE - lift + offset)


def _make_lip_curves(person: Person) -> tuple[Points, Points]:
    """The outer edges of the upper and the lower lip."""
    t = np.linspace(-1, 1, 17)
    gap, full = 0.5 * _compute_gap(person) * (1 - t * t), person.lip_fullness
    bow = 0.018 * full * (1 - np.abs(t) ** 1.6) - 0.005 * np.exp(-((t / 0.16) ** 2))
    bowl = 0.025 * full * (1 - t * t) ** 0.8
    return _make_mouth_curve(person, t, -bow - gap), _make_mouth_curve(person, t, bowl + gap)


def _make_inner_curves(person: Person) -> tuple[Points, Points]:
    """The inner edges of the lips; the same line where the mouth is closed."""
    t = np.linspace(-0.94, 0.94, 15)
    gap = 0.5 * _compute_gap(person) * (1 - t * t)
    return _make_mouth_curve(person, t, -0.6 * gap), _make_mouth_curve(person, t, 1.2 * gap)


def _compute_gap(person: Person) -> float:
    return 0.042 * person.opening


def draw_mouth(frame: Frame, person: Person, light: Light, canvas: Array) -> None:
    """The line between the lips, or the open mouth with teeth, on the lit canvas, uint8 [n, n, 3], in place."""
    top, low = _make_inner_curves(person)
    dark = person.skin * np.array([0.40, 0.25, 0.23], np.float32) * light.strength
    if _compute_gap(person) > 0:
        frame.fill(canvas, top + low[::-1], dark * 0.8)
        enamel = np.array([232, 226, 218], np.float32) * light.colour * light.strength * 0.92
        edge = [(x, y + 0.75 * (q - y)) for (x, y), (_, q) in zip(top, low, strict=True)]
        frame.fill(canvas, top[1:-1] + edge[1:-1][::-1], np.clip(enamel, 0, 245))
    frame.stroke(canvas, top, dark, 0.005)


def paint_brows(rng: np.random.Generator, frame: Frame, person: Person, albedo: Array) -> None:
    """Paints the eyebrows on the albedo, uint8 [n, n, 3], in place, with soft edges."""
    colour = np.clip(person.hair * 0.65 + person.skin * 0.15, 0, 190)
    thick, arch = 0.022 - 0.009 * person.femininity, rng.uniform(0.008, 0.022)
    lift, t = rng.uniform(-0.005, 0.005), np.linspace(0, 1, 9)
    rows = np.s_[int((EYE_LINE - 0.12) * frame.n) : int((EYE_LINE - 0.025) * frame.n)]
    before = albedo[rows].copy()
    y = EYE_LINE - 0.062 + lift - arch * np.sin(np.pi * np.minimum(t * 0.85, 1))
    body = 0.5 * thick * (1 - 0.75 * t)
    for side in (-1, 1):
        x = np.array([locate(person, side * (0.054 + 0.112 * float(k)), 1.1) for k in t])
        rim, sill = to_points(x, y - body), to_points(x, y + body)
        frame.fill(albedo, rim + sill[::-1], colour)
    soft = frame.blur(albedo[rows], 0.005)
    albedo[rows] = cv2.addWeighted(soft, 0.85, before, 0.15, 0)


def draw_eye(frame: Frame, person: Person, light: Light, canvas: Array, side: int) -> None:
    """One eye on the lit canvas, uint8 [n, n, 3], in place; `side` is -1 for the left one in the picture."""
    x, y = locate(person, side * EYE_OFFSET), EYE_LINE
    lid, sill = _make_lids(person, x, y, side)
    eyeball = canvas.copy()
    _draw_eyeball(frame, person, light, eyeball, x, y)
    top, left, span = int((y - 0.06) * frame.n), int((x - 0.07) * frame.n), int(0.14 * frame.n)
    window = np.s_[top : top + span, left : left + span]
    opening = frame.make_mask(lid + sill[::-1])[window][..., None]
    canvas[window] = canvas[window] * (1 - opening) + eyeball[window] * opening
    shade = person.skin * np.array([0.5, 0.4, 0.38], np.float32) * light.strength
    made_up = np.minimum(person.hair * 0.4, 60)
    lash = made_up * person.femininity + shade * 0.6 * (1 - person.femininity)
    crease = [(px, py - 0.013 * person.eye_size) for px, py in lid[2:-2]]
    frame.stroke(canvas, crease, shade * 1.35, 0.004)
    frame.stroke(canvas, sill[1:-1], shade * 1.3, 0.004)
    frame.stroke(canvas, lid, lash, 0.007)


def _make_lids(person: Person, x: float, y: float, side: int) -> tuple[Points, Points]:
    """The upper and the lower edge of an eye's opening."""
    half = 0.047 * person.eye_size
    high = 0.0285 * person.eye_size * (1 - 0.18 * max(person.smile, 0)) * (1 - 0.15 * person.age)
    t = np.linspace(-1, 1, 13)
    level = y - 0.004 * side * t
    lid = to_points(x + half * t, level - high * (1 - t * t) ** 0.8)
    return lid, to_points(x + half * t, level + 0.62 * high * (1 - t * t))


def _draw_eyeball(frame: Frame, person: Person, light: Light, canvas: Array, x: float, y: float) -> None:
    """White, iris, pupil and catch-light, visible through the opening of the lids."""
    white = np.array([228, 222, 218], np.float32) * light.colour * min(light.strength, 1.0)
    iris, radius = person.iris * light.strength, 0.0225
    gx, gy = x + 0.010 * (person.gaze + person.yaw * 0.5), y - 0.003
    for low, tone in ((0.05, 1.0), (-0.014, 0.72)):
        corners = [(-0.06, -0.05), (0.06, -0.05), (0.06, low), (-0.06, low)]
        frame.fill(canvas, [(x + dx, y + dy) for dx, dy in corners], white * tone)
    frame.fill_disc(canvas, gx, gy, radius, iris * 0.5)
    frame.fill_disc(canvas, gx, gy + 0.002, radius * 0.82, np.clip(iris * 1.15, 0, 255))
    frame.fill_disc(canvas, gx, gy, radius * 0.42, np.array([12, 10, 10], np.float32))
    # The cornea mirrors the lamp on the side from which the light comes.
    dx, dy = 0.011 * float(light.direction[0]), 0.011 * float(light.direction[1])
    frame.fill_disc(canvas, gx + dx, gy + dy, 0.006, np.array([252, 252, 250], np.float32))


def draw_glasses(rng: np.random.Generator, frame: Frame, person: Person, light: Light, canvas: Array) -> None:
    """Rims, bridge and temples on the lit canvas, uint8 [n, n, 3], in place."""
    colour = sample_muted_colour(rng) * rng.uniform(0.15, 0.5) * light.strength
    power, thick = 2 / rng.uniform(2.0, 4.5), rng.uniform(0.006, 0.012)
    angle = np.linspace(0, 2 * np.pi, 40)
    c, s = np.cos(angle), np.sin(angle)
    reach = person.width - (0.02 if person.length in ("bob", "long") else -0.004)
    for side in (-1, 1):
        x = locate(person, side * (EYE_OFFSET + 0.004), 1.3)
        px = x + 0.08 * np.sign(c) * np.abs(c) ** power
        py = EYE_LINE + 0.012 + 0.056 * np.sign(s) * np.abs(s) ** power
        frame.stroke(canvas, to_points(px, py), colour, thick)
        hinge = (x + side * 0.08, EYE_LINE)
        frame.stroke(canvas, [hinge, (0.5 + side * reach, EYE_LINE + 0.005)], colour, thick)
    bridge = [(locate(person, d, 1.3), EYE_LINE - abs(d) * 0.3) for d in (-0.026, 0.0, 0.026)]
    frame.stroke(canvas, bridge, colour, thick)


def make_strands(rng: np.random.Generator, frame: Frame, person: Person) -> Array:
    """Hair texture in about -2..2, float32 [n, n]: streaks that leave the parting, or curls."""
    if person.style == "curls":
        return make_noise(rng, frame.n, 26) * 0.9 + 0.5 * make_noise(rng, frame.n, 60)
    x, y = frame.axis[None, :] - 0.5 - person.part, frame.axis[:, None] - CROWN + 0.13
    angle = cv2.phase(np.repeat(y, frame.n, 1), np.repeat(x, frame.n, 0))
    angle = (angle + np.pi) % (2 * np.pi) - np.pi
    bend = rng.uniform(0, 0.03) * np.sin(y * rng.uniform(20, 45) + rng.uniform(0, 6))
    streaks = sum(np.interp(np.arange(600), np.linspace(0, 600, k), rng.normal(0, 1, k)) for k in (40, 110, 260))
    index = np.clip((angle + bend) * 150 + 300, 0, 599).astype(np.int32)
    return np.asarray(streaks / 1.6, np.float32)[index]


def make_front_hair(rng: np.random.Generator, frame: Frame, person: Person, strands: Array) -> Array:
    """Cover of the hair in front of the head, float32 [n, n] like `make_strands`."""
    if person.style == "bald":
        return np.zeros((frame.n, frame.n), np.float32)
    thin, curls = person.style == "buzz", person.style == "curls"
    outer = frame.make_mask(make_outline(person, 0.006 if thin else person.volume + 0.05 * curls))
    if person.length == "bun":
        knot = frame.make_bump(0.5, CROWN - 0.035, 0.075, 0.05) > 0.5
        outer = np.maximum(outer, knot.astype(np.float32))
    low = {"short": 0.455, "bun": 0.44, "bob": 0.75, "long": 1.2}[person.length]
    outer *= np.clip((low - frame.axis) / 0.04, 0, 1)[:, None]
    if person.length in ("bob", "long"):
        outer = np.maximum(outer, _draw_curtain(frame, person, low))
    bare = 1 - frame.make_mask(_make_hairline(rng, person))
    ragged = frame.blur(outer * bare, 0.009) + (0.03 if thin else 0.10) * strands
    edge = np.clip((ragged - 0.36) / 0.28, 0, 1) * (frame.blur(outer, 0.02) > 0.02)
    return edge.astype(np.float32) * np.float32(0.72 if thin else 1.0)


def _draw_curtain(frame: Frame, person: Person, low: float) -> Array:
    """The two bands of longer hair at both sides of the face."""
    reach, tip, inner = person.width + person.volume, min(low, 1.1), person.width - 0.028
    band = [
        (0.5 + inner, 0.38),
        (0.5 + reach - 0.004, 0.38),
        (0.5 + reach, 0.48),
        (0.5 + reach + 0.016, 0.65),
        (0.5 + reach + 0.006, tip),
        (0.5 + inner - 0.03, tip),
        (0.5 + inner + 0.005, 0.62),
    ]
    return np.maximum(frame.make_mask(band), frame.make_mask([(1 - x, y) for x, y in band]))


def _make_hairline(rng: np.random.Generator, person: Person) -> Points:
    """The part of the head without hair, as a polygon from temple to temple."""
    t = np.linspace(-1, 1, 25)
    side, away = float(np.sign(person.part)), np.abs(t)
    line = {"fringe": 0.335, "receding": 0.21, "curls": 0.265}.get(person.style, 0.24)
    shape = {
        "side": 0.075 * np.abs(t - side * 0.55) ** 1.2 + 0.05 * away**4 - 0.02,
        "curtain": 0.14 * away**1.1 - 0.05,
        "receding": 0.03 * np.cos(t * 6.5) + 0.10 * away**6,
        "fringe": 0.02 * away**2 + rng.normal(0, 0.007, len(t)),
    }.get(person.style, 0.10 * away**4)
    half = person.width - (0.012 if person.length in ("bob", "long") else 0.002)
    top = to_points(0.5 + half * t, line + rng.uniform(-0.01, 0.02) + shape)
    right = [(0.501 + half, 0.46), (0.488 + half, 1.2)]
    return top + right + [(1 - x, y) for x, y in reversed(right)]


def make_back_hair(frame: Frame, person: Person, strands: Array) -> Array:
    """Cover of the hair behind neck and ears, float32 [n, n] like `make_strands`."""
    if person.length not in ("bob", "long"):
        return np.zeros((frame.n, frame.n), np.float32)
    low = 0.79 if person.length == "bob" else 1.2
    reach = person.width + person.volume
    right = [(0.5 + reach - 0.02, 0.4), (0.5 + reach + 0.01, 0.65), (0.5 + reach + 0.01, low)]
    mask = frame.make_mask(right + [(1 - x, y) for x, y in reversed(right)])
    return np.clip((frame.blur(mask, 0.012) + 0.12 * strands - 0.36) / 0.28, 0, 1)


def make_hair_relief(frame: Frame, light: Light) -> Array:
    """The side of the hair towards the lamp, float32 [n, n]: a dome over the head."""
    across = 0.16 * np.sqrt(np.clip(1 - ((frame.axis - 0.5) / 0.34) ** 2, 0.05, 1))
    down = np.sqrt(np.clip((frame.axis - CROWN + 0.08) / 0.35, 0.02, 1))
    return frame.compute_facing((down[:, None] * across[None, :]).astype(np.float32), light)


def make_sheen(frame: Frame, light: Light, strands: Array) -> Array:
    """The bright band across hair (at the place from Kajiya and Kay, 1989), float32 [n, n]."""
    x = 0.5 + 0.13 * float(light.direction[0])
    return frame.make_bump(x, 0.19, 0.12, 0.03) * np.clip(0.5 + 0.35 * strands, 0, 1)
