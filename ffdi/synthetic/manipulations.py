"""Four families of fakes, made from any roughly centred face crop, without landmarks.

Each function takes a real image and a partner of the same size, uint8 RGB [S, S, 3], and a random generator. It returns
the fake, uint8 RGB [S, S, 3], and a mask, float32 [S, S] from 0 to 1: where the mask is 0, the fake equals the real
image. Each fake has the traces of its family: the border of a blend, resampling, inconsistent colour and light, the
lattice of a generator. Masks and colour transfer follow Self-Blended Images (Shiohara
and Yamasaki, CVPR 2022) and Reinhard et al., Color Transfer between Images (2001).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

FACE = (0.50, 0.55)
"""Centre of the inner face, in parts of the crop's width and height."""
FACE_AXES = (0.19, 0.25)
EYES = (0.50, 0.43)
EYE_OFFSET = 0.105
MOUTH = (0.50, 0.675)
CHEEKS = 0.57
CROWN = (0.50, 0.20)
DETAIL = (0.7, 0.9)
"""Resolution of a generator, in parts of the photograph's."""
LATTICE = (0.11, 0.27)
"""Strength of a generator's lattice along each axis, in square roots of grey levels like camera noise, so that it is
equally visible on any skin; too weak to be seen at a glance."""
FAINT = (0.08, 0.17)
"""The same for generators of whole faces, where the lattice is easier to see."""

