from __future__ import annotations

import numpy as np
import pytest

from ffdi.data.splits import folds


def clouds(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of four clouds far from each other, and the cloud of each."""
    rng = np.random.default_rng(seed)
    cloud = rng.integers(4, size=count)
    return rng.normal(size=(4, 20))[cloud] * 10 + rng.normal(size=(count, 20)), cloud


def test_clouds_are_found() -> None:
    features, cloud = clouds(400)
    found = folds.cluster_features(features, None, 4, 0)
    assert all(len(set(found[cloud == number].tolist())) == 1 for number in range(4))
    assert len(set(found.tolist())) == 4


def test_groups_are_never_parted() -> None:
    features, _ = clouds(400)
    group = np.array([f"g{number % 90}" for number in range(400)])
    found = folds.cluster_features(features, group, 8, 0)
    assert all(len(set(found[group == name].tolist())) == 1 for name in np.unique(group))


def test_the_same_seed_gives_the_same_clusters() -> None:
    features = np.random.default_rng(1).normal(size=(300, 10))
    assert np.array_equal(folds.cluster_features(features, None, 12, 3), folds.cluster_features(features, None, 12, 3))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_there_are_no_more_clusters_than_images(count: int) -> None:
    features = np.random.default_rng(1).normal(size=(count, 10)).astype(np.float32)
    assert len(folds.cluster_features(features, None, 12, 0)) == count


def test_folds_of_clusters_hold_out_unlike_images() -> None:
    features, _ = clouds(600, seed=2)
    target = np.random.default_rng(3).integers(2, size=600)
    near = {}
    for name, group in (("random", None), ("clusters", folds.cluster_features(features, None, 8, 0).astype(str))):
        fold = folds.assign_folds(target, group, 2, 0)
        distance = np.linalg.norm(features[fold == 0][:, None] - features[fold == 1][None], axis=2)
        near[name] = distance.min(axis=1).mean()
    assert near["clusters"] > 1.5 * near["random"]
