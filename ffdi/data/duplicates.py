"""Exact and near duplicates among many images: the pairs that may be one picture, by their fingerprints; clusters.

A copy of an image in another fold or split makes every score look better than it is. The fingerprint is taken right
after decoding, the search works on fingerprints alone, and only the pairs that it gives are decoded again, for
`ffdi.data.likeness.compare`.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

from ffdi.data.fingerprint import EDGE

FREQUENCIES = 64
"""Lowest cosine waves that the search compares; higher ones move too much under a crop of 2 %."""
SCALE = 2048
"""Length of a descriptor of whole numbers: every dot product is exact in float32, in whatever order it is summed."""
SIMILAR = 0.9
"""Least cosine between two descriptors. Copies cropped by 2 % all around lie above 0.93 in 99 of 100 cases; of the
2.4 million pairs of 2,200 different faces about fifteen do lie above 0.9 (benchmarks/planted_duplicates.py)."""
REST = 0.125
"""Largest rest, in parts of the contrast, that shift, growth and brightness may leave between two fingerprints."""
BRIGHT = 245
"""Greys that a change of brightness may have cut off count little there."""
ROWS = 2048
"""Fingerprints on each side of one block of the search: 16 MiB of cosines for each thread."""


def candidates(fingerprints: np.ndarray, threads: int, rows: int = ROWS) -> Iterator[np.ndarray]:
    """Pairs of images that may be duplicates, to be confirmed on their pixels.

    Every pair of fingerprints is compared, block by block, so that memory grows with the images, not with the pairs.
    Of equal fingerprints only neighbours are paired, which joins all of them: a thousand black frames give 999 pairs.

    Args:
        fingerprints: uint8 [N, 256].
        threads: how many blocks are searched at a time.
        rows: fingerprints on each side of a block; no result depends on it.

    Yields:
        int64 [P, 2], first < second, no pair twice; P may be 0.
    """
    unlike, equal = _told_apart(fingerprints)
    yield equal
    waves = _descriptors(fingerprints[unlike])
    blocks = [(top, left) for top in range(0, len(unlike), rows) for left in range(top, len(unlike), rows)]
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(blocks), 64):  # bounded: map() would queue all of them at once
            part = blocks[start : start + 64]
            with threadpool_limits(1, "blas"):  # else every thread's product asks for all cores: half the speed
                found = list(pool.map(lambda corner: _similar(waves, corner[0], corner[1], rows), part))
                pairs = list(pool.map(lambda some: _explained(fingerprints, unlike[some]), found))
            yield from pairs


def clusters(images: int, pairs: np.ndarray) -> np.ndarray:
    """The clusters that confirmed pairs make: whatever is joined by a chain of pairs stands in one.

    Args:
        images: number of images.
        pairs: int64 [P, 2], in any order.

    Returns:
        int64 [images]: the smallest index of each image's cluster; a single image is its own.
    """
    first, second = np.asarray(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(first), bool), (first, second)), (images, images))
    _, component = connected_components(graph, directed=False)
    _, smallest = np.unique(component, return_index=True)
    return smallest[component].astype(np.int64)


def _told_apart(fingerprints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first image of each fingerprint, int64 [M], and int64 [P, 2]: neighbours among those with the same one."""
    whole = np.ascontiguousarray(fingerprints).view(f"V{fingerprints.shape[1]}").ravel()
    order = np.argsort(whole, kind="stable")
    same = whole[order[1:]] == whole[order[:-1]]
    first = np.ones(len(order), bool)
    first[1:] = ~same
    return np.sort(order[first]), np.stack([order[:-1][same], order[1:][same]], 1)


def _descriptors(fingerprints: np.ndarray) -> np.ndarray:
    """The lowest cosine waves, the higher the heavier, as natural pictures have less of them: float32 [N, 64].

    Whole numbers; zeros where a picture has no contrast.
    """
    basis = cv2.dct(np.eye(EDGE), flags=cv2.DCT_ROWS).T
    down, across = np.mgrid[:EDGE, :EDGE]
    frequency = np.hypot(down, across).ravel()
    lowest = np.argsort(frequency, kind="stable")[1 : FREQUENCIES + 1]
    waves = (np.kron(basis, basis)[lowest] * frequency[lowest, None]).T
    descriptors = np.empty((len(fingerprints), FREQUENCIES), np.float32)
    for start in range(0, len(fingerprints), ROWS):
        strength = fingerprints[start : start + ROWS] @ waves
        length = np.linalg.norm(strength, axis=1, keepdims=True)
        descriptors[start : start + ROWS] = np.rint(strength * np.where(length > 1, SCALE / np.maximum(length, 1), 0))
    return descriptors


def _similar(waves: np.ndarray, top: int, left: int, rows: int) -> np.ndarray:
    """Pairs first < second of one block of the search: int64 [P, 2]."""
    cosines = waves[top : top + rows] @ waves[left : left + rows].T
    flat = np.flatnonzero(cosines > SIMILAR * SCALE**2)
    pairs = np.stack(np.divmod(flat, cosines.shape[1]), 1) + np.array([top, left])
    return pairs[pairs[:, 0] < pairs[:, 1]]


def _explained(fingerprints: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Those of the pairs between whose fingerprints a crop and a change of brightness leave little."""
    parts = [pairs[start : start + ROWS] for start in range(0, len(pairs), ROWS)]
    kept = [part[_rest(*(fingerprints[part[:, side]] for side in (0, 1))) <= REST] for part in parts]
    return np.concatenate([pairs[:0], *kept])


def _rest(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """What a small shift, growth, brightness and contrast do not explain, in parts of the contrast: float64 [P].

    One step of least squares; the slopes are those of the mean of both, where the second order falls out.
    """
    one, other = (_standard(greys) for greys in (first, second))
    slopes = np.gradient((one + other) / 2, axis=(2, 1))
    axis = (np.arange(EDGE) + 0.5) / EDGE * 2 - 1
    columns = [*slopes, slopes[0] * axis, slopes[1] * axis[:, None], one, np.ones_like(one)]
    matrix = np.stack([_inner(column) for column in columns], 2)
    weight = np.where(_inner(np.maximum(first, second).reshape(one.shape)) > BRIGHT, 0.03, 1.0)
    weighted = (matrix * weight[..., None]).transpose(0, 2, 1)
    wanted = _inner(other)[..., None]
    answer = np.linalg.solve(weighted @ matrix + 1e-4 * np.eye(len(columns)), weighted @ wanted)
    return np.sqrt(np.mean((weight * (wanted - matrix @ answer)[..., 0]) ** 2, 1))


def _standard(greys: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1; a picture without contrast is not blown up. float64 [P, EDGE, EDGE]."""
    greys = greys.astype(np.float64)
    greys -= greys.mean(1, keepdims=True)
    return (greys / np.maximum(greys.std(1, keepdims=True), 4)).reshape(-1, EDGE, EDGE)


def _inner(values: np.ndarray) -> np.ndarray:
    """All but the outermost cells, where a crop leaves nothing to compare: [P, (EDGE - 2)^2]."""
    return values[:, 1:-1, 1:-1].reshape(len(values), -1)
