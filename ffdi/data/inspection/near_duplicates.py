"""Exact and near duplicates among many images: the pairs that may be one picture, by their keypoints; clusters.

A copy of an image in another fold or split makes every score look better than it is. Fingerprint and keypoints are
taken right after decoding, the search works on them alone, and only the pairs that it gives are decoded again, for
`ffdi.data.inspection.likeness.compare`.

Keypoints of all images are sorted by their codes, and each is compared with the few that follow it: time and memory
grow with the images, not with their pairs. A bit that a copy has changed tears two codes apart if it is a high one, so
the codes are sorted several times, each time with another bit as the highest. Eyes and mouths look alike in all aligned
faces; two images are a candidate only if several of their keypoints agree, at fitting places.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ffdi.data.images import keypoints
from ffdi.data.images.keypoints import COUNT

TABLES = 8
"""Times that all codes are sorted."""
FOLLOWING = 4
"""Codes behind each that it is compared with."""
CELL = 0.34
"""Edge of the places, in parts of the picture, within which codes are compared; each time others."""
BITS = 4
"""Bits in which two codes may differ."""
MANY, BITS_OF_MANY = 1 << 22, 2
"""Keypoints from which on chance brings so many codes near each other that less may differ."""
TELLING = 7.0
"""Keypoints of two images that agree, at least; one that several of a few OTHERS have as well, such as the eyes of
aligned faces, counts as many times less."""
AGREEING = 24
"""Keypoints that are enough, however many other images have them: hundreds of copies of one picture."""
OTHERS, FEW = 32, 16
"""How many others are looked at, and which part of the images at most: of few images all pairs can be compared."""
CHUNK = 1 << 17
"""Codes that are compared at once: they fit into a processor's cache."""
PARTS = 16
"""Pairs are counted in as many parts, by their first image."""
LOT = 1 << 25
"""Keypoints up to which all matches are held at once; beyond, those of one lot of the images after the other."""
PAIRS = 512
"""Pairs whose keypoints are all compared at once."""

CODE = np.uint64(31)
"""Bits of a code without polarity and scale, which always have to agree."""


def steps(images: int) -> int:
    """How many steps `candidates` takes at most."""
    return 1 + _lots(images * COUNT) * (TABLES + PARTS)


def candidates(fingerprints: np.ndarray, packed: np.ndarray, threads: int) -> Iterator[np.ndarray]:
    """Pairs of images that may be duplicates, to be confirmed on their pixels.

    Of images with equal fingerprints only neighbours are paired, which joins all of them: a thousand black frames give
    999 pairs, and only the first of them is compared with others.

    Args:
        fingerprints: uint8 [N, 256].
        packed: uint64 [N, 40], `keypoints.compute_keypoints` each.
        threads: how many sort and compare at a time.

    Yields:
        int64 [P, 2], first < second, no pair twice; P may be 0. One for each of at most `steps` steps.
    """
    unlike, equal = _told_apart(fingerprints)
    yield equal
    join = _Join(packed if len(unlike) == len(packed) else packed[unlike])
    if not len(join.there):
        return
    with ThreadPoolExecutor(threads) as pool:
        for lot in range(join.lots):
            for start in range(0, TABLES, threads):
                for _ in pool.map(partial(join.table, lot=lot), range(start, min(start + threads, TABLES))):
                    yield equal[:0]
                list(pool.map(join.settle, range(PARTS)))
            for part in pool.map(join.pairs, range(PARTS)):
                yield unlike[part]


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


def _lots(points: int) -> int:
    return 1 + points // LOT


