"""A map of all images: those that look alike lie near each other.

The positions come from fingerprints, grey pictures of 16 x 16 pixels that the scan has computed, without any network:
t-SNE (van der Maaten and Hinton, JMLR 2008) of their principal components. Of many images a sample is placed by t-SNE,
and each other image between the sampled ones that are most like it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from ffdi.reporting import pictures

SAMPLE = 2000
"""Images that t-SNE places."""
COMPONENTS = 30
NEIGHBOURS = 3
"""Sampled images that place another one."""
PERPLEXITY = 30.0
FEWEST = 4
"""Fewer images lie on a line."""
CELL = 48
"""The edge of a thumbnail in pixels."""
COLUMNS = 40
"""Thumbnails in a row of the sheet."""
MAX_THUMBNAILS = COLUMNS**2
LARGEST = 65_535


class ImageMap(NamedTuple):
    """The map, for N images.

    Attributes:
        img_name: str [N].
        places: float [N, 2], from 0 to 1.
        target: int [N], 1 = fake.
        kind: str [N], the kind of each fake; None without kinds.
        y_pred: float [N], out of fold.
        thumbnails: the rows that have one, in the order of the sheet.
        sheet: a data URL: the thumbnails in rows of `COLUMNS`.
    """

    img_name: np.ndarray
    places: np.ndarray
    target: np.ndarray
    kind: np.ndarray | None
    y_pred: np.ndarray
    thumbnails: list[int]
    sheet: str

    def describe(self) -> dict[str, Any]:
        """The map for the page: columns of numbers are base64 of little-endian integers."""
        kinds, kind = np.unique(self.kind, return_inverse=True) if self.kind is not None else (np.array([]), None)
        return {
            "names": self.img_name.tolist(),
            "places": _encode(np.rint(self.places * LARGEST), "<u2"),
            "target": _encode(self.target, "<u1"),
            "kinds": kinds.tolist(),
            "kind": "" if kind is None else _encode(kind, "<u2"),
            "scores": _encode(np.rint(self.y_pred * LARGEST), "<u2"),
            "thumbnails": self.thumbnails,
            "cell": CELL,
            "columns": COLUMNS,
        }


def compute_features(fingerprint: np.ndarray, seed: int) -> np.ndarray:
    """Principal components of fingerprints, uint8 [N, D], in which similar images are near each other: float32 [N, C].

    Each fingerprint is brought to mean 0 and deviation 1, so that exposure does not decide.
    """
    from sklearn.decomposition import PCA  # takes seconds

    values = fingerprint.astype(np.float32)
    values -= values.mean(1, keepdims=True)
    values /= np.maximum(values.std(1, keepdims=True), 1)
    if len(values) < FEWEST:
        return values
    sample = _draw_sample(len(values), seed)
    reduced = PCA(min(COMPONENTS, len(sample), values.shape[1]), random_state=seed).fit(values[sample])
    return reduced.transform(values).astype(np.float32)


def place_images(features: np.ndarray, seed: int) -> np.ndarray:
    """Places images on the map.

    Args:
        features: float32 [N, C], of `compute_features`.
        seed: of the sample and of t-SNE.

    Returns:
        float64 [N, 2], from 0 to 1.
    """
    from sklearn.manifold import TSNE  # takes seconds
    from sklearn.neighbors import NearestNeighbors

    if len(features) < FEWEST:
        return np.stack([np.linspace(0, 1, len(features)), np.full(len(features), 0.5)], 1)
    sample = _draw_sample(len(features), seed)
    perplexity = min(PERPLEXITY, (len(sample) - 1) / 3)
    known = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features[sample])
    nearest = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(sample))).fit(features[sample])
    distance, near = nearest.kneighbors(features)
    weight = 1 / (distance + 1e-6)  # a sampled image is its own nearest one, and stays where it is
    places = (known[near] * (weight / weight.sum(1, keepdims=True))[..., None]).sum(1)
    low, high = places.min(0), places.max(0)
    return (places - low) / np.maximum(high - low, 1e-9)


def choose_thumbnails(count: int, first: list[int], seed: int) -> list[int]:
    """The rows with a thumbnail: `first`, and as many others as there is place for."""
    drawn = np.random.default_rng(seed).permutation(count)
    return [*first, *drawn[~np.isin(drawn, first)].tolist()][:MAX_THUMBNAILS]


def draw_sheet(count: int, load: Callable[[int], np.ndarray]) -> str:
    """A data URL of thumbnails in rows of `COLUMNS`.

    Args:
        count: of thumbnails.
        load: the image of a thumbnail, RGB uint8 [H, W, 3].
    """
    sheet = np.zeros((-(-count // COLUMNS) * CELL, COLUMNS * CELL, 3), np.uint8)
    for place in range(count):
        down, across = (CELL * step for step in divmod(place, COLUMNS))
        sheet[down : down + CELL, across : across + CELL] = pictures.crop_square(load(place), CELL)
    return pictures.encode_webp(cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


def _draw_sample(count: int, seed: int) -> np.ndarray:
    """`SAMPLE` rows at most, in order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:SAMPLE])


def _encode(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()
