"""Reads a submission's text as the competition would."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping

import numpy as np

from ffdi.core.errors import SubmissionError
from ffdi.core.names import shortened
from ffdi.evaluation.score_table import FLOAT
from ffdi.submission import misfits

HEADER = ("img_name", "y_pred")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""What every reader of CSV takes for a number; float() alone would take '1_0', ' 1', 'nan' and Arabic digits too."""
OF_TEXT = "do not submit this file; write it anew: invoke ensemble-submit"


def check(content: str, expected: list[str], img_name: np.ndarray, y_pred: np.ndarray) -> None:
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
    if faults := misfits.find(expected, img_name, y_pred):
        raise misfits.refusal(img_name.size, faults, misfits.OF_NAMES)
    written = {name: FLOAT % score for name, score in zip(img_name.tolist(), y_pred.tolist(), strict=True)}
    rows, problems = _rows(content.removeprefix("\ufeff"))
    header = rows.pop(0)[1] if rows and rows[0][0] == 1 else []
    if tuple(header) != HEADER:
        problems.append((1, f"the header is {shortened(','.join(header))}, not {','.join(HEADER)}"))
    problems += _row_faults(rows, written)
    named = {fields[0] for _, fields in rows}
    missing = [f"{shortened(name)} is missing" for name in expected if name not in named]
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
        shown = shortened(name)
        if name not in written:
            faults.append((line, f"{shown} is not wanted"))
        elif name in first_line:
            faults.append((line, f"{shown} stands in line {first_line[name]} already"))
        first_line.setdefault(name, line)
        if len(scores) != 1:
            faults.append((line, f"{shown} has {len(scores) + 1} fields, not 2"))
        elif not NUMBER.fullmatch(scores[0]):
            faults.append((line, f"{shown} has the score {shortened(scores[0])}, which is no number"))
        elif name in written and float(scores[0]) != float(written[name]):
            faults.append((line, f"{shown} has the score {shortened(scores[0])}, not {written[name]}"))
    return faults


def _misplaced(rows: Lines, expected: list[str]) -> Faults:
    return [
        (line, f"{shortened(name)} stands where {shortened(wanted)} is wanted")
        for (line, (name, *_)), wanted in zip(rows, expected, strict=True)
        if name != wanted
    ]
