"""Head-and-shoulders portraits of people who do not exist, drawn from random numbers alone.

A portrait is built as a painter would: hair behind, body, head, features, hair in front, backdrop. It is drawn at
`OVERSAMPLING` times the size, averaged down, then passed through a simple camera.
"""

from __future__ import annotations

import cv2
import numpy as np

from ffdi.demo import backdrop, eyes, face, hair
from ffdi.demo.canvas import Array, Frame, Light, Sheet, muted, noise, pairs, random_light
from ffdi.demo.sitter import CHIN, Sitter, random_sitter

OVERSAMPLING = 1.5


def draw(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draws one portrait as uint8 RGB [size, size, 3]; everything in it follows from `rng`."""
    frame = Frame(round(OVERSAMPLING * size))
    sitter, light = random_sitter(rng), random_light(rng)
    scene = backdrop.background(rng, frame)
    person, cover = backdrop.posed(rng, *_person(rng, frame, sitter, light))
    scene += cover[..., None] * (person - scene)
    small = cv2.resize(scene, (size, size), interpolation=cv2.INTER_AREA)
    return backdrop.photographed(rng, small)


def _person(rng: np.random.Generator, frame: Frame, sitter: Sitter, light: Light) -> tuple[Array, Array]:
    """The lit person as float32 RGB [n, n, 3] and its float32 [n, n] cover."""
    strands = hair.strands(rng, frame, sitter)
    shine, gloss = hair.hair_relief(frame, light), 0.9 + 0.17 * strands
    front = hair.front_hair(rng, frame, sitter, strands)
    sheet = Sheet(frame, sitter.hair, shine, gloss * 0.7, hair.back_hair(frame, sitter, strands))
    _neck(frame, sitter, light, sheet)
    _clothes(rng, frame, sitter, light, sheet)
    _ears(frame, sitter, light, sheet)
    face.head(rng, frame, sitter, light, sheet, front)
    sheet.lay(front, shine, gloss * (1 + 0.8 * hair.sheen(frame, light, strands)))
    sheet.albedo = sheet.albedo + front[..., None] * (sitter.hair - sheet.albedo)
    canvas = np.clip(sheet.lit(light), 0, 255).astype(np.uint8)
    face.mouth(frame, sitter, light, canvas)
    for side in (-1, 1):
        eyes.eye(frame, sitter, light, canvas, side)
    if sitter.glasses:
        eyes.glasses(rng, frame, sitter, light, canvas)
    return canvas.astype(np.float32), sheet.cover


def _neck(frame: Frame, sitter: Sitter, light: Light, sheet: Sheet) -> None:
    thick = 0.135 - 0.03 * sitter.femininity
    ends = [(0.5 + thick, 0.6), (0.5 + thick * 1.15, 1.2)]
    neck = ends + [(1 - x, y) for x, y in reversed(ends)]
    dome = 0.09 * np.sqrt(np.clip(1 - ((frame.axis - 0.5) / (thick * 1.2)) ** 2, 0.02, 1))
    height = np.repeat(dome[None, :].astype(np.float32), frame.n, axis=0)
    lean = 0.03 * float(light.direction[0])
    tone = 0.92 - 0.42 * frame.bump(0.5 - lean, CHIN + 0.01, 0.16, 0.045)
    frame.fill(sheet.albedo, neck, sitter.skin)
    sheet.lay(frame.area(neck), frame.facing(height, light), tone)


def _clothes(rng: np.random.Generator, frame: Frame, sitter: Sitter, light: Light, sheet: Sheet) -> None:
    wide = 0.47 - 0.07 * sitter.femininity + rng.uniform(-0.02, 0.03)
    top, edge = rng.uniform(0.875, 0.91), 0.12
    across = np.linspace(-1.0, 1.0, 41)
    slope = np.clip((np.abs(across) * wide - edge) / (wide - edge), 0, 1) ** 1.8
    dip = np.clip(1 - np.abs(across) * wide / edge, 0, 1) ** rng.uniform(0.4, 1.1)
    ridge = pairs(0.5 + across * wide, top + 0.12 * slope + rng.uniform(0.01, 0.09) * dip)
    coat = [*ridge, (0.5 + wide * 1.1, 1.3), (0.5 - wide * 1.1, 1.3)]
    mask = frame.area(coat)
    height = frame.blurred(mask, 0.035) * 0.10 + noise(rng, frame.n, 10) * 0.006
    tone = 0.7 + 0.3 * frame.blurred(mask, 0.01)
    if rng.random() < 0.3:
        wave = np.sin(frame.axis * rng.uniform(60, 150) + rng.uniform(0, 6))
        tone = tone * (1 - 0.25 * (wave > 0.2))[:, None].astype(np.float32)
    frame.fill(sheet.albedo, coat, muted(rng) * rng.uniform(0.5, 1.05))
    sheet.lay(mask, frame.facing(height, light), tone)


def _ears(frame: Frame, sitter: Sitter, light: Light, sheet: Sheet) -> None:
    angle = np.linspace(0, 2 * np.pi, 20)
    ears = np.zeros((frame.n, frame.n), np.float32)
    tone = np.full((frame.n, frame.n), 0.96, np.float32)
    for side in (-1, 1):
        x = 0.5 + side * (sitter.width - 0.002) - 0.012 * sitter.yaw
        lobe = pairs(x + 0.03 * np.cos(angle), 0.475 + 0.06 * np.sin(angle + 0.25 * side))
        frame.fill(sheet.albedo, lobe, sitter.skin * np.array([1.0, 0.92, 0.9], np.float32))
        ears = np.maximum(ears, frame.area(lobe))
        tone -= 0.35 * frame.bump(x + 0.008 * side, 0.475, 0.009, 0.026)
    sheet.lay(ears, frame.facing(frame.blurred(ears, 0.012) * 0.03, light), tone)
