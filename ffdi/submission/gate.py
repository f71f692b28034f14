"""The gate between scores and a submission: what does not fit the competition is refused, and nothing is written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ffdi.core import csvs, names
from ffdi.core.errors import SubmissionError
from ffdi.evaluation import score_table
from ffdi.submission import validation
from ffdi.submission.validation import check_text

NAME = "img_name"
OF_TEMPLATE = "mend the template, or name another one with data.template in config.toml; nothing was written"

TIED_PAIRS = 1e-4
"""A share of pairs of images; with classes of one size, fewer ties move the AUC by no more than half of that."""
OF_LABELS = "nothing was written; make target 1 mean fake in the labels, then train anew: invoke train-folds --restart"
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
    rows = csvs.read_csv(path, SubmissionError, OF_TEMPLATE)
    header = [field.strip(names.BLANKS) for field in next(rows, (1, []))[1]]
    if NAME not in header:
        raise SubmissionError(
            f"{path} line 1: no column img_name; the header is '{','.join(header)}'", hint=OF_TEMPLATE
        )
    column, known, found, problems = header.index(NAME), set(images), list[str](), list[str]()
    for line, fields in rows:
        name = fields[column] if column < len(fields) else ""
        name = name if name in known else name.strip(names.BLANKS)
        if fault := names.find_fault(name) if name else "is empty":
            problems.append(f"{path.name} line {line}: the image name {names.quote(name)} {fault}")
        found.append(name)
    if problems:
        raise SubmissionError(f"bad rows in the template {path}: {len(problems)}", problems=problems, hint=OF_TEMPLATE)
    return found


def build(expected: list[str], img_name: np.ndarray, y_pred: np.ndarray, direction: Direction) -> Submission:
    """A submission in the order of `expected`; its text has been read back by `validation.check_text`.

    Args:
        expected: the names that the competition wants scored, from its template or its list of images.
        img_name: str [N], the images that were scored.
        y_pred: float [N], the probability of a fake.
        direction: what is known about which way is fake.

    Raises:
        SubmissionError: lists everything that is wrong: names missing, extra or twice, scores that are not finite,
            outside [0, 1], all the same, or turned around; experiments whose AUC lies below 0.5.
    """
    unfit = validation.find_faults(expected, img_name, y_pred)
    inverted, useless = direction.inverted(), direction.useless()
    if problems := unfit + inverted + useless + describe_inversion(y_pred, np.asarray(direction.reference)):
        hint = validation.OF_NAMES if unfit else OF_LABELS if inverted else OF_CHANCE if useless else OF_SCORES
        raise validation.refuse(img_name.size, problems, hint)
    score = dict(zip(img_name.tolist(), y_pred.tolist(), strict=True))
    content = score_table.to_csv(np.array(expected), np.array([score[name] for name in expected]))
    check_text(content, expected, img_name, y_pred)
    return Submission(content, _warnings(y_pred))


def _warnings(y_pred: np.ndarray) -> tuple[str, ...]:
    ties = pd.Series(y_pred.astype(np.float64)).groupby(validation.as_written(y_pred))
    images, merged = ties.size(), ties.nunique() > 1
    pairs = len(y_pred) * (len(y_pred) - 1) / 2
    share = (images * (images - 1) / 2).sum() / pairs if pairs else 0.0
    lost = f"{images[merged].sum()} images have scores that differ, but not in the nine digits of the file: ties there"
    tied = (
        f"{images[images > 1].sum()} of {len(y_pred)} images share their score with another: {share:.2%} of all pairs "
        "are ties, which the AUC counts half"
    )
    return (*([lost] if merged.any() else []), *([tied] if share >= TIED_PAIRS else []))


DOUBT = 5.0
"""Standard deviations. By chance the rank correlation of N images is 0 with a deviation of 1 / sqrt(N - 1), ties or
not, so that 26 images and fewer are never judged. Means of probabilities and of logits both rise with every member's
logit: as long as members do not contradict each other, 0 is the least that an honest blend can expect."""


@dataclass(frozen=True)
class Direction:
    """What tells the direction of fake apart from the scores themselves.

    Attributes:
        reference: float [N], the members' logits, weighted as they count, for the images that are scored.
        oof_auc: each experiment's out-of-fold AUC, the mean of its folds', by name; pooled, offsets between the folds'
            networks alone could bring it below 0.5.
        oof_high: the upper end of its 95 % interval, by name; an experiment is missing where it has none.
    """

    reference: np.ndarray
    oof_auc: Mapping[str, float]
    oof_high: Mapping[str, float] = field(default_factory=dict)

    def inverted(self) -> list[str]:
        """A line for each experiment whose scores fall where fake is more likely, beyond chance."""
        return [
            f"experiment {name} has the out-of-fold AUC {auc}, below 0.5 beyond chance: its labels are inverted"
            for name, auc in self.oof_auc.items()
            if self.oof_high.get(name, 1.0) < 0.5
        ]

    def useless(self) -> list[str]:
        """A line for each other experiment that does no better than chance."""
        return [
            f"experiment {name} has the out-of-fold AUC {auc}, no better than chance: it has learned nothing"
            for name, auc in self.oof_auc.items()
            if not auc >= 0.5 and not self.oof_high.get(name, 1.0) < 0.5  # nor is NaN good enough
        ]


def describe_inversion(y_pred: np.ndarray, reference: np.ndarray) -> list[str]:
    """Whether scores [N] fall where the reference [N] rises, beyond doubt."""
    if not validation.are_numbers(y_pred):
        return []
    if not validation.are_numbers(reference) or reference.shape != y_pred.shape:
        return [f"the reference is {validation.name_kind(reference)}, not float {list(y_pred.shape)}"]
    known = ~(np.isnan(reference) | np.isnan(y_pred))
    correlation = rank_correlation(reference[known], y_pred[known])
    if correlation * np.sqrt(max(known.sum() - 1, 0)) >= -DOUBT:
        return []
    return [f"the scores are turned around: their rank correlation with the networks' mean logit is {correlation:.3f}"]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two float [N], in [-1, 1]; ties share the mean of their ranks.

    0 where a side is constant or there are fewer than two images: no direction can be told.
    """
    one, other = (pd.Series(side.astype(np.float64)).rank().to_numpy() for side in (first, second))
    one, other = one - (len(one) + 1) / 2, other - (len(other) + 1) / 2
    scale = np.sqrt((one @ one) * (other @ other))
    return float(np.clip(one @ other / scale, -1, 1)) if scale > 0 else 0.0
