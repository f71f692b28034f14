from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from ffdi.config.schema import FoldsConfig
from ffdi.core.errors import DataError, ExperimentError
from ffdi.data.labels.table import Table
from ffdi.data.splits import folds

Put = Callable[..., Path]
RESTORE = "next: restore the file or the images; to assign folds again, invoke train-folds --restart"
ASSIGNMENT = "img_name,fold,target,group\na.jpg,0,0,x\nb.jpg,1,0,y\nc.jpg,0,1,x\nd.jpg,1,1,z\n"


def table(group: list[str] | None = None, names: str = "abcd") -> Table:
    img_name = np.array([f"{name}.jpg" for name in names], dtype=str)
    target = np.array([0, 0, 1, 1], dtype=np.int64)
    return Table("train", Path("trainset"), img_name, target, group and np.array(group, dtype=str), Path("l.txt"))


GROUPED = table(["x", "y", "x", "z"])


def refusal(target: list[int], group: list[str] | None, k: int) -> str:
    with pytest.raises(DataError) as caught:
        folds.assign_folds(
            np.array(target, dtype=np.int64), None if group is None else np.array(group, dtype=str), k, 0
        )
    return str(caught.value)


# --- dealing -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 7), st.integers(0, 60), st.integers(0, 60), st.integers(0, 2**31 - 1), st.randoms())
def test_each_fold_holds_each_class_evenly_within_one_image(
    k: int, real: int, fake: int, seed: int, shuffle: object
) -> None:
    target = np.array([0] * (k + real) + [1] * (k + fake), dtype=np.int64)
    shuffle.shuffle(target)  # type: ignore[attr-defined]
    fold = folds.assign_folds(target, None, k, seed)
    assert fold.dtype == np.int64
    for label in (0, 1):
        counts = np.bincount(fold[target == label], minlength=k)
        assert len(counts) == k
        assert counts.max() - counts.min() <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 1)), max_size=80), st.integers(0, 99))
def test_a_group_never_straddles_and_no_fold_misses_a_class(k: int, rows: list[tuple[int, int]], seed: int) -> None:
    rows = [*rows, *((12 + number, number % 2) for number in range(2 * k))]
    group = np.array([f"person {number}" for number, _ in rows], dtype=str)
    target = np.array([label for _, label in rows], dtype=np.int64)
    try:
        fold = folds.assign_folds(target, group, k, seed)
    except DataError:
        return
    homes = {name: set(fold[group == name].tolist()) for name in group.tolist()}
    assert all(len(home) == 1 for home in homes.values())
    assert {(number, label) for number, label in zip(fold.tolist(), target.tolist(), strict=True)} == {
        (number, label) for number in range(k) for label in (0, 1)
    }


def test_equal_groups_are_assigned_evenly() -> None:
    group = np.repeat([f"g{number}" for number in range(10)], 4)
    target = np.tile([0, 1], 20)
    assert np.bincount(folds.assign_folds(target, group, 5, 0)).tolist() == [8] * 5


