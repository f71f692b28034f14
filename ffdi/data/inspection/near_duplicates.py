"""The search for near duplicates: pairs of images that may show one picture, among half a million images.

Comparing all pairs would take too long, so the search works in four steps:

1. Each image is described once, right after decoding, by a fingerprint (the picture in 16 x 16 greys) and by up to 40
   keypoints (`ffdi.data.images.descriptors`). A keypoint is one uint64: a 33-bit code of its neighbourhood and its
   place.
2. Images with equal fingerprints are paired directly.
3. All keypoints of all images are sorted by their codes, and each is compared with the next few in this order. Two
   keypoints match if few bits of their codes differ and if their places fit. A copy may have changed a high bit, which
   would move its code far away, so the sort is repeated eight times, each time with another bit as the highest.
   Time and memory grow with the number of images, not with the number of pairs.
4. A pair of images with at least two matches is compared by all its keypoints. It is a candidate if enough of them
   agree; a keypoint that many other images have too, such as the eyes of aligned faces, counts less.

Candidates are only possible duplicates. `duplicate_groups` decodes them and asks `likeness.compare` for the result.
A copy of an image in another fold or split makes every score too good.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ffdi.data.images import descriptors
from ffdi.data.images.descriptors import COUNT

TABLES = 8
"""How many times all codes are sorted."""
FOLLOWING = 4
"""Number of following codes that each code is compared with."""
CELL = 0.34
"""Edge of a grid cell in parts of the picture: only codes of one cell are compared. The grid moves with each sort."""
BITS = 4
"""Largest number of different bits of two codes."""
MANY, BITS_OF_MANY = 1 << 22, 2
"""From this number of keypoints on, many codes are similar by chance, and fewer bits may differ."""
LEAST_WEIGHT = 7.0
"""Least sum of the weights of two images' agreeing keypoints. A keypoint that n of OTHERS images have weighs 1/n."""
ENOUGH_KEYPOINTS = 24
"""Least number of agreeing keypoints that is enough with any weight: there may be hundreds of copies of one picture."""
OTHERS, FEW = 32, 16
"""Number of random images for the weights, at most one FEW-th of all images."""
CHUNK = 1 << 17
"""Codes that are compared at once: they fit into the processor's cache."""
PARTS = 16
"""Matches are counted in this many parts, by their first image."""
LOT = 1 << 25
"""Largest number of keypoints whose matches are in memory at once; more are processed in several lots of images."""
PAIRS = 512
"""Pairs of images that are compared at once by all keypoints."""

CODE = np.uint64(31)
"""Bits of a code without polarity and scale, which must be equal."""


def count_steps(images: int) -> int:
    """The largest number of steps of `find_candidates`."""
    return 1 + _count_lots(images * COUNT) * (TABLES + PARTS)


def find_candidates(fingerprints: np.ndarray, packed: np.ndarray, threads: int) -> Iterator[np.ndarray]:
    """Finds pairs of images that may be duplicates, to be confirmed by their pixels.

    Images with equal fingerprints are paired in a chain, which joins all of them: a thousand black frames give 999
    pairs, and only the first of them takes part in the further search.

    Args:
        fingerprints: uint8 [N, 256].
        packed: uint64 [N, 40], `descriptors.compute_keypoints` of each image.
        threads: sorts and comparisons at a time.

    Yields:
        int64 [P, 2] after each of at most `count_steps` steps: first < second, no duplicate pair; P may be 0.
    """
    distinct, equal = _pair_equal_fingerprints(fingerprints)
    yield equal
    index = _KeypointIndex(packed if len(distinct) == len(packed) else packed[distinct])
    if not len(index.present):
        return
    with ThreadPoolExecutor(threads) as pool:
        for lot in range(index.lots):
            for start in range(0, TABLES, threads):
                for _ in pool.map(partial(index.find_matches, lot=lot), range(start, min(start + threads, TABLES))):
                    yield equal[:0]
                list(pool.map(index.remove_duplicates, range(PARTS)))
            for part in pool.map(index.select_pairs, range(PARTS)):
                yield distinct[part]


def cluster_pairs(images: int, pairs: np.ndarray) -> np.ndarray:
    """Joins confirmed pairs to clusters: images that a chain of pairs connects are in one cluster.

    Args:
        images: number of images.
        pairs: int64 [P, 2], in any order.

    Returns:
        int64 [images]: the smallest index of each image's cluster.
    """
    first, second = np.asarray(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(first), bool), (first, second)), (images, images))
    _, component = connected_components(graph, directed=False)
    _, smallest = np.unique(component, return_index=True)
    return smallest[component].astype(np.int64)


