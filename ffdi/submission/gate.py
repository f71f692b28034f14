"""The gate in front of a submission file: refuses scores that are wrong for the competition; then nothing is written.

`build_submission` checks, in this order:

1. names and scores: every image of the template has one finite score in [0, 1];
2. the direction: scores rise with the logits of the networks, and no experiment is worse than chance;
3. the text of the file, parsed again: the rows of the template in their order, each with its score.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ffdi.core import csvs, names
from ffdi.core.errors import SubmissionError, format_are, format_count
from ffdi.core.names import shorten
from ffdi.evaluation import score_table
from ffdi.evaluation.score_table import FLOAT

HEADER = score_table.COLUMNS
"""The header of a submission without a template."""
TEMPLATE_HINT = "correct the template, or name another one with data.template in config.toml; nothing was written"
SAMPLED_ROWS = 50
"""Rows of a template that show which column has the images."""

TIED_PAIRS = 1e-4
"""Fraction of tied pairs that gives a warning; with classes of one size, ties change the AUC by half of it at most."""
LABELS_HINT = (
    "nothing was written; set target 1 for fakes in the labels, then train again: invoke train-folds --restart"
)
CHANCE_HINT = "nothing was written; leave it out, or train it until its state in invoke leaderboard is ok"
SCORES_HINT = "nothing was written; y_pred must rise with the logits: inspect the ensemble, ensemble.method first"


@dataclass(frozen=True)
class Submission:
    """A submission that passed all checks.

    Attributes:
        content: the text of the file.
        warnings: for the user, one sentence each.
    """

    content: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Template:
    """The rows and the form of a submission.

    Attributes:
        ids: the images in the order of the rows, as the competition names them.
        images: the image name of each id; an id without an image stands for itself.
        columns: the header.
        header: whether the file begins with the header.
        number: the format of a score.
    """

    ids: list[str]
    images: list[str]
    columns: tuple[str, str] = HEADER
    header: bool = True
    number: str = FLOAT

    def name_ids(self, img_name: np.ndarray) -> np.ndarray:
        """The id of each image, str [N]; an image without an id keeps its name, and a wrong array its content."""
        if img_name.ndim != 1 or img_name.dtype.kind != "U" or self.ids == self.images:
            return img_name
        known = dict(zip(self.images, self.ids, strict=True))
        return np.array([known.get(name, name) for name in img_name.tolist()], dtype=str)

    def round_scores(self, y_pred: np.ndarray) -> list[float]:
        """Rounds scores to the digits of the file."""
        return [float(self.number % score) for score in y_pred.tolist()]


def read_template(path: Path, find: Callable[[str], str | None] = lambda _: None) -> Template:
    """Reads a submission template: the images in its order, and the names of its columns.

    Args:
        path: the template: a column of images under any name, and at most one column of scores.
        find: the image that a field names; None if there is none. Blanks around a name are part of it only if an image
            has them.

    Raises:
        SubmissionError: the template cannot be read, its columns are unclear, or it has bad rows; lists all of them.
    """
    rows = list(csvs.read_csv(path, SubmissionError, TEMPLATE_HINT))
    header = [field.strip(names.BLANKS) for field in rows.pop(0)[1]] if rows else []
    column = _find_image_column(path, header, [fields for _, fields in rows[:SAMPLED_ROWS]], find)
    scores = [name for place, name in enumerate(header) if place != column]
    if len(scores) > 1 and HEADER[1] not in scores:
        raise SubmissionError(
            f"{path} line 1: the columns {' and '.join(scores)} may both have the scores", hint=TEMPLATE_HINT
        )
    ids, images, problems = list[str](), list[str](), list[str]()
    for line, fields in rows:
        field = fields[column] if column < len(fields) else ""
        image = find(field)
        name = field if image == field else field.strip(names.BLANKS)
        if fault := names.find_fault(name) if name else "is empty":
            problems.append(f"{path.name} line {line}: the image name {names.quote(name)} {fault}")
        ids.append(name)
        images.append(image or name)
    if problems:
        raise SubmissionError(
            f"bad rows in the template {path}: {len(problems)}", problems=problems, hint=TEMPLATE_HINT
        )
    score = HEADER[1] if not scores or HEADER[1] in scores else scores[0]
    return Template(ids, images, (header[column], score))


def _find_image_column(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], find: Callable[[str], str | None]
) -> int:
    """The place of the column of images: `img_name`, else the only column whose fields name images."""
    if HEADER[0] in header:
        return header.index(HEADER[0])
    if any(find(field) is not None for field in header):
        raise SubmissionError(f"{path} line 1: there is no header, but an image", hint=TEMPLATE_HINT)
    places = [
        place
        for place in range(len(header))
        if any(place < len(fields) and find(fields[place]) is not None for fields in rows)
    ]
    if len(places) != 1:
        fault = "the columns {} may both have the images" if places else "no column of images; the header is '{}'"
        shown = " and ".join(header[place] for place in places) if places else ",".join(header)
        raise SubmissionError(f"{path} line 1: {fault.format(shown)}", hint=TEMPLATE_HINT)
    return places[0]


def build_submission(template: Template, img_name: np.ndarray, y_pred: np.ndarray, direction: Direction) -> Submission:
    """Builds a submission in the order of the template, after all checks.

    Args:
        template: the images of the competition, from its template or its image list.
        img_name: str [N], the scored images.
        y_pred: float [N], the probability of a fake.
        direction: evidence for the direction of the scores.

    Raises:
        SubmissionError: lists all faults: missing, extra and duplicate names; scores that are not finite, outside
            [0, 1], all equal, or inverted; experiments with an AUC below 0.5.
    """
    ids = template.name_ids(img_name)
    faults = find_faults(template, ids, y_pred)
    inverted, useless = direction.find_inverted(), direction.find_useless()
    if problems := faults + inverted + useless + describe_inversion(y_pred, np.asarray(direction.reference)):
        hint = NAMES_HINT if faults else LABELS_HINT if inverted else CHANCE_HINT if useless else SCORES_HINT
        raise _build_refusal("the submission", format_count(img_name.size, "score"), problems, hint)
    score = dict(zip(ids.tolist(), y_pred.tolist(), strict=True))
    content = format_submission(template, [score[one] for one in template.ids])
    check_submission_text(content, template, ids, y_pred)
    return Submission(content, _describe_warnings(template, y_pred))


def format_submission(template: Template, y_pred: Sequence[float]) -> str:
    """The text of a submission with the scores of `template.ids`."""
    rows = [(one, template.number % score) for one, score in zip(template.ids, y_pred, strict=True)]
    return csvs.format_csv([template.columns, *rows] if template.header else rows)


def _describe_warnings(template: Template, y_pred: np.ndarray) -> tuple[str, ...]:
    ties = pd.Series(y_pred.astype(np.float64)).groupby(template.round_scores(y_pred))
    images, merged = ties.size(), ties.nunique() > 1
    pairs = len(y_pred) * (len(y_pred) - 1) / 2
    share = (images * (images - 1) / 2).sum() / pairs if pairs else 0.0
    lost = (
        f"{format_count(images[merged].sum(), 'image')} have scores that differ, but not in the digits "
        "of the file: ties there"
    )
    tied = (
        f"{images[images > 1].sum()} of {format_count(len(y_pred), 'image')} share their score with another: "
        f"{share:.2%} of all pairs "
        "are ties, which the AUC counts half"
    )
    return (*([lost] if merged.any() else []), *([tied] if share >= TIED_PAIRS else []))


MIN_DEVIATIONS = 5.0
"""Standard deviations below 0 from which on a rank correlation shows inverted scores.

