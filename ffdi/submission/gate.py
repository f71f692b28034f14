"""The gate between scores and a submission: what does not fit the competition is refused, and nothing is written."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ffdi.core import csvs, names
from ffdi.core.errors import SubmissionError
from ffdi.evaluation import score_table
from ffdi.submission import misfits
from ffdi.submission.direction import Direction, turned
from ffdi.submission.readback import check

NAME = "img_name"
OF_TEMPLATE = "mend the template, or name another one with data.template in config.toml; nothing was written"

TIED_PAIRS = 1e-4
"""A share of pairs of images; with classes of one size, fewer ties move the AUC by no more than half of that."""
OF_LABELS = "nothing was written; make target 1 mean fake in the labels, then train anew: invoke train-folds --fresh"
OF_CHANCE = "nothing was written; leave it out, or train it until the leaderboard calls it well"
OF_SCORES = "nothing was written; y_pred must rise with the logits: look at what combines them, ensemble.method first"


@dataclass(frozen=True)
class Submission:
    """What may be submitted.

    Attributes:
        content: the text of the file.
        warnings: what a person should know before it is submitted, one sentence each.
    """

    content: str
    warnings: tuple[str, ...]


def read_template(path: Path, images: Collection[str] = ()) -> list[str]:
    """The image names of a submission template, in its order.

    Args:
        path: the template.
        images: which are scored: blanks around a name belong to it only where one of these is called so.

    Raises:
        SubmissionError: it cannot be read, has no column img_name, or has rows that are refused, all of them at once.
    """
    rows = csvs.rows(path, SubmissionError, OF_TEMPLATE)
    header = [field.strip(names.BLANKS) for field in next(rows, (1, []))[1]]
    if NAME not in header:
        raise SubmissionError(
            f"{path} line 1: no column img_name; the header is '{','.join(header)}'", hint=OF_TEMPLATE
        )
    column, known, found, problems = header.index(NAME), set(images), list[str](), list[str]()
    for line, fields in rows:
        name = fields[column] if column < len(fields) else ""
        name = name if name in known else name.strip(names.BLANKS)
        if fault := names.fault(name) if name else "is empty":
            problems.append(f"{path.name} line {line}: the image name {names.quoted(name)} {fault}")
        found.append(name)
    if problems:
        raise SubmissionError(f"bad rows in the template {path}: {len(problems)}", problems=problems, hint=OF_TEMPLATE)
    return found


def build(expected: list[str], img_name: np.ndarray, y_pred: np.ndarray, direction: Direction) -> Submission:
    """A submission in the order of `expected`; its text has been read back by `check`.

    Args:
        expected: the names that the competition wants scored, from its template or its list of images.
        img_name: str [N], the images that were scored.
        y_pred: float [N], the probability of a fake.
        direction: what is known about which way is fake.

    Raises:
        SubmissionError: lists everything that is wrong: names missing, extra or twice, scores that are not finite,
            outside [0, 1], all the same, or turned around; experiments whose AUC lies below 0.5.
    """
    unfit, inverted, useless = misfits.find(expected, img_name, y_pred), direction.inverted(), direction.useless()
    if problems := unfit + inverted + useless + turned(y_pred, np.asarray(direction.reference)):
        hint = misfits.OF_NAMES if unfit else OF_LABELS if inverted else OF_CHANCE if useless else OF_SCORES
        raise misfits.refusal(img_name.size, problems, hint)
    score = dict(zip(img_name.tolist(), y_pred.tolist(), strict=True))
    content = score_table.to_csv(np.array(expected), np.array([score[name] for name in expected]))
    check(content, expected, img_name, y_pred)
    return Submission(content, _warnings(y_pred))


def _warnings(y_pred: np.ndarray) -> tuple[str, ...]:
    ties = pd.Series(y_pred.astype(np.float64)).groupby(misfits.as_written(y_pred))
    images, merged = ties.size(), ties.nunique() > 1
    pairs = len(y_pred) * (len(y_pred) - 1) / 2
    share = (images * (images - 1) / 2).sum() / pairs if pairs else 0.0
    lost = f"{images[merged].sum()} images have scores that differ, but not in the nine digits of the file: ties there"
    tied = (
        f"{images[images > 1].sum()} of {len(y_pred)} images share their score with another: {share:.2%} of all pairs "
        "are ties, which the AUC counts half"
    )
    return (*([lost] if merged.any() else []), *([tied] if share >= TIED_PAIRS else []))
