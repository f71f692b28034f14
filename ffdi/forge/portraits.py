"""Head-and-shoulders portraits of people who do not exist, drawn from random numbers alone.

A portrait is built as a painter would: hair behind, body, head, features, hair in front, backdrop.
Solid parts are height fields lit through their normals (half-Lambert, Valve 2006), flat parts are
polygons. Everything is drawn at `OVERSAMPLING` times the size and averaged down, then passed
through a simple camera. Positions are fractions of the picture's side, x to the right, y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

OVERSAMPLING = 1.5
CROWN = 0.115
EYE_LINE = 0.43
EYE_OFFSET = 0.108
CHEEK_LINE = 0.46
NOSE_LINE = 0.562
MOUTH_LINE = 0.668
CHIN = 0.81
SUBPIXEL_BITS = 4

SKINS = np.float32(
    [
        (248, 222, 205),
        (238, 204, 180),
        (226, 186, 156),
        (204, 156, 122),
        (170, 120, 90),
        (130, 90, 68),
        (98, 68, 54),
    ]
)
HAIRS = np.float32(
    [
        (30, 26, 26),
        (46, 34, 29),
        (70, 47, 36),
        (104, 71, 48),
        (134, 76, 46),
        (180, 138, 90),
        (216, 182, 130),
    ]
)
GREYS = np.float32([(120, 118, 118), (176, 174, 172), (222, 220, 216)])
IRISES = np.float32([(70, 44, 28), (92, 62, 36), (110, 96, 52), (84, 112, 82), (78, 112, 150), (110, 124, 134)])
STYLES = ("swept", "fringe", "side", "curtain", "receding", "curls", "buzz", "bald")
LENGTHS = ("short", "bob", "long", "bun")

Array: TypeAlias = np.ndarray
Points: TypeAlias = list[tuple[float, float]]


@dataclass(frozen=True)
class Sitter:
    """Who is drawn: colours are float32 RGB in 0..255, lengths are fractions of the side."""

    skin: Array
    hair: Array
    iris: Array
    femininity: float
    age: float
    width: float
    jaw: float
    style: str
    length: str
    part: float
    volume: float
    eye_size: float
    nose_width: float
    lip_fullness: float
    smile: float
    opening: float
    beard: float
    freckles: float
    glasses: bool
    yaw: float
    gaze: float


@dataclass(frozen=True)
class Light:
    """A distant lamp: unit direction towards it, its colour and that of the shade (RGB factors)."""

    direction: Array
    colour: Array
    shade: Array
    strength: float


class Frame:
    """The drawing surface's coordinates: n x n pixels whose centres lie at (i + 0.5) / n."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.axis = ((np.arange(n, dtype=np.float32) + 0.5) / n).astype(np.float32)

    def bump(self, x: float, y: float, wide: float, high: float) -> Array:
        """A Gaussian of height 1 as float32 [n, n]."""
        across = np.exp(-0.5 * ((self.axis - x) / wide) ** 2)
        down = np.exp(-0.5 * ((self.axis - y) / high) ** 2)
        return down[:, None] * across[None, :]

    def fixed(self, points: Points) -> Array:
        """The points as OpenCV's fixed-point integers, int32 [m, 1, 2]."""
        scaled = (np.float32(points) * self.n - 0.5) * (1 << SUBPIXEL_BITS)
        return np.round(scaled).astype(np.int32)[:, None, :]

    def area(self, points: Points) -> Array:
        """A filled polygon as a float32 [n, n] mask."""
        canvas = np.zeros((self.n, self.n), np.uint8)
        cv2.fillPoly(canvas, [self.fixed(points)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
        return canvas.astype(np.float32) * np.float32(1 / 255)

    def fill(self, canvas: Array, points: Points, colour: Array) -> None:
        """Fills a polygon on a uint8 canvas in place."""
        cv2.fillPoly(canvas, [self.fixed(points)], _ink(colour), cv2.LINE_AA, SUBPIXEL_BITS)

    def stroke(self, canvas: Array, points: Points, colour: Array, width: float) -> None:
        """Draws an open line of the given width on a uint8 canvas in place."""
        pixels, line = max(1, round(width * self.n)), [self.fixed(points)]
        cv2.polylines(canvas, line, False, _ink(colour), pixels, cv2.LINE_AA, SUBPIXEL_BITS)

    def disc(self, canvas: Array, x: float, y: float, radius: float, colour: Array) -> None:
        """Fills a circle on a uint8 canvas in place."""
        unit = self.n * (1 << SUBPIXEL_BITS)
        centre = (round((x - 0.5 / self.n) * unit), round((y - 0.5 / self.n) * unit))
        ink, radius = _ink(colour), round(radius * unit)
        cv2.circle(canvas, centre, radius, ink, -1, cv2.LINE_AA, SUBPIXEL_BITS)

    def blurred(self, image: Array, sigma: float) -> Array:
        """Gaussian blur with sigma as a fraction of the side."""
        return cv2.GaussianBlur(image, (0, 0), max(sigma * self.n, 0.3))

    def facing(self, height: Array, light: Light) -> Array:
        """How far a surface of this height looks towards the lamp, float32 [n, n] in -1..1."""
        across = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=self.n / 8)
        down = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=self.n / 8)
        x, y, z = (float(c) for c in light.direction)
        steep = cv2.sqrt(across * across + down * down + np.float32(1))
        return (z - x * across - y * down) / steep


