from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from ffdi.core.errors import SubmissionError
from ffdi.data.labels.image_names import ListedImages
from ffdi.ensemble import combine
from ffdi.ensemble.combine import Combination
from ffdi.evaluation.predictions import sigmoid
from ffdi.evaluation.score_table import FLOAT
from ffdi.submission import gate
from ffdi.submission.gate import Direction, Submission, Template

NAMES = ["a.jpg", "b.jpg", "c.jpg"]
HINT = "next: nothing was written; check the list of test images and the template under the data folder"


TEXT_HINT = "next: do not submit this file; write it again: invoke ensemble-submit"
PLAIN = "img_name,y_pred\na.jpg,0.25\nb.jpg,0\nc.jpg,1\n"


def build(
    expected: list[str],
    names: list[str],
    scores: list[float] | np.ndarray,
    reference: np.ndarray | None = None,
    oof_auc: Mapping[str, float] | None = None,
    oof_high: Mapping[str, float] | None = None,
) -> Submission:
    """By default nothing is known about the direction."""
    y_pred = np.array(scores)
    direction = Direction(np.zeros(len(y_pred)) if reference is None else reference, oof_auc or {}, oof_high or {})
    return gate.build_submission(Template(expected, expected), np.array(names, dtype=str), y_pred, direction)


def refusal(expected: list[str], names: list[str], scores: list[float]) -> str:
    with pytest.raises(SubmissionError) as caught:
        build(expected, names, scores)
    return str(caught.value)


def check(content: str) -> None:
    gate.check_submission_text(
        content, Template(NAMES, NAMES), np.array(["c.jpg", "a.jpg", "b.jpg"]), np.array([1.0, 0.25, 0.0])
    )


# --- the gate ------------------------------------------------------------------------------------------------------


def test_scores_are_written_in_the_order_of_the_template() -> None:
    assert build(NAMES, ["c.jpg", "a.jpg", "b.jpg"], [1.0, 0.25, 0.0]) == Submission(PLAIN, ())


@given(st.lists(st.text("ab,\"' é图", min_size=1), min_size=2, max_size=12, unique=True), st.randoms())
def test_every_image_gets_its_own_score(wanted: list[str], shuffle: object) -> None:
    score = {name: position / len(wanted) for position, name in enumerate(wanted)}
    names = list(wanted)
    shuffle.shuffle(names)  # type: ignore[attr-defined]
    content = build(wanted, names, [score[name] for name in names]).content
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
        (NAMES, [0.5, 0.5, 0.5], "every score is 0.5: the network does not separate images"),
        (NAMES, [0.0, 0.0, 0.0], "every score is 0.0: the network does not separate images"),
        (NAMES, [0.25, 0.25 + 1e-12, 0.25], "every score is 0.25: the network does not separate images"),
        (NAMES, [0.0, -0.0, 0.0], "every score is 0.0: the network does not separate images"),
        (NAMES, [0.1, 0.2], "there are 3 names for 2 scores"),
        (NAMES, [[0.1], [0.2], [0.3]], "the scores are float64 [3, 1], not float [N]"),
        (NAMES, ["0.1", "0.2", "0.3"], "the scores are <U3 [3], not float [N]"),
        (NAMES, [True, False, True], "the scores are bool [3], not float [N]"),
    ],
)
def test_a_bad_submission_is_refused(names: list[str], scores: list[float], problem: str) -> None:
    expected = f"the submission is refused: 1 fault in {len(names)} scores\n  {problem}\n{HINT}"
    assert refusal(NAMES, names, scores) == expected


def test_a_name_that_no_csv_can_hold_is_refused() -> None:
    names = ["a.jpg", "b\0.jpg", "c\r.jpg", "\udce9.jpg"]
    assert refusal(names, names, [0.1, 0.2, 0.3, 0.4]) == (
        "the submission is refused: 3 faults in 4 scores\n"
        "  'b\\x00.jpg' has a control character: U+0000\n"
        "  'c\\r.jpg' has a control character: U+000D\n"
        f"  '\\udce9.jpg' is not UTF-8\n{HINT}"
    )


