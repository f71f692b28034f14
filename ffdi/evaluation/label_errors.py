"""Images whose label may be wrong, by out-of-fold scores alone."""

from __future__ import annotations

import numpy as np


def find_label_errors(target: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Images that networks which have not seen them count among the other class.

    Confident learning (Northcutt, Jiang and Chuang, JAIR 2021): an image counts among a class where its probability of
    it is at least the mean that the images with that label have; of two such classes the likelier one takes it.

    Args:
        target: int [N], 1 = fake; both classes occur.
        y_pred: float [N] in [0, 1], out of fold.

    Returns:
        bool [N].
    """
    of_class = np.stack([1 - y_pred, y_pred])
    least = np.array([of_class[label, target == label].mean() for label in (0, 1)])
    image = np.arange(len(target))
    own, other = of_class[target, image], of_class[1 - target, image]
    return (other >= least[1 - target]) & ((own < least[target]) | (other > own))
