"""Groups of duplicates: the images of a data set that show the same picture, in any split and with any label or name.

`near_duplicates` finds candidate pairs by keypoints, `likeness` compares the pixels of each pair, and this module joins
the confirmed pairs to groups. The scan store has the results of earlier comparisons.
"""

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
"""Kinds of pairs that show one picture; a pair of kind 'scene' only has to be in one fold."""
AT_ONCE = 256
"""Pairs that are compared before the groups are updated: pairs inside of one group are skipped."""
NAMED = 4
"""Images of one picture that a message names."""


@dataclass(frozen=True)
class DuplicateGroups:
    """The images of several tables, one table after the other, grouped by the picture that they show.

    Attributes:
        cluster: int64 [N]: images with the same number show the same picture.
        near: numbers of clusters whose images differ: another crop, size, colour or compression.
        scene: int64 [N]: images with the same number show the same scene, or are joined by a chain of such pairs.
    """

    cluster: np.ndarray
    near: frozenset[int]
    scene: np.ndarray


def load_known(scans: Sequence[ScanResult], scan_store: ScanStore) -> DuplicateGroups | None:
    """The result of an earlier search in exactly these images; None if there was none."""
    known = scan_store.get_duplicates(_compute_digest(scans))
    if known is None:
        return None
    cluster, near, scene = (np.frombuffer(part, np.int64) for part in known)
    return DuplicateGroups(cluster, frozenset(near.tolist()), scene)


def _compute_digest(scans: Sequence[ScanResult]) -> bytes:
    """A hash of all files' hashes, in order, and of which images can be used."""
    digest = sha256()
    for scan in scans:
        digest.update(scan.sha256.tobytes() + scan.usable.tobytes())
    return digest.digest()


@dataclass
class Search:
    """A search for duplicates: first candidate pairs by keypoints, then a comparison of each pair's pixels.

    Files with the same bytes count as one file.
    """

    scans: Sequence[ScanResult]
    scan_store: ScanStore
    threads: int

    def __post_init__(self) -> None:
        hashes = np.concatenate([scan.sha256 for scan in self.scans])
        usable = np.flatnonzero(np.concatenate([scan.usable for scan in self.scans]))
        _, first, file = np.unique(hashes[usable], axis=0, return_index=True, return_inverse=True)
        self._usable, self._first, self._file = usable, usable[first], file.ravel()
        self._sha256 = hashes[self._first]

    @property
    def files(self) -> int:
        """Number of different files."""
        return len(self._first)

    @property
    def steps(self) -> int:
        """Largest number of steps of `find_candidates`."""
        return near_duplicates.count_steps(self.files)

    def find_candidates(self) -> Iterator[int | np.ndarray]:
        """Compares keypoints.

        Yields:
            The number of finished steps after each step; at last the candidate pairs, int64 [P, 2].
        """
        prints = np.concatenate([scan.fingerprint for scan in self.scans])[self._first]
        points = np.concatenate([scan.load_keypoints() for scan in self.scans])[self._first]
        pairs = [np.empty((0, 2), np.int64)]
        for found in near_duplicates.find_candidates(prints, points, self.threads):
            pairs.append(found)
            yield len(pairs) - 1
        yield np.concatenate(pairs)

    def compare_candidates(self, pairs: np.ndarray) -> Iterator[int | DuplicateGroups]:
        """Compares the pixels of candidate pairs.

        Yields:
            The number of finished pairs from time to time; at last the groups.
        """
        found: list[tuple[int, int, str]] = []
        root = np.arange(self.files)
        with ThreadPoolExecutor(self.threads) as pool:
            for start in range(0, len(pairs), AT_ONCE):
                part = pairs[start : start + AT_ONCE]
                separate = part[root[part[:, 0]] != root[part[:, 1]]].tolist()
                kinds = pool.map(self._compare, separate)
                compared = [(*pair, kind) for pair, kind in zip(separate, kinds, strict=True)]
                self.scan_store.save_pairs(
                    (self._get_hash(one), self._get_hash(two), kind) for one, two, kind in compared
                )
                found += [pair for pair in compared if pair[2]]
                root = self._join(found, COPIES)
                yield start + len(part)
        groups = self._make_groups(found)
        near = np.array(sorted(groups.near), np.int64)
        self.scan_store.save_duplicates(
            _compute_digest(self.scans), groups.cluster.tobytes(), near.tobytes(), groups.scene.tobytes()
        )
        yield groups

    def _compare(self, pair: list[int]) -> str:
        """'exact', 'near', 'scene', or '' for two files."""
        known = self.scan_store.get_pair(self._get_hash(pair[0]), self._get_hash(pair[1]))
        if known is not None:
            return known
        return likeness.compare(*(decode.read_image(self._get_path(file)) for file in pair)) or ""

    def _get_hash(self, file: int) -> bytes:
        return self._sha256[file].tobytes()

    def _get_path(self, file: int) -> Path:
        row = int(self._first[file])
        for scan in self.scans:
            if row < len(scan.table):
                return scan.table.path(row)
            row -= len(scan.table)
        raise IndexError(file)

    def _join(self, found: list[tuple[int, int, str]], kinds: tuple[str, ...]) -> np.ndarray:
        """int64 [files]: the clusters of the pairs of these kinds."""
        pairs = [pair[:2] for pair in found if pair[2] in kinds]
        return near_duplicates.cluster_pairs(self.files, np.array(pairs, np.int64))

    def _make_groups(self, found: list[tuple[int, int, str]]) -> DuplicateGroups:
        root = self._join(found, COPIES)
        near = frozenset(int(root[one]) for one, _, kind in found if kind == "near")
        scene = self._join(found, (*COPIES, "scene"))
        return DuplicateGroups(self._expand_to_images(root), near, self._expand_to_images(scene))

    def _expand_to_images(self, root: np.ndarray) -> np.ndarray:
        """int64 [N]: the number of each image's file; images that cannot be used have numbers of their own."""
        total = sum(len(scan.table) for scan in self.scans)
        expanded = np.arange(self.files, self.files + total)
        expanded[self._usable] = root[self._file]
        return expanded