def _pair_equal_fingerprints(fingerprints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first image of each fingerprint, int64 [M], and the chain of pairs with equal fingerprints, int64 [P, 2]."""
    whole = np.ascontiguousarray(fingerprints).view(f"V{fingerprints.shape[1]}").ravel()
    order = np.argsort(whole, kind="stable")
    same = whole[order[1:]] == whole[order[:-1]]
    first = np.ones(len(order), bool)
    first[1:] = ~same
    return np.sort(order[first]), np.stack([order[:-1][same], order[1:][same]], 1)


def _count_lots(points: int) -> int:
    return 1 + points // LOT


class _KeypointIndex:
    """Finds matching keypoints of different images.

    A match is one uint64. From the highest bit on: the first image, the second image, their symmetry (3 bits), and the
    number of the keypoint in either image (6 bits each).
    """

    def __init__(self, packed: np.ndarray) -> None:
        self._packed = packed
        self._flat = packed.ravel()
        self.present = np.flatnonzero(self._flat).astype(np.uint32)
        self._numbers = np.uint64(max(self._flat.size - 1, 1).bit_length())
        self._images = np.uint64(max(len(packed) - 1, 1).bit_length())
        self._spot = np.zeros(self._flat.size, np.uint32)
        for start in range(0, self._flat.size, CHUNK):
            part = self._flat[start : start + CHUNK]
            x, y = descriptors.get_normalized_positions(part)
            self._spot[start : start + CHUNK] = (
                x | y.astype(np.uint32) << 8 | descriptors.get_forms(part).astype(np.uint32) << 16
            )
        self._spots = self._spot.reshape(-1, COUNT)
        self._others = np.random.default_rng(0).permutation(len(packed))[: min(OTHERS, len(packed) // FEW)]
        self._hits = np.zeros(packed.shape, np.uint8)
        self._bits = BITS if len(self.present) < MANY else BITS_OF_MANY
        self.lots = _count_lots(len(self.present))
        self._found: list[list[np.ndarray]] = [[] for _ in range(PARTS)]

    def find_matches(self, number: int, lot: int) -> None:
        """Finds the matches of one sort, for one lot of the images."""
        keys = self._make_sort_keys(number)
        keys.sort()
        for start in range(0, len(keys), CHUNK):
            matches = self._match_neighbours(keys[start : start + CHUNK + FOLLOWING], lot)
            part = (matches >> (self._images + np.uint64(15))) // np.uint64(self.lots) % np.uint64(PARTS)
            part = part.astype(np.uint8)
            order = np.argsort(part, kind="stable")
            for found, some in zip(
                self._found, np.split(matches[order], np.cumsum(np.bincount(part, minlength=PARTS))[:-1]), strict=True
            ):
                found.append(some)

    def remove_duplicates(self, part: int) -> None:
        """Removes duplicate matches from a part."""
        matches = np.concatenate([np.zeros(0, np.uint64), *self._found[part]])
        matches.sort()
        self._found[part] = [matches[_mark_starts(matches)]]

    def select_pairs(self, part: int) -> np.ndarray:
        """int64 [P, 2]: the pairs of images of a part with enough agreeing keypoints."""
        (matches,) = self._found[part]
        self._found[part] = []
        pair = matches >> np.uint64(12)
        start = np.flatnonzero(_mark_starts(pair))
        count = np.diff(np.append(start, len(pair)))
        likely = pair[start[count > 1]]
        both = np.stack([likely >> (self._images + np.uint64(3)), likely >> np.uint64(3) & _mask_bits(self._images)], 1)
        symmetry = (likely & np.uint64(7)).astype(np.uint8)
        both = both.astype(np.int64)
        self._count_occurrences(np.unique(both[:, 0]))
        agree = [self._agree(both[at : at + PAIRS], symmetry[at : at + PAIRS]) for at in range(0, len(both), PAIRS)]
        found = both[np.concatenate([np.zeros(0, bool), *agree])]
        return np.unique(found, axis=0)  # a pair may agree in two symmetries

    def _make_sort_keys(self, number: int) -> np.ndarray:
        """Sort keys, uint64 [K]; from the highest bit on: polarity and scale, cell, rotated code, keypoint number."""
        turn = np.uint64(number * int(CODE) // TABLES)
        offset = np.random.default_rng(number).random(2) * CELL
        across, down = (np.floor((np.arange(128) / descriptors.EDGE + by) / CELL).astype(np.uint64) for by in offset)
        keys = np.empty(len(self.present), np.uint64)
        for start in range(0, len(keys), CHUNK):
            there = self.present[start : start + CHUNK]
            code = descriptors.get_codes(self._flat[there])
            spot = self._spot[there]
            cell = across[spot & 127] << np.uint64(2) | down[spot >> 8 & 127]
            top = (code >> CODE) << np.uint64(4) | cell
            code &= _mask_bits(CODE)
            code = (code << turn | code >> (CODE - turn)) & _mask_bits(CODE)
            keys[start : start + CHUNK] = (top << CODE | code) << self._numbers | there
        return keys

    def _match_neighbours(self, keys: np.ndarray, lot: int) -> np.ndarray:
        """The matches of each sorted key with the keys that follow: uint64 [M]."""
        code = keys >> self._numbers
        number = (keys & _mask_bits(self._numbers)).astype(np.int64)
        image, own = (part.astype(np.uint64) for part in np.divmod(number, COUNT))
        spot = self._spot[number]
        x, y = (spot & 127).astype(np.int8), (spot >> 8 & 127).astype(np.int8)
        near = []
        for distance in range(1, FOLLOWING + 1):
            here, there = slice(None, -distance), slice(distance, None)
            apart = code[there] ^ code[here]
            close = (np.bitwise_count(apart) <= self._bits) & (apart < np.uint64(1) << CODE)
            close &= (np.abs(x[there] - x[here]) <= descriptors.MOVED) & (
                np.abs(y[there] - y[here]) <= descriptors.MOVED
            )
            close &= image[there] != image[here]
            at = np.flatnonzero(close)
            near.append(np.stack([at, at + distance]))
        first, second = np.concatenate(near, 1)
        swapped = image[first] > image[second]
        first, second = np.where(swapped, second, first), np.where(swapped, first, second)
        if self.lots > 1:
            mine = image[first] % np.uint64(self.lots) == lot
            first, second = first[mine], second[mine]
        form = (spot >> 16).astype(np.uint8)
        symmetry = descriptors.SYMMETRY.ravel()[form[first] * 8 + form[second]].astype(np.uint64)
        earlier = image << (self._images + np.uint64(15)) | own << np.uint64(6)
        return earlier[first] | (image << np.uint64(15) | own)[second] | symmetry << np.uint64(12)

    def _agree(self, pairs: np.ndarray, symmetry: np.ndarray) -> np.ndarray:
        """bool [P]: whether enough keypoints of a pair agree, in the given symmetry."""
        one, other = (self._packed[pairs[:, side]] for side in (0, 1))
        at, first, second = np.nonzero(_have_similar_codes(one[:, :, None], other[:, None, :]))
        here, there = self._spots[pairs[at, 0], first], self._spots[pairs[at, 1], second]
        near = _are_nearby(here, there) & (descriptors.SYMMETRY[here >> 16, there >> 16] == symmetry[at])
        hits = np.unique(at[near] * COUNT + first[near])
        pair, first = np.divmod(hits, COUNT)
        weight = 1 / np.maximum(self._hits[pairs[pair, 0], first], 1)
        count = np.bincount(pair, minlength=len(pairs))
        return (count >= ENOUGH_KEYPOINTS) | (np.bincount(pair, weight, len(pairs)) >= LEAST_WEIGHT)

    def _count_occurrences(self, images: np.ndarray) -> None:
        """Counts for each keypoint of some images in how many of the random images it occurs at the same place."""
        others = self._packed[self._others].ravel()
        spots = self._spots[self._others].ravel()
        for start in range(0, len(images), 32):
            some = images[start : start + 32]
            at, own, other = np.nonzero(_have_similar_codes(self._packed[some][:, :, None], others))
            near = _are_nearby(self._spots[some[at], own], spots[other])
            hits = np.unique((at[near] * COUNT + own[near]) * OTHERS + other[near] // COUNT)
            self._hits[some] = np.bincount(hits // OTHERS, minlength=len(some) * COUNT).reshape(-1, COUNT)


def _have_similar_codes(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether the codes of keypoints are similar; False for missing keypoints."""
    apart = np.bitwise_count(descriptors.get_codes(one) ^ descriptors.get_codes(other))
    return (apart <= descriptors.HAMMING) & (one > 0) & (other > 0)


def _are_nearby(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Whether keypoints are near each other, each in its normalised form."""
    across, down = ((here >> shift & 127).astype(np.int64) - (there >> shift & 127) for shift in (0, 8))
    return np.maximum(np.abs(across), np.abs(down)) <= descriptors.MOVED


def _mark_starts(values: np.ndarray) -> np.ndarray:
    """bool [M]: the first of each run of equal values in a sorted array."""
    first = np.ones(len(values), bool)
    first[1:] = values[1:] != values[:-1]
    return first


def _mask_bits(bits: np.uint64) -> np.uint64:
    return (np.uint64(1) << bits) - np.uint64(1)