def test_names_that_are_not_text_are_refused() -> None:
    names = np.array(["a.jpg", np.nan, 7], dtype=object)
    with pytest.raises(SubmissionError) as caught:
        gate.build_submission(Template(NAMES, NAMES), names, np.zeros(3), Direction(np.zeros(3), {}))
    assert str(caught.value) == (
        "the submission is refused: 2 faults in 3 scores\n  nan is not an image name\n  7 is not an image name\n" + HINT
    )
    with pytest.raises(SubmissionError) as caught:
        gate.build_submission(Template(NAMES, NAMES), np.array([NAMES]), np.zeros(3), Direction(np.zeros(3), {}))
    assert caught.value.problems == ("the names are <U5 [1, 3], not str [N]",)


def test_an_empty_submission_is_refused() -> None:
    problem = "no image is wanted: the template is empty"
    assert refusal([], [], []) == f"the submission is refused: 1 fault in 0 scores\n  {problem}\n{HINT}"


def test_all_faults_are_listed_together() -> None:
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
    assert build(["a.jpg"], ["a.jpg"], [0.5]) == Submission("img_name,y_pred\na.jpg,0.5\n", ())


def test_zero_and_one_are_valid_scores() -> None:
    assert build(NAMES[:2], NAMES[:2], [0.0, 1.0]).content.endswith("a.jpg,0\nb.jpg,1\n")


def test_a_thousand_faults_are_counted_and_a_hundred_shown() -> None:
    names = [f"{index}.jpg" for index in range(1000)]
    lines = refusal(names, ["0.jpg"], [0.5]).splitlines()
    assert lines[0] == "the submission is refused: 999 faults in 1 score"
    assert lines[1:101] == [f"  {name} is missing" for name in names[1:101]]
    assert lines[101:] == ["  ... and 899 more", HINT]


# --- direction -----------------------------------------------------------------------------------------------------


def numbered(count: int) -> list[str]:
    return [f"{index}.jpg" for index in range(count)]


def test_inverted_scores_are_refused() -> None:
    logits = np.random.default_rng(0).normal(size=27)
    with pytest.raises(SubmissionError) as caught:
        build(numbered(27), numbered(27), 1 - sigmoid(logits), logits)
    assert str(caught.value) == (
        "the submission is refused: 1 fault in 27 scores\n"
        "  the scores are turned around: their rank correlation with the networks' mean logit is -1.000\n"
        "next: nothing was written; y_pred must rise with the logits: inspect the ensemble, ensemble.method first"
    )


CHANCE = "no better than chance: it has learned nothing"
UNKNOWN = "below 0.5, and too few groups or images for an interval: check that target 1 means fake"


@pytest.mark.parametrize(
    ("auc", "high", "fault"),
    [
        *((auc, {"bad": high}, CHANCE) for auc in (0.25, 0.4999999999) for high in (0.5, 0.8)),
        *((np.nan, high, CHANCE) for high in ({}, {"bad": 0.5})),
        *((auc, {}, UNKNOWN) for auc in (0.25, 0.4999999999)),
    ],
)
def test_an_experiment_at_chance_is_refused_and_not_called_inverted(
    auc: float, high: dict[str, float], fault: str
) -> None:
    with pytest.raises(SubmissionError) as caught:
        build(NAMES, NAMES, [0.1, 0.2, 0.3], oof_auc={"good": 0.5, "bad": auc}, oof_high={"good": 0.6, **high})
    assert str(caught.value) == (
        "the submission is refused: 1 fault in 3 scores\n"
        f"  experiment bad has the mean AUC {auc} over its folds, {fault}\n"
        "next: nothing was written; leave it out, or train it until its state in invoke leaderboard is ok"
    )


