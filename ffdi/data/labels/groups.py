"""Groups: images that must stand in one fold together."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def joined(group: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Groups str [N] made coarser until no cluster (int [N]) stands in two of them; named by their first group."""
    name, left = np.unique(group, return_inverse=True)
    _, right = np.unique(cluster, return_inverse=True)
    size = len(name) + int(right.max(initial=0)) + 1
    graph = coo_array((np.ones(len(left), bool), (left, len(name) + right)), shape=(size, size))
    component = connected_components(graph, directed=False)[1][: len(name)]
    first = np.full(size, len(name))
    np.minimum.at(first, component, np.arange(len(name)))
    return name[first[component]][left]
