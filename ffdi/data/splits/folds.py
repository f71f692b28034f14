"""Deals training images into folds, once, and keeps the deal in a file."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np

from ffdi.core import csvs
from ffdi.core.errors import DataError, ExperimentError
from ffdi.data.labels.table import Table

COLUMNS = ("img_name", "fold", "target", "group")


@dataclass(frozen=True)
class FoldAssignment:
    """What folds.csv says: img_name str [N], fold int64 [N], target int64 [N], group str [N] or None."""

    img_name: np.ndarray
    fold: np.ndarray
    target: np.ndarray
    group: np.ndarray | None


def assign_folds(target: np.ndarray, group: np.ndarray | None, k: int, seed: int) -> np.ndarray:
    """Deals images into k folds of like class shares; a group is never split.

    Args:
        target: int64 [N], 0 or 1.
        group: str [N], or None.
        k: number of folds.
        seed: decides the shuffle.

    Returns:
        int64 [N]: the fold in which each image is held out.

    Raises:
        DataError: a class or the groups are too few for k folds, so that a fold would miss a class.
    """
    rarest = int(np.bincount(target, minlength=2).min())
    if rarest < k:
        raise DataError(
            f"{k} folds need at least {k} images of each class; there are {int((target == 0).sum())} real and "
            f"{int((target == 1).sum())} fake",
            hint="lower folds.k in config.toml, or add images",
        )
    if group is not None and len(np.unique(group)) < k:
        raise DataError(
            f"{k} folds need at least {k} groups; there are {len(np.unique(group))}",
            hint="lower folds.k in config.toml",
        )
    fold = _dealt_one_by_one(target, k, seed) if group is None else _dealt_by_groups(target, group, k, seed)
    _check(fold, target, group, k)
    return fold


def _dealt_one_by_one(target: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.model_selection import StratifiedKFold  # seconds, which who only reads can save

    fold = np.full(len(target), -1, dtype=np.int64)
    splitter = StratifiedKFold(k, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(np.zeros(len(target)), target)):
        fold[held_out] = number
    return fold


def _dealt_by_groups(target: np.ndarray, group: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Each group goes where it leaves the folds most alike, those that are hardest to place first.

    The rule is that of scikit-learn's StratifiedGroupKFold, which takes minutes for half a million groups and decides
    ties by the rounding of its sums; here sums are of whole numbers, and ties go to the fold with the fewest images.
    """
    _, place = np.unique(group, return_inverse=True)
    counts = np.stack([np.bincount(place, target == label).astype(np.int64) for label in (0, 1)], axis=1)
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-np.abs(counts[order, 0] - counts[order, 1]), kind="stable")]
    home, held = np.empty(len(counts), np.int64), ([0] * k, [0] * k)
    totals = counts.sum(axis=0).tolist()
    for number, added in zip(order.tolist(), counts[order].tolist(), strict=True):
        chosen = min(range(k), key=lambda fold: (_spread(held, added, totals, fold), held[0][fold] + held[1][fold]))
        home[number] = chosen
        held[0][chosen] += added[0]
        held[1][chosen] += added[1]
    return home[place]


def _spread(held: tuple[list[int], list[int]], added: list[int], totals: list[int], fold: int) -> float:
    """How unlike the folds' class shares would be, less what does not depend on the fold that a group is added to."""
    spread = 0.0
    for images, more, total in zip(held, added, totals, strict=True):
        if more:
            squares = sum(count * count for count in images) + more * (2 * images[fold] + more)
            spread += sqrt(len(images) * squares - (sum(images) + more) ** 2) / total
    return spread


def _check(fold: np.ndarray, target: np.ndarray, group: np.ndarray | None, k: int) -> None:
    for number, name in _missing_classes(fold, target, k):
        raise DataError(
            f"fold {number} of {k} would hold out no {name} image: the groups are too large or too much of one class",
            hint="lower folds.k or change seed in config.toml",
        )
    assert not _parted_groups(fold, group), "a group stands in two folds"


def _missing_classes(fold: np.ndarray, target: np.ndarray, k: int) -> list[tuple[int, str]]:
    """Folds that hold out no image of a class, with the class."""
    return [
        (number, name)
        for number in range(k)
        for label, name in enumerate(("real", "fake"))
        if not ((fold == number) & (target == label)).any()
    ]