def test_a_seed_gives_the_same_deal_and_another_seed_another() -> None:
    target = np.tile([0, 1], 50)
    first, again, other = (folds.assign_folds(target, None, 5, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_rows_are_shuffled_before_the_assignment() -> None:
    assert len(set(folds.assign_folds(np.repeat([0, 1], 50), None, 5, 0)[:10].tolist())) > 1


@pytest.mark.parametrize(("real", "fake"), [(9, 0), (0, 9), (9, 2), (0, 0)])
def test_too_few_images_of_a_class_are_refused(real: int, fake: int) -> None:
    assert refusal([0] * real + [1] * fake, None, 3) == (
        f"3 folds need at least 3 images of each class; there are {real} real and {fake} fake\n"
        "next: lower folds.k in config.toml, or add images"
    )


def test_more_folds_than_groups_are_refused() -> None:
    assert refusal([0, 1] * 6, ["a", "b"] * 6, 3) == (
        "3 folds need at least 3 groups; there are 2\nnext: lower folds.k in config.toml"
    )


@pytest.mark.parametrize(("label", "missing"), [(0, "real"), (1, "fake")])
def test_a_class_in_one_group_is_refused(label: int, missing: str) -> None:
    message = refusal([label] * 4 + [1 - label] * 4, ["one"] * 4 + ["a", "b", "c", "d"], 2)
    number = int(message.split()[1])
    assert message == (
        f"fold {number} of 2 would hold out no {missing} image: the groups are too large or too uneven\n"
        "next: lower folds.k or change seed in config.toml"
    )


# --- the file ------------------------------------------------------------------------------------------------------


def test_the_file_has_a_row_for_each_image_in_the_tables_order() -> None:
    assert folds.format_folds(GROUPED, np.array([0, 1, 0, 1])) == ASSIGNMENT


@pytest.mark.parametrize("names", [["a,b.jpg", 'a"b.jpg', " a.jpg", "图.jpg"]])
def test_the_assignment_is_read_by_name(put: Put, names: list[str]) -> None:
    rows = Table("train", Path("t"), np.array(names), np.array([0, 0, 1, 1]), None, Path("l.txt"))
    path = put("folds.csv", folds.format_folds(rows, np.array([1, 0, 0, 1])))
    turned = rows.take(np.array([3, 1, 0, 2]))
    assert folds.read_folds(path, turned, FoldsConfig(k=2)).tolist() == [1, 0, 1, 0]


def test_a_byte_order_mark_and_crlf_are_fine(put: Put) -> None:
    path = put("folds.csv", "\ufeff" + ASSIGNMENT.replace("\n", "\r\n"))
    assert folds.read_folds(path, GROUPED, FoldsConfig(k=2)).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("d.jpg,1,1,z\n", "", "d.jpg is missing"),
        ("d.jpg,1,1,z\n", "d.jpg,1,1,z\ne.jpg,0,0,y\n", "e.jpg is not a training image any more"),
        ("d.jpg,1,1,z\n", "d.jpg,1,1,z\nd.jpg,0,1,z\n", "duplicate image d.jpg"),
        ("d.jpg,1,1,z", "d.jpg,1,0,z", "d.jpg has another label"),
        ("d.jpg,1,1,z", "d.jpg", "line 5 has 1 field\n  d.jpg is missing"),
        ("d.jpg,1,1,z", "d.jpg,2,1,z", "d.jpg is in fold '2', and there are folds 0 to 1"),
        ("d.jpg,1,1,z", "d.jpg,-1,1,z", "d.jpg is in fold '-1', and there are folds 0 to 1"),
        ("d.jpg,1,1,z", "d.jpg,²,1,z", "d.jpg is in fold '²', and there are folds 0 to 1"),
        ("d.jpg,1,1,z", f"d.jpg,{'9' * 5000},1,z", f"d.jpg is in fold '{'9' * 5000}', and there are folds 0 to 1"),
        ("d.jpg,1,1,z", "d.jpg,0,1,z", "fold 1 holds out no fake image"),
        ("b.jpg,1,0,y", "b.jpg,0,0,y", "fold 1 holds out no real image"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(put: Put, before: str, after: str, problem: str) -> None:
    path = put("folds.csv", ASSIGNMENT.replace(before, after))
    with pytest.raises(ExperimentError) as caught:
        folds.read_folds(path, GROUPED, FoldsConfig(k=2))
    assert str(caught.value) == f"{path} does not fit the training images\n  {problem}\n{RESTORE}"


def test_a_split_group_is_refused(put: Put) -> None:
    rows = table(["x", "y", "y", "x"])
    path = put("folds.csv", folds.format_folds(rows, np.array([0, 1, 0, 1])))
    with pytest.raises(ExperimentError) as caught:
        folds.read_folds(path, rows, FoldsConfig(k=2))
    assert str(caught.value) == (
        f"{path} does not fit the training images\n"
        "  group x is in more than one fold\n"
        f"  group y is in more than one fold\n{RESTORE}"
    )


@pytest.mark.parametrize("content", ["", "a.jpg,0,0,x\n", "img_name;fold;target;group\n"])
def test_a_file_without_its_header_is_refused(put: Put, content: str) -> None:
    path = put("folds.csv", content)
    with pytest.raises(ExperimentError) as caught:
        folds.read_folds(path, GROUPED, FoldsConfig(k=2))
    assert str(caught.value) == f"{path} line 1: the header must be 'img_name,fold,target,group'\n{RESTORE}"


def test_a_file_that_is_not_text_is_refused(put: Put) -> None:
    path = put("folds.csv", b"\xff\xfe")
    with pytest.raises(ExperimentError) as caught:
        folds.read_folds(path, GROUPED, FoldsConfig(k=2))
    assert str(caught.value) == f"{path} line 1: not UTF-8 text\n{RESTORE}"


def test_the_deal_can_be_read_without_the_images(put: Put) -> None:
    assignment = folds.read_assignment(put("folds.csv", ASSIGNMENT))
    assert assignment.img_name.tolist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert (assignment.fold.tolist(), assignment.target.tolist()) == ([0, 1, 0, 1], [0, 0, 1, 1])
    assert assignment.group is not None
    assert assignment.group.tolist() == ["x", "y", "x", "z"]


def test_a_deal_without_groups_has_none(put: Put) -> None:
    assert folds.read_assignment(put("folds.csv", "img_name,fold,target,group\na.jpg,0,0,\nb.jpg,1,1,\n")).group is None


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("a.jpg,x,0,\n", "\n  a.jpg has fold 'x' and label '0'"),
        ("a.jpg,0,2,\n", "\n  a.jpg has fold '0' and label '2'"),
        ("a.jpg\n", "\n  line 2 has 1 field"),
        ("a.jpg,0,0,\na.jpg,1,0,\n", "\n  duplicate image a.jpg"),
        ("", ""),
    ],
)
def test_a_file_that_is_not_a_fold_assignment_is_refused(put: Put, rows: str, problem: str) -> None:
    path = put("folds.csv", f"img_name,fold,target,group\n{rows}")
    with pytest.raises(ExperimentError) as caught:
        folds.read_assignment(path)
    assert str(caught.value) == f"{path} is not a fold assignment{problem}\n{RESTORE}"


@pytest.mark.parametrize("seed", range(6))
def test_groups_are_assigned_as_evenly_as_by_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images, k = int(rng.integers(60, 900)), int(rng.integers(2, 7))
    target = (rng.random(images) < rng.uniform(0.2, 0.8)).astype(np.int64)
    group = rng.integers(0, images // int(rng.integers(1, 6)), images).astype(str)

    def unlike(fold: np.ndarray) -> float:
        counts = np.stack([np.bincount(fold[target == label], minlength=k) for label in (0, 1)])
        return float((counts / counts.sum(1, keepdims=True)).std(1).mean())

    theirs = np.empty(images, np.int64)
    splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(target, target, group)):
        theirs[held_out] = number
    ours = folds.assign_folds(target, group, k, seed)
    assert unlike(ours) <= unlike(theirs) + 2 / images
    sizes = np.bincount(ours, minlength=k)
    assert np.ptp(sizes) <= np.ptp(np.bincount(theirs)) + 4