def test_an_experiment_with_inverted_labels_is_refused() -> None:
    with pytest.raises(SubmissionError) as caught:
        build(NAMES, NAMES, [0.1, 0.2, 0.3], oof_auc={"good": 0.5, "bad": 0.3}, oof_high={"bad": 0.4999})
    assert str(caught.value) == (
        "the submission is refused: 1 fault in 3 scores\n"
        "  experiment bad has the mean AUC 0.3 over its folds, below 0.5 beyond chance: its labels are inverted\n"
        "next: nothing was written; set target 1 for fakes in the labels, then train again: "
        "invoke train-folds --restart"
    )


def test_direction_names_and_scores_are_checked_together() -> None:
    logits = np.linspace(-3, 3, 40)
    scores = 1 - sigmoid(logits)
    scores[7] = np.nan
    with pytest.raises(SubmissionError) as caught:
        build([*numbered(39), "new.jpg"], numbered(40), scores, logits, {"bad": 0.4}, {"bad": 0.45})
    assert caught.value.problems == (
        "new.jpg is missing",
        "39.jpg is not wanted",
        "7.jpg has the score nan",
        "experiment bad has the mean AUC 0.4 over its folds, below 0.5 beyond chance: its labels are inverted",
        "the scores are turned around: their rank correlation with the networks' mean logit is -1.000",
    )
    assert f"next: {caught.value.hint}" == HINT


@pytest.mark.parametrize(
    ("reference", "kind"),
    [(np.zeros(2), "float64 [2]"), (np.zeros((2, 3)), "float64 [2, 3]"), (np.array(list("abc")), "<U1 [3]")],
)
def test_a_reference_that_does_not_fit_is_refused(reference: np.ndarray, kind: str) -> None:
    with pytest.raises(SubmissionError) as caught:
        build(NAMES, NAMES, [0.1, 0.2, 0.3], reference)
    assert caught.value.problems == (f"the reference is {kind}, not float [3]",)


@pytest.mark.parametrize("count", [1, 2, 3, 26])
def test_few_images_do_not_show_a_direction(count: int) -> None:
    scores = np.linspace(0, 1, count)
    build(numbered(count), numbered(count), scores, -scores)


@pytest.mark.parametrize(
    "reference", [np.zeros(100), np.full(100, np.nan), np.full(100, np.inf), np.eye(100)[0], -np.eye(100)[0]]
)
def test_a_constant_reference_refuses_no_scores(reference: np.ndarray) -> None:
    build(numbered(100), numbered(100), np.linspace(0, 1, 100), reference)


@pytest.mark.parametrize("method", combine.METHODS)
def test_no_correct_ensemble_is_refused(method: str) -> None:
    """Members of any scale, offset and agreement, saturated and rounded too: 2,000 blends of 1 to 400 images."""
    rng = np.random.default_rng(1)
    for _ in range(2000):
        members, images = rng.integers(1, 7), rng.integers(1, 401)
        signal, noise = rng.normal(size=images), rng.normal(size=(members, images))
        share, scale = rng.uniform(size=(members, 1)), np.exp(rng.normal(0, 2, size=(members, 1)))
        logits = scale * (share * signal + (1 - share) * noise) + rng.normal(0, 5, size=(members, 1))
        logits = np.round(logits, rng.integers(0, 4)).astype(np.float32)
        weights = np.full(members, 1 / members)
        y_pred = Combination(method, weights).combine(logits, [1] * members)
        assert gate.describe_inversion(y_pred, logits.mean(0, dtype=np.float64)) == []


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=30), st.randoms(use_true_random=False))
def test_rank_correlation_is_spearmans(first: list[int], shuffle: object) -> None:
    second = list(first)
    shuffle.shuffle(second)  # type: ignore[attr-defined]
    ours = gate.compute_rank_correlation(np.array(first), np.array(second))
    assert ours == (0 if len(set(first)) == 1 else pytest.approx(spearmanr(first, second).statistic, abs=1e-12))


