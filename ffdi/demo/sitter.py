"""Who is drawn, and where the parts of the head lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffdi.demo.canvas import GREYS, HAIRS, IRISES, SKINS, Array, Points, between, pairs

CROWN = 0.115
EYE_LINE = 0.43
EYE_OFFSET = 0.108
CHEEK_LINE = 0.46
NOSE_LINE = 0.562
MOUTH_LINE = 0.668
CHIN = 0.81
STYLES = ("swept", "fringe", "side", "curtain", "receding", "curls", "buzz", "bald")
LENGTHS = ("short", "bob", "long", "bun")


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


def random_sitter(rng: np.random.Generator) -> Sitter:
    """A person whose traits go together: hair greys with age, and a dark skin seldom comes with light eyes."""
    femininity = float(np.clip(rng.normal(0.25 if rng.random() < 0.5 else 0.8, 0.12), 0, 1))
    age = float(rng.beta(1.6, 2.4))
    masculine = femininity < 0.5
    length = str(rng.choice(LENGTHS, p=(0.92, 0.02, 0.06, 0.0) if masculine else (0.2, 0.25, 0.42, 0.13)))
    odds = (0.22, 0.1, 0.22, 0.06, 0.14, 0.1, 0.1, 0.06) if masculine else (0.2, 0.2, 0.25, 0.2, 0, 0.15, 0, 0)
    tone = float(rng.beta(1.1, 1.4))
    opening, smile = float(rng.uniform(-1.0, 1.0)), float(rng.uniform(-0.2, 1.0))
    return Sitter(
        skin=np.clip(between(SKINS, tone) + rng.normal(0, 4, 3), 30, 255).astype(np.float32),
        hair=_hair_colour(rng, age, tone),
        iris=between(IRISES, min(1.0, rng.beta(0.9, 1.6) * (1.25 - tone))),
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
        return between(GREYS, rng.random())
    natural = between(HAIRS, float(rng.beta(1.0, 1.3)) * (1 - 0.85 * tone))
    return np.clip(natural * rng.normal(1, 0.06, 3), 12, 245).astype(np.float32)


def half_width(sitter: Sitter, y: Array) -> Array:
    """Half the head's width at each height, 0 outside the head; float32 [m] for `y` [m]."""
    above = np.clip((CHEEK_LINE - y) / (CHEEK_LINE - CROWN), 0, 1)
    below = np.clip((y - CHEEK_LINE) / (CHIN - CHEEK_LINE), 0, 1)
    skull = (1 - above**2.3) ** (1 / 2.1)
    jaw = np.sqrt(1 - below**sitter.jaw) * (1 - 0.13 * below)
    return (sitter.width * skull * jaw).astype(np.float32)


def outline(sitter: Sitter, grow: float = 0.0) -> Points:
    """The head's outline as a polygon of 80 points, `grow` wider all round."""
    angle = np.linspace(0, np.pi, 40)
    y = (CROWN + CHIN) / 2 - (CHIN - CROWN) / 2 * np.cos(angle)
    right = 0.5 + half_width(sitter, y) + grow * np.sin(angle) ** 0.5
    y = y - grow * np.cos(angle)
    return pairs(np.append(right, 1 - right[::-1]), np.append(y, y[::-1]))


def place(sitter: Sitter, x: float, depth: float = 1.0) -> float:
    """Where a feature at x from the middle comes to lie once the head is turned."""
    turned = 0.02 * sitter.yaw * depth
    return 0.5 + turned + x * (1 - 0.10 * sitter.yaw * float(np.sign(x)))