By chance the rank correlation of N images is 0, with a deviation of 1 / sqrt(N - 1), with or without ties. So 26 images
or fewer never show it. Means of probabilities and of logits rise with the logit of every member: unless members
contradict each other, an ensemble has a rank correlation of at least 0.
"""


@dataclass(frozen=True)
class Direction:
    """Evidence for the direction of the scores, independent of the scores.

    Attributes:
        reference: float [N], the weighted mean of the members' logits for the scored images.
        oof_auc: out-of-fold AUC by experiment, as the mean over folds: offsets between the networks of the folds can
            lower a pooled AUC below 0.5.
        oof_high: upper end of its 95 % interval by experiment; an experiment without an interval is missing.
    """

    reference: np.ndarray
    oof_auc: Mapping[str, float]
    oof_high: Mapping[str, float] = field(default_factory=dict)

    def find_inverted(self) -> list[str]:
        """Returns a line for each experiment with an AUC below 0.5, beyond chance."""
        return [
            f"experiment {name} has the mean AUC {auc} over its folds, below 0.5 beyond chance: its labels are inverted"
            for name, auc in self.oof_auc.items()
            if self.oof_high.get(name, 1.0) < 0.5
        ]

    def find_useless(self) -> list[str]:
        """Returns a line for each other experiment that is no better than chance."""
        return [
            f"experiment {name} has the mean AUC {auc} over its folds, "
            + (
                "below 0.5, and too few groups or images for an interval: check that target 1 means fake"
                if auc < 0.5 and name not in self.oof_high
                else "no better than chance: it has learned nothing"
            )
            for name, auc in self.oof_auc.items()
            if not auc >= 0.5 and not self.oof_high.get(name, 1.0) < 0.5  # NaN is refused too
        ]


def describe_inversion(y_pred: np.ndarray, reference: np.ndarray) -> list[str]:
    """Returns a line if scores [N] clearly fall with a rising reference [N]."""
    if not is_numeric(y_pred):
        return []
    if not is_numeric(reference) or reference.shape != y_pred.shape:
        return [f"the reference is {describe_array(reference)}, not float {list(y_pred.shape)}"]
    known = ~(np.isnan(reference) | np.isnan(y_pred))
    correlation = compute_rank_correlation(reference[known], y_pred[known])
    if correlation * np.sqrt(max(known.sum() - 1, 0)) >= -MIN_DEVIATIONS:
        return []
    return [f"the scores are turned around: their rank correlation with the networks' mean logit is {correlation:.3f}"]


def compute_rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Computes Spearman's rank correlation of two float [N], in [-1, 1]; ties get the mean of their ranks.

    It is 0, so shows no direction, if a side is constant or there are fewer than two images.
    """
    one, other = (pd.Series(side.astype(np.float64)).rank().to_numpy() for side in (first, second))
    one, other = one - (len(one) + 1) / 2, other - (len(other) + 1) / 2
    scale = np.sqrt((one @ one) * (other @ other))
    return float(np.clip(one @ other / scale, -1, 1)) if scale > 0 else 0.0