# --- warnings ------------------------------------------------------------------------------------------------------


def test_ties_by_rounding_are_a_warning() -> None:
    scores = [*np.linspace(0, 0.9, 297), 0.99999999912, 0.99999999934, 0.99999999934]
    assert build(numbered(300), numbered(300), scores).warnings == (
        "3 images have scores that differ, but not in the digits of the file: ties there",
    )


def test_many_equal_scores_are_a_warning() -> None:
    scores = [*np.linspace(0, 0.9, 80), *[1.0] * 20]
    assert build(numbered(100), numbered(100), scores).warnings == (
        "20 of 100 images share their score with another: 3.84% of all pairs are ties, which the AUC counts half",
    )


def test_a_few_equal_scores_are_no_warning() -> None:
    scores = [*np.linspace(0, 0.9, 998), 1.0, 1.0]
    assert build(numbered(1000), numbered(1000), scores).warnings == ()


# --- the text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        "\ufeff" + PLAIN,
        PLAIN[:-1],
        PLAIN + "\n",
        PLAIN + "\r\n\r\n",
        PLAIN.replace("a.jpg", '"a.jpg"'),
        PLAIN.replace("img_name", '"img_name"'),
        *(PLAIN.replace("0.25", number) for number in ("0.250", ".25", "+0.25", "25e-2", "2.5E-01", "00.25", '"0.25"')),
        PLAIN.replace("b.jpg,0", "b.jpg,-0.0"),
        PLAIN.replace("c.jpg,1", "c.jpg,1."),
    ],
)
def test_equivalent_texts_are_accepted(content: str) -> None:
    check(content)


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        ("", ["line 1: the header is '', not img_name,y_pred", *(f"{name} is missing" for name in NAMES)]),
        (PLAIN.replace("y_pred", "Y_pred"), ["line 1: the header is img_name,Y_pred, not img_name,y_pred"]),
        (PLAIN.replace("a.jpg,0.25", "a.jpg,0.26"), ["line 2: a.jpg has the score 0.26, not 0.25"]),
        (PLAIN.replace("0.25", "nan"), ["line 2: a.jpg has the score nan, which is not a number"]),
        (PLAIN.replace("0.25", " 0.25"), ["line 2: a.jpg has the score ' 0.25', which is not a number"]),
        (PLAIN.replace("0.25", ""), ["line 2: a.jpg has the score '', which is not a number"]),
        (PLAIN.replace("0.25", "0,25"), ["line 2: a.jpg has 3 fields, not 2"]),
        (PLAIN.replace("a.jpg", "a.jpg "), ["line 2: 'a.jpg ' is not wanted", "a.jpg is missing"]),
        (PLAIN + "a.jpg,0.25\n", ["line 5: a.jpg is a duplicate of line 2"]),
        (PLAIN.replace("\nb", "\n\nb"), ["line 3: this is blank"]),
        (
            PLAIN.replace("\nb", "\rb"),
            [
                "line 2: this is not CSV: new-line character seen in unquoted field",
                "a.jpg is missing",
                "b.jpg is missing",
            ],
        ),
        (
            PLAIN.replace("a.jpg", '"a".jpg'),
            ["line 2: this is not CSV: ',' expected after '\"'", "a.jpg is missing"],
        ),
        (
            "img_name,y_pred\nb.jpg,0\na.jpg,0.25\nc.jpg,1\n",
            ["line 2: b.jpg is in place of a.jpg", "line 3: a.jpg is in place of b.jpg"],
        ),
        (
            "img_name;y_pred\na.jpg,1.5,\n\nb.jpg,1\nx.jpg\n",
            [
                "line 1: the header is img_name;y_pred, not img_name,y_pred",
                "line 2: a.jpg has 3 fields, not 2",
                "line 3: this is blank",
                "line 4: b.jpg has the score 1, not 0",
                "line 5: x.jpg is not wanted",
                "line 5: x.jpg has 1 field, not 2",
                "c.jpg is missing",
            ],
        ),
    ],
)
def test_a_different_text_is_refused(content: str, problems: list[str]) -> None:
    with pytest.raises(SubmissionError) as caught:
        check(content)
    assert str(caught.value) == "\n".join(
        [
            f"the submission's text is refused: {len(problems)} fault{'s'[: len(problems) > 1]} in 3 images",
            *(f"  {problem}" for problem in problems),
            TEXT_HINT,
        ]
    )


