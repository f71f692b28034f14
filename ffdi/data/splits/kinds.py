"""Folds that leave kinds of fakes out, for `folds.scheme = "leave-kind-out"`.

All fakes of a kind are held out in one fold, so they are scored by a network that has never seen this kind. The real
images are divided among the folds.
"""

from __future__ import annotations

import numpy as np

from ffdi.core.errors import DataError, format_are, format_count
from ffdi.data.labels.table import Table

NAMED = 10
"""Images or kinds that an error names."""


def assign_folds(table: Table, k: int, seed: int, *, split_groups: bool = False) -> np.ndarray:
    """Assigns images to k folds that hold out different kinds of fakes, and similar numbers of fakes and real images.

    A group with fakes is held out with them. If it has fakes of several kinds, they can only be held out together,
    unless such groups may be split.

    Args:
        table: N training images with kinds, both classes.
        k: number of folds, at most the number of kinds.
        seed: decides between folds of equal sizes.
        split_groups: whether the fakes of a group may be in several folds, each with its kind.

    Returns:
        int64 [N]: the fold in which each image is held out.

    Raises:
        DataError: fakes have no kind, or there are too few kinds, real images or groups.
    """
    from ffdi.data.inspection.duplicate_groups import merge_groups  # scipy takes time, and scoring reads folds only

    assert table.target is not None
    fake = table.target == 1
    kind = _require_kinds(table, fake, k)
    group = np.arange(len(table)) if table.group is None else np.unique(table.group, return_inverse=True)[1]
    joined = kind[fake] if split_groups else merge_groups(kind[fake], group[fake])
    if len(np.unique(joined)) < k:
        raise _explain_joined_kinds(table, kind, joined, k)
    rng = np.random.default_rng(seed)
    fold = np.full(len(table), -1, np.int64)
    fold[fake] = _balance(joined, np.zeros(k, np.int64), rng)
    home = np.full(group.max() + 1, -1)
    home[group[fake]] = fold[fake]  # of a split group, one of its folds
    fold[~fake] = home[group[~fake]]
    left = fold == -1
    held = np.bincount(fold[~fake & ~left], minlength=k)
    fold[left] = _balance(group[left], held, rng)
    if missing := [number for number in range(k) if not (fold[~fake] == number).any()]:
        raise DataError(
            f"fold {missing[0]} of {k} would hold out no real image: there {format_are(int((~fake).sum()))}, in "
            f"{format_count(len(np.unique(group[~fake])), 'group')}",
            hint="lower folds.k in config.toml, or add real images",
        )
    return fold


def _require_kinds(table: Table, fake: np.ndarray, k: int) -> np.ndarray:
    """str [N], the kinds, which all fakes have.

    Raises:
        DataError: fakes have none, or there are fewer than k kinds.
    """
    kind = np.full(len(table), "") if table.kind is None else table.kind
    if not kind.any():
        raise DataError(
            "folds.scheme = 'leave-kind-out' needs the kinds of the fakes, and they are unknown",
            hint="name the column with the kinds with data.kind_column in config.toml, or move the fakes to folders "
            "named by their kinds, such as train/fake/stylegan/",
        )
    if (unknown := fake & (kind == "")).any():
        names = table.img_name[unknown].tolist()
        raise DataError(
            f"{format_count(len(names), 'fake')} of {int(fake.sum())} {'has' if len(names) == 1 else 'have'} no kind",
            problems=names,
            hint=f"add the kinds to {table.source}, or to the file with the column of data.kind_column",
        )
    if (count := len(np.unique(kind[fake]))) < k:
        raise DataError(
            f"folds.k = {k} needs at least {format_count(k, 'kind')} of fakes, one for each fold; there "
            f"{format_are(count)}: {', '.join(np.unique(kind[fake])[:NAMED].tolist())}",
            hint=f"set folds.k = {count} in config.toml" if count > 1 else "set another folds.scheme in config.toml",
        )
    return kind


def _balance(unit: np.ndarray, held: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Assigns units of images, the largest first, each to the fold with the fewest images.

    Args:
        unit: [M], of each image.
        held: int64 [k], the images that each fold has already.
        rng: draws the order of equal units.

    Returns:
        int64 [M].
    """
    _, place, size = np.unique(unit, return_inverse=True, return_counts=True)
    order = rng.permutation(len(size))
    order = order[np.argsort(-size[order], kind="stable")]
    home, held = np.empty(len(size), np.int64), held.copy()
    for number in order.tolist():
        home[number] = np.argmin(held)
        held[home[number]] += size[number]
    return home[place]


def _explain_joined_kinds(table: Table, kind: np.ndarray, joined: np.ndarray, k: int) -> DataError:
    """An error about kinds that share groups."""
    assert table.group is not None
    assert table.target is not None
    fake = table.target == 1
    kinds_of: dict[str, set[str]] = {}
    for one, group in zip(kind[fake].tolist(), table.group[fake].tolist(), strict=True):
        kinds_of.setdefault(group, set()).add(one)
    shared = {group: kinds for group, kinds in sorted(kinds_of.items()) if len(kinds) > 1}
    problems = []
    for name in np.unique(joined).tolist():
        together = np.unique(kind[fake][joined == name]).tolist()
        if len(together) > 1:
            group, kinds = next(pair for pair in shared.items() if not pair[1].isdisjoint(together))
            problems.append(
                f"{', '.join(together[:NAMED])}: group {group} has fakes of {' and '.join(sorted(kinds)[:NAMED])}"
            )
    apart = len(np.unique(joined))
    fewer = f"folds.k = {apart} or " if apart > 1 else ""
    return DataError(
        f"folds.k = {k}, and there {'is' if apart == 1 else 'are'} only {format_count(apart, 'set')} of kinds "
        "that share no group: a group, or a scene, is never "
        "split",
        problems=problems,
        hint=f"set {fewer}folds.split_groups = true in config.toml; the latter lets a network know the face of a fake "
        "of an unknown kind",
    )