NAMES_HINT = "nothing was written; check the list of test images and the template under the data folder"


def _build_refusal(refused: str, checked: str, problems: list[str], hint: str) -> SubmissionError:
    faults = format_count(len(problems), "fault")
    return SubmissionError(f"{refused} is refused: {faults} in {checked}", problems=problems, hint=hint)


def find_faults(template: Template, ids: np.ndarray, y_pred: np.ndarray) -> list[str]:
    """Lists all faults of names and scores, without their direction."""
    if shapeless := _find_shape_faults(template.ids, ids, y_pred):
        return shapeless
    return _find_name_faults(template.ids, ids.tolist()) + _find_score_faults(template, ids, y_pred)


def _find_shape_faults(expected: list[str], img_name: np.ndarray, y_pred: np.ndarray) -> list[str]:
    """Lists wrong types and shapes; with such faults no other check is possible."""
    problems = [] if is_numeric(y_pred) else [f"the scores are {describe_array(y_pred)}, not float [N]"]
    if img_name.ndim != 1:
        return [*problems, f"the names are {describe_array(img_name)}, not str [N]"]
    names = [*expected, *img_name.tolist()]
    problems += [f"{name!r} is not an image name" for name in names if not isinstance(name, str)]
    if not problems and len(img_name) != len(y_pred):
        problems.append(f"there {format_are(len(img_name), 'name')} for {format_count(len(y_pred), 'score')}")
    return problems


def is_numeric(values: np.ndarray) -> bool:
    """True for numbers [N]."""
    return values.ndim == 1 and values.dtype.kind in "fiu"


def describe_array(values: np.ndarray) -> str:
    """Returns the type and shape of an array, for an error."""
    return f"{values.dtype} {list(values.shape)}"


def _find_name_faults(expected: list[str], scored: list[str]) -> list[str]:
    wanted, given = Counter(expected), Counter(scored)
    missing, extra = (
        [name for name in these if name not in those] for these, those in ((wanted, given), (given, wanted))
    )
    known = names.normalize_names(extra)
    return (
        ([] if expected else ["no image is wanted: the template is empty"])
        + [f"{shorten(name)} is wanted {format_count(count, 'time')}" for name, count in wanted.items() if count > 1]
        + [f"{shorten(name)} is scored {format_count(count, 'time')}" for name, count in given.items() if count > 1]
        + [f"{shorten(name)} is missing{names.describe_lookalike(name, known)}" for name in missing]
        + [f"{shorten(name)} is not wanted" for name in extra]
        + [f"{shorten(name)} {fault}" for name in wanted if (fault := names.find_fault(name))]
    )


