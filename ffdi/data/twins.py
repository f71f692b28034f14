"""Which images of a data set show the same picture, whatever their split, label, name or encoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from ffdi.data import duplicates, images, likeness
from ffdi.data.findings import Findings
from ffdi.data.survey import Survey

AT_ONCE = 256
"""Pairs that are compared between two looks at what belongs together already."""


@dataclass(frozen=True)
class Twins:
    """The images of several tables, one after the other, by the picture they show.

    Attributes:
        cluster: int64 [N]: images of one number show the same picture.
        near: numbers of clusters that hold more than equal pixels: another crop, size, brightness or compression.
    """

    cluster: np.ndarray
    near: frozenset[int]


def remembered(surveys: Sequence[Survey], findings: Findings) -> Twins | None:
    """The twins among the images of some surveys, where just these have been searched before."""
    known = findings.twins(_digest(surveys))
    if known is None:
        return None
    cluster, near = (np.frombuffer(part, np.int64) for part in known)
    return Twins(cluster, frozenset(near.tolist()))


def _digest(surveys: Sequence[Survey]) -> bytes:
    """Of the files' contents, in their order; one that cannot be used counts as that."""
    digest = sha256()
    for survey in surveys:
        digest.update(survey.sha256.tobytes() + survey.usable.tobytes())
    return digest.digest()


@dataclass
class Search:
    """Looks for twins among the images of some surveys: first by fingerprint, then by a close look at each pair."""

    surveys: Sequence[Survey]
    findings: Findings
    threads: int

    def __post_init__(self) -> None:
        hashes = np.concatenate([survey.sha256 for survey in self.surveys])
        usable = np.flatnonzero(np.concatenate([survey.usable for survey in self.surveys]))
        _, first, file = np.unique(hashes[usable], axis=0, return_index=True, return_inverse=True)
        self._usable, self._first, self._file = usable, usable[first], file.ravel()
        self._sha256 = hashes[self._first]

    @property
    def files(self) -> int:
        """How many different files there are."""
        return len(self._first)

    @property
    def steps(self) -> int:
        """How many steps `candidates` takes at most."""
        rows = -(-self.files // duplicates.ROWS)
        return 1 + rows * (rows + 1) // 2

    def candidates(self) -> Iterator[int | np.ndarray]:
        """Compares fingerprints: yields how many steps are done after each, and the pairs int64 [P, 2] last."""
        prints = np.concatenate([survey.fingerprint for survey in self.surveys])[self._first]
        pairs = [np.empty((0, 2), np.int64)]
        for found in duplicates.candidates(prints, self.threads):
            pairs.append(found)
            yield len(pairs) - 1
        yield np.concatenate(pairs)

    def twins(self, pairs: np.ndarray) -> Iterator[int | Twins]:
        """Compares pairs of images: yields how many are done after each helping, and the twins last."""
        found: list[tuple[int, int, str]] = []
        root = np.arange(self.files)
        with ThreadPoolExecutor(self.threads) as pool:
            for start in range(0, len(pairs), AT_ONCE):
                helping = pairs[start : start + AT_ONCE]
                apart = helping[root[helping[:, 0]] != root[helping[:, 1]]].tolist()
                looked = [(*pair, kind) for pair, kind in zip(apart, pool.map(self._kind, apart), strict=True)]
                self.findings.keep_pairs((self._hash(one), self._hash(two), kind) for one, two, kind in looked)
                found += [pair for pair in looked if pair[2]]
                root = duplicates.clusters(self.files, np.array([pair[:2] for pair in found], np.int64))
                yield start + len(helping)
        twins = self._twins(root, found)
        near = np.array(sorted(twins.near), np.int64)
        self.findings.keep_twins(_digest(self.surveys), twins.cluster.tobytes(), near.tobytes())
        yield twins

    def _kind(self, pair: list[int]) -> str:
        """'exact', 'near', or '' for two files."""
        known = self.findings.pair(self._hash(pair[0]), self._hash(pair[1]))
        return likeness.compare(*(images.read(self._path(file)) for file in pair)) or "" if known is None else known

    def _hash(self, file: int) -> bytes:
        return self._sha256[file].tobytes()

    def _path(self, file: int) -> Path:
        row = int(self._first[file])
        for survey in self.surveys:
            if row < len(survey.table):
                return survey.table.path(row)
            row -= len(survey.table)
        raise IndexError(file)

    def _twins(self, root: np.ndarray, found: list[tuple[int, int, str]]) -> Twins:
        total = sum(len(survey.table) for survey in self.surveys)
        cluster = np.arange(self.files, self.files + total)  # what cannot be used is like nothing else
        cluster[self._usable] = root[self._file]
        return Twins(cluster, frozenset(int(root[one]) for one, _, kind in found if kind == "near"))
