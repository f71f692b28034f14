"""Folds that leave kinds of fakes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffdi.config.schema import FoldsConfig
from ffdi.core.errors import DataError, ExperimentError
from ffdi.data.labels.table import Table
from ffdi.data.splits import folds, kinds


def table(kind: list[str], group: list[str] | None = None) -> Table:
    """Images with these kinds; '' is a real image."""
    img_name = np.array([f"{number}.jpg" for number in range(len(kind))], dtype=str)
    target = np.array([int(bool(one)) for one in kind])
    named = None if group is None else np.array(group, dtype=str)
    return Table("train", Path("set"), img_name, target, named, Path("l.txt"), kind=np.array(kind, dtype=str))


def refusal(rows: Table, k: int) -> str:
    with pytest.raises(DataError) as caught:
        kinds.assign_folds(rows, k, 0)
    return str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(0, 3), st.lists(st.integers(0, 7), min_size=1, max_size=60), st.integers(0, 99))
def test_kinds_and_groups_are_whole_and_reals_are_divided(k: int, more: int, drawn: list[int], seed: int) -> None:
    names = [f"kind {number}" for number in range(k + more)]
    kind = [*names, *(names[number % len(names)] for number in drawn), *[""] * (4 * k)]
    group = [f"{one}-{number % 2}" if one else f"real {number // 2}" for number, one in enumerate(kind)]
    rows = table(kind, group)
    assert rows.kind is not None
    assert rows.group is not None
    assert rows.target is not None
    fold = kinds.assign_folds(rows, k, seed)
    assert fold.dtype == np.int64
    assert {len(set(fold[rows.kind == name].tolist())) for name in names} == {1}
    assert {len(set(fold[rows.group == name].tolist())) for name in set(group)} == {1}
    assert set(fold[rows.target == 1].tolist()) == set(range(k))
    reals = np.bincount(fold[rows.target == 0], minlength=k)
    assert reals.max() - reals.min() <= 2  # a group of two images more


def test_a_real_image_goes_with_the_fakes_of_its_group() -> None:
    rows = table(["a", "b", "", "", "", ""], ["one", "two", "one", "two", "three", "four"])
    fold = kinds.assign_folds(rows, 2, 0)
    assert fold[0] == fold[2]
    assert fold[1] == fold[3]
    assert sorted(fold[4:].tolist()) == [0, 1]


def test_kinds_of_one_fold_have_similar_numbers_of_fakes() -> None:
    rows = table(["a"] * 6 + ["b"] * 3 + ["c"] * 3 + [""] * 12)
    fold = kinds.assign_folds(rows, 2, 0)
    assert fold[6] == fold[9] != fold[0]


def test_a_seed_gives_the_same_folds_and_another_seed_others() -> None:
    rows = table([*"abcd", *[""] * 40])
    first, again, other = (kinds.assign_folds(rows, 4, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fakes_without_a_kind_are_named() -> None:
    rows = replace(table(["a", "b", "c", "", ""]), kind=np.array(["a", "", "c", "", ""]))
    assert refusal(rows, 2) == (
        "1 fake of 3 has no kind\n  1.jpg\n"
        "next: add the kinds to l.txt, or to the file with the column of data.kind_column"
    )


def test_a_table_without_kinds_says_where_they_come_from() -> None:
    assert refusal(replace(table(["a", "b", "", ""]), kind=None), 2) == (
        "folds.scheme = 'leave-kind-out' needs the kinds of the fakes, and they are unknown\n"
        "next: name the column with the kinds with data.kind_column in config.toml, or move the fakes to folders named "
        "by their kinds, such as train/fake/stylegan/"
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            ["a", "b", "", "", ""],
            "folds.k = 3 needs at least 3 kinds of fakes, one for each fold; there are 2: a, b\n"
            "next: set folds.k = 2 in config.toml",
        ),
        (
            ["a", "a", "", "", ""],
            "folds.k = 3 needs at least 3 kinds of fakes, one for each fold; there is 1: a\n"
            "next: set another folds.scheme in config.toml",
        ),
    ],
)
def test_too_few_kinds_are_refused(kind: list[str], message: str) -> None:
    assert refusal(table(kind), 3) == message


def test_too_few_real_images_are_refused() -> None:
    message = refusal(table(["a", "b", "c", "", ""], ["1", "2", "3", "4", "4"]), 3)
    assert message.startswith("fold ")
    assert message.endswith(
        " of 3 would hold out no real image: there are 2, in 1 group\n"
        "next: lower folds.k in config.toml, or add real images"
    )


def test_kinds_that_share_a_group_are_held_out_together_or_refused() -> None:
    rows = table(["a", "b", "c", "", "", ""], ["one", "one", "two", "x", "y", "z"])
    fold = kinds.assign_folds(rows, 2, 0)
    assert fold[0] == fold[1] != fold[2]
    assert refusal(rows, 3) == (
        "folds.k = 3, and there are only 2 sets of kinds that share no group: a group, or a scene, is never split\n"
        "  a, b: group one has fakes of a and b\n"
        "next: set folds.k = 2 or folds.split_groups = true in config.toml; the latter lets a network know the face of "
        "a fake of an unknown kind"
    )
    split = kinds.assign_folds(rows, 3, 0, split_groups=True)
    assert sorted(split[:3].tolist()) == [0, 1, 2]


def test_the_file_has_the_kinds_and_is_checked_against_them(tmp_path: Path) -> None:
    rows = table(["a", "b", "", ""])
    path = tmp_path / "folds.csv"
    path.write_text(folds.format_folds(rows, np.array([0, 1, 0, 1])))
    assert path.read_text().splitlines()[:2] == ["img_name,fold,target,group,kind", "0.jpg,0,1,,a"]
    config = FoldsConfig(k=2, scheme="leave-kind-out")
    assert folds.read_folds(path, rows, config).tolist() == [0, 1, 0, 1]
    found = folds.read_assignment(path).kind
    assert found is not None
    assert found.tolist() == ["a", "b", "", ""]
    with pytest.raises(ExperimentError, match=r"0\.jpg has another kind"):
        folds.read_folds(path, table(["c", "b", "", ""]), config)
    assert folds.read_folds(path, table(["c", "b", "", ""]), FoldsConfig(k=2)).tolist() == [0, 1, 0, 1]


def test_an_edited_file_that_splits_a_kind_is_refused(tmp_path: Path) -> None:
    rows = table(["a", "a", "b", "", ""])
    path = tmp_path / "folds.csv"
    path.write_text(folds.format_folds(rows, np.array([0, 1, 1, 0, 1])))
    with pytest.raises(ExperimentError, match="the fakes of a are in more than one fold"):
        folds.read_folds(path, rows, FoldsConfig(k=2, scheme="leave-kind-out"))


def test_groups_may_be_split_in_the_file_only_where_the_config_allows_it(tmp_path: Path) -> None:
    rows = table(["a", "b", "", ""], ["one", "one", "x", "y"])
    path = tmp_path / "folds.csv"
    path.write_text(folds.format_folds(rows, kinds.assign_folds(rows, 2, 0, split_groups=True)))
    folds.read_folds(path, rows, FoldsConfig(k=2, scheme="leave-kind-out", split_groups=True))
    with pytest.raises(ExperimentError, match="group one is in more than one fold"):
        folds.read_folds(path, rows, FoldsConfig(k=2, scheme="leave-kind-out"))
