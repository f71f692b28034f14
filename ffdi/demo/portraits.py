"""Head-and-shoulders portraits of people who do not exist, drawn from random numbers.

A portrait is painted in layers: hair behind the head, body, head, features, hair in front. It is drawn at
`OVERSAMPLING` times the size, shrunk, put on a background, then passed through a simple camera.
"""

from __future__ import annotations

import cv2
import numpy as np

from ffdi.demo import head
from ffdi.demo.canvas import (
    Array,
    Frame,
    Light,
    Sheet,
    make_noise,
    sample_light,
    sample_muted_colour,
    to_ink,
    to_points,
)
from ffdi.demo.person import CHIN, Person, sample_person

OVERSAMPLING = 1.5


def draw_portrait(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draws one portrait as uint8 RGB [size, size, 3]; the same state of `rng` gives the same portrait."""
    frame = Frame(round(OVERSAMPLING * size))
    person, light = sample_person(rng), sample_light(rng)
    scene = draw_background(rng, frame)
    figure, cover = apply_pose(rng, *_draw_figure(rng, frame, person, light))
    scene += cover[..., None] * (figure - scene)
    small = cv2.resize(scene, (size, size), interpolation=cv2.INTER_AREA)
    return apply_camera(rng, small)


def _draw_figure(rng: np.random.Generator, frame: Frame, person: Person, light: Light) -> tuple[Array, Array]:
    """The lit figure as float32 RGB [n, n, 3] and its float32 [n, n] cover."""
    strands = head.make_strands(rng, frame, person)
    shine, gloss = head.make_hair_relief(frame, light), 0.9 + 0.17 * strands
    front = head.make_front_hair(rng, frame, person, strands)
    sheet = Sheet(frame, person.hair, shine, gloss * 0.7, head.make_back_hair(frame, person, strands))
    _draw_neck(frame, person, light, sheet)
    _draw_clothes(rng, frame, person, light, sheet)
    _draw_ears(frame, person, light, sheet)
    head.draw_head(rng, frame, person, light, sheet, front)
    sheet.lay(front, shine, gloss * (1 + 0.8 * head.make_sheen(frame, light, strands)))
    sheet.albedo = sheet.albedo + front[..., None] * (person.hair - sheet.albedo)
    canvas = np.clip(sheet.render(light), 0, 255).astype(np.uint8)
    head.draw_mouth(frame, person, light, canvas)
    for side in (-1, 1):
        head.draw_eye(frame, person, light, canvas, side)
    if person.glasses:
        head.draw_glasses(rng, frame, person, light, canvas)
    return canvas.astype(np.float32), sheet.cover


def _draw_neck(frame: Frame, person: Person, light: Light, sheet: Sheet) -> None:
    thick = 0.135 - 0.03 * person.femininity
    ends = [(0.5 + thick, 0.6), (0.5 + thick * 1.15, 1.2)]
    neck = ends + [(1 - x, y) for x, y in reversed(ends)]
    dome = 0.09 * np.sqrt(np.clip(1 - ((frame.axis - 0.5) / (thick * 1.2)) ** 2, 0.02, 1))
    height = np.repeat(dome[None, :].astype(np.float32), frame.n, axis=0)
    lean = 0.03 * float(light.direction[0])
    tone = 0.92 - 0.42 * frame.make_bump(0.5 - lean, CHIN + 0.01, 0.16, 0.045)
    frame.fill(sheet.albedo, neck, person.skin)
    sheet.lay(frame.make_mask(neck), frame.compute_facing(height, light), tone)


def _draw_clothes(rng: np.random.Generator, frame: Frame, person: Person, light: Light, sheet: Sheet) -> None:
    wide = 0.47 - 0.07 * person.femininity + rng.uniform(-0.02, 0.03)
    top, edge = rng.uniform(0.875, 0.91), 0.12
    across = np.linspace(-1.0, 1.0, 41)
    slope = np.clip((np.abs(across) * wide - edge) / (wide - edge), 0, 1) ** 1.8
    dip = np.clip(1 - np.abs(across) * wide / edge, 0, 1) ** rng.uniform(0.4, 1.1)
    ridge = to_points(0.5 + across * wide, top + 0.12 * slope + rng.uniform(0.01, 0.09) * dip)
    coat = [*ridge, (0.5 + wide * 1.1, 1.3), (0.5 - wide * 1.1, 1.3)]
    mask = frame.make_mask(coat)
    height = frame.blur(mask, 0.035) * 0.10 + make_noise(rng, frame.n, 10) * 0.006
    tone = 0.7 + 0.3 * frame.blur(mask, 0.01)
    if rng.random() < 0.3:
        wave = np.sin(frame.axis * rng.uniform(60, 150) + rng.uniform(0, 6))
        tone = tone * (1 - 0.25 * (wave > 0.2))[:, None].astype(np.float32)
    frame.fill(sheet.albedo, coat, sample_muted_colour(rng) * rng.uniform(0.5, 1.05))
    sheet.lay(mask, frame.compute_facing(height, light), tone)


def _draw_ears(frame: Frame, person: Person, light: Light, sheet: Sheet) -> None:
    angle = np.linspace(0, 2 * np.pi, 20)
    ears = np.zeros((frame.n, frame.n), np.float32)
    tone = np.full((frame.n, frame.n), 0.96, np.float32)
    for side in (-1, 1):
        x = 0.5 + side * (person.width - 0.002) - 0.012 * person.yaw
        lobe = to_points(x + 0.03 * np.cos(angle), 0.475 + 0.06 * np.sin(angle + 0.25 * side))
        frame.fill(sheet.albedo, lobe, person.skin * np.array([1.0, 0.92, 0.9], np.float32))
        ears = np.maximum(ears, frame.make_mask(lobe))
        tone -= 0.35 * frame.make_bump(x + 0.008 * side, 0.475, 0.009, 0.026)
    sheet.lay(ears, frame.compute_facing(frame.blur(ears, 0.012) * 0.03, light), tone)


def draw_background(rng: np.random.Generator, frame: Frame) -> Array:
    """A blurred background of one of four kinds, float32 RGB [n, n, 3] in 0..255."""
    kind = rng.choice(("plain", "bokeh", "wall", "interior"), p=(0.3, 0.3, 0.2, 0.2))
    base = sample_muted_colour(rng)
    coarse = _draw_gradient(rng, base)
    if kind == "bokeh":
        _draw_bokeh(rng, coarse)
    elif kind == "wall":
        _draw_wall(rng, coarse)
    elif kind == "interior":
        _draw_interior(rng, coarse)
    blur = rng.uniform(0.8, 2.0) if kind != "plain" else 2.0
    soft = cv2.GaussianBlur(coarse, (0, 0), blur).astype(np.float32)
    return np.clip(cv2.resize(soft, (frame.n, frame.n), interpolation=cv2.INTER_CUBIC), 0, 255)


def _draw_gradient(rng: np.random.Generator, base: Array, side: int = 64) -> Array:
    axis = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.45)
    ramp = 1 + depth * (np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None])
    return np.clip(ramp[..., None] * base, 0, 255).astype(np.uint8)


def _draw_bokeh(rng: np.random.Generator, coarse: Array) -> None:
    side = coarse.shape[0]
    tint = sample_muted_colour(rng)
    for _ in range(int(rng.integers(10, 26))):
        layer = coarse.copy()
        centre = tuple(int(c) for c in rng.integers(0, side, 2))
        glow = np.clip(tint * rng.uniform(0.6, 1.5) + rng.normal(0, 20, 3), 0, 255)
        cv2.circle(layer, centre, int(rng.integers(2, 9)), to_ink(glow), -1, cv2.LINE_AA)
        weight = rng.uniform(0.15, 0.5)
        cv2.addWeighted(layer, weight, coarse, 1 - weight, 0, dst=coarse)


def _draw_wall(rng: np.random.Generator, coarse: Array) -> None:
    side = coarse.shape[0]
    joint = coarse.mean((0, 1)) * rng.uniform(0.75, 0.9)
    step, shift = int(rng.integers(7, 14)), int(rng.integers(0, 7))
    for row, y in enumerate(range(shift, side, step)):
        cv2.line(coarse, (0, y), (side, y), to_ink(joint), 1)
        for x in range(shift + (row % 2) * step, side, 2 * step):
            cv2.line(coarse, (x, y), (x, y + step), to_ink(joint), 1)


def _draw_interior(rng: np.random.Generator, coarse: Array) -> None:
    side = coarse.shape[0]
    for _ in range(int(rng.integers(3, 8))):
        x, y = (int(c) for c in rng.integers(-8, side, 2))
        wide, high = (int(c) for c in rng.integers(6, 34, 2))
        colour = np.clip(sample_muted_colour(rng) * 0.4 + coarse.mean((0, 1)) * 0.6, 0, 255)
        cv2.rectangle(coarse, (x, y), (x + wide, y + high), to_ink(colour), -1)


def apply_pose(rng: np.random.Generator, figure: Array, cover: Array) -> tuple[Array, Array]:
    """Tilts, scales and moves a figure [n, n, 3] and its cover [n, n] a little; float32."""
    n = cover.shape[0]
    angle, scale = rng.normal(0, 4.0), rng.uniform(0.93, 1.06)
    turn = cv2.getRotationMatrix2D((n / 2, n * 0.5), float(angle), float(scale))
    turn[:, 2] += rng.normal(0, 0.012, 2) * n
    figure = cv2.warpAffine(figure, turn, (n, n), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(cover, turn, (n, n), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return figure, cover


def apply_camera(rng: np.random.Generator, scene: Array) -> np.ndarray:
    """Lens blur, white balance, exposure and signal-dependent noise: float32 RGB [s, s, 3] becomes uint8."""
    image = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.3, 0.6))
    image = image * (1 + rng.normal(0, 0.025, 3)).astype(np.float32) * np.float32(rng.uniform(0.92, 1.08))
    shot, read = rng.uniform(0.07, 0.13), rng.uniform(1.2, 1.8)
    spread = np.sqrt(shot * np.clip(image, 0, 255) + read**2)
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.round(image + spread * grain), 0, 255).astype(np.uint8)
