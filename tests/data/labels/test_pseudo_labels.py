"""Sets of pseudo-labels: which images are in them, and their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ffdi.core.errors import ExperimentError
from ffdi.data.labels import pseudo_labels
from ffdi.data.labels.pseudo_labels import Limits, PseudoLabels
from ffdi.data.labels.table import Table

ANY = Limits(0.5, 0.5)
NAMED = "round1", "hash", "folds"
Y_PRED = np.array([[0.99, 0.95, 0.60, 0.02, 0.10, 0.55], [0.97, 0.55, 0.62, 0.04, 0.12, 0.45]])
ALL = np.ones(6, bool)


def select(limits: Limits, allowed: np.ndarray = ALL) -> list[int]:
    return np.flatnonzero(pseudo_labels.select_images(Y_PRED, allowed, limits)).tolist()


def test_limits_leave_out_what_is_not_sure() -> None:
    assert select(ANY) == [0, 1, 2, 3, 4, 5]
    assert select(Limits(0.75, 0.5)) == [0, 1, 3, 4]
    assert select(Limits(0.75, 0.1)) == [0, 3, 4]
    assert select(Limits(0.5, 0.5, per_class=1)) == [0, 3]
    assert select(Limits(0.5, 0.5, per_class=2)) == [0, 1, 3, 4]
    assert select(ANY, np.array([False, True, True, True, True, True])) == [1, 2, 3, 4, 5]


def make_table(names: list[str]) -> Table:
    return Table("images", Path("/images"), np.array(names), None, None, Path("/images"))


def test_a_file_gives_its_sets_back(tmp_path: Path) -> None:
    logits = np.array([[1.5, np.nan, np.nan], [np.nan, np.nan, -2.25], [0.125, np.nan, 3.0]], np.float32)
    sha256 = np.arange(96, dtype=np.uint8).reshape(3, 32)
    path = tmp_path / "labels.csv"
    path.write_text(pseudo_labels.format_labels(make_table(["a,1.jpg", "b.jpg", "c.jpg"]), sha256, logits))
    names, hashes, found = pseudo_labels.read_labels(path, 2, "")
    assert names.tolist() == ["a,1.jpg", "c.jpg"]  # b is in no set
    assert hashes == [sha256[0].tobytes().hex(), sha256[2].tobytes().hex()]
    assert np.array_equal(found, logits[:, [0, 2]], equal_nan=True)
    labels = PseudoLabels(*NAMED, make_table(names.tolist()), found)
    assert [len(one) if (one := labels.select_fold(fold)) else 0 for fold in range(3)] == [1, 1, 2]
    chosen = labels.select_fold(1)
    assert chosen is not None
    assert chosen.soft_logit is not None
    assert (chosen.img_name.tolist(), chosen.soft_logit.tolist()) == (["c.jpg"], [-2.25])
    assert PseudoLabels(*NAMED, make_table(["a"]), np.full((3, 1), np.nan, np.float32)).select_fold(0) is None
    assert pseudo_labels.count_classes(logits[2]) == {"real": 0, "fake": 2}


@pytest.mark.parametrize(
    ("old", "new", "line"), [("fold_1", "fold_2", 1), ("1.5", "inf", 2), ("1.5", "one", 2), (",0.125", "", 2)]
)
def test_a_damaged_file_is_named_with_its_line(old: str, new: str, line: int, tmp_path: Path) -> None:
    logits = np.array([[1.5], [2.0], [0.125]], np.float32)
    content = pseudo_labels.format_labels(make_table(["a.jpg"]), np.zeros((1, 32), np.uint8), logits)
    (tmp_path / "labels.csv").write_text(content.replace(old, new))
    with pytest.raises(ExperimentError, match=f"labels.csv line {line}: not img_name,sha256,fold_0,fold_1,all"):
        pseudo_labels.read_labels(tmp_path / "labels.csv", 2, "make them again")


def test_images_without_labels_come_behind_the_others() -> None:
    train = Table("train", Path("/data"), np.array(["x.jpg", "y.jpg"]), np.array([0, 1]), None, Path("/data"))
    more = PseudoLabels(*NAMED, make_table(["a.jpg"]), np.array([[0.5], [0.25]], np.float32)).select_fold(0)
    assert more is not None
    both = train.add_unlabelled(more)
    assert [str(both.path(row)) for row in range(3)] == ["/data/x.jpg", "/data/y.jpg", "/images/a.jpg"]
    assert both.target is not None
    assert both.soft_logit is not None
    assert both.target.tolist() == [0, 1, -1]
    assert np.array_equal(both.soft_logit, [np.nan, np.nan, 0.5], equal_nan=True)
