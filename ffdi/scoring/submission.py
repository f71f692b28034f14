"""The gate between scores and a submission: what does not fit the competition is refused, and nothing is written."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np

from ffdi.errors import SubmissionError
from ffdi.scoring.ledger import FLOAT, scores_csv

HEADER = ("img_name", "y_pred")


def read_template(path: Path) -> list[str]:
    """The image names of a submission template, in its order.

    Raises:
        SubmissionError: it cannot be read, or has no column img_name.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = [field.strip() for field in next(rows, [])]
            if HEADER[0] not in header:
                raise SubmissionError(f"{path} line 1: no column img_name; the header is '{','.join(header)}'")
            column = header.index(HEADER[0])
            return [row[column].strip() for row in rows if len(row) > column]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SubmissionError(f"the template {path} cannot be read: {error}") from None


def build(expected: list[str], img_name: np.ndarray, y_pred: np.ndarray) -> str:
    """The content of a submission, in the order of `expected`.

    Args:
        expected: the names that the competition wants scored, from its template or its list of images.
        img_name: str [N], the images that were scored.
        y_pred: float [N], the probability of a fake.

    Raises:
        SubmissionError: lists everything that is wrong: names missing, extra or twice, scores that are not
            finite, outside [0, 1], or all the same.
    """
    problems = _names(expected, img_name.tolist()) + _scores(img_name, y_pred)
    if problems:
        raise SubmissionError(
            f"the submission is refused: {len(problems)} faults in {len(img_name)} scores",
            problems=problems,
            hint="nothing was written; check the list of test images and the template under the data folder",
        )
    score = dict(zip(img_name.tolist(), y_pred.tolist(), strict=True))
    return scores_csv(np.array(expected), np.array([score[name] for name in expected]))


def _names(expected: list[str], scored: list[str]) -> list[str]:
    wanted, given = Counter(expected), Counter(scored)
    return (
        [f"{name} is wanted {count} times" for name, count in wanted.items() if count > 1]
        + [f"{name} is scored {count} times" for name, count in given.items() if count > 1]
        + [f"{name} is missing" for name in wanted if name not in given]
        + [f"{name} is not wanted" for name in given if name not in wanted]
    )


def _scores(img_name: np.ndarray, y_pred: np.ndarray) -> list[str]:
    finite = np.isfinite(y_pred)
    outside = finite & ((y_pred < 0) | (y_pred > 1))
    problems = [f"{name} has the score {score}" for name, score in zip(img_name[~finite], y_pred[~finite], strict=True)]
    problems += [
        f"{name} has the score {score}, outside [0, 1]"
        for name, score in zip(img_name[outside], y_pred[outside], strict=True)
    ]
    written = {FLOAT % score for score in y_pred.tolist()}  # what differs less is the same in the file
    if not problems and len(y_pred) > 1 and len(written) == 1:
        problems.append(f"every score is {y_pred[0]}: the network tells nothing apart")
    return problems