def _find_score_faults(template: Template, ids: np.ndarray, y_pred: np.ndarray) -> list[str]:
    finite = np.isfinite(y_pred)
    outside = finite & ((y_pred < 0) | (y_pred > 1))
    problems = [f"{shorten(ids[row])} has the score {y_pred[row]}" for row in np.flatnonzero(~finite)]
    problems += [f"{shorten(ids[row])} has the score {y_pred[row]}, outside [0, 1]" for row in np.flatnonzero(outside)]
    written = set(template.round_scores(y_pred))  # smaller differences are lost in the file
    if not problems and len(y_pred) > 1 and len(written) == 1:
        problems.append(f"every score is {y_pred[0]}: the network does not separate images")
    return problems


NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""A number in every CSV reader; float() also accepts '1_0', ' 1', 'nan' and Arabic digits."""
TEXT_HINT = "do not submit this file; write it again: invoke ensemble-submit"


def check_submission_text(content: str, template: Template, ids: np.ndarray, y_pred: np.ndarray) -> None:
    """Parses the text of a submission, and compares its rows with the template and the computed scores.

    Accepted: CRLF, a byte-order mark, a missing last newline, blank lines at the end, quotes around a field, and other
    spellings of the same number (0.50, 5e-1). Refused: another order of rows, because a competition may ignore names.

    Args:
        content: the text of the file.
        template: the images of the competition.
        ids: str [N], the scored images.
        y_pred: float [N], their scores.

    Raises:
        SubmissionError: lists all faults by line and image; or the faults of names and scores, as `build_submission`.
    """
    if faults := find_faults(template, ids, y_pred):
        raise _build_refusal("the submission", format_count(ids.size, "score"), faults, NAMES_HINT)
    written = {one: template.number % score for one, score in zip(ids.tolist(), y_pred.tolist(), strict=True)}
    rows, problems = _parse_rows(content.removeprefix("\ufeff"))
    if template.header:
        header = rows.pop(0)[1] if rows and rows[0][0] == 1 else []
        if tuple(header) != template.columns:
            problems.append((1, f"the header is {shorten(','.join(header))}, not {','.join(template.columns)}"))
    problems += _find_row_faults(rows, written)
    named = {fields[0] for _, fields in rows}
    missing = [f"{shorten(name)} is missing" for name in template.ids if name not in named]
    problems += [] if problems or missing else _find_misplaced(rows, template.ids)
    if problems or missing:
        lines = [f"line {line}: {problem}" for line, problem in sorted(problems, key=lambda one: one[0])] + missing
        raise _build_refusal("the submission's text", format_count(len(template.ids), "image"), lines, TEXT_HINT)


Lines = list[tuple[int, list[str]]]
"""The first line of each row, and its fields."""
Faults = list[tuple[int, str]]


def _parse_rows(content: str) -> tuple[Lines, Faults]:
    """Parses the rows of a CSV, without blank lines at its end; returns them with the lines that are not CSV."""
    # newline="\n" lets csv refuse a lone \r: only some readers start a row there
    reader = csv.reader(io.StringIO(content, newline="\n"), strict=True)
    rows: Lines = []
    faults: Faults = []
    while True:
        line = reader.line_num + 1
        try:
            rows.append((line, next(reader)))
        except StopIteration:
            break
        except csv.Error as error:  # the reader continues with the next line
            fault = str(error).partition(" - ")[0]  # the rest depends on the version of Python
            faults.append((line, f"this is not CSV: {fault}"))
    while rows and not rows[-1][1]:
        rows.pop()
    faults += [(line, "this is blank") for line, fields in rows if not fields]
    return [(line, fields) for line, fields in rows if fields], faults


def _find_row_faults(rows: Lines, written: Mapping[str, str]) -> Faults:
    faults: Faults = []
    first_line: dict[str, int] = {}
    for line, (name, *scores) in rows:
        shown = shorten(name)
        if name not in written:
            faults.append((line, f"{shown} is not wanted"))
        elif name in first_line:
            faults.append((line, f"{shown} is a duplicate of line {first_line[name]}"))
        first_line.setdefault(name, line)
        if len(scores) != 1:
            faults.append((line, f"{shown} has {format_count(len(scores) + 1, 'field')}, not 2"))
        elif not NUMBER.fullmatch(scores[0]):
            faults.append((line, f"{shown} has the score {shorten(scores[0])}, which is not a number"))
        elif name in written and float(scores[0]) != float(written[name]):
            faults.append((line, f"{shown} has the score {shorten(scores[0])}, not {written[name]}"))
    return faults


def _find_misplaced(rows: Lines, expected: list[str]) -> Faults:
    return [
        (line, f"{shorten(name)} is in place of {shorten(wanted)}")
        for (line, (name, *_)), wanted in zip(rows, expected, strict=True)
        if name != wanted
    ]