@dataclass(frozen=True)
class Picture:
    """A picture that several images show.

    Attributes:
        kind: 'exact' if all pixels are equal, else 'near'.
        images: (split, img_name, target or None) of each.
    """

    kind: str
    images: list[tuple[str, str, int | None]]

    @property
    def splits(self) -> set[str]:
        return {split for split, _, _ in self.images}

    @property
    def labels(self) -> set[int]:
        return {target for _, _, target in self.images if target is not None}

    def list_names(self) -> list[str]:
        """'split/img_name (label)' of each image."""
        word = {0: " (real)", 1: " (fake)", None: ""}
        return [f"{split}/{name}{word[target]}" for split, name, target in self.images]

    def format_line(self) -> str:
        names = self.list_names()
        more = f" = ... {len(names) - NAMED} more" if len(names) > NAMED else ""
        return f"{' = '.join(names[:NAMED])}{more}" + (", nearly" if self.kind == "near" else "")


def list_duplicates(scans: dict[str, ScanResult], groups: DuplicateGroups) -> Iterator[Picture]:
    """Every picture that more than one image shows, in the order of the tables."""
    _, place, count = np.unique(groups.cluster, return_inverse=True, return_counts=True)
    members: dict[int, list[tuple[str, str, int | None]]] = {}
    start = 0
    for split, scan in scans.items():
        table = scan.table
        for row in np.flatnonzero(count[place[start : start + len(table)]] > 1).tolist():
            target = None if table.target is None else int(table.target[row])
            image = (split, str(table.img_name[row]), target)
            members.setdefault(int(groups.cluster[start + row]), []).append(image)
        start += len(table)
    for cluster, images in members.items():
        yield Picture("near" if cluster in groups.near else "exact", images)


def merge_groups(group: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Joins groups until no cluster is in two groups.

    Args:
        group: str [N].
        cluster: int [N].

    Returns:
        str [N]; a joined group has the name of its first group.
    """
    name, left = np.unique(group, return_inverse=True)
    _, right = np.unique(cluster, return_inverse=True)
    size = len(name) + int(right.max(initial=0)) + 1
    graph = coo_array((np.ones(len(left), bool), (left, len(name) + right)), shape=(size, size))
    component = connected_components(graph, directed=False)[1][: len(name)]
    first = np.full(size, len(name))
    np.minimum.at(first, component, np.arange(len(name)))
    return name[first[component]][left]