def test_a_text_with_bad_scores_is_refused() -> None:
    with pytest.raises(SubmissionError) as caught:
        gate.check_submission_text(PLAIN, Template(NAMES, NAMES), np.array(NAMES), np.array([0.25, 0.0, np.nan]))
    assert str(caught.value) == (f"the submission is refused: 1 fault in 3 scores\n  c.jpg has the score nan\n{HINT}")


def test_a_wrongly_written_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "format_submission", lambda *_: PLAIN.replace("0.25", "0.2"))
    assert refusal(NAMES, NAMES, [0.25, 0.0, 1.0]) == (
        "the submission's text is refused: 1 fault in 3 images\n"
        f"  line 2: a.jpg has the score 0.2, not 0.25\n{TEXT_HINT}"
    )


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
    assert gate.read_template(path).ids == ["b.jpg", "a.jpg"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", " line 1: no column of images; the header is ''"),
        (b"a.jpg,0.5\n", " line 1: there is no header, but an image"),
        (b"b.jpg,0.5\n", " line 1: no column of images; the header is 'b.jpg,0.5'"),
        (b"img_name;y_pred\na.jpg;0\n", " line 1: no column of images; the header is 'img_name;y_pred'"),
        (b"md5,other,y_pred\na.jpg,a.jpg,0\n", " line 1: the columns md5 and other may both have the images"),
        (b"img_name,a,b\na.jpg,0,0\n", " line 1: the columns a and b may both have the scores"),
    ],
)
def test_a_template_with_unclear_columns_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "prediction.txt"
    path.write_bytes(content)
    with pytest.raises(SubmissionError) as caught:
        gate.read_template(path, lambda name: name if name == "a.jpg" else None)
    assert str(caught.value) == f"{path}{reason}\nnext: {gate.TEMPLATE_HINT}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"img_name\n\xe9.jpg\n", "not UTF-8 text"),
        (b"img_name\n" + b"a" * 200_000, "field larger than field limit (131072)"),
    ],
)
def test_a_template_that_is_not_csv_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "prediction.txt"
    path.write_bytes(content)
    with pytest.raises(SubmissionError) as caught:
        gate.read_template(path)
    assert str(caught.value) == f"{path} line 2: {reason}\nnext: {gate.TEMPLATE_HINT}"


def test_all_bad_rows_of_a_template_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "prediction.csv"
    path.write_text("y_pred,img_name\n0,a.jpg\n0\n0,\n0,b\u2028.jpg\n0,=cmd|x\n", encoding="utf-8")
    with pytest.raises(SubmissionError) as caught:
        gate.read_template(path)
    assert caught.value.problems == (
        "prediction.csv line 3: the image name '' is empty",
        "prediction.csv line 4: the image name '' is empty",
        "prediction.csv line 5: the image name 'b\\u2028.jpg' has a character that ends a line: U+2028",
        "prediction.csv line 6: the image name =cmd|x is a formula to a spreadsheet",
    )


