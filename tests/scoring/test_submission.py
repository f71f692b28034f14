from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffdi.errors import SubmissionError
from ffdi.scoring import submission

NAMES = ["a.jpg", "b.jpg", "c.jpg"]
HINT = "next: nothing was written; check the list of test images and the template under the data folder"


def refusal(expected: list[str], names: list[str], scores: list[float]) -> str:
    with pytest.raises(SubmissionError) as caught:
        submission.build(expected, np.array(names, dtype=str), np.array(scores))
    return str(caught.value)


# --- the gate ------------------------------------------------------------------------------------------------------


def test_scores_are_written_in_the_order_that_is_wanted() -> None:
    content = submission.build(NAMES, np.array(["c.jpg", "a.jpg", "b.jpg"]), np.array([1.0, 0.25, 0.0]))
    assert content == "img_name,y_pred\na.jpg,0.25\nb.jpg,0\nc.jpg,1\n"


@given(st.lists(st.text("ab,\"' é图", min_size=1), min_size=2, max_size=12, unique=True), st.randoms())
def test_every_image_gets_its_own_score(wanted: list[str], shuffle: object) -> None:
    score = {name: place / len(wanted) for place, name in enumerate(wanted)}
    names = list(wanted)
    shuffle.shuffle(names)  # type: ignore[attr-defined]
    content = submission.build(wanted, np.array(names, dtype=str), np.array([score[name] for name in names]))
    rows = list(csv.reader(io.StringIO(content)))
    assert [name for name, _ in rows[1:]] == wanted
    assert [float(written) for _, written in rows[1:]] == pytest.approx([score[name] for name in wanted])


@pytest.mark.parametrize(
    ("names", "scores", "problem"),
    [
        (["a.jpg", "b.jpg"], [0.1, 0.2], "c.jpg is missing"),
        ([*NAMES, "d.jpg"], [0.1, 0.2, 0.3, 0.4], "d.jpg is not wanted"),
        ([*NAMES, "c.jpg"], [0.1, 0.2, 0.3, 0.3], "c.jpg is scored 2 times"),
        (NAMES, [0.1, np.nan, 0.3], "b.jpg has the score nan"),
        (NAMES, [0.1, np.inf, 0.3], "b.jpg has the score inf"),
        (NAMES, [0.1, -np.inf, 0.3], "b.jpg has the score -inf"),
        (NAMES, [0.1, 0.2, 1.5], "c.jpg has the score 1.5, outside [0, 1]"),
        (NAMES, [0.1, 0.2, -0.5], "c.jpg has the score -0.5, outside [0, 1]"),
        (NAMES, [0.1, 0.2, float(np.nextafter(1, 2))], "c.jpg has the score 1.0000000000000002, outside [0, 1]"),
        (NAMES, [0.5, 0.5, 0.5], "every score is 0.5: the network tells nothing apart"),
        (NAMES, [0.0, 0.0, 0.0], "every score is 0.0: the network tells nothing apart"),
        (
            NAMES,
            [0.25, 0.25 + 1e-12, 0.25],
            "every score is 0.25: the network tells nothing apart",
        ),
    ],
)
def test_a_bad_submission_is_refused(names: list[str], scores: list[float], problem: str) -> None:
    expected = f"the submission is refused: 1 faults in {len(names)} scores\n  {problem}\n{HINT}"
    assert refusal(NAMES, names, scores) == expected


def test_everything_that_is_wrong_is_listed_at_once() -> None:
    assert refusal([*NAMES, "a.jpg"], ["a.jpg", "a.jpg", "x.jpg", "b.jpg"], [0.1, np.nan, 2.0, 0.1]) == (
        "the submission is refused: 6 faults in 4 scores\n"
        "  a.jpg is wanted 2 times\n"
        "  a.jpg is scored 2 times\n"
        "  c.jpg is missing\n"
        "  x.jpg is not wanted\n"
        "  a.jpg has the score nan\n"
        f"  x.jpg has the score 2.0, outside [0, 1]\n{HINT}"
    )


def test_a_single_image_cannot_be_constant() -> None:
    assert submission.build(["a.jpg"], np.array(["a.jpg"]), np.array([0.5])) == "img_name,y_pred\na.jpg,0.5\n"


def test_the_ends_of_the_range_are_scores() -> None:
    assert submission.build(NAMES[:2], np.array(NAMES[:2]), np.array([0.0, 1.0])).endswith("a.jpg,0\nb.jpg,1\n")


def test_a_thousand_faults_are_counted_and_a_hundred_shown() -> None:
    names = [f"{index}.jpg" for index in range(1000)]
    lines = refusal(names, ["0.jpg"], [0.5]).splitlines()
    assert lines[0] == "the submission is refused: 999 faults in 1 scores"
    assert lines[1:101] == [f"  {name} is missing" for name in names[1:101]]
    assert lines[101:] == ["  ... and 899 more", HINT]


# --- the template --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "img_name,y_pred\nb.jpg,0.5\na.jpg,0.5\n",
        "\ufeffimg_name,y_pred\r\nb.jpg,0.5\r\na.jpg,0.5\r\n",
        " img_name , y_pred\n b.jpg ,\n\n a.jpg ,0\n\n",
        "y_pred,img_name\n0.5,b.jpg\n0.5,a.jpg\n",
        '"img_name"\n"b.jpg"\na.jpg',
    ],
    ids=["plain", "BOM and CRLF", "spaces and empty lines", "turned", "names only"],
)
def test_a_templates_names_are_read_in_its_order(tmp_path: Path, content: str) -> None:
    path = tmp_path / "prediction.txt"
    path.write_bytes(content.encode())
    assert submission.read_template(path) == ["b.jpg", "a.jpg"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", " line 1: no column img_name; the header is ''"),
        (b"a.jpg,0.5\n", " line 1: no column img_name; the header is 'a.jpg,0.5'"),
        (b"img_name;y_pred\na.jpg;0\n", " line 1: no column img_name; the header is 'img_name;y_pred'"),
    ],
)
def test_a_template_without_its_header_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "prediction.txt"
    path.write_bytes(content)
    with pytest.raises(SubmissionError) as caught:
        submission.read_template(path)
    assert str(caught.value) == f"{path}{reason}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"img_name\n\xe9.jpg\n", "'utf-8' codec can't decode byte 0xe9 in position 9: invalid continuation byte"),
        (b"img_name\n" + b"a" * 200_000, "field larger than field limit (131072)"),
    ],
)
def test_a_template_that_is_no_csv_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "prediction.txt"
    path.write_bytes(content)
    with pytest.raises(SubmissionError) as caught:
        submission.read_template(path)
    assert str(caught.value) == f"the template {path} cannot be read: {reason}"