class Sheet:
    """A person in the making, [n, n]: albedo in RGB, the side towards the lamp, tone and cover."""

    def __init__(self, frame: Frame, colour: Array, facing: Array, tone: Array, cover: Array) -> None:
        self.albedo = np.empty((frame.n, frame.n, 3), np.uint8)
        self.albedo[:] = np.clip(colour, 0, 255)
        self.facing = facing.copy()
        self.tone = tone.copy()
        self.cover = cover.copy()

    def lay(self, mask: Array, facing: Array, tone: Array | float) -> None:
        """Puts a part over the others; its colour is painted on the albedo by the caller."""
        self.facing += mask * (facing - self.facing)
        self.tone += mask * (tone - self.tone)
        np.maximum(self.cover, mask, out=self.cover)

    def lit(self, light: Light) -> Array:
        """The person under the light, float32 RGB [n, n, 3] in about 0..255."""
        level = np.linspace(-1, 1, 256, dtype=np.float32)
        diffuse = np.clip(level * 0.62 + 0.38, 0, 1) ** 1.5
        tint = light.shade + diffuse[:, None] * (light.colour * 1.12 - light.shade)
        index = cv2.convertScaleAbs(self.facing + np.float32(1), alpha=127.5)
        table = (tint * light.strength).astype(np.float32)[None]
        return self.albedo * cv2.LUT(cv2.merge([index] * 3), table) * self.tone[..., None]