@pytest.mark.parametrize(
    ("content", "columns", "ids"),
    [
        ("id,label\na,0.5\nb,0.5\n", ("id", "label"), ["a", "b"]),
        (
            "image_id,is_fake\ntestset/b.jpg,0\ntestset/a.jpg,0\n",
            ("image_id", "is_fake"),
            ["testset/b.jpg", "testset/a.jpg"],
        ),
        ("score,md5\n0,a.jpg\n0,gone.jpg\n", ("md5", "score"), ["a.jpg", "gone.jpg"]),
        ("photo\nb.jpg\n", ("photo", "y_pred"), ["b.jpg"]),
        ("note,y_pred,photo\nx,0,a.jpg\n", ("photo", "y_pred"), ["a.jpg"]),
    ],
)
def test_a_template_may_have_any_columns(
    tmp_path: Path, content: str, columns: tuple[str, str], ids: list[str]
) -> None:
    path = tmp_path / "sample_submission.csv"
    path.write_text(content)
    read = gate.read_template(path, ListedImages(["a.jpg", "b.jpg"], ["a.jpg", "b.jpg"], "testset", "").find)
    assert (read.columns, read.ids) == (columns, ids)
    assert [Path(image).name for image in read.images] == [f"{Path(one).stem}.jpg" for one in ids]


def test_a_submission_has_the_ids_and_the_columns_of_its_template() -> None:
    template = Template(["b", "a"], ["b.jpg", "a.jpg"], ("id", "label"))
    built = gate.build_submission(
        template, np.array(["a.jpg", "b.jpg"]), np.array([0.25, 1]), Direction(np.zeros(2), {})
    )
    assert built.content == "id,label\nb,1\na,0.25\n"


def test_an_image_without_an_id_and_an_id_without_an_image_are_refused() -> None:
    template = Template(["b", "a"], ["b.jpg", "a"], ("id", "label"))
    with pytest.raises(SubmissionError) as caught:
        gate.build_submission(template, np.array(["a.jpg", "b.jpg"]), np.array([0.25, 1]), Direction(np.zeros(2), {}))
    assert caught.value.problems == ("a is missing", "a.jpg is not wanted")


@pytest.mark.parametrize(
    ("header", "number", "content"),
    [
        (True, "%.3f", "img_name,y_pred\na.jpg,0.250\nb.jpg,0.000\nc.jpg,1.000\n"),
        (False, FLOAT, "a.jpg,0.25\nb.jpg,0\nc.jpg,1\n"),
    ],
)
def test_a_submission_has_the_requested_form(header: bool, number: str, content: str) -> None:
    template = Template(NAMES, NAMES, header=header, number=number)
    y_pred, direction = np.array([0.25, 0.0, 1.0]), Direction(np.zeros(3), {})
    assert gate.build_submission(template, np.array(NAMES), y_pred, direction).content == content
    with pytest.raises(SubmissionError):
        gate.check_submission_text(content.replace("0.25", "0.35"), template, np.array(NAMES), y_pred)


def test_scores_that_rounding_makes_equal_are_refused() -> None:
    template = Template(NAMES, NAMES, number="%.1f")
    with pytest.raises(SubmissionError) as caught:
        gate.build_submission(template, np.array(NAMES), np.array([0.51, 0.52, 0.53]), Direction(np.zeros(3), {}))
    assert caught.value.problems == ("every score is 0.51: the network does not separate images",)


def test_blanks_in_a_template_are_stripped_unless_an_image_has_them(tmp_path: Path) -> None:
    path = tmp_path / "prediction.csv"
    path.write_text("img_name\n a.jpg\n b.jpg\n\u3000c.jpg\n", encoding="utf-8")
    known = {" a.jpg", "b.jpg"}
    read = gate.read_template(path, lambda name: name if name in known else None)
    assert read.ids == [" a.jpg", "b.jpg", "\u3000c.jpg"]


def test_a_name_in_another_normalisation_is_another_name() -> None:
    composed, apart = (unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD"))
    message = refusal([composed], [apart], [0.5])
    reason = "a name that looks the same exists, in another Unicode normalisation (this one is NFC)"
    assert f"  {composed} is missing; {reason}\n  {apart} is not wanted\n" in message
