from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ffdi.data.inspection import duplicate_groups

PAIRS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=30)


@settings(max_examples=300, deadline=None)
@given(PAIRS)
def test_neither_a_group_nor_a_cluster_stands_in_two(pairs: list[tuple[int, int]]) -> None:
    group, cluster = np.array([f"g{one}" for one, _ in pairs]), np.array([two for _, two in pairs])
    together = duplicate_groups.merge_groups(group, cluster)
    for parts in (group, cluster):
        assert all(len(set(together[parts == part].tolist())) == 1 for part in np.unique(parts))


@settings(max_examples=300, deadline=None)
@given(PAIRS)
def test_only_chains_are_joined(pairs: list[tuple[int, int]]) -> None:
    group, cluster = np.array([f"g{one}" for one, _ in pairs]), np.array([two for _, two in pairs])
    together = duplicate_groups.merge_groups(group, cluster)
    reached = {0}
    while True:  # the plain search: what shares a group or a cluster with what was reached
        more = {
            row
            for row in range(len(pairs))
            if any(group[row] == group[one] or cluster[row] == cluster[one] for one in reached)
        }
        if more == reached:
            break
        reached = more
    assert {row for row in range(len(pairs)) if together[row] == together[0]} == reached
    assert together[0] == min(group[list(reached)])