def _parted_groups(fold: np.ndarray, group: np.ndarray | None) -> list[str]:
    """Groups that stand in more than one fold."""
    home: dict[str, int] = {}
    pairs = [] if group is None else zip(group.tolist(), fold.tolist(), strict=True)
    return sorted({name for name, number in pairs if home.setdefault(name, number) != number})


def folds_to_csv(table: Table, fold: np.ndarray) -> str:
    """The content of folds.csv: one row for each training image, in the label file's order."""
    assert table.target is not None
    group = np.full(len(table), "") if table.group is None else table.group
    columns = (table.img_name, fold, table.target, group)
    return csvs.format_csv([COLUMNS, *zip(*(column.tolist() for column in columns), strict=True)])


def read_folds(path: Path, table: Table, k: int) -> np.ndarray:
    """The folds of `table`'s images, joined by name; their groups may be called otherwise than in the file.

    Returns:
        int64 [N], in the table's order.

    Raises:
        ExperimentError: the file does not hold exactly the table's images with their labels, or deals them so that a
            fold misses a class or one of the table's groups stands in two folds.
    """
    assert table.target is not None
    rows, problems = _rows(path)
    known = {str(number): number for number in range(k)}
    names = set(table.img_name.tolist())
    problems += [f"{name} is no training image any more" for name in rows if name not in names]
    fold = np.full(len(table), -1, dtype=np.int64)
    for place, name in enumerate(table.img_name.tolist()):
        row = rows.get(name)
        if row is None:
            problems.append(f"{name} is not in it")
        elif row["target"] != str(table.target[place]):
            problems.append(f"{name} has another label")
        elif row["fold"] not in known:
            problems.append(f"{name} is in fold '{row['fold']}', and there are folds 0 to {k - 1}")
        else:
            fold[place] = known[row["fold"]]
    problems = problems or _faults(fold, table.target, table.group, k)
    if problems:
        raise ExperimentError(f"{path} does not fit the training images", problems=problems, hint=_RESTORE)
    return fold


def read_assignment(path: Path) -> FoldAssignment:
    """The deal as the file has it, without a look at the images.

    Raises:
        ExperimentError: the file cannot be read, an image stands in it twice, or a fold or label is none.
    """
    rows, problems = _rows(path)
    for name, row in rows.items():
        if not row["fold"].isdecimal() or row["target"] not in ("0", "1"):
            problems.append(f"{name} has fold '{row['fold']}' and label '{row['target']}'")
    if problems or not rows:
        raise ExperimentError(f"{path} is no deal of folds", problems=problems, hint=_RESTORE)
    fold, target = (np.array([int(row[key]) for row in rows.values()]) for key in ("fold", "target"))
    group = np.array([row["group"] for row in rows.values()], dtype=str)
    return FoldAssignment(np.array(list(rows), dtype=str), fold, target, group if group.any() else None)


_RESTORE = "restore the file or the images; to deal anew, pass --restart to invoke train-folds"


def _rows(path: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The rows by image name, and what is wrong with them whatever the images are."""
    rows: dict[str, dict[str, str]] = {}
    problems = []
    lines = csvs.read_csv(path, ExperimentError, _RESTORE)
    if tuple(next(lines, (1, []))[1]) != COLUMNS:
        raise ExperimentError(f"{path} line 1: the header must be '{','.join(COLUMNS)}'", hint=_RESTORE)
    for line, fields in lines:
        if len(fields) != len(COLUMNS):
            problems.append(f"line {line} has {len(fields)} fields")
        elif fields[0] in rows:
            problems.append(f"{fields[0]} stands there twice")
        else:
            rows[fields[0]] = dict(zip(COLUMNS, fields, strict=True))
    return rows, problems


def _faults(fold: np.ndarray, target: np.ndarray, group: np.ndarray | None, k: int) -> list[str]:
    """What a deal that was changed by hand breaks."""
    missing = [f"fold {number} holds out no {name} image" for number, name in _missing_classes(fold, target, k)]
    return missing + [f"group {name} stands in more than one fold" for name in _parted_groups(fold, group)]
