"""The surface that portraits are drawn on. Positions are fractions of its side, x to the right, y downwards.

Solid parts are height fields lit through their normals (half-Lambert, Valve 2006), flat parts are polygons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

SUBPIXEL_BITS = 4

Array: TypeAlias = np.ndarray
Points: TypeAlias = list[tuple[float, float]]


class Frame:
    """The drawing surface's coordinates: n x n pixels whose centres are at (i + 0.5) / n."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.axis = ((np.arange(n, dtype=np.float32) + 0.5) / n).astype(np.float32)

    def make_bump(self, x: float, y: float, wide: float, high: float) -> Array:
        """A Gaussian of height 1 as float32 [n, n]."""
        across = np.exp(-0.5 * ((self.axis - x) / wide) ** 2)
        down = np.exp(-0.5 * ((self.axis - y) / high) ** 2)
        return down[:, None] * across[None, :]

    def to_fixed_point(self, points: Points) -> Array:
        """The points as OpenCV's fixed-point integers, int32 [m, 1, 2]."""
        scaled = (np.array(points, np.float32) * self.n - 0.5) * (1 << SUBPIXEL_BITS)
        return np.round(scaled).astype(np.int32)[:, None, :]

    def make_mask(self, points: Points) -> Array:
        """A filled polygon as a float32 [n, n] mask."""
        canvas = np.zeros((self.n, self.n), np.uint8)
        cv2.fillPoly(canvas, [self.to_fixed_point(points)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
        return canvas.astype(np.float32) * np.float32(1 / 255)

    def fill(self, canvas: Array, points: Points, colour: Array) -> None:
        """Fills a polygon on a uint8 canvas in place."""
        cv2.fillPoly(canvas, [self.to_fixed_point(points)], to_ink(colour), cv2.LINE_AA, SUBPIXEL_BITS)

    def stroke(self, canvas: Array, points: Points, colour: Array, width: float) -> None:
        """Draws an open line of the given width on a uint8 canvas in place."""
        pixels, line = max(1, round(width * self.n)), [self.to_fixed_point(points)]
        cv2.polylines(canvas, line, False, to_ink(colour), pixels, cv2.LINE_AA, SUBPIXEL_BITS)

    def fill_disc(self, canvas: Array, x: float, y: float, radius: float, colour: Array) -> None:
        """Fills a circle on a uint8 canvas in place."""
        unit = self.n * (1 << SUBPIXEL_BITS)
        centre = (round((x - 0.5 / self.n) * unit), round((y - 0.5 / self.n) * unit))
        paint, radius = to_ink(colour), round(radius * unit)
        cv2.circle(canvas, centre, radius, paint, -1, cv2.LINE_AA, SUBPIXEL_BITS)

    def blur(self, image: Array, sigma: float) -> Array:
        """Gaussian blur with sigma as a fraction of the side."""
        return cv2.GaussianBlur(image, (0, 0), max(sigma * self.n, 0.3))

    def compute_facing(self, height: Array, light: Light) -> Array:
        """The cosine between the normal of a height field and the lamp, float32 [n, n] in -1..1."""
        across = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=self.n / 8)
        down = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=self.n / 8)
        x, y, z = (float(c) for c in light.direction)
        steep = cv2.sqrt(across * across + down * down + np.float32(1))
        return (z - x * across - y * down) / steep


class Sheet:
    """A person without light: albedo RGB [n, n, 3]; facing (to the lamp), tone and cover, each [n, n]."""

    def __init__(self, frame: Frame, colour: Array, facing: Array, tone: Array, cover: Array) -> None:
        self.albedo: Array = np.empty((frame.n, frame.n, 3), np.uint8)
        self.albedo[:] = np.clip(colour, 0, 255)
        self.facing = facing.copy()
        self.tone = tone.copy()
        self.cover = cover.copy()

    def lay(self, mask: Array, facing: Array, tone: Array | float) -> None:
        """Puts a part over the others; the caller paints its colour on the albedo."""
        self.facing += mask * (facing - self.facing)
        self.tone += mask * (tone - self.tone)
        np.maximum(self.cover, mask, out=self.cover)

    def render(self, light: Light) -> Array:
        """The person under the light, float32 RGB [n, n, 3] in about 0..255."""
        level = np.linspace(-1, 1, 256, dtype=np.float32)
        diffuse = np.clip(level * 0.62 + 0.38, 0, 1) ** 1.5
        tint = light.shade + diffuse[:, None] * (light.colour * 1.12 - light.shade)
        index = cv2.convertScaleAbs(self.facing + np.float32(1), alpha=127.5)
        table = (tint * light.strength).astype(np.float32)[None]
        return self.albedo * cv2.LUT(cv2.merge([index] * 3), table) * self.tone[..., None]


def make_noise(rng: np.random.Generator, n: int, cells: int) -> Array:
    """Smooth noise of about unit spread with `cells` cells along a side, float32 [n, n]."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(coarse, (n, n), interpolation=cv2.INTER_CUBIC)


def to_ink(colour: Array) -> tuple[float, float, float]:
    """A colour of shape [3] as OpenCV takes it: three plain floats, cut to 0..255."""
    red, green, blue = (float(c) for c in np.clip(colour, 0, 255))
    return red, green, blue


def to_points(x: Array, y: Array) -> Points:
    """The points whose coordinates are the float arrays x [m] and y [m]."""
    return list(zip(x.tolist(), y.tolist(), strict=True))


@dataclass(frozen=True)
class Light:
    """A distant lamp: unit direction towards it, its colour and that of the shade (RGB factors); float32 [3] each."""

    direction: np.ndarray
    colour: np.ndarray
    shade: np.ndarray
    strength: float


def sample_light(rng: np.random.Generator) -> Light:
    """A random lamp in front of the person and above, nearly white, with a dimmer shade."""
    side, above = rng.normal(0, 0.6), rng.uniform(0.25, 0.8)
    direction = np.array([side, -above, 1.0], np.float32)
    warmth = rng.normal(0, 0.035)
    return Light(
        direction=direction / np.linalg.norm(direction),
        colour=np.array([1 + warmth, 1, 1 - warmth], np.float32),
        shade=np.array([0.62, 0.52, 0.50], np.float32)
        + np.array([-1, 0, 1], np.float32) * np.float32(rng.normal(0.02, 0.03)),
        strength=float(rng.uniform(0.74, 0.97)),
    )


def sample_muted_colour(rng: np.random.Generator) -> Array:
    """A random muted colour for walls, clothes and rims; float32 [3]."""
    hue, saturation, value = rng.uniform(0, 180), rng.uniform(15, 110), rng.uniform(60, 225)
    pixel = np.array([[[hue, saturation, value]]], np.uint8)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)
