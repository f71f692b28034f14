"""The comparison of two decoded images: one picture, one scene, or different pictures.

A fake that is made from a real frame differs only in a face, a mouth or a pair of eyes: no mean over the whole picture
separates it from a copy. Therefore the images are compared block by block:

1. Alignment: an affine map through the common keypoints (RANSAC), refined by Gauss-Newton steps (Lucas and Kanade, An
   Iterative Image Registration Technique, 1981) on greys with normalised local mean and contrast.
2. Tones: brightness and contrast of each channel are fitted. If most of the picture still differs, a tone curve and a
   colour map of the whole picture are fitted instead.
3. Blocks: the difference of each block is divided by the block's detail, because compression and resampling change
   detailed blocks most. The block with the largest difference decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np

from ffdi.data.images import descriptors

EDGE = 128
"""Width and height of both images in the comparison."""
STEPS = ((64, 5), (EDGE, 3))
"""Edge lengths of the alignment, each with the largest number of steps."""
FITS, FEWEST = 0.06, 4
"""Largest distance, in half edges, of a keypoint that agrees with an affine map; least number of such keypoints."""
LEAST_SEEN = 0.2
"""Least share of the picture that both images have in common under an affine map."""
BORDER = 0.04
"""Border that the steps ignore on every side: a crop has no content there."""
MARGIN = 6 / EDGE
"""Border of the moved image, in half edges, that is not compared: beyond it there is no content."""
BLUR = 1.0
"""Standard deviation in pixels; removes most artefacts of JPEG and resampling."""
OWN_BLUR = 1.25
"""Least standard deviation in pixels of the smaller image, if its edge is below EDGE."""
BLOCK = 8
"""Edge of a block; an eye is two of them wide in an aligned face."""
GRAIN = 8.0
"""Least detail of a block in grey levels, in a picture with enough contrast."""
CONTRAST = 0.4
"""The same in parts of the picture's contrast: a dark scene has few grey levels."""
FLAT = 2.0
"""A picture with less contrast than this cannot be distinguished from others."""
CLIPPED = (1, 250)
"""A channel at or beyond these values may be clipped by a change of brightness: such pixels are ignored."""
SOUND = 0.3
"""Least share of pixels that are not clipped; below it, clipped pixels are compared too."""
COLOURFUL = 0.6
"""Weight of a difference in colour: JPEG changes colour more than grey."""
KNOTS = (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1)
"""Quantiles of the greys; a tone curve is linear between them."""
ROUNDS = 3
"""Number of fits of tones and colours; each gives less weight to pixels that did not fit before."""
EVERYWHERE = 0.25
"""Share of different blocks above which a colour map is fitted: other tones change all blocks, an edit only some."""
LIMIT = 0.27
"""Limit of a block's difference in parts of its detail, for two copies of one picture."""
RECOLOURED = 0.35
"""The same after a colour map, which fits gamma and hue less exactly than brightness and contrast."""
OVERLAP = 0.5
"""Least share of each image that the other image shows too, for two copies of one picture."""
LOOSE, SHARED = 0.4, 0.5
"""Two images show one scene if at least the share SHARED of either image has differences below LOOSE."""
DETAILED = 0.05
"""Least share of blocks with detail: equal walls or black frames are no evidence."""

GREY = np.array([0.299, 0.587, 0.114], np.float32)
Likeness = Literal["exact", "near", "scene"]


class Agreement(NamedTuple):
    """The agreement of two aligned images.

    Attributes:
        worst: the largest difference of a block, in parts of its detail; inf if it is unknown.
        limit: limit of `worst` for two copies of one picture.
        overlap: share of an image that the other image shows too; the smaller one of both shares.
        shared: share of an image whose blocks agree; the smaller one of both shares.
    """

    worst: float
    limit: float
    overlap: float
    shared: float


NO_AGREEMENT = Agreement(np.inf, LIMIT, 0.0, 0.0)


