"""What keeps names and scores from being a submission."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from ffdi.core import names
from ffdi.core.errors import SubmissionError
from ffdi.core.names import shorten
from ffdi.evaluation.score_table import FLOAT

OF_NAMES = "nothing was written; check the list of test images and the template under the data folder"


def refuse(count: int, problems: list[str], hint: str) -> SubmissionError:
    """The error for `count` scores with these problems."""
    faults = "1 fault" if len(problems) == 1 else f"{len(problems)} faults"
    what = f"the submission is refused: {faults} in {count} scores"
    return SubmissionError(what, problems=problems, hint=hint)


def find_faults(expected: list[str], img_name: np.ndarray, y_pred: np.ndarray) -> list[str]:
    """Everything that keeps names and scores from being a submission."""
    if shapeless := _shapeless(expected, img_name, y_pred):
        return shapeless
    return _names(expected, img_name.tolist()) + _scores(img_name, y_pred)


def _shapeless(expected: list[str], img_name: np.ndarray, y_pred: np.ndarray) -> list[str]:
    """What is no list of names or of scores, so that nothing more can be said about it."""
    problems = [] if are_numbers(y_pred) else [f"the scores are {name_kind(y_pred)}, not float [N]"]
    if img_name.ndim != 1:
        return [*problems, f"the names are {name_kind(img_name)}, not str [N]"]
    names = [*expected, *img_name.tolist()]
    problems += [f"{name!r} is no image name" for name in names if not isinstance(name, str)]
    if not problems and len(img_name) != len(y_pred):
        problems.append(f"there are {len(img_name)} names for {len(y_pred)} scores")
    return problems


def are_numbers(values: np.ndarray) -> bool:
    """Whether these are numbers [N]."""
    return values.ndim == 1 and values.dtype.kind in "fiu"


def name_kind(values: np.ndarray) -> str:
    """What an array is, in an error."""
    return f"{values.dtype} {list(values.shape)}"


def _names(expected: list[str], scored: list[str]) -> list[str]:
    wanted, given = Counter(expected), Counter(scored)
    missing, extra = (
        [name for name in these if name not in those] for these, those in ((wanted, given), (given, wanted))
    )
    twins = names.normalize_all(extra)
    return (
        ([] if expected else ["no image is wanted: the template is empty"])
        + [f"{shorten(name)} is wanted {count} times" for name, count in wanted.items() if count > 1]
        + [f"{shorten(name)} is scored {count} times" for name, count in given.items() if count > 1]
        + [f"{shorten(name)} is missing{names.twin(name, twins)}" for name in missing]
        + [f"{shorten(name)} is not wanted" for name in extra]
        + [f"{shorten(name)} {fault}" for name in wanted if (fault := names.find_fault(name))]
    )


def _scores(img_name: np.ndarray, y_pred: np.ndarray) -> list[str]:
    finite = np.isfinite(y_pred)
    outside = finite & ((y_pred < 0) | (y_pred > 1))
    problems = [f"{shorten(img_name[row])} has the score {y_pred[row]}" for row in np.flatnonzero(~finite)]
    problems += [
        f"{shorten(img_name[row])} has the score {y_pred[row]}, outside [0, 1]" for row in np.flatnonzero(outside)
    ]
    written = set(as_written(y_pred))  # what differs less is the same in the file
    if not problems and len(y_pred) > 1 and len(written) == 1:
        problems.append(f"every score is {y_pred[0]}: the network tells nothing apart")
    return problems


def as_written(y_pred: np.ndarray) -> list[float]:
    """The scores as the file has them: nine digits."""
    return [float(FLOAT % score) for score in y_pred.tolist()]


HEADER = ("img_name", "y_pred")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""What every reader of CSV takes for a number; float() alone would take '1_0', ' 1', 'nan' and Arabic digits too."""
OF_TEXT = "do not submit this file; write it anew: invoke ensemble-submit"