Manipulation = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def swap_face(real: np.ndarray, partner: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The partner's inner face, moved a little, recoloured and rendered at a lower resolution, blended in."""
    mask = _draw_oval(len(real), FACE, FACE_AXES, rng, softness=rng.uniform(0.015, 0.035))
    moved = _move(partner, rng, shift=0.015, turn=4, scale=0.05)
    coloured = _recolour(moved, real, mask, rng.uniform(0.9, 1.0))
    return _blend(real, _tint(_render(coloured, rng, FAINT), rng, 4), mask)


def reenact_face(real: np.ndarray, _partner: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same face with another pose and expression: bent, rendered again, and with slightly different light."""
    mask = _draw_oval(
        len(real), FACE, (FACE_AXES[0] * 1.08, FACE_AXES[1] * 1.08), rng, softness=rng.uniform(0.015, 0.03)
    )
    bent = _bend(real, rng, strength=0.014)
    return _blend(real, _relight(_render(bent, rng, FAINT), rng, 10), mask)


def animate_mouth(real: np.ndarray, partner: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Changes mouth and chin only: the partner's mouth or a stretched one, at the resolution of a lip model."""
    mask = _draw_oval(len(real), MOUTH, (0.155, 0.115), rng, softness=rng.uniform(0.015, 0.03))
    if rng.random() < 0.5:
        mouth = _recolour(_move(partner, rng, shift=0.012, turn=3, scale=0.05), real, mask, rng.uniform(0.9, 1.0))
    else:
        mouth = _stretch(real, rng.uniform(1.15, 1.4))
    return _blend(real, _tint(_render(mouth, rng, LATTICE), rng, 4), mask)


def edit_attribute(real: np.ndarray, _partner: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Changes one attribute in its region, as an editor that smooths the region."""
    region, edit = _EDITS[rng.integers(len(_EDITS))]
    mask = region(len(real), rng)
    return _blend(real, _render(edit(real, rng), rng, LATTICE), mask)


def _draw_oval(
    size: int, centre: tuple[float, float], axes: tuple[float, float], rng: np.random.Generator, softness: float
) -> np.ndarray:
    """A soft, slightly irregular oval, like the convex hull of landmarks."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    wobble = 1 + 0.05 * np.sin(2 * angles + rng.uniform(0, 6.3)) + rng.normal(0, 0.015, len(angles))
    shift = rng.uniform(-0.012, 0.012, 2)
    points = np.stack(
        [
            (centre[0] + shift[0] + axes[0] * wobble * np.cos(angles)) * size,
            (centre[1] + shift[1] + axes[1] * wobble * np.sin(angles)) * size,
        ],
        axis=1,
    )
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return _soften(mask.astype(np.float32) / 255, softness)


def _soften(mask: np.ndarray, softness: float) -> np.ndarray:
    """Blurs a mask's border over `softness` of the width; far from it the mask is exactly 0."""
    blurred = cv2.GaussianBlur(mask, (0, 0), softness * len(mask))
    return np.where(blurred < 0.02, 0, np.minimum(blurred, 1)).astype(np.float32)


def _blend(real: np.ndarray, changed: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weight = mask[..., None]
    mixed = real * (1 - weight) + changed.astype(np.float32) * weight
    return _round_to_pixels(mixed), mask


def _render(image: np.ndarray, rng: np.random.Generator, strength: tuple[float, float]) -> np.ndarray:
    """Imitates a generator: less detail, and the lattice of its up-convolutions.

    A stride of two alternates with the pixel grid (Odena et al., Deconvolution and Checkerboard Artifacts, 2016).
    """
    size = len(image)
    small = round(size * rng.uniform(*DETAIL))
    lower = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    upper = cv2.resize(lower, (size, size), interpolation=cv2.INTER_CUBIC)
    wave = np.where(np.arange(size) % 2, -1.0, 1.0)
    lattice = rng.uniform(*strength) * (wave[:, None] + wave[None, :])
    return _round_to_pixels(upper + lattice[..., None] * np.sqrt(upper))


def _move(image: np.ndarray, rng: np.random.Generator, shift: float, turn: float, scale: float) -> np.ndarray:
    """Shifts (in parts of the width), rotates (degrees) and scales, like an imperfect alignment."""
    size = len(image)
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-turn, turn), 1 + rng.uniform(-scale, scale))
    matrix[:, 2] = matrix[:, 2] + rng.uniform(-shift, shift, 2) * size
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def _bend(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Displaces smoothly, by up to about `strength` of the width."""
    size = len(image)
    coarse = rng.normal(0, strength * size, (2, 4, 4)).astype(np.float32)
    field = [cv2.resize(axis, (size, size), interpolation=cv2.INTER_CUBIC) for axis in coarse]
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    return cv2.remap(image, columns + field[0], rows + field[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def _stretch(image: np.ndarray, factor: float) -> np.ndarray:
    """Opens the mouth: stretches the rows around it by `factor`."""
    size = len(image)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    centre = MOUTH[1] * size
    return cv2.remap(image, columns, centre + (rows - centre) / factor, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def _recolour(source: np.ndarray, target: np.ndarray, mask: np.ndarray, strength: float) -> np.ndarray:
    """Moves the source's colours towards the target's inside the mask: means and deviations in Lab."""
    inside = mask > 0.5
    if not inside.any():  # the face of an image of a few pixels
        return source
    one, other = (cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32) for image in (source, target))
    mean, deviation = one[inside].mean(0), one[inside].std(0) + 1e-3
    contrast = np.clip(other[inside].std(0) / deviation, 0.7, 1.4)  # a larger change would be easy to see
    matched = (one - mean) * contrast + other[inside].mean(0)
    mixed = one + strength * (matched - one)
    return cv2.cvtColor(_round_to_pixels(mixed), cv2.COLOR_LAB2RGB)


def _round_to_pixels(values: np.ndarray) -> np.ndarray:
    """Rounds to uint8: cutting decimals off would darken every fake by half a grey level."""
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _tint(image: np.ndarray, rng: np.random.Generator, amount: float) -> np.ndarray:
    """Adds a colour cast of about `amount` grey levels."""
    return _round_to_pixels(image + rng.normal(0, amount, 3))


def _relight(image: np.ndarray, rng: np.random.Generator, amount: float) -> np.ndarray:
    """Changes the direction of the light: adds a ramp of `amount` grey levels."""
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-1, 1, len(image), dtype=np.float32)
    slope = np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None]
    return _round_to_pixels(image + amount * 2 * slope[..., None])


def _mask_skin(size: int, rng: np.random.Generator) -> np.ndarray:
    return _draw_oval(size, (FACE[0], CHEEKS), (FACE_AXES[0], 0.2), rng, softness=0.03)


def _mask_eyes(size: int, rng: np.random.Generator) -> np.ndarray:
    left = _draw_oval(size, (EYES[0] - EYE_OFFSET, EYES[1]), (0.1, 0.075), rng, softness=0.015)
    right = _draw_oval(size, (EYES[0] + EYE_OFFSET, EYES[1]), (0.1, 0.075), rng, softness=0.015)
    return np.maximum(left, right)


def _mask_lips(size: int, rng: np.random.Generator) -> np.ndarray:
    return _draw_oval(size, MOUTH, (0.13, 0.085), rng, softness=0.02)


def _mask_hair(size: int, rng: np.random.Generator) -> np.ndarray:
    return _draw_oval(size, CROWN, (0.25, 0.13), rng, softness=0.03)


def _smooth(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Makes the face younger: removes the grain of the skin."""
    return cv2.bilateralFilter(image, 0, rng.uniform(20, 35), 0.03 * len(image))


def _shift_hue(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Changes the colour at the same lightness."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    lab[..., 1:] += rng.choice([-1, 1], 2) * rng.uniform(4, 8, 2)
    return cv2.cvtColor(_round_to_pixels(lab), cv2.COLOR_LAB2RGB)


def _darken(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds make-up or dye: darker or lighter."""
    return _round_to_pixels(image * rng.choice([rng.uniform(0.78, 0.88), rng.uniform(1.12, 1.22)]))


_EDITS = (
    (_mask_skin, _smooth),
    (_mask_skin, _shift_hue),
    (_mask_eyes, _darken),
    (_mask_lips, _shift_hue),
    (_mask_hair, _shift_hue),
    (_mask_hair, _darken),
)

MANIPULATIONS: dict[str, Manipulation] = {
    "face_swap": swap_face,
    "face_reenactment": reenact_face,
    "talking_face": animate_mouth,
    "attribute_editing": edit_attribute,
}
