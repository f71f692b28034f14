"""Images that look alike to a frozen network: what a fold holds out to be judged on faces unlike its training ones."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

DIMENSIONS = 32
"""Principal components that distances are measured in."""
PER_FOLD = 4
"""Clusters for each fold: enough to give folds like sizes and shares, few enough to keep each one large."""
STARTS = 4


def cluster_features(features: np.ndarray, group: np.ndarray | None, count: int, seed: int) -> np.ndarray:
    """k-means over whole groups: a group counts once, by the mean of its images.

    The idea of re-splitting by unsupervised clustering, to imitate a test set of unseen sources, is the competition
    winners' (docs/data.md).

    Args:
        features: float [N, D].
        group: str [N], never parted; None where every image stands for itself.
        count: how many clusters; fewer where there are fewer groups.
        seed: decides where k-means starts.

    Returns:
        int64 [N].
    """
    unit = np.arange(len(features)) if group is None else np.unique(group, return_inverse=True)[1]
    if unit.max(initial=0) == 0:
        return np.zeros(len(features), np.int64)
    middle = _means(StandardScaler().fit_transform(features.astype(np.float64)), unit)
    parts = PCA(min(DIMENSIONS, *middle.shape), random_state=seed).fit_transform(middle)
    found = KMeans(min(count, len(parts)), n_init=STARTS, random_state=seed).fit_predict(parts)
    return found.astype(np.int64)[unit]


def _means(features: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """float64 [units, D]: the mean of each unit's rows."""
    total = np.zeros((int(unit.max()) + 1, features.shape[1]))
    np.add.at(total, unit, features)
    return total / np.bincount(unit)[:, None]