class _Join:
    """Which keypoints of different images agree.

    A match is one number: from its highest bit on the first image, the second, their symmetry (3 bits), and which
    keypoint of either (6 bits each).
    """

    def __init__(self, packed: np.ndarray) -> None:
        self._packed = packed
        self._flat = packed.ravel()
        self.there = np.flatnonzero(self._flat).astype(np.uint32)
        self._numbers = np.uint64(max(self._flat.size - 1, 1).bit_length())
        self._images = np.uint64(max(len(packed) - 1, 1).bit_length())
        self._spot = np.zeros(self._flat.size, np.uint32)
        for start in range(0, self._flat.size, CHUNK):
            part = self._flat[start : start + CHUNK]
            x, y = keypoints.upright(part)
            self._spot[start : start + CHUNK] = (
                x | y.astype(np.uint32) << 8 | keypoints.forms(part).astype(np.uint32) << 16
            )
        self._spots = self._spot.reshape(-1, COUNT)
        self._others = np.random.default_rng(0).permutation(len(packed))[: min(OTHERS, len(packed) // FEW)]
        self._hits = np.zeros(packed.shape, np.uint8)
        self._bits = BITS if len(self.there) < MANY else BITS_OF_MANY
        self.lots = _lots(len(self.there))
        self._found: list[list[np.ndarray]] = [[] for _ in range(PARTS)]

    def table(self, number: int, lot: int) -> None:
        """Finds the matches of one order of the codes, those of one lot of the images."""
        keys = self._keys(number)
        keys.sort()
        for start in range(0, len(keys), CHUNK):
            matches = self._neighbours(keys[start : start + CHUNK + FOLLOWING], lot)
            part = (matches >> (self._images + np.uint64(15))) // np.uint64(self.lots) % np.uint64(PARTS)
            order = np.argsort(part.astype(np.uint8), kind="stable")
            for found, some in zip(
                self._found, np.split(matches[order], np.cumsum(np.bincount(part, minlength=PARTS))[:-1]), strict=True
            ):
                found.append(some)

    def settle(self, part: int) -> None:
        """Leaves each match of a part once."""
        matches = np.concatenate([np.zeros(0, np.uint64), *self._found[part]])
        matches.sort()
        self._found[part] = [matches[_begins(matches)]]

    def pairs(self, part: int) -> np.ndarray:
        """int64 [P, 2]: pairs of images of which enough keypoints agree."""
        (matches,) = self._found[part]
        self._found[part] = []
        pair = matches >> np.uint64(12)
        start = np.flatnonzero(_begins(pair))
        count = np.diff(np.append(start, len(pair)))
        likely = pair[start[count > 1]]
        both = np.stack([likely >> (self._images + np.uint64(3)), likely >> np.uint64(3) & _ones(self._images)], 1)
        symmetry = (likely & np.uint64(7)).astype(np.uint8)
        both = both.astype(np.int64)
        self._count_hits(np.unique(both[:, 0]))
        kept = [self._alike(both[at : at + PAIRS], symmetry[at : at + PAIRS]) for at in range(0, len(both), PAIRS)]
        found = both[np.concatenate([np.zeros(0, bool), *kept])]
        return np.unique(found, axis=0)  # a pair may agree in two symmetries

    def _keys(self, number: int) -> np.ndarray:
        """What keypoints are sorted by, uint64 [K]: polarity and scale, cell, turned code, and which keypoint it is."""
        turn = np.uint64(number * int(CODE) // TABLES)
        offset = np.random.default_rng(number).random(2) * CELL
        across, down = (np.floor((np.arange(128) / keypoints.EDGE + by) / CELL).astype(np.uint64) for by in offset)
        keys = np.empty(len(self.there), np.uint64)
        for start in range(0, len(keys), CHUNK):
            there = self.there[start : start + CHUNK]
            code = keypoints.codes(self._flat[there])
            spot = self._spot[there]
            cell = across[spot & 127] << np.uint64(2) | down[spot >> 8 & 127]
            top = (code >> CODE) << np.uint64(4) | cell
            code &= _ones(CODE)
            code = (code << turn | code >> (CODE - turn)) & _ones(CODE)
            keys[start : start + CHUNK] = (top << CODE | code) << self._numbers | there
        return keys

    def _neighbours(self, keys: np.ndarray, lot: int) -> np.ndarray:
        """The matches among sorted keys and those that follow each: uint64 [M]."""
        code = keys >> self._numbers
        number = (keys & _ones(self._numbers)).astype(np.int64)
        image, own = (part.astype(np.uint64) for part in np.divmod(number, COUNT))
        spot = self._spot[number]
        x, y = (spot & 127).astype(np.int8), (spot >> 8 & 127).astype(np.int8)
        near = []
        for distance in range(1, FOLLOWING + 1):
            here, there = slice(None, -distance), slice(distance, None)
            apart = code[there] ^ code[here]
            close = (np.bitwise_count(apart) <= self._bits) & (apart < np.uint64(1) << CODE)
            close &= (np.abs(x[there] - x[here]) <= keypoints.MOVED) & (np.abs(y[there] - y[here]) <= keypoints.MOVED)
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
        symmetry = keypoints.SYMMETRY.ravel()[form[first] * 8 + form[second]].astype(np.uint64)
        earlier = image << (self._images + np.uint64(15)) | own << np.uint64(6)
        return earlier[first] | (image << np.uint64(15) | own)[second] | symmetry << np.uint64(12)

    def _alike(self, pairs: np.ndarray, symmetry: np.ndarray) -> np.ndarray:
        """bool [P]: whether enough keypoints of both images agree, in that symmetry."""
        one, other = (self._packed[pairs[:, side]] for side in (0, 1))
        at, first, second = np.nonzero(_close(one[:, :, None], other[:, None, :]))
        here, there = self._spots[pairs[at, 0], first], self._spots[pairs[at, 1], second]
        near = _nearby(here, there) & (keypoints.SYMMETRY[here >> 16, there >> 16] == symmetry[at])
        hits = np.unique(at[near] * COUNT + first[near])
        pair, first = np.divmod(hits, COUNT)
        telling = 1 / np.maximum(self._hits[pairs[pair, 0], first], 1)
        count = np.bincount(pair, minlength=len(pairs))
        return (count >= AGREEING) | (np.bincount(pair, telling, len(pairs)) >= TELLING)

    def _count_hits(self, images: np.ndarray) -> None:
        """Notes for each keypoint of some images how many of a few others have one like it, at its place."""
        others = self._packed[self._others].ravel()
        spots = self._spots[self._others].ravel()
        for start in range(0, len(images), 32):
            some = images[start : start + 32]
            at, own, other = np.nonzero(_close(self._packed[some][:, :, None], others))
            near = _nearby(self._spots[some[at], own], spots[other])
            hits = np.unique((at[near] * COUNT + own[near]) * OTHERS + other[near] // COUNT)
            self._hits[some] = np.bincount(hits // OTHERS, minlength=len(some) * COUNT).reshape(-1, COUNT)


def _close(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether the codes of keypoints are alike; those that are missing are like none."""
    apart = np.bitwise_count(keypoints.codes(one) ^ keypoints.codes(other))
    return (apart <= keypoints.HAMMING) & (one > 0) & (other > 0)


def _nearby(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Whether keypoints lie near each other, each in its own form."""
    across, down = ((here >> shift & 127).astype(np.int64) - (there >> shift & 127) for shift in (0, 8))
    return np.maximum(np.abs(across), np.abs(down)) <= keypoints.MOVED


def _begins(values: np.ndarray) -> np.ndarray:
    """bool [M]: where another value begins in a sorted array."""
    first = np.ones(len(values), bool)
    first[1:] = values[1:] != values[:-1]
    return first


def _ones(bits: np.uint64) -> np.uint64:
    return (np.uint64(1) << bits) - np.uint64(1)
