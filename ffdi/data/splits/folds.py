"""Assignment of training images to folds, and its file `folds.csv`; clusters of similar images as groups.

With `folds.scheme = "clusters"`, images that look alike to a frozen network form a group: each fold is then tested on
faces unlike its training images.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np

from ffdi.config.schema import FoldsConfig
from ffdi.core import csvs
from ffdi.core.errors import DataError, ExperimentError, format_are, format_count
from ffdi.data.labels.table import Table

COLUMNS = ("img_name", "fold", "target", "group")
KIND = "kind"
"""A further column, if the kinds of fakes are known."""


@dataclass(frozen=True)
class FoldAssignment:
    """The content of `folds.csv`.

    Attributes:
        img_name: str [N].
        fold: int64 [N], the fold that holds each image out.
        target: int64 [N], 1 = fake.
        group: str [N], None without groups.
        kind: str [N], of each fake, '' for other images; None without kinds.
    """

    img_name: np.ndarray
    fold: np.ndarray
    target: np.ndarray
    group: np.ndarray | None
    kind: np.ndarray | None = None


def assign_folds(target: np.ndarray, group: np.ndarray | None, k: int, seed: int) -> np.ndarray:
    """Assigns images to k folds with similar class shares; a group is never split.

    Args:
        target: int64 [N], 0 or 1.
        group: str [N], or None.
        k: number of folds.
        seed: of the shuffle.

    Returns:
        int64 [N]: the fold in which each image is held out.

    Raises:
        DataError: there are too few images of a class or too few groups, so that a fold would lack a class.
    """
    rarest = int(np.bincount(target, minlength=2).min())
    if rarest < k:
        raise DataError(
            f"{format_count(k, 'fold')} need at least {format_count(k, 'image')} of each class; there are "
            f"{int((target == 0).sum())} real and "
            f"{int((target == 1).sum())} fake",
            hint="lower folds.k in config.toml, or add images",
        )
    if group is not None and len(np.unique(group)) < k:
        raise DataError(
            f"{format_count(k, 'fold')} need at least {format_count(k, 'group')}; there "
            f"{format_are(len(np.unique(group)))}",
            hint="lower folds.k in config.toml",
        )
    fold = _assign_images(target, k, seed) if group is None else _assign_groups(target, group, k, seed)
    _refuse_bad_folds(fold, target, group, k)
    return fold


def _assign_images(target: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.model_selection import (
        StratifiedKFold,  # imported here: it takes seconds, and reading folds does not need it
    )

    fold = np.full(len(target), -1, dtype=np.int64)
    splitter = StratifiedKFold(k, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(np.zeros(len(target)), target)):
        fold[held_out] = number
    return fold


def _assign_groups(target: np.ndarray, group: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Puts each group into the fold that keeps the folds most similar, starting with the most uneven groups.

    The rule is that of scikit-learn's StratifiedGroupKFold, which takes minutes for half a million groups and decides
    ties by rounding errors. Here the sums are integers, and a tie goes to the fold with the fewest images.
    """
    _, place = np.unique(group, return_inverse=True)
    counts = np.stack([np.bincount(place, target == label).astype(np.int64) for label in (0, 1)], axis=1)
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-np.abs(counts[order, 0] - counts[order, 1]), kind="stable")]
    home, held = np.empty(len(counts), np.int64), ([0] * k, [0] * k)
    totals = counts.sum(axis=0).tolist()
    for number, added in zip(order.tolist(), counts[order].tolist(), strict=True):
        chosen = min(
            range(k), key=lambda fold: (_measure_spread(held, added, totals, fold), held[0][fold] + held[1][fold])
        )
        home[number] = chosen
        held[0][chosen] += added[0]
        held[1][chosen] += added[1]
    return home[place]


def _measure_spread(held: tuple[list[int], list[int]], added: list[int], totals: list[int], fold: int) -> float:
    """The spread of the folds' class shares if a group were added to `fold`, without the terms that all folds share."""
    spread = 0.0
    for images, more, total in zip(held, added, totals, strict=True):
        if more:
            squares = sum(count * count for count in images) + more * (2 * images[fold] + more)
            spread += sqrt(len(images) * squares - (sum(images) + more) ** 2) / total
    return spread


def _refuse_bad_folds(fold: np.ndarray, target: np.ndarray, group: np.ndarray | None, k: int) -> None:
    for number, name in _find_missing_classes(fold, target, k):
        raise DataError(
            f"fold {number} of {k} would hold out no {name} image: the groups are too large or too uneven",
            hint="lower folds.k or change seed in config.toml",
        )
    assert not _find_split_groups(fold, group), "a group is in two folds"


def _find_missing_classes(fold: np.ndarray, target: np.ndarray, k: int) -> list[tuple[int, str]]:
    """Folds that hold out no image of a class, each with the class."""
    return [
        (number, name)
        for number in range(k)
        for label, name in enumerate(("real", "fake"))
        if not ((fold == number) & (target == label)).any()
    ]


def _find_split_groups(fold: np.ndarray, group: np.ndarray | None) -> list[str]:
    """Groups in more than one fold."""
    home: dict[str, int] = {}
    pairs = [] if group is None else zip(group.tolist(), fold.tolist(), strict=True)
    return sorted({name for name, number in pairs if home.setdefault(name, number) != number})


def format_folds(table: Table, fold: np.ndarray) -> str:
    """The content of folds.csv: one row for each training image, in the label file's order."""
    assert table.target is not None
    group = np.full(len(table), "") if table.group is None else table.group
    kind = [] if table.kind is None else [table.kind]
    columns = (table.img_name, fold, table.target, group, *kind)
    header = (*COLUMNS, KIND)[: len(columns)]
    return csvs.format_csv([header, *zip(*(column.tolist() for column in columns), strict=True)])


