from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ffdi.core.errors import ExperimentError
from ffdi.evaluation import predictions
from ffdi.evaluation.predictions import OofPredictions

ANEW = "next: invoke train-folds writes oof.csv again from the finished folds"
HEADER = "img_name,fold,target,logit,y_pred,weights\n"
WEIGHTS = "0123456789ab"


def part(names: list[str], fold: list[int], logit: list[float] | None = None) -> OofPredictions:
    target = np.array([len(name) % 2 for name in names], dtype=np.int64)
    scores = np.array(range(len(names)) if logit is None else logit, dtype=np.float32)
    weights = np.full(len(names), WEIGHTS)
    return OofPredictions(np.array(names, dtype=str), np.array(fold, dtype=np.int64), target, scores, weights)


def refusal(path: Path) -> str:
    with pytest.raises(ExperimentError) as caught:
        predictions.read_predictions(path)
    return str(caught.value)


# --- the file ------------------------------------------------------------------------------------------------------


def test_the_file_has_exactly_one_row_an_image() -> None:
    content = part(["a.jpg", "b,c.png"], [1, 0], [0.0, 100.0]).to_csv()
    assert content == HEADER + f'a.jpg,1,1,0,0.5,{WEIGHTS}\n"b,c.png",0,1,100,1,{WEIGHTS}\n'


@settings(max_examples=100, deadline=None)
@given(logit=arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32, allow_nan=False)))
def test_float32_logits_are_restored_exactly(tmp_path_factory: pytest.TempPathFactory, logit: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.csv"
    written = part([f"{index}.jpg" for index in range(len(logit))], [0] * len(logit), logit.tolist())
    path.write_bytes(written.to_csv().encode())
    back = predictions.read_predictions(path)
    assert back.logit.dtype == np.float32
    assert back.logit.tobytes() == logit.tobytes()
    assert back.y_pred.tobytes() == written.y_pred.tobytes()


@pytest.mark.parametrize("name", ["NA", "nan", "null", "1e5", "007", "a,b.jpg", 'a"b.jpg', "图 é.png", " a.jpg "])
def test_any_name_is_restored(tmp_path: Path, name: str) -> None:
    path = tmp_path / "oof.csv"
    path.write_bytes(part([name, "other.jpg"], [0, 1]).to_csv().encode())
    back = predictions.read_predictions(path)
    assert back.img_name.tolist() == [name, "other.jpg"]
    assert (back.fold.tolist(), back.target.tolist()) == ([0, 1], [len(name) % 2, 1])
    assert back.weights.tolist() == [WEIGHTS, WEIGHTS]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "No columns to parse from file"),
        ("a.jpg,0,0,1\n", "'img_name'"),
        (HEADER.replace("logit", "score") + "a.jpg,0,0,1,1,x\n", "'logit'"),
        (HEADER + "a.jpg,0,0,,0.5,x\n", "could not convert string to float: ''"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "oof.csv"
    path.write_text(content)
    assert refusal(path) == f"{path} has no valid out-of-fold predictions: {reason}\n{ANEW}"


@pytest.mark.parametrize(
    "row",
    [b"a.jpg,0.5,0,1,1", b"a.jpg,0", b"a.jpg,x,0,1,1", b"a.jpg,99999999999999999999,0,1,1", b"\xe9.jpg,0,0,1,1"],
)
def test_damaged_rows_are_refused(tmp_path: Path, row: bytes) -> None:
    path = tmp_path / "oof.csv"
    path.write_bytes(HEADER.encode() + row + b"\n")
    assert refusal(path).startswith(f"{path} has no valid out-of-fold predictions: ")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "oof.csv"
    expected = f"{path} has no valid out-of-fold predictions: [Errno 2] No such file or directory: '{path}'\n{ANEW}"
    assert refusal(path) == expected


# --- all folds together --------------------------------------------------------------------------------------------


def test_folds_are_merged_by_name_in_the_given_order() -> None:
    parts = [part(["d", "aa"], [0, 0], [4.0, 1.0]), part(["ccc", "b"], [1, 1], [3.0, 2.0])]
    merged = predictions.merge_predictions(
        parts, np.array(["aa", "b", "ccc", "d"]), np.array([0, 1, 1, 0]), np.array([0, 1, 1, 1])
    )
    assert merged.img_name.tolist() == ["aa", "b", "ccc", "d"]
    assert merged.fold.tolist() == [0, 1, 1, 0]
    assert merged.target.tolist() == [0, 1, 1, 1]
    assert merged.logit.tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    "names",
    [["a", "b"], ["a", "b", "x"], ["a", "b", "c", "x"], ["a", "b", "b"], ["a", "b", "c", "c"]],
    ids=["missing", "foreign", "one more", "twice for another", "twice"],
)
def test_missing_and_duplicate_images_are_refused(names: list[str]) -> None:
    parts = [part(names[:1], [0]), part(names[1:], [1] * (len(names) - 1))]
    with pytest.raises(ExperimentError) as caught:
        predictions.merge_predictions(parts, np.array(["a", "b", "c"]), np.array([0, 1, 1]), np.array([1, 1, 1]))
    assert str(caught.value) == f"the folds' predictions do not have each of the 3 training images once\n{ANEW}"


def test_a_prediction_by_a_network_trained_on_the_image_is_refused() -> None:
    parts = [part(["a", "b"], [0, 0]), part(["c"], [1])]
    with pytest.raises(ExperimentError) as caught:
        predictions.merge_predictions(parts, np.array(["a", "b", "c"]), np.array([0, 1, 1]), np.array([1, 1, 1]))
    assert str(caught.value) == f"an image was scored by a network that was trained on it\n{ANEW}"


def test_a_label_that_differs_from_folds_csv_is_refused() -> None:
    parts = [part(["a"], [0]), part(["b", "c"], [1, 1])]
    with pytest.raises(ExperimentError) as caught:
        predictions.merge_predictions(parts, np.array(["a", "b", "c"]), np.array([0, 1, 1]), np.array([1, 0, 1]))
    assert str(caught.value) == f"an image has another label in the predictions than in folds.csv\n{ANEW}"


def test_ranks_are_taken_within_each_fold() -> None:
    ranks = part(list("abcdef"), [0, 1, 0, 1, 0, 0], [5.0, -90.0, 7.0, 90.0, 5.0, -1.0]).ranks
    assert ranks.tolist() == [0.5, 0.25, 0.875, 0.75, 0.5, 0.125]
