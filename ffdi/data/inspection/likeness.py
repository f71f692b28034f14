"""How alike two decoded images are: everywhere, in large parts, or not at all.

A fake made from a real frame is that frame but for a face, a mouth or a pair of eyes, so nothing averaged over the
picture can tell it from a copy. The two are laid over each other first: an affine map through the keypoints that they
have in common (RANSAC), refined by the Gauss-Newton steps of Lucas and Kanade (An Iterative Image Registration
Technique, 1981) on greys whose local mean and contrast are taken out. Then brightness and contrast of each channel are
made alike, or, where nearly the whole picture has other tones, a tone curve and a colour map of the whole picture. Then
each block is measured against the detail that stands in it: compression and resampling err where there is detail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np

from ffdi.data.images import keypoints

EDGE = 128
"""Both images are compared at this width and height."""
STEPS = ((64, 5), (EDGE, 3))
"""Edge lengths and the most steps at each."""
FITS, FEWEST = 0.06, 4
"""Distance, in half edges, up to which keypoints agree with an affine map, and how many have to."""
LEAST_SEEN = 0.2
"""Share of the picture that an affine map has to leave in view."""
BORDER = 0.04
"""What the steps leave out on every side: a crop has nothing there."""
MARGIN = 6 / EDGE
"""What is not compared at the edge of the moved image, in half edges: nothing is known beyond it."""
BLUR = 1.0
"""Standard deviation in pixels: takes out most of what JPEG and resampling add."""
OWN_BLUR = 1.25
"""The least in pixels of the smaller image, where that has fewer than EDGE."""
BLOCK = 8
"""Edge of a block; an eye is two of them wide in an aligned face."""
GRAIN = 8.0
"""Grey levels that count as detail in a block without any, where the picture has contrast enough."""
CONTRAST = 0.4
"""The same in parts of the picture's own contrast: a dark scene differs in few levels."""
FLAT = 2.0
"""A picture with less grain than that has nothing by which two could be told apart."""
CLIPPED = (1, 250)
"""A channel down or up to there may have been cut off by a change of brightness: nothing is said about the place."""
SOUND = 0.3
"""Share of the picture that must not be cut off for the rest to be left out."""
COLOURFUL = 0.6
"""Weight of a difference in colour, of which JPEG loses more than of grey."""
KNOTS = (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1)
"""Quantiles of the greys between which a tone curve is straight."""
ROUNDS = 3
"""Fits of tones and colours, each without what fitted badly before."""
EVERYWHERE = 0.25
"""Share of the blocks that brightness and contrast must leave unexplained before a colour map is tried: other tones
show everywhere, an edit does not."""
LIMIT = 0.27
"""A block that differs by a larger part of its detail belongs to another picture."""
RECOLOURED = 0.35
"""The same where a colour map was tried, which explains gamma and hue less exactly than brightness and contrast."""
OVERLAP = 0.5
"""Share of each image that the other one has to show for both to be one picture."""
LOOSE, SHARED = 0.4, 0.5
"""Two images show one scene if blocks of at least SHARED of either agree to LOOSE."""
DETAILED = 0.05
"""Share of the blocks that must have detail: a wall or a black frame proves nothing."""

GREY = np.array([0.299, 0.587, 0.114], np.float32)
Likeness = Literal["exact", "near", "scene"]


class Agreement(NamedTuple):
    """How two images agree after they were laid over each other.

    Attributes:
        worst: how far the block that agrees least disagrees, in parts of its detail; inf where it cannot be said.
        limit: up to where `worst` may go for both to be one picture.
        overlap: share of either image, the smaller one, that the other one shows.
        shared: share of either image, the smaller one, whose blocks agree.
    """

    worst: float
    limit: float
    overlap: float
    shared: float


NOTHING = Agreement(np.inf, LIMIT, 0.0, 0.0)