def read_folds(path: Path, table: Table, config: FoldsConfig) -> np.ndarray:
    """Reads the folds of `table`'s images, by name; the groups in the file may have other names.

    Returns:
        int64 [N], in the table's order.

    Raises:
        ExperimentError: the file does not have exactly the table's images and labels, a fold lacks a class, or a group
            of the table is in two folds; or kinds are left out, and one of them differs or is in two folds.
    """
    assert table.target is not None
    rows, problems = _read_rows(path)
    known = {str(number): number for number in range(config.k)}
    kind = table.kind if config.scheme == "leave-kind-out" else None
    names = set(table.img_name.tolist())
    problems += [f"{name} is not a training image any more" for name in rows if name not in names]
    fold = np.full(len(table), -1, dtype=np.int64)
    for place, name in enumerate(table.img_name.tolist()):
        row = rows.get(name)
        if row is None:
            problems.append(f"{name} is missing")
        elif row["target"] != str(table.target[place]):
            problems.append(f"{name} has another label")
        elif row["fold"] not in known:
            problems.append(f"{name} is in fold '{row['fold']}', and there are folds 0 to {config.k - 1}")
        elif kind is not None and row.get(KIND) != kind[place]:
            problems.append(f"{name} has another kind")
        else:
            fold[place] = known[row["fold"]]
    problems = problems or _find_faults(fold, table, config)
    if problems:
        raise ExperimentError(f"{path} does not fit the training images", problems=problems, hint=_RESTORE)
    return fold


def read_assignment(path: Path) -> FoldAssignment:
    """Reads `folds.csv` without comparing it with the images.

    Raises:
        ExperimentError: the file cannot be read, or has a duplicate image or an invalid fold or label.
    """
    rows, problems = _read_rows(path)
    for name, row in rows.items():
        if not row["fold"].isdecimal() or row["target"] not in ("0", "1"):
            problems.append(f"{name} has fold '{row['fold']}' and label '{row['target']}'")
    if problems or not rows:
        raise ExperimentError(f"{path} is not a fold assignment", problems=problems, hint=_RESTORE)
    fold, target = (np.array([int(row[key]) for row in rows.values()]) for key in ("fold", "target"))
    group, kind = (np.array([row.get(key, "") for row in rows.values()], dtype=str) for key in ("group", KIND))
    return FoldAssignment(
        np.array(list(rows), dtype=str), fold, target, group if group.any() else None, kind if kind.any() else None
    )


_RESTORE = "restore the file or the images; to assign folds again, invoke train-folds --restart"


def _read_rows(path: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The rows by image name, and the problems of the file itself."""
    rows: dict[str, dict[str, str]] = {}
    problems = []
    lines = csvs.read_csv(path, ExperimentError, _RESTORE)
    header = tuple(next(lines, (1, []))[1])
    if header not in (COLUMNS, (*COLUMNS, KIND)):
        raise ExperimentError(f"{path} line 1: the header must be '{','.join(COLUMNS)}'", hint=_RESTORE)
    for line, fields in lines:
        if len(fields) != len(header):
            problems.append(f"line {line} has {format_count(len(fields), 'field')}")
        elif fields[0] in rows:
            problems.append(f"duplicate image {fields[0]}")
        else:
            rows[fields[0]] = dict(zip(header, fields, strict=True))
    return rows, problems


def _find_faults(fold: np.ndarray, table: Table, config: FoldsConfig) -> list[str]:
    """The rules that an edited assignment breaks."""
    assert table.target is not None
    missing = _find_missing_classes(fold, table.target, config.k)
    faults = [f"fold {number} holds out no {name} image" for number, name in missing]
    if not config.split_groups:
        faults += [f"group {name} is in more than one fold" for name in _find_split_groups(fold, table.group)]
    if config.scheme == "leave-kind-out" and table.kind is not None:
        known = table.kind != ""
        split = _find_split_groups(fold[known], table.kind[known])
        faults += [f"the fakes of {name} are in more than one fold" for name in split]
    return faults


DIMENSIONS = 32
"""Principal components for the distances."""
PER_FOLD = 4
"""Clusters per fold: enough for folds of similar sizes and shares, few enough for large clusters."""
STARTS = 4


def cluster_features(features: np.ndarray, group: np.ndarray | None, count: int, seed: int) -> np.ndarray:
    """k-means over groups: a group counts once, with the mean of its images.

    Splitting by clusters imitates a test set of unseen sources; the idea is the competition winners' (docs/data.md).

    Args:
        features: float [N, D].
        group: str [N]; a group is never split. None without groups.
        count: number of clusters; fewer if there are fewer groups.
        seed: of k-means.

    Returns:
        int64 [N]: the cluster of each image.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    unit = np.arange(len(features)) if group is None else np.unique(group, return_inverse=True)[1]
    if unit.max(initial=0) == 0:
        return np.zeros(len(features), np.int64)
    middle = _average_units(StandardScaler().fit_transform(features.astype(np.float64)), unit)
    parts = PCA(min(DIMENSIONS, *middle.shape), random_state=seed).fit_transform(middle)
    found = KMeans(min(count, len(parts)), n_init=STARTS, random_state=seed).fit_predict(parts)
    return found.astype(np.int64)[unit]


def _average_units(features: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """float64 [units, D]: the mean of each unit's rows."""
    total = np.zeros((int(unit.max()) + 1, features.shape[1]))
    np.add.at(total, unit, features)
    return total / np.bincount(unit)[:, None]
