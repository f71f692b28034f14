"""A random person for a portrait: traits, colours, and the positions of the parts of the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffdi.demo.canvas import Array, Points, to_points

CROWN = 0.115
EYE_LINE = 0.43
EYE_OFFSET = 0.108
CHEEK_LINE = 0.46
NOSE_LINE = 0.562
MOUTH_LINE = 0.668
CHIN = 0.81
STYLES = ("swept", "fringe", "side", "curtain", "receding", "curls", "buzz", "bald")
LENGTHS = ("short", "bob", "long", "bun")

SKINS = np.array(
    [
        (248, 222, 205),
        (238, 204, 180),
        (226, 186, 156),
        (204, 156, 122),
        (170, 120, 90),
        (130, 90, 68),
        (98, 68, 54),
    ],
    np.float32,
)
HAIRS = np.array(
    [
        (30, 26, 26),
        (46, 34, 29),
        (70, 47, 36),
        (104, 71, 48),
        (134, 76, 46),
        (180, 138, 90),
        (216, 182, 130),
    ],
    np.float32,
)
GREYS = np.array([(120, 118, 118), (176, 174, 172), (222, 220, 216)], np.float32)
IRISES = np.array(
    [(70, 44, 28), (92, 62, 36), (110, 96, 52), (84, 112, 82), (78, 112, 150), (110, 124, 134)], np.float32
)


def mix_colour(palette: Array, where: float) -> Array:
    """The colour at `where` in 0..1 of a palette float32 [k, 3], mixed from its neighbours; float32 [3]."""
    position = float(np.clip(where, 0, 1)) * (len(palette) - 1)
    below = min(int(position), len(palette) - 2)
    return palette[below] + (palette[below + 1] - palette[below]) * np.float32(position - below)


@dataclass(frozen=True)
class Person:
    """Traits of a person: colours are float32 RGB in 0..255, lengths are fractions of the side."""

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


def sample_person(rng: np.random.Generator) -> Person:
    """Samples a person with consistent traits: hair greys with age, and dark skin seldom has light eyes."""
    femininity = float(np.clip(rng.normal(0.25 if rng.random() < 0.5 else 0.8, 0.12), 0, 1))
    age = float(rng.beta(1.6, 2.4))
    masculine = femininity < 0.5
    length = str(rng.choice(LENGTHS, p=(0.92, 0.02, 0.06, 0.0) if masculine else (0.2, 0.25, 0.42, 0.13)))
    odds = (0.22, 0.1, 0.22, 0.06, 0.14, 0.1, 0.1, 0.06) if masculine else (0.2, 0.2, 0.25, 0.2, 0, 0.15, 0, 0)
    tone = float(rng.beta(1.1, 1.4))
    opening, smile = float(rng.uniform(-1.0, 1.0)), float(rng.uniform(-0.2, 1.0))
    return Person(
        skin=np.clip(mix_colour(SKINS, tone) + rng.normal(0, 4, 3), 30, 255).astype(np.float32),
        hair=_hair_colour(rng, age, tone),
        iris=mix_colour(IRISES, min(1.0, rng.beta(0.9, 1.6) * (1.25 - tone))),
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
        return mix_colour(GREYS, rng.random())
    natural = mix_colour(HAIRS, float(rng.beta(1.0, 1.3)) * (1 - 0.85 * tone))
    return np.clip(natural * rng.normal(1, 0.06, 3), 12, 245).astype(np.float32)


def measure_half_width(person: Person, y: Array) -> Array:
    """Half the head's width at each height, 0 outside the head; float32 [m] for `y` [m]."""
    above = np.clip((CHEEK_LINE - y) / (CHEEK_LINE - CROWN), 0, 1)
    below = np.clip((y - CHEEK_LINE) / (CHIN - CHEEK_LINE), 0, 1)
    skull = (1 - above**2.3) ** (1 / 2.1)
    jaw = np.sqrt(1 - below**person.jaw) * (1 - 0.13 * below)
    return (person.width * skull * jaw).astype(np.float32)


def make_outline(person: Person, grow: float = 0.0) -> Points:
    """The head's outline as a polygon of 80 points, `grow` wider all round."""
    angle = np.linspace(0, np.pi, 40)
    y = (CROWN + CHIN) / 2 - (CHIN - CROWN) / 2 * np.cos(angle)
    right = 0.5 + measure_half_width(person, y) + grow * np.sin(angle) ** 0.5
    y = y - grow * np.cos(angle)
    return to_points(np.append(right, 1 - right[::-1]), np.append(y, y[::-1]))


def locate(person: Person, x: float, depth: float = 1.0) -> float:
    """The position of a feature at x from the middle after the head has turned."""
    turned = 0.02 * person.yaw * depth
    return 0.5 + turned + x * (1 - 0.10 * person.yaw * float(np.sign(x)))