def draw(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draws one portrait as uint8 RGB [size, size, 3]; everything in it follows from `rng`."""
    frame = Frame(round(OVERSAMPLING * size))
    sitter, light = _sitter(rng), _light(rng)
    scene = _background(rng, frame)
    person, cover = _posed(rng, *_person(rng, frame, sitter, light))
    scene += cover[..., None] * (person - scene)
    small = cv2.resize(scene, (size, size), interpolation=cv2.INTER_AREA)
    return _photographed(rng, small)


def _sitter(rng: np.random.Generator) -> Sitter:
    femininity = float(np.clip(rng.normal(0.25 if rng.random() < 0.5 else 0.8, 0.12), 0, 1))
    age = float(rng.beta(1.6, 2.4))
    masculine = femininity < 0.5
    length = str(rng.choice(LENGTHS, p=(0.92, 0.02, 0.06, 0.0) if masculine else (0.2, 0.25, 0.42, 0.13)))
    odds = (0.22, 0.1, 0.22, 0.06, 0.14, 0.1, 0.1, 0.06) if masculine else (0.2, 0.2, 0.25, 0.2, 0, 0.15, 0, 0)
    tone = float(rng.beta(1.1, 1.4))
    opening, smile = float(rng.uniform(-1.0, 1.0)), float(rng.uniform(-0.2, 1.0))
    return Sitter(
        skin=np.clip(_between(SKINS, tone) + rng.normal(0, 4, 3), 30, 255).astype(np.float32),
        hair=_hair_colour(rng, age, tone),
        iris=_between(IRISES, min(1.0, rng.beta(0.9, 1.6) * (1.25 - tone))),
        femininity=femininity,
        age=age,
        width=float(rng.uniform(0.238, 0.262) - 0.010 * femininity),
        jaw=float(rng.uniform(2.3, 3.3) - 0.5 * femininity),
        style=str(rng.choice(STYLES, p=odds)),
        length=length,
        part=float(rng.choice((-1, 1)) * rng.uniform(0.03, 0.1)),
        volume=float(rng.uniform(0.02, 0.05)),
        eye_size=float(rng.uniform(0.9, 1.12) + 0.1 * femininity),
        nose_width=float(rng.uniform(0.85, 1.2) - 0.12 * femininity),
        lip_fullness=float(rng.uniform(0.75, 1.15) + 0.25 * femininity),
        smile=max(smile, 0.5 * opening),
        opening=opening if opening > 0.35 else 0.0,
        beard=float(rng.uniform(0.15, 1.0)) if masculine and rng.random() < 0.5 else 0.0,
        freckles=float(max(0.0, rng.uniform(-1.5, 1.0) * (1 - tone))),
        glasses=bool(rng.random() < 0.2),
        yaw=float(rng.normal(0, 0.4)),
        gaze=float(rng.normal(0, 0.25)),
    )


def _hair_colour(rng: np.random.Generator, age: float, tone: float) -> Array:
    if rng.random() < age**2 * 0.9:
        return _between(GREYS, rng.random())
    natural = _between(HAIRS, float(rng.beta(1.0, 1.3)) * (1 - 0.85 * tone))
    return np.clip(natural * rng.normal(1, 0.06, 3), 12, 245).astype(np.float32)


def _light(rng: np.random.Generator) -> Light:
    side, above = rng.normal(0, 0.6), rng.uniform(0.25, 0.8)
    direction = np.float32([side, -above, 1.0])
    warmth = rng.normal(0, 0.035)
    return Light(
        direction=direction / np.linalg.norm(direction),
        colour=np.float32([1 + warmth, 1, 1 - warmth]),
        shade=np.float32([0.62, 0.52, 0.50]) + np.float32([-1, 0, 1]) * np.float32(rng.normal(0.02, 0.03)),
        strength=float(rng.uniform(0.74, 0.97)),
    )


# --- what stands behind ------------------------------------------------------------------------


def _background(rng: np.random.Generator, frame: Frame) -> Array:
    kind = rng.choice(("plain", "bokeh", "wall", "room"), p=(0.3, 0.3, 0.2, 0.2))
    base = _muted(rng)
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


def _muted(rng: np.random.Generator) -> Array:
    hue, saturation, value = rng.uniform(0, 180), rng.uniform(15, 110), rng.uniform(60, 225)
    pixel = np.uint8([[[hue, saturation, value]]])
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def _gradient(rng: np.random.Generator, base: Array, side: int = 64) -> Array:
    axis = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.45)
    ramp = 1 + depth * (np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None])
    return np.clip(ramp[..., None] * base, 0, 255).astype(np.uint8)


def _bokeh(rng: np.random.Generator, coarse: Array) -> None:
    side = coarse.shape[0]
    tint = _muted(rng)
    for _ in range(int(rng.integers(10, 26))):
        layer = coarse.copy()
        centre = tuple(int(c) for c in rng.integers(0, side, 2))
        glow = np.clip(tint * rng.uniform(0.6, 1.5) + rng.normal(0, 20, 3), 0, 255)
        cv2.circle(layer, centre, int(rng.integers(2, 9)), _ink(glow), -1, cv2.LINE_AA)
        weight = rng.uniform(0.15, 0.5)
        cv2.addWeighted(layer, weight, coarse, 1 - weight, 0, dst=coarse)


def _wall(rng: np.random.Generator, coarse: Array) -> None:
    side = coarse.shape[0]
    joint = coarse.mean((0, 1)) * rng.uniform(0.75, 0.9)
    step, shift = int(rng.integers(7, 14)), int(rng.integers(0, 7))
    for row, y in enumerate(range(shift, side, step)):
        cv2.line(coarse, (0, y), (side, y), _ink(joint), 1)
        for x in range(shift + (row % 2) * step, side, 2 * step):
            cv2.line(coarse, (x, y), (x, y + step), _ink(joint), 1)


def _room(rng: np.random.Generator, coarse: Array) -> None:
    side = coarse.shape[0]
    for _ in range(int(rng.integers(3, 8))):
        x, y = (int(c) for c in rng.integers(-8, side, 2))
        wide, high = (int(c) for c in rng.integers(6, 34, 2))
        colour = np.clip(_muted(rng) * 0.4 + coarse.mean((0, 1)) * 0.6, 0, 255)
        cv2.rectangle(coarse, (x, y), (x + wide, y + high), _ink(colour), -1)


# --- the person ---------------------------------------------------------------------------------


def _person(rng: np.random.Generator, frame: Frame, sitter: Sitter, light: Light) -> tuple[Array, Array]:
    """The lit person as float32 RGB [n, n, 3] and its float32 [n, n] cover."""
    strands = _strands(rng, frame, sitter)
    shine, gloss = _hair_relief(frame, light), 0.9 + 0.17 * strands
    front = _front_hair(rng, frame, sitter, strands)
    sheet = Sheet(frame, sitter.hair, shine, gloss * 0.7, _back_hair(frame, sitter, strands))
    _neck(frame, sitter, light, sheet)
    _clothes(rng, frame, sitter, light, sheet)
    _ears(frame, sitter, light, sheet)
    _head(rng, frame, sitter, light, sheet, front)
    sheet.lay(front, shine, gloss * (1 + 0.8 * _sheen(frame, light, strands)))
    sheet.albedo = sheet.albedo + front[..., None] * (sitter.hair - sheet.albedo)
    canvas = np.clip(sheet.lit(light), 0, 255).astype(np.uint8)
    _mouth(frame, sitter, light, canvas)
    for side in (-1, 1):
        _eye(frame, sitter, light, canvas, side)
    if sitter.glasses:
        _glasses(rng, frame, sitter, light, canvas)
    return canvas.astype(np.float32), sheet.cover


def _half_width(sitter: Sitter, y: Array) -> Array:
    """Half the head's width at each height, 0 outside the head; float32 like `y`."""
    above = np.clip((CHEEK_LINE - y) / (CHEEK_LINE - CROWN), 0, 1)
    below = np.clip((y - CHEEK_LINE) / (CHIN - CHEEK_LINE), 0, 1)
    skull = (1 - above**2.3) ** (1 / 2.1)
    jaw = np.sqrt(1 - below**sitter.jaw) * (1 - 0.13 * below)
    return (sitter.width * skull * jaw).astype(np.float32)


def _outline(sitter: Sitter, grow: float = 0.0) -> Points:
    """The head's outline as a polygon, `grow` wider all round."""
    angle = np.linspace(0, np.pi, 40)
    y = (CROWN + CHIN) / 2 - (CHIN - CROWN) / 2 * np.cos(angle)
    right = 0.5 + _half_width(sitter, y) + grow * np.sin(angle) ** 0.5
    y = y - grow * np.cos(angle)
    return _pairs(np.append(right, 1 - right[::-1]), np.append(y, y[::-1]))


def _pairs(x: Array, y: Array) -> Points:
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _place(sitter: Sitter, x: float, depth: float = 1.0) -> float:
    """Where a feature at x from the middle comes to lie once the head is turned."""
    turned = 0.02 * sitter.yaw * depth
    return 0.5 + turned + x * (1 - 0.10 * sitter.yaw * float(np.sign(x)))


# --- the body -----------------------------------------------------------------------------------


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
    ridge = _pairs(0.5 + across * wide, top + 0.12 * slope + rng.uniform(0.01, 0.09) * dip)
    coat = [*ridge, (0.5 + wide * 1.1, 1.3), (0.5 - wide * 1.1, 1.3)]
    mask = frame.area(coat)
    height = frame.blurred(mask, 0.035) * 0.10 + _noise(rng, frame.n, 10) * 0.006
    tone = 0.7 + 0.3 * frame.blurred(mask, 0.01)
    if rng.random() < 0.3:
        wave = np.sin(frame.axis * rng.uniform(60, 150) + rng.uniform(0, 6))
        tone = tone * (1 - 0.25 * (wave > 0.2))[:, None].astype(np.float32)
    frame.fill(sheet.albedo, coat, _muted(rng) * rng.uniform(0.5, 1.05))
    sheet.lay(mask, frame.facing(height, light), tone)


def _ears(frame: Frame, sitter: Sitter, light: Light, sheet: Sheet) -> None:
    angle = np.linspace(0, 2 * np.pi, 20)
    ears = np.zeros((frame.n, frame.n), np.float32)
    tone = np.full((frame.n, frame.n), 0.96, np.float32)
    for side in (-1, 1):
        x = 0.5 + side * (sitter.width - 0.002) - 0.012 * sitter.yaw
        lobe = _pairs(x + 0.03 * np.cos(angle), 0.475 + 0.06 * np.sin(angle + 0.25 * side))
        frame.fill(sheet.albedo, lobe, sitter.skin * np.float32([1.0, 0.92, 0.9]))
        ears = np.maximum(ears, frame.area(lobe))
        tone -= 0.35 * frame.bump(x + 0.008 * side, 0.475, 0.009, 0.026)
    sheet.lay(ears, frame.facing(frame.blurred(ears, 0.012) * 0.03, light), tone)


# --- the face -----------------------------------------------------------------------------------


def _head(
    rng: np.random.Generator,
    frame: Frame,
    sitter: Sitter,
    light: Light,
    sheet: Sheet,
    front: Array,
) -> None:
    """Lays the head with its painted features; `front` is the hair that throws a shadow on it."""
    outline = _outline(sitter)
    mask = frame.area(outline)
    frame.fill(sheet.albedo, outline, sitter.skin)
    _lips(frame, sitter, sheet.albedo)
    _brows(rng, frame, sitter, sheet.albedo)
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
    half = np.maximum(_half_width(sitter, frame.axis), 1e-3)[:, None]
    centre = 0.5 + 0.012 * sitter.yaw
    across = ((frame.axis[None, :] - centre) / (half * 1.04)) ** 2
    height = 0.17 * np.sqrt(np.clip(1 - across, 0.01, 1)) * np.sqrt(half / sitter.width)
    x, y, wide, high, depth = (c[:, None] for c in np.float32(_bumps(sitter)).T)
    rows = np.exp(-0.5 * ((frame.axis - y) / high) ** 2) * depth
    columns = np.exp(-0.5 * ((frame.axis - x) / wide) ** 2)
    height += np.einsum("ky,kx->yx", rows, columns)
    return frame.blurred(height.astype(np.float32), 0.006)


def _bumps(sitter: Sitter) -> list[tuple[float, float, float, float, float]]:
    """Rows (x, y, width, height, depth) of the Gaussian bumps that make a face."""
    nose, smile, age = sitter.nose_width, max(sitter.smile, 0), sitter.age
    soft, lip, middle = sitter.femininity, sitter.lip_fullness, _place(sitter, 0)
    rows = [
        (_place(sitter, 0, 1.3), 0.50, 0.016 * nose, 0.050, 0.019),
        (_place(sitter, 0, 1.6), NOSE_LINE - 0.012, 0.021 * nose, 0.021, 0.026),
        (middle, MOUTH_LINE - 0.022, 0.05, 0.02, 0.005),
        (middle, MOUTH_LINE + 0.016, 0.034, 0.012, 0.007 * lip),
        (middle, MOUTH_LINE + 0.042, 0.03, 0.012, -0.007),
        (middle, CHIN - 0.05, 0.04, 0.03, 0.015),
        (middle, 0.26, 0.13, 0.06, 0.012),
    ]
    for side in (-1, 1):
        eye = _place(sitter, side * EYE_OFFSET)
        rows += [
            (eye, EYE_LINE - 0.004, 0.042, 0.028, -0.015),
            (eye, EYE_LINE - 0.06, 0.06, 0.018, 0.010 - 0.005 * soft),
            (eye, EYE_LINE + 0.045, 0.03, 0.006, -0.001 - 0.004 * age),
            (_place(sitter, side * 0.13), 0.54, 0.045, 0.036, 0.013 + 0.008 * smile),
            (_place(sitter, side * 0.036 * nose, 1.4), NOSE_LINE, 0.013, 0.012, 0.011),
            (_place(sitter, side * 0.088), 0.62, 0.009, 0.032, -0.002 - 0.004 * (smile + age)),
        ]
    return rows


def _texture(rng: np.random.Generator, frame: Frame, sitter: Sitter) -> Array:
    """Mottling, pores and freckles as a factor of the skin's tone, float32 [n, n]."""
    tone = 1 + 0.025 * _noise(rng, frame.n, 14) + 0.03 * _noise(rng, frame.n, frame.n // 2)
    if sitter.freckles > 0:
        spots = np.clip(_noise(rng, frame.n, 48) - 1.0, 0, 1.0) * frame.bump(0.5, 0.53, 0.14, 0.06)
        tone *= 1 - 0.4 * sitter.freckles * spots
    return tone


def _flush(frame: Frame, sitter: Sitter, albedo: Array) -> None:
    """Reddens cheeks and nose on the uint8 albedo in place."""
    flush = 0.8 * frame.bump(_place(sitter, 0, 1.5), NOSE_LINE - 0.01, 0.03, 0.025)
    for side in (-1, 1):
        flush += frame.bump(_place(sitter, side * 0.135), 0.55, 0.055, 0.045)
    weight = 1 - flush[..., None] * np.float32([0.09, 0.10]) * (0.5 + 0.6 * sitter.femininity)
    albedo[..., 1:] = np.round(albedo[..., 1:] * weight)


def _beard(rng: np.random.Generator, frame: Frame, sitter: Sitter, albedo: Array, head: Array) -> None:
    """Darkens jaw, chin and upper lip in place; light stubble to a full beard."""
    rows = np.s_[int(0.5 * frame.n) : int(0.9 * frame.n)]
    y, x = frame.axis[rows, None], np.abs(frame.axis[None, :] - _place(sitter, 0))
    jaw = np.clip(0.5 + (y - 0.70 + 0.9 * (x - 0.06)) / 0.06, 0, 1)
    lip = frame.bump(_place(sitter, 0), MOUTH_LINE - 0.036, 0.055, 0.011)[rows]
    bare = frame.bump(_place(sitter, 0), MOUTH_LINE + 0.008, 0.05, 0.016)[rows]
    where = np.clip(np.maximum(jaw, lip) - 0.8 * bare, 0, 1) * head[rows]
    grain = np.clip(0.8 + 0.22 * _noise(rng, frame.n, frame.n // 2)[rows], 0, 1)
    weight = (where * grain * np.float32(sitter.beard * 0.85))[..., None]
    albedo[rows] = albedo[rows] + weight * (sitter.hair * 0.9 - albedo[rows])


def _lips(frame: Frame, sitter: Sitter, albedo: Array) -> None:
    """Paints both lips on the uint8 albedo in place."""
    made_up = np.float32([170, 52, 62]) * sitter.femininity + sitter.skin * (1 - sitter.femininity)
    rose = sitter.skin * np.float32([0.90, 0.66, 0.66]) * 0.75 + made_up * 0.25
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
    x = [_place(sitter, float(t) * half) for t in spans]
    lift = 0.018 * sitter.smile * (spans**2 - 0.4)
    return _pairs(np.array(x), MOUTH_LINE - lift + offset)


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


def _mouth(frame: Frame, sitter: Sitter, light: Light, canvas: Array) -> None:
    """The line between the lips, or the open mouth with teeth, on the lit canvas in place."""
    top, low = _inner_curves(sitter)
    dark = sitter.skin * np.float32([0.40, 0.25, 0.23]) * light.strength
    if _gap(sitter) > 0:
        frame.fill(canvas, top + low[::-1], dark * 0.8)
        enamel = np.float32([232, 226, 218]) * light.colour * light.strength * 0.92
        edge = [(x, y + 0.75 * (q - y)) for (x, y), (_, q) in zip(top, low, strict=True)]
        frame.fill(canvas, top[1:-1] + edge[1:-1][::-1], np.clip(enamel, 0, 245))
    frame.stroke(canvas, top, dark, 0.005)


def _brows(rng: np.random.Generator, frame: Frame, sitter: Sitter, albedo: Array) -> None:
    """Paints the eyebrows on the uint8 albedo in place, with soft edges."""
    colour = np.clip(sitter.hair * 0.65 + sitter.skin * 0.15, 0, 190)
    thick, arch = 0.022 - 0.009 * sitter.femininity, rng.uniform(0.008, 0.022)
    lift, t = rng.uniform(-0.005, 0.005), np.linspace(0, 1, 9)
    rows = np.s_[int((EYE_LINE - 0.12) * frame.n) : int((EYE_LINE - 0.025) * frame.n)]
    before = albedo[rows].copy()
    y = EYE_LINE - 0.062 + lift - arch * np.sin(np.pi * np.minimum(t * 0.85, 1))
    body = 0.5 * thick * (1 - 0.75 * t)
    for side in (-1, 1):
        x = np.array([_place(sitter, side * (0.054 + 0.112 * float(k)), 1.1) for k in t])
        rim, sill = _pairs(x, y - body), _pairs(x, y + body)
        frame.fill(albedo, rim + sill[::-1], colour)
    soft = frame.blurred(albedo[rows], 0.005)
    albedo[rows] = cv2.addWeighted(soft, 0.85, before, 0.15, 0)


def _eye(frame: Frame, sitter: Sitter, light: Light, canvas: Array, side: int) -> None:
    """One eye on the lit canvas in place; `side` is -1 for the one at the left of the picture."""
    x, y = _place(sitter, side * EYE_OFFSET), EYE_LINE
    lid, sill = _lids(sitter, x, y, side)
    eyeball = canvas.copy()
    _eyeball(frame, sitter, light, eyeball, x, y)
    top, left, span = int((y - 0.06) * frame.n), int((x - 0.07) * frame.n), int(0.14 * frame.n)
    window = np.s_[top : top + span, left : left + span]
    opening = frame.area(lid + sill[::-1])[window][..., None]
    canvas[window] = canvas[window] * (1 - opening) + eyeball[window] * opening
    shade = sitter.skin * np.float32([0.5, 0.4, 0.38]) * light.strength
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
    lid = _pairs(x + half * t, level - high * (1 - t * t) ** 0.8)
    return lid, _pairs(x + half * t, level + 0.62 * high * (1 - t * t))


def _eyeball(frame: Frame, sitter: Sitter, light: Light, canvas: Array, x: float, y: float) -> None:
    """White, iris, pupil and catch-light, to be seen through the lids' opening."""
    white = np.float32([228, 222, 218]) * light.colour * min(light.strength, 1.0)
    iris, radius = sitter.iris * light.strength, 0.0225
    gx, gy = x + 0.010 * (sitter.gaze + sitter.yaw * 0.5), y - 0.003
    for low, tone in ((0.05, 1.0), (-0.014, 0.72)):
        corners = [(-0.06, -0.05), (0.06, -0.05), (0.06, low), (-0.06, low)]
        frame.fill(canvas, [(x + dx, y + dy) for dx, dy in corners], white * tone)
    frame.disc(canvas, gx, gy, radius, iris * 0.5)
    frame.disc(canvas, gx, gy + 0.002, radius * 0.82, np.clip(iris * 1.15, 0, 255))
    frame.disc(canvas, gx, gy, radius * 0.42, np.float32([12, 10, 10]))
    # The cornea mirrors the lamp on the side from which the light comes.
    dx, dy = 0.011 * float(light.direction[0]), 0.011 * float(light.direction[1])
    frame.disc(canvas, gx + dx, gy + dy, 0.006, np.float32([252, 252, 250]))


def _glasses(rng: np.random.Generator, frame: Frame, sitter: Sitter, light: Light, canvas: Array) -> None:
    """Rims, bridge and temples on the lit canvas in place."""
    colour = _muted(rng) * rng.uniform(0.15, 0.5) * light.strength
    power, thick = 2 / rng.uniform(2.0, 4.5), rng.uniform(0.006, 0.012)
    angle = np.linspace(0, 2 * np.pi, 40)
    c, s = np.cos(angle), np.sin(angle)
    reach = sitter.width - (0.02 if sitter.length in ("bob", "long") else -0.004)
    for side in (-1, 1):
        x = _place(sitter, side * (EYE_OFFSET + 0.004), 1.3)
        px = x + 0.08 * np.sign(c) * np.abs(c) ** power
        py = EYE_LINE + 0.012 + 0.056 * np.sign(s) * np.abs(s) ** power
        frame.stroke(canvas, _pairs(px, py), colour, thick)
        hinge = (x + side * 0.08, EYE_LINE)
        frame.stroke(canvas, [hinge, (0.5 + side * reach, EYE_LINE + 0.005)], colour, thick)
    bridge = [(_place(sitter, d, 1.3), EYE_LINE - abs(d) * 0.3) for d in (-0.026, 0.0, 0.026)]
    frame.stroke(canvas, bridge, colour, thick)


# --- the hair -----------------------------------------------------------------------------------


def _strands(rng: np.random.Generator, frame: Frame, sitter: Sitter) -> Array:
    """Hair texture in about -2..2, float32 [n, n]: streaks that leave the parting, or curls."""
    if sitter.style == "curls":
        return _noise(rng, frame.n, 26) * 0.9 + 0.5 * _noise(rng, frame.n, 60)
    x, y = frame.axis[None, :] - 0.5 - sitter.part, frame.axis[:, None] - CROWN + 0.13
    angle = cv2.phase(np.repeat(y, frame.n, 1), np.repeat(x, frame.n, 0))
    angle = (angle + np.pi) % (2 * np.pi) - np.pi
    bend = rng.uniform(0, 0.03) * np.sin(y * rng.uniform(20, 45) + rng.uniform(0, 6))
    streaks = sum(np.interp(np.arange(600), np.linspace(0, 600, k), rng.normal(0, 1, k)) for k in (40, 110, 260))
    index = np.clip((angle + bend) * 150 + 300, 0, 599).astype(np.int32)
    return (streaks / 1.6).astype(np.float32)[index]


def _front_hair(rng: np.random.Generator, frame: Frame, sitter: Sitter, strands: Array) -> Array:
    """Cover of the hair in front of the head, float32 [n, n]."""
    if sitter.style == "bald":
        return np.zeros((frame.n, frame.n), np.float32)
    thin, curls = sitter.style == "buzz", sitter.style == "curls"
    outer = frame.area(_outline(sitter, 0.006 if thin else sitter.volume + 0.05 * curls))
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
    top = _pairs(0.5 + half * t, line + rng.uniform(-0.01, 0.02) + shape)
    right = [(0.501 + half, 0.46), (0.488 + half, 1.2)]
    return top + right + [(1 - x, y) for x, y in reversed(right)]


def _back_hair(frame: Frame, sitter: Sitter, strands: Array) -> Array:
    """Cover of the hair behind neck and ears, float32 [n, n]."""
    if sitter.length not in ("bob", "long"):
        return np.zeros((frame.n, frame.n), np.float32)
    low = 0.79 if sitter.length == "bob" else 1.2
    reach = sitter.width + sitter.volume
    right = [(0.5 + reach - 0.02, 0.4), (0.5 + reach + 0.01, 0.65), (0.5 + reach + 0.01, low)]
    mask = frame.area(right + [(1 - x, y) for x, y in reversed(right)])
    return np.clip((frame.blurred(mask, 0.012) + 0.12 * strands - 0.36) / 0.28, 0, 1)


def _hair_relief(frame: Frame, light: Light) -> Array:
    """The side of the hair towards the lamp, float32 [n, n]: a dome over the head."""
    across = 0.16 * np.sqrt(np.clip(1 - ((frame.axis - 0.5) / 0.34) ** 2, 0.05, 1))
    down = np.sqrt(np.clip((frame.axis - CROWN + 0.08) / 0.35, 0.02, 1))
    return frame.facing((down[:, None] * across[None, :]).astype(np.float32), light)


def _sheen(frame: Frame, light: Light, strands: Array) -> Array:
    """The bright band across hair (Kajiya and Kay 1989, here only its place), float32 [n, n]."""
    x = 0.5 + 0.13 * float(light.direction[0])
    return frame.bump(x, 0.19, 0.12, 0.03) * np.clip(0.5 + 0.35 * strands, 0, 1)


# --- pose and camera ----------------------------------------------------------------------------


def _posed(rng: np.random.Generator, person: Array, cover: Array) -> tuple[Array, Array]:
    n = cover.shape[0]
    angle, scale = rng.normal(0, 4.0), rng.uniform(0.93, 1.06)
    turn = cv2.getRotationMatrix2D((n / 2, n * 0.5), float(angle), float(scale))
    turn[:, 2] += rng.normal(0, 0.012, 2) * n
    person = cv2.warpAffine(person, turn, (n, n), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(cover, turn, (n, n), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return person, cover


def _photographed(rng: np.random.Generator, scene: Array) -> np.ndarray:
    """Lens blur, white balance, exposure and signal-dependent sensor noise; uint8 RGB."""
    image = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.3, 0.55))
    image = image * (1 + rng.normal(0, 0.025, 3)).astype(np.float32) * np.float32(rng.uniform(0.92, 1.08))
    shot, read = rng.uniform(0.12, 0.22), rng.uniform(2.0, 3.0)
    spread = np.sqrt(shot * np.clip(image, 0, 255) + read**2)
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.round(image + spread * grain), 0, 255).astype(np.uint8)


def _between(palette: Array, where: float) -> Array:
    """The palette's colour at `where` in 0..1, mixed from its neighbours; float32 RGB."""
    position = float(np.clip(where, 0, 1)) * (len(palette) - 1)
    below = min(int(position), len(palette) - 2)
    return palette[below] + (palette[below + 1] - palette[below]) * np.float32(position - below)


def _noise(rng: np.random.Generator, n: int, cells: int) -> Array:
    """Smooth noise of about unit spread with `cells` cells along a side, float32 [n, n]."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(coarse, (n, n), interpolation=cv2.INTER_CUBIC)


def _ink(colour: Array) -> tuple[float, float, float]:
    red, green, blue = (float(c) for c in np.clip(colour, 0, 255))
    return red, green, blue