def compare(first: np.ndarray, second: np.ndarray) -> Likeness | None:
    """How alike two images are; the order of the two does not matter.

    Args:
        first: RGB, uint8 [H, W, 3].
        second: RGB, uint8 [H', W', 3].

    Returns:
        'exact' where all pixels are equal; 'near' where one is the other after a crop, a small turn, mirroring, another
        size, JPEG compression, other tones or colours, bars, or several of them; 'scene' where half of both agrees and
        the rest does not: a logo, a real frame and the fake made from it, neighbouring frames; None for different
        pictures.
    """
    if first.shape == second.shape and np.array_equal(first, second):
        return "exact"
    found = agreement(first, second)
    if found.worst <= found.limit and found.overlap >= OVERLAP:
        return "near"
    return "scene" if found.shared >= SHARED else None


def agreement(first: np.ndarray, second: np.ndarray) -> Agreement:
    """How two images agree; the order of the two does not matter."""
    wide, narrow = sorted((first, second), key=lambda one: (one.size, one.shape, one.tobytes()), reverse=True)
    moved, fixed = _small(wide), _small(narrow)
    place = _aligned(moved.pixels @ GREY, fixed.pixels @ GREY, _start(moved.keypoints, fixed.keypoints))
    inside = _covered(place, EDGE, MARGIN)
    weight = ((_warped(moved.sound, place) > 0.98) & (fixed.sound > 0.98) & inside).astype(np.float32)
    if weight.mean() < SOUND:  # then a tone curve has to explain what was cut off
        weight = inside.astype(np.float32)
    if not weight.any():
        return NOTHING
    blur = max(BLUR, OWN_BLUR * EDGE / min(moved.edge, fixed.edge))
    one, other = (cv2.GaussianBlur(image, (0, 0), blur) for image in (_warped(moved.pixels, place), fixed.pixels))
    blocks = _differences(one, other, weight)
    if blocks is None:
        return NOTHING
    limit = RECOLOURED if blocks.recoloured else LIMIT
    overlap = min(1.0, float(inside.mean()) / (1 - MARGIN) ** 2) * min(1.0, abs(float(np.linalg.det(place[:, :2]))))
    return Agreement(float(blocks.different.max()), limit, overlap, overlap * _agreeing(blocks))


def _agreeing(blocks: _Blocks) -> float:
    """Share of the blocks that agree; where other tones were tried, more narrowly, and of those with detail as well: a
    tone curve makes any two walls alike."""
    agreeing = blocks.different <= (LIMIT if blocks.recoloured else LOOSE)
    if (agreeing & blocks.detailed).sum() < DETAILED * len(agreeing):
        return 0.0
    return float(min(agreeing.mean(), agreeing[blocks.detailed].mean()) if blocks.recoloured else agreeing.mean())


@dataclass(frozen=True)
class _Small:
    """An image without bars at the size of comparison.

    Attributes:
        pixels: float32 [EDGE, EDGE, 3].
        sound: float32 [EDGE, EDGE], how much of each pixel is not cut off.
        keypoints: uint64 [40].
        edge: its shorter side in pixels.
    """

    pixels: np.ndarray
    sound: np.ndarray
    keypoints: np.ndarray
    edge: int


def _small(pixels: np.ndarray) -> _Small:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    points = keypoints.compute_keypoints(grey)
    pixels = np.ascontiguousarray(pixels[keypoints.trim_bars(grey)])
    cut: np.ndarray = cv2.threshold(pixels, CLIPPED[1] - 1, 255, cv2.THRESH_BINARY)[1]
    cut |= cv2.threshold(pixels, CLIPPED[0], 255, cv2.THRESH_BINARY_INV)[1]
    sound = 1 - _resized(cut, EDGE).max(2) / np.float32(255)
    return _Small(_resized(pixels, EDGE).astype(np.float32), sound, points, min(pixels.shape[:2]))