def compare(first: np.ndarray, second: np.ndarray) -> Likeness | None:
    """Compares two images; their order does not matter.

    Args:
        first: RGB, uint8 [H, W, 3].
        second: RGB, uint8 [H', W', 3].

    Returns:
        'exact' if all pixels are equal; 'near' for one picture after a crop, a small rotation, mirroring, resizing,
        JPEG compression, changes of tone or colour, bars, or several of these; 'scene' if half of both agrees and the
        rest differs: a logo, a real frame and a fake made from it, neighbouring frames; None for different pictures.
    """
    if first.shape == second.shape and np.array_equal(first, second):
        return "exact"
    found = measure_agreement(first, second)
    if found.worst <= found.limit and found.overlap >= OVERLAP:
        return "near"
    return "scene" if found.shared >= SHARED else None


def measure_agreement(first: np.ndarray, second: np.ndarray) -> Agreement:
    """Measures the agreement of two images; their order does not matter."""
    wide, narrow = sorted((first, second), key=lambda one: (one.size, one.shape, one.tobytes()), reverse=True)
    moved, fixed = _shrink(wide), _shrink(narrow)
    place = _align(moved.pixels @ GREY, fixed.pixels @ GREY, _fit_to_keypoints(moved.keypoints, fixed.keypoints))
    inside = _mark_overlap(place, EDGE, MARGIN)
    weight = ((_warp(moved.sound, place) > 0.98) & (fixed.sound > 0.98) & inside).astype(np.float32)
    if weight.mean() < SOUND:  # the colour map then has to fit the clipped pixels too
        weight = inside.astype(np.float32)
    if not weight.any():
        return NO_AGREEMENT
    blur = max(BLUR, OWN_BLUR * EDGE / min(moved.edge, fixed.edge))
    one, other = (cv2.GaussianBlur(image, (0, 0), blur) for image in (_warp(moved.pixels, place), fixed.pixels))
    blocks = _measure_blocks(one, other, weight)
    if blocks is None:
        return NO_AGREEMENT
    limit = RECOLOURED if blocks.recoloured else LIMIT
    overlap = min(1.0, float(inside.mean()) / (1 - MARGIN) ** 2) * min(1.0, abs(float(np.linalg.det(place[:, :2]))))
    return Agreement(float(blocks.different.max()), limit, overlap, overlap * _measure_agreeing_share(blocks))


def _measure_agreeing_share(blocks: _Blocks) -> float:
    """The share of the agreeing blocks.

    After a colour map the limit is lower, and the share of the blocks with detail counts if it is smaller: a tone
    curve makes any two walls equal.
    """
    agreeing = blocks.different <= (LIMIT if blocks.recoloured else LOOSE)
    if (agreeing & blocks.detailed).sum() < DETAILED * len(agreeing):
        return 0.0
    return float(min(agreeing.mean(), agreeing[blocks.detailed].mean()) if blocks.recoloured else agreeing.mean())


@dataclass(frozen=True)
class _SmallImage:
    """An image without bars, at the size of the comparison.

    Attributes:
        pixels: float32 [EDGE, EDGE, 3].
        sound: float32 [EDGE, EDGE], the share of each pixel that is not clipped.
        keypoints: uint64 [40].
        edge: its shorter side in pixels.
    """

    pixels: np.ndarray
    sound: np.ndarray
    keypoints: np.ndarray
    edge: int


def _shrink(pixels: np.ndarray) -> _SmallImage:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    points = descriptors.compute_keypoints(grey)
    pixels = np.ascontiguousarray(pixels[descriptors.trim_bars(grey)])
    cut: np.ndarray = cv2.threshold(pixels, CLIPPED[1] - 1, 255, cv2.THRESH_BINARY)[1]
    cut |= cv2.threshold(pixels, CLIPPED[0], 255, cv2.THRESH_BINARY_INV)[1]
    sound = 1 - _resize(cut, EDGE).max(2) / np.float32(255)
    return _SmallImage(_resize(pixels, EDGE).astype(np.float32), sound, points, min(pixels.shape[:2]))


