"""The paired comparison of experiments in a report."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ffdi.data.splits.folds import FoldAssignment
from ffdi.evaluation import comparison
from ffdi.evaluation.comparison import Scores
from ffdi.evaluation.predictions import sigmoid
from ffdi.reporting import pairs


def ensemble() -> Any:
    """Three experiments of 400 images: the second one is the best."""
    rng = np.random.default_rng(0)
    target, kind = np.arange(400) % 2, np.array(["", "swap", "", "talking"] * 100)
    logits = (2 * target - 1) * np.array([[0.5], [1.5], [1.4]]) + rng.normal(0, 1, (3, 400))
    names = np.array([f"{number}.jpg" for number in range(400)])
    return SimpleNamespace(
        experiments=[SimpleNamespace(name=name) for name in ("weak", "best", "good")],
        assignment=FoldAssignment(names, np.repeat([0, 1], 200), target, None, kind),
        oof_logits=logits,
        choice=SimpleNamespace(single=(1, 0.9)),
    )


def test_each_experiment_is_compared_with_the_best_one() -> None:
    of = ensemble()
    first, second = pairs.compare_with_best(of)
    assert (first.best, first.other, second.other) == ("best", "weak", "good")
    assert len(first.gained) + len(first.lost) > len(second.gained) + len(second.lost)
    right = (of.oof_logits > 0) == (of.assignment.target == 1)
    assert sorted(first.gained) == np.flatnonzero(right[0] & ~right[1]).tolist()
    assert sorted(first.lost) == np.flatnonzero(right[1] & ~right[0]).tolist()
    gap = np.abs(sigmoid(of.oof_logits[0]) - sigmoid(of.oof_logits[1]))
    assert (np.diff(gap[first.lost]) <= 0).all()
    scores = Scores(sigmoid(of.oof_logits[[1, 0]]), of.assignment.target, of.assignment.fold, None)
    assert first.rows[0] == comparison.compare(scores, {})[0]
    assert [row.name for row in first.rows] == ["all images", "kind: swap", "kind: talking"]


def test_the_table_has_the_difference_and_the_gallery_the_images() -> None:
    first, second = pairs.compare_with_best(ensemble())
    section = pairs.build_comparison([first, second])
    assert len(section.tables) == 2
    assert section.tables[0].caption.endswith(
        f"only weak gets {len(first.gained)} images right, only best {len(first.lost)}"
    )
    name, other, best, difference, _ = section.tables[0].rows[0]
    assert name == "all images"
    assert float(str(other)) - float(str(best)) == pytest.approx(first.rows[0].difference, abs=1e-4)
    assert difference.text == f"{first.rows[0].difference:+.4f}"  # type: ignore[union-attr]
    assert first.kinds == {
        "gained weak": "right in weak, wrong in best",
        "lost weak": "right in best, wrong in weak",
    }
    assert first.picked["lost weak"].tolist() == first.lost[: pairs.MAX_IMAGES].tolist()
