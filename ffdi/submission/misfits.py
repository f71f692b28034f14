"""What keeps names and scores from being a submission."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ffdi.core import names
from ffdi.core.errors import SubmissionError
from ffdi.core.names import shortened
from ffdi.evaluation.score_table import FLOAT

OF_NAMES = "nothing was written; check the list of test images and the template under the data folder"


def refusal(count: int, problems: list[str], hint: str) -> SubmissionError:
    """The error for `count` scores with these problems."""
    faults = "1 fault" if len(problems) == 1 else f"{len(problems)} faults"
    what = f"the submission is refused: {faults} in {count} scores"
    return SubmissionError(what, problems=problems, hint=hint)


def find(expected: list[str], img_name: np.ndarray, y_pred: np.ndarray) -> list[str]:
    """Everything that keeps names and scores from being a submission."""
    if shapeless := _shapeless(expected, img_name, y_pred):
        return shapeless
    return _names(expected, img_name.tolist()) + _scores(img_name, y_pred)


def _shapeless(expected: list[str], img_name: np.ndarray, y_pred: np.ndarray) -> list[str]:
    """What is no list of names or of scores, so that nothing more can be said about it."""
    problems = [] if are_numbers(y_pred) else [f"the scores are {kind(y_pred)}, not float [N]"]
    if img_name.ndim != 1:
        return [*problems, f"the names are {kind(img_name)}, not str [N]"]
    names = [*expected, *img_name.tolist()]
    problems += [f"{name!r} is no image name" for name in names if not isinstance(name, str)]
    if not problems and len(img_name) != len(y_pred):
        problems.append(f"there are {len(img_name)} names for {len(y_pred)} scores")
    return problems


def are_numbers(values: np.ndarray) -> bool:
    """Whether these are numbers [N]."""
    return values.ndim == 1 and values.dtype.kind in "fiu"


def kind(values: np.ndarray) -> str:
    """What an array is, in an error."""
    return f"{values.dtype} {list(values.shape)}"


def _names(expected: list[str], scored: list[str]) -> list[str]:
    wanted, given = Counter(expected), Counter(scored)
    missing, extra = (
        [name for name in these if name not in those] for these, those in ((wanted, given), (given, wanted))
    )
    twins = names.composed(extra)
    return (
        ([] if expected else ["no image is wanted: the template is empty"])
        + [f"{shortened(name)} is wanted {count} times" for name, count in wanted.items() if count > 1]
        + [f"{shortened(name)} is scored {count} times" for name, count in given.items() if count > 1]
        + [f"{shortened(name)} is missing{names.twin(name, twins)}" for name in missing]
        + [f"{shortened(name)} is not wanted" for name in extra]
        + [f"{shortened(name)} {fault}" for name in wanted if (fault := names.fault(name))]
    )


def _scores(img_name: np.ndarray, y_pred: np.ndarray) -> list[str]:
    finite = np.isfinite(y_pred)
    outside = finite & ((y_pred < 0) | (y_pred > 1))
    problems = [f"{shortened(img_name[row])} has the score {y_pred[row]}" for row in np.flatnonzero(~finite)]
    problems += [
        f"{shortened(img_name[row])} has the score {y_pred[row]}, outside [0, 1]" for row in np.flatnonzero(outside)
    ]
    written = set(as_written(y_pred))  # what differs less is the same in the file
    if not problems and len(y_pred) > 1 and len(written) == 1:
        problems.append(f"every score is {y_pred[0]}: the network tells nothing apart")
    return problems


def as_written(y_pred: np.ndarray) -> list[float]:
    """The scores as the file has them: nine digits."""
    return [float(FLOAT % score) for score in y_pred.tolist()]
