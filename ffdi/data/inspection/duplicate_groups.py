"""Which images of a data set show the same picture, whatever their split, label, name or encoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ffdi.data.images import decode
from ffdi.data.inspection import likeness, near_duplicates
from ffdi.data.inspection.scan import ScanResult
from ffdi.data.inspection.scan_store import ScanStore

COPIES = ("exact", "near")
"""Pairs that show one picture; those of kind 'scene' only belong into one fold."""
AT_ONCE = 256
"""Pairs that are compared between two looks at what belongs together already."""


@dataclass(frozen=True)
class DuplicateGroups:
    """The images of several tables, one after the other, by the picture they show.

    Attributes:
        cluster: int64 [N]: images of one number show the same picture.
        near: numbers of clusters that hold more than equal pixels: another crop, size, colour or compression.
        scene: int64 [N]: images of one number show one scene, a picture's copies among them; whatever is joined by a
            chain of such pairs has one number.
    """

    cluster: np.ndarray
    near: frozenset[int]
    scene: np.ndarray


def recall(surveys: Sequence[ScanResult], findings: ScanStore) -> DuplicateGroups | None:
    """The twins among the images of some surveys, where just these have been searched before."""
    known = findings.twins(_digest(surveys))
    if known is None:
        return None
    cluster, near, scene = (np.frombuffer(part, np.int64) for part in known)
    return DuplicateGroups(cluster, frozenset(near.tolist()), scene)


def _digest(surveys: Sequence[ScanResult]) -> bytes:
    """Of the files' contents, in their order; one that cannot be used counts as that."""
    digest = sha256()
    for survey in surveys:
        digest.update(survey.sha256.tobytes() + survey.usable.tobytes())
    return digest.digest()


@dataclass
class Search:
    """Looks for twins among the images of some surveys: first by keypoints, then by a close look at each pair."""

    surveys: Sequence[ScanResult]
    findings: ScanStore
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
        return near_duplicates.steps(self.files)

    def candidates(self) -> Iterator[int | np.ndarray]:
        """Compares keypoints: yields how many steps are done after each, and the pairs int64 [P, 2] last."""
        prints = np.concatenate([survey.fingerprint for survey in self.surveys])[self._first]
        points = np.concatenate([survey.all_keypoints() for survey in self.surveys])[self._first]
        pairs = [np.empty((0, 2), np.int64)]
        for found in near_duplicates.candidates(prints, points, self.threads):
            pairs.append(found)
            yield len(pairs) - 1
        yield np.concatenate(pairs)

    def twins(self, pairs: np.ndarray) -> Iterator[int | DuplicateGroups]:
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
                root = self._joined(found, COPIES)
                yield start + len(helping)
        twins = self._twins(found)
        near = np.array(sorted(twins.near), np.int64)
        self.findings.keep_twins(_digest(self.surveys), twins.cluster.tobytes(), near.tobytes(), twins.scene.tobytes())
        yield twins

    def _kind(self, pair: list[int]) -> str:
        """'exact', 'near', 'scene', or '' for two files."""
        known = self.findings.pair(self._hash(pair[0]), self._hash(pair[1]))
        return likeness.compare(*(decode.read(self._path(file)) for file in pair)) or "" if known is None else known

    def _hash(self, file: int) -> bytes:
        return self._sha256[file].tobytes()

    def _path(self, file: int) -> Path:
        row = int(self._first[file])
        for survey in self.surveys:
            if row < len(survey.table):
                return survey.table.path(row)
            row -= len(survey.table)
        raise IndexError(file)

    def _joined(self, found: list[tuple[int, int, str]], kinds: tuple[str, ...]) -> np.ndarray:
        """int64 [files]: the clusters that pairs of these kinds make."""
        pairs = [pair[:2] for pair in found if pair[2] in kinds]
        return near_duplicates.clusters(self.files, np.array(pairs, np.int64))

    def _twins(self, found: list[tuple[int, int, str]]) -> DuplicateGroups:
        root = self._joined(found, COPIES)
        near = frozenset(int(root[one]) for one, _, kind in found if kind == "near")
        return DuplicateGroups(self._spread(root), near, self._spread(self._joined(found, (*COPIES, "scene"))))

    def _spread(self, root: np.ndarray) -> np.ndarray:
        """int64 [N]: a number of each file given to all images that have it."""
        total = sum(len(survey.table) for survey in self.surveys)
        spread = np.arange(self.files, self.files + total)  # what cannot be used is like nothing else
        spread[self._usable] = root[self._file]
        return spread


NAMED = 4
"""Images of one picture that a line names."""


@dataclass(frozen=True)
class Picture:
    """A picture that several images show.

    Attributes:
        kind: 'exact' where all pixels are equal, else 'near'.
        images: (split, img_name, target or None) of each.
    """

    kind: str
    images: list[tuple[str, str, int | None]]

    @property
    def splits(self) -> set[str]:
        """The splits that it stands in."""
        return {split for split, _, _ in self.images}

    @property
    def labels(self) -> set[int]:
        """The labels that it has."""
        return {target for _, _, target in self.images if target is not None}

    def names(self) -> list[str]:
        """'split/img_name (label)' of each image."""
        word = {0: " (real)", 1: " (fake)", None: ""}
        return [f"{split}/{name}{word[target]}" for split, name, target in self.images]

    def line(self) -> str:
        """As an error shows it."""
        names = self.names()
        more = f" = ... {len(names) - NAMED} more" if len(names) > NAMED else ""
        return f"{' = '.join(names[:NAMED])}{more}" + (", nearly" if self.kind == "near" else "")


def list_repeated(surveys: dict[str, ScanResult], twins: DuplicateGroups) -> Iterator[Picture]:
    """Every picture that more than one image shows, in the order of the tables."""
    _, place, count = np.unique(twins.cluster, return_inverse=True, return_counts=True)
    members: dict[int, list[tuple[str, str, int | None]]] = {}
    start = 0
    for split, survey in surveys.items():
        table = survey.table
        for row in np.flatnonzero(count[place[start : start + len(table)]] > 1).tolist():
            target = None if table.target is None else int(table.target[row])
            members.setdefault(int(twins.cluster[start + row]), []).append((split, str(table.img_name[row]), target))
        start += len(table)
    for cluster, found in members.items():
        yield Picture("near" if cluster in twins.near else "exact", found)


def merge_groups(group: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Groups str [N] made coarser until no cluster (int [N]) stands in two of them; named by their first group."""
    name, left = np.unique(group, return_inverse=True)
    _, right = np.unique(cluster, return_inverse=True)
    size = len(name) + int(right.max(initial=0)) + 1
    graph = coo_array((np.ones(len(left), bool), (left, len(name) + right)), shape=(size, size))
    component = connected_components(graph, directed=False)[1][: len(name)]
    first = np.full(size, len(name))
    np.minimum.at(first, component, np.arange(len(name)))
    return name[first[component]][left]