def check_text(content: str, expected: list[str], img_name: np.ndarray, y_pred: np.ndarray) -> None:
    """Reads a submission as the competition would: `expected` in its order, each with the score computed for it.

    Harmless are CRLF, a byte-order mark, a last newline that is missing, blank lines at the end, quotes around a field,
    and other spellings of the number that nine digits give (0.50, 5e-1). Another order of the rows is not: nobody says
    whether the competition joins by name.

    Args:
        content: the text of the file.
        expected: the names that the competition wants scored.
        img_name: str [N], the images that were scored.
        y_pred: float [N], their scores.

    Raises:
        SubmissionError: lists everything that is wrong, by line and image; or what keeps names and scores from being
            a submission at all, as `build` does.
    """
    if faults := find_faults(expected, img_name, y_pred):
        raise refuse(img_name.size, faults, OF_NAMES)
    written = {name: FLOAT % score for name, score in zip(img_name.tolist(), y_pred.tolist(), strict=True)}
    rows, problems = _rows(content.removeprefix("\ufeff"))
    header = rows.pop(0)[1] if rows and rows[0][0] == 1 else []
    if tuple(header) != HEADER:
        problems.append((1, f"the header is {shorten(','.join(header))}, not {','.join(HEADER)}"))
    problems += _row_faults(rows, written)
    named = {fields[0] for _, fields in rows}
    missing = [f"{shorten(name)} is missing" for name in expected if name not in named]
    problems += [] if problems or missing else _misplaced(rows, expected)
    if problems or missing:
        lines = [f"line {line}: {problem}" for line, problem in sorted(problems, key=lambda one: one[0])] + missing
        raise SubmissionError(
            f"the submission's text is refused: {len(lines)} faults for {len(expected)} images",
            problems=lines,
            hint=OF_TEXT,
        )


Lines = list[tuple[int, list[str]]]
"""The line that a row begins in, and its fields."""
Faults = list[tuple[int, str]]


def _rows(content: str) -> tuple[Lines, Faults]:
    """The rows of a CSV less the blank ones at its end, and what is no CSV."""
    # lines end at \n alone, so that csv refuses a lone \r: some readers begin a row there, some do not
    reader = csv.reader(io.StringIO(content, newline="\n"), strict=True)
    rows: Lines = []
    faults: Faults = []
    while True:
        line = reader.line_num + 1
        try:
            rows.append((line, next(reader)))
        except StopIteration:
            break
        except csv.Error as error:  # the reader goes on with the next line
            fault = str(error).partition(" - ")[0]  # advice to programmers follows, other in every Python
            faults.append((line, f"this is no CSV: {fault}"))
    while rows and not rows[-1][1]:
        rows.pop()
    faults += [(line, "this is blank") for line, fields in rows if not fields]
    return [(line, fields) for line, fields in rows if fields], faults


def _row_faults(rows: Lines, written: Mapping[str, str]) -> Faults:
    faults: Faults = []
    first_line: dict[str, int] = {}
    for line, (name, *scores) in rows:
        shown = shorten(name)
        if name not in written:
            faults.append((line, f"{shown} is not wanted"))
        elif name in first_line:
            faults.append((line, f"{shown} stands in line {first_line[name]} already"))
        first_line.setdefault(name, line)
        if len(scores) != 1:
            faults.append((line, f"{shown} has {len(scores) + 1} fields, not 2"))
        elif not NUMBER.fullmatch(scores[0]):
            faults.append((line, f"{shown} has the score {shorten(scores[0])}, which is no number"))
        elif name in written and float(scores[0]) != float(written[name]):
            faults.append((line, f"{shown} has the score {shorten(scores[0])}, not {written[name]}"))
    return faults


def _misplaced(rows: Lines, expected: list[str]) -> Faults:
    return [
        (line, f"{shorten(name)} stands where {shorten(wanted)} is wanted")
        for (line, (name, *_)), wanted in zip(rows, expected, strict=True)
        if name != wanted
    ]
