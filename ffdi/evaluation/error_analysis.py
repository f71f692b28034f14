"""Error analysis: the AUC of slices of a data set, label errors, and domain shift between two splits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ffdi.evaluation import intervals, metrics

MIN_IMAGES = 10
"""The smallest number of images of each class for an AUC."""
EXAMPLES = 4
"""Images of a slice that are shown."""


@dataclass(frozen=True)
class Slice:
    """The images with the same value of an attribute.

    Attributes:
        value: of the attribute.
        real, fake: the number of images of each class.
        against: 'itself'; or 'all real' or 'all fake' if the slice has one class only, such as a family of fakes.
        auc, interval: of its images and those of `against`; None if there are too few images or groups.
        examples: names of some of its images.
    """

    value: str
    real: int
    fake: int
    against: str
    auc: float | None
    interval: tuple[float, float] | None
    examples: tuple[str, ...] = ()


def slice_by(
    img_name: np.ndarray, value: np.ndarray, target: np.ndarray, score: np.ndarray, group: np.ndarray | None
) -> list[Slice]:
    """Scores the slice of each value, in the order of the values; images with the value '' are ignored.

    Args:
        img_name: str [N].
        value: str [N].
        target: int [N], 1 = fake.
        score: float [N]; ranks within each fold if several networks scored.
        group: str [N], of images that are not independent of each other; None if all are independent.
    """
    return [
        replace(_score_slice(one, value == one, target, score, group), examples=tuple(examples))
        for one, examples in pick_examples(img_name, value).items()
    ]


def pick_examples(img_name: np.ndarray, value: np.ndarray) -> dict[str, list[str]]:
    """The names of `EXAMPLES` images with each value, evenly spread over the list; the value '' has none.

    Args:
        img_name, value: str [N].
    """
    found = {}
    for one in filter(None, np.unique(value).tolist()):
        rows = np.flatnonzero(value == one)
        found[one] = img_name[rows[:: -(-len(rows) // EXAMPLES)]].tolist()
    return found


def assign_bands(quantity: np.ndarray, names: list[str]) -> np.ndarray:
    """Assigns a quantity [N] to bands of equal size, named from low to high: str [N]; '' if all values are equal."""
    edges = np.quantile(quantity, np.linspace(0, 1, len(names) + 1)[1:-1])
    if quantity.min() == quantity.max():
        return np.full(len(quantity), "")
    return np.array(names)[np.searchsorted(edges, quantity, side="right")]


def _score_slice(
    value: str, part: np.ndarray, target: np.ndarray, score: np.ndarray, group: np.ndarray | None
) -> Slice:
    real, fake = (int((part & (target == label)).sum()) for label in (0, 1))
    against = "itself" if real and fake else "all real" if fake else "all fake"
    rows = part if against == "itself" else part | (target == (0 if fake else 1))
    if min((target[rows] == label).sum() for label in (0, 1)) < MIN_IMAGES:
        return Slice(value, real, fake, against, None, None)
    auc = float(metrics.auc(metrics.count_scores(target[rows], score[rows])))
    interval = intervals.compute_auc_interval(target[rows], score[rows], None if group is None else group[rows])
    return Slice(value, real, fake, against, auc, interval)


NEIGHBOURS = 10
"""Images that are most like another one, whose labels are compared with its own."""


def find_label_errors(target: np.ndarray, y_pred: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Finds images whose label is probably wrong: both their score and the labels of similar images contradict it.

    The score contradicts by confident learning (Northcutt, Jiang and Chuang, JAIR 2021): an image is counted in a class
    if its probability of that class is at least the mean probability of the images with that label; if this is true for
    both classes, the more probable one counts. A label error is counted in the other class, and at least half of the
    `NEIGHBOURS` images that are most like it have the other label.

    Args:
        target: int [N], 1 = fake; both classes occur.
        y_pred: float [N] in [0, 1], out of fold.
        features: float32 [N, D], of the images; not learned from these labels, which would repeat the score.

    Returns:
        bool [N].
    """
    found = _count_in_other_class(target, y_pred)
    if (rows := np.flatnonzero(found)).size:
        found[rows] = _measure_disagreement(target, features, rows) >= 0.5
    return found


def _measure_disagreement(target: np.ndarray, features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The fraction of the nearest images of each of some rows that have the other label."""
    from sklearn.neighbors import NearestNeighbors  # takes seconds

    known = NearestNeighbors(n_neighbors=min(NEIGHBOURS + 1, len(target))).fit(features)
    near = known.kneighbors(features[rows], return_distance=False)
    others = near != rows[:, None]
    return ((target[near] != target[rows, None]) & others).sum(1) / np.maximum(others.sum(1), 1)


def _count_in_other_class(target: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Where confident learning counts an image in the class that is not its label: bool [N]."""
    of_class = np.stack([1 - y_pred, y_pred])
    threshold = np.array([of_class[label, target == label].mean() for label in (0, 1)])
    image = np.arange(len(target))
    own, other = of_class[target, image], of_class[1 - target, image]
    return (other >= threshold[1 - target]) & ((own < threshold[target]) | (other > own))


DIMENSIONS = 64
CV_FOLDS = 5


@dataclass(frozen=True)
class ShiftScore:
    """The result of adversarial validation.

    Attributes:
        auc, interval: of the classifier, by cross-validation; 0.5 means that the splits have the same distribution. No
            interval if a split has too few images.
        first, second: float64 [N], [M]: the probability of each image to belong to the second split.
    """

    auc: float
    interval: tuple[float, float] | None
    first: np.ndarray
    second: np.ndarray


def validate_adversarially(first: np.ndarray, second: np.ndarray, seed: int) -> ShiftScore:
    """Trains a classifier to tell two splits apart: logistic regression on principal components of features.

    Args:
        first: float [N, D], features of the first split.
        second: float [M, D], of the second split; at least `CV_FOLDS` images each.
        seed: of the cross-validation.
    """
    from sklearn.decomposition import PCA  # takes seconds
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.concatenate([first, second]).astype(np.float64)
    split = np.repeat([0, 1], [len(first), len(second)])
    dimensions = min(DIMENSIONS, features.shape[1], len(features) * (CV_FOLDS - 1) // CV_FOLDS)
    classifier = make_pipeline(
        StandardScaler(),
        PCA(dimensions, random_state=seed),
        LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced"),
    )
    parts = StratifiedKFold(CV_FOLDS, shuffle=True, random_state=seed)
    score = cross_val_predict(classifier, features, split, cv=parts, method="predict_proba")[:, 1]
    auc = float(metrics.auc(metrics.count_scores(split, score)))
    return ShiftScore(auc, intervals.compute_auc_interval(split, score, None), score[: len(first)], score[len(first) :])