def _resize(pixels: np.ndarray, edge: int) -> np.ndarray:
    shrinks = min(pixels.shape[:2]) >= edge
    return cv2.resize(pixels, (edge, edge), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _fit_to_keypoints(moved: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """The affine map with the most agreeing keypoints, from `fixed` to `moved`: float64 [2, 3]."""
    there, here = descriptors.match_keypoints(moved, fixed)
    if len(here) >= FEWEST:
        place, agree = cv2.estimateAffine2D(here, there, ransacReprojThreshold=FITS, maxIters=500)
        if place is not None and agree.sum() >= FEWEST:
            return place
    return np.eye(2, 3)


def _align(moved: np.ndarray, fixed: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Refines an affine map: float64 [2, 3] (see `_warp`)."""
    for edge, steps in STEPS:
        one, other = (
            descriptors.normalize_contrast(cv2.GaussianBlur(_resize(image, edge), (0, 0), BLUR))
            for image in (moved, fixed)
        )
        place = min((place, np.eye(2, 3)), key=lambda way: _measure_distance(one, other, way))
        for _ in range(steps):
            step = _compute_step(_warp(one, place), other, _mark_overlap(place, edge, BORDER))
            place = place @ np.vstack([np.eye(2, 3) + step, [0, 0, 1]])
            if np.abs(step).max() < 0.1 / edge:
                break
    return place


def _measure_distance(moved: np.ndarray, fixed: np.ndarray, place: np.ndarray) -> float:
    """The median difference of the common part; it reveals a wrong map from few keypoints that agree by chance."""
    inside = _mark_overlap(place, len(moved), BORDER)
    return float(np.median(np.abs(fixed - _warp(moved, place))[inside])) if inside.mean() > LEAST_SEEN else np.inf


def _compute_step(moved: np.ndarray, fixed: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """One Gauss-Newton step of an affine map, float64 [2, 3]; large differences, as of a logo, get little weight."""
    edge = len(moved)
    rest = fixed - moved
    scale = 1.5 * float(np.median(np.abs(rest[::2, ::2]))) + 1e-3
    weight = inside / (1 + (rest / scale) ** 2)
    across, down = (cv2.Sobel(moved + fixed, cv2.CV_32F, dx, 1 - dx, ksize=1, scale=edge / 8) for dx in (1, 0))
    x, y = _make_axis(edge), _make_axis(edge)[:, None]
    columns = np.stack([across * x, across * y, across, down * x, down * y, down]).reshape(6, -1)
    weighted = columns * weight.ravel()
    square = (weighted @ columns.T).astype(np.float64)
    square += np.diag(1e-6 * np.diag(square) + 1e-3)  # without detail the solution would not be unique
    return np.linalg.solve(square, weighted @ rest.ravel()).reshape(2, 3)


def _make_axis(edge: int) -> np.ndarray:
    """Pixel centres in half edges: float32 [edge] from -1 to 1."""
    return ((np.arange(edge, dtype=np.float32) + 0.5) * 2 / edge) - 1


def _warp(image: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Samples `image` at place @ (x, y, 1), where x and y run from -1 to 1."""
    edge = len(image)
    middle = (edge - 1) / 2
    shift = place[:, 2] * edge / 2 + middle - place[:, :2] @ np.array([middle, middle])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    matrix = np.hstack([place[:, :2], shift[:, None]])
    return cv2.warpAffine(image, matrix, (edge, edge), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _mark_overlap(place: np.ndarray, edge: int, margin: float) -> np.ndarray:
    """The pixels inside of both images, without a border of `margin` half edges: bool [edge, edge]."""
    x, y = _make_axis(edge), _make_axis(edge)[:, None]
    across, down = (np.abs(row[0] * x + row[1] * y + row[2]) < 1 - margin for row in place)
    return across & down


class _Blocks(NamedTuple):
    """Blocks in both images: their differences in parts of their detail, and whether they have any, [B] each."""

    different: np.ndarray
    detailed: np.ndarray
    recoloured: bool


def _measure_colour(image: np.ndarray) -> float:
    """The amount of colour: the standard deviation of the difference from grey."""
    return float((image - (image @ GREY)[..., None]).std())


def _measure_blocks(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> _Blocks | None:
    """The difference of each block; None if there is too little detail."""
    poorer, richer = sorted((one, other), key=_measure_colour)
    blocks = _compare_blocks(_fit_brightness(richer, poorer, weight), poorer, weight, recoloured=False)
    if blocks is None or (blocks.different > LIMIT).mean() <= EVERYWHERE:
        return blocks
    # neither colour from grey nor clipped pixels can be restored: the better one of both directions counts
    ways = ((richer, poorer), (poorer, richer))
    found = [_compare_blocks(_fit_colours(*way, weight), way[1], weight, recoloured=True) for way in ways]
    return min((way for way in found if way), key=lambda way: float(way.different.mean()), default=None)


def _compare_blocks(fitted: np.ndarray, fixed: np.ndarray, weight: np.ndarray, *, recoloured: bool) -> _Blocks | None:
    light = fixed @ GREY
    grain = min(GRAIN, CONTRAST * float(light[weight > 0].std()))
    detail = np.maximum(_average_weighted(light**2, weight) - _average_weighted(light, weight) ** 2, 0)
    compared = _average_blocks(weight) > 0.5
    detailed = detail[compared] > (grain / 2) ** 2
    if grain < FLAT or not compared.any() or detailed.mean() < DETAILED:
        return None
    different = np.sqrt(_measure_energy(fitted - fixed, weight) / (detail + grain**2))[compared]
    return _Blocks(different, detailed, recoloured)


def _fit_brightness(moved: np.ndarray, fixed: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fits brightness and contrast of `moved` to `fixed`, channel by channel."""
    one = np.ones_like(moved[..., 0])
    bands = [_fit(np.stack([moved[..., band], one], 2), fixed[..., [band]], weight) for band in range(3)]
    return np.concatenate(bands, 2)


def _fit_colours(moved: np.ndarray, fixed: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fits the colours of `moved` to `fixed`, by tone curves and a colour map of the whole picture."""
    colours = moved / 255
    curves = [_make_curve_basis(colours[..., band]) for band in range(3)]
    light = colours @ GREY
    red, blue = colours[..., 0] - light, colours[..., 2] - light
    mixed = np.stack([red * light, blue * light, red * red, blue * blue, red * blue], 2)
    return _fit(np.concatenate([*curves, mixed], 2), fixed, weight)


def _make_curve_basis(band: np.ndarray) -> np.ndarray:
    """A basis of all curves that are linear between the knots: float32 [EDGE, EDGE, 7]."""
    knots = np.quantile(band[::2, ::2], KNOTS) + np.arange(len(KNOTS)) * 1e-4
    return np.stack([np.interp(band, knots, hat).astype(np.float32) for hat in np.eye(len(KNOTS))], 2)


def _fit(columns: np.ndarray, wanted: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Robust least squares: `columns` [EDGE, EDGE, C] fitted to `wanted` [EDGE, EDGE, T]."""
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


def _measure_energy(rest: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean squared difference of each block in grey, plus the squared mean difference in colour with its neighbours."""
    grey = rest @ GREY
    seen = np.maximum(_average_neighbours(_average_blocks(weight)), 1e-6)
    colour = [_average_neighbours(_average_blocks((rest[..., band] - grey) * weight)) / seen for band in (0, 2)]
    return _average_weighted(grey**2, weight) + COLOURFUL**2 * (colour[0] ** 2 + colour[1] ** 2)


def _average_neighbours(blocks: np.ndarray) -> np.ndarray:
    return cv2.blur(blocks, (3, 3))


def _average_blocks(values: np.ndarray) -> np.ndarray:
    """Means of blocks: float32 [EDGE / BLOCK, EDGE / BLOCK]."""
    count = EDGE // BLOCK
    return values.reshape(count, BLOCK, count, BLOCK).mean((1, 3))


def _average_weighted(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return _average_blocks(values * weight) / np.maximum(_average_blocks(weight), 1e-6)