def _resized(pixels: np.ndarray, edge: int) -> np.ndarray:
    shrinks = min(pixels.shape[:2]) >= edge
    return cv2.resize(pixels, (edge, edge), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _start(moved: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """The affine map that most keypoints agree with, from places in `fixed` to places in `moved`: float64 [2, 3]."""
    there, here = keypoints.match(moved, fixed)
    if len(here) >= FEWEST:
        place, agree = cv2.estimateAffine2D(here, there, ransacReprojThreshold=FITS, maxIters=500)
        if place is not None and agree.sum() >= FEWEST:
            return place
    return np.eye(2, 3)


def _aligned(moved: np.ndarray, fixed: np.ndarray, place: np.ndarray) -> np.ndarray:
    """`place` made exact: float64 [2, 3] (see `_warped`)."""
    for edge, steps in STEPS:
        one, other = (
            keypoints.normalize_contrast(cv2.GaussianBlur(_resized(image, edge), (0, 0), BLUR))
            for image in (moved, fixed)
        )
        place = min((place, np.eye(2, 3)), key=lambda way: _apart(one, other, way))
        for _ in range(steps):
            step = _step(_warped(one, place), other, _covered(place, edge, BORDER))
            place = place @ np.vstack([np.eye(2, 3) + step, [0, 0, 1]])
            if np.abs(step).max() < 0.1 / edge:
                break
    return place


def _apart(moved: np.ndarray, fixed: np.ndarray, place: np.ndarray) -> float:
    """How far both differ where both are: in few keypoints that agree by chance there may be a wrong map."""
    inside = _covered(place, len(moved), BORDER)
    return float(np.median(np.abs(fixed - _warped(moved, place))[inside])) if inside.mean() > LEAST_SEEN else np.inf


def _step(moved: np.ndarray, fixed: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """One Gauss-Newton step of an affine map, float64 [2, 3]; what differs most, a logo, counts little."""
    edge = len(moved)
    rest = fixed - moved
    scale = 1.5 * float(np.median(np.abs(rest[::2, ::2]))) + 1e-3
    weight = inside / (1 + (rest / scale) ** 2)
    across, down = (cv2.Sobel(moved + fixed, cv2.CV_32F, dx, 1 - dx, ksize=1, scale=edge / 8) for dx in (1, 0))
    x, y = _axis(edge), _axis(edge)[:, None]
    columns = np.stack([across * x, across * y, across, down * x, down * y, down]).reshape(6, -1)
    weighted = columns * weight.ravel()
    square = (weighted @ columns.T).astype(np.float64)
    square += np.diag(1e-6 * np.diag(square) + 1e-3)  # an image without detail has no one answer
    return np.linalg.solve(square, weighted @ rest.ravel()).reshape(2, 3)


def _axis(edge: int) -> np.ndarray:
    """Pixel centres in half edges: float32 [edge] from -1 to 1."""
    return ((np.arange(edge, dtype=np.float32) + 0.5) * 2 / edge) - 1


def _warped(image: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Samples `image` at place @ (x, y, 1), where x and y run from -1 to 1."""
    edge = len(image)
    middle = (edge - 1) / 2
    shift = place[:, 2] * edge / 2 + middle - place[:, :2] @ np.array([middle, middle])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    matrix = np.hstack([place[:, :2], shift[:, None]])
    return cv2.warpAffine(image, matrix, (edge, edge), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _covered(place: np.ndarray, edge: int, margin: float) -> np.ndarray:
    """Which pixels lie inside both images and not within `margin` half edges of the edge: bool [edge, edge]."""
    x, y = _axis(edge), _axis(edge)[:, None]
    across, down = (np.abs(row[0] * x + row[1] * y + row[2]) < 1 - margin for row in place)
    return across & down


class _Blocks(NamedTuple):
    """Blocks that both images show: how much they differ in parts of their detail, and which have any, [B] each."""

    different: np.ndarray
    detailed: np.ndarray
    recoloured: bool


def _colour(image: np.ndarray) -> float:
    """How much colour there is to predict another image from."""
    return float((image - (image @ GREY)[..., None]).std())


def _differences(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> _Blocks | None:
    """How much each block differs; None where there is too little detail to say so."""
    poorer, richer = sorted((one, other), key=_colour)
    blocks = _judged(_brightened(richer, poorer, weight), poorer, weight, recoloured=False)
    if blocks is None or (blocks.different > LIMIT).mean() <= EVERYWHERE:
        return blocks
    # grey cannot be made colour again, nor what is cut off whole: the way on which less is left counts
    ways = ((richer, poorer), (poorer, richer))
    found = [_judged(_recoloured(*way, weight), way[1], weight, recoloured=True) for way in ways]
    return min((way for way in found if way), key=lambda way: float(way.different.mean()), default=None)


def _judged(fitted: np.ndarray, fixed: np.ndarray, weight: np.ndarray, *, recoloured: bool) -> _Blocks | None:
    light = fixed @ GREY
    grain = min(GRAIN, CONTRAST * float(light[weight > 0].std()))
    detail = np.maximum(_mean(light**2, weight) - _mean(light, weight) ** 2, 0)
    judged = _blocks(weight) > 0.5
    detailed = detail[judged] > (grain / 2) ** 2
    if grain < FLAT or not judged.any() or detailed.mean() < DETAILED:
        return None
    different = np.sqrt(_energy(fitted - fixed, weight) / (detail + grain**2))[judged]
    return _Blocks(different, detailed, recoloured)


def _brightened(moved: np.ndarray, fixed: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`moved` with the brightness and contrast of `fixed`, channel by channel."""
    one = np.ones_like(moved[..., 0])
    bands = [_fitted(np.stack([moved[..., band], one], 2), fixed[..., [band]], weight) for band in range(3)]
    return np.concatenate(bands, 2)


def _recoloured(moved: np.ndarray, fixed: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`moved` with the colours of `fixed`, by tone curves and a colour map of the whole picture."""
    colours = moved / 255
    curves = [_curve(colours[..., band]) for band in range(3)]
    light = colours @ GREY
    red, blue = colours[..., 0] - light, colours[..., 2] - light
    mixed = np.stack([red * light, blue * light, red * red, blue * blue, red * blue], 2)
    return _fitted(np.concatenate([*curves, mixed], 2), fixed, weight)


def _curve(band: np.ndarray) -> np.ndarray:
    """Columns whose sums are all curves that are straight between the knots: float32 [EDGE, EDGE, 7]."""
    knots = np.quantile(band[::2, ::2], KNOTS) + np.arange(len(KNOTS)) * 1e-4
    return np.stack([np.interp(band, knots, hat).astype(np.float32) for hat in np.eye(len(KNOTS))], 2)


def _fitted(columns: np.ndarray, wanted: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """What columns [EDGE, EDGE, C] say of `wanted` [EDGE, EDGE, T]; pixels that fit badly count little."""
    some = np.s_[::2, ::2]
    matrix, target, seen = (
        columns[some].reshape(-1, columns.shape[2]),
        wanted[some].reshape(-1, wanted.shape[2]),
        weight[some],
    )
    trust = seen.ravel()
    for turn in range(ROUNDS):
        weighted = (matrix * trust[:, None]).T
        square = (weighted @ matrix).astype(np.float64)
        square += np.eye(len(square)) * (1e-4 * np.trace(square) / len(square))
        answer = np.linalg.solve(square, weighted @ target).astype(np.float32)
        if turn + 1 < ROUNDS:
            rest = np.abs(matrix @ answer - target).max(1)
            trust = seen.ravel() / (1 + (rest / (1.5 * np.median(rest[seen.ravel() > 0]) + 2)) ** 2)
    return np.clip(columns @ answer, 0, 255)


def _energy(rest: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean square of each block's difference in grey, and of the mean difference in colour of it and its neighbours."""
    grey = rest @ GREY
    seen = np.maximum(_around(_blocks(weight)), 1e-6)
    colour = [_around(_blocks((rest[..., band] - grey) * weight)) / seen for band in (0, 2)]
    return _mean(grey**2, weight) + COLOURFUL**2 * (colour[0] ** 2 + colour[1] ** 2)


def _around(blocks: np.ndarray) -> np.ndarray:
    return cv2.blur(blocks, (3, 3))


def _blocks(values: np.ndarray) -> np.ndarray:
    """Means of blocks: float32 [EDGE / BLOCK, EDGE / BLOCK]."""
    count = EDGE // BLOCK
    return values.reshape(count, BLOCK, count, BLOCK).mean((1, 3))


def _mean(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return _blocks(values * weight) / np.maximum(_blocks(weight), 1e-6)
