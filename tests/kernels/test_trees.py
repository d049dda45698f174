"""Rooted trees as arrays of parents, compared with traversals from each root."""

import numpy as np
import pytest

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.kernels.trees import rooted


def walked(edges, count):
    """Parents found by a traversal from the least vertex of each component; None if edges form a cycle."""
    beside = [[] for _ in range(count)]
    for a, b in edges.tolist():
        beside[a].append(b)
        beside[b].append(a)
    parents, seen = np.full(count, -1), np.zeros(count, bool)
    for root in range(count):
        front = [] if seen[root] else [root]
        seen[root] = True
        while front:
            at = front.pop()
            for end in beside[at]:
                if not seen[end]:
                    seen[end], parents[end] = True, at
                    front.append(end)
    return parents if (parents >= 0).sum() == len(edges) else None


@pytest.mark.parametrize("trees", [True, False])
def test_undirected_edges_are_seen_from_the_least_vertex(trees):
    generator = np.random.default_rng(0)
    for _ in range(500):
        count = int(generator.integers(1, 9))
        edges = generator.integers(0, count, (int(generator.integers(0, 9)), 2))
        if trees:
            edges = np.array([[k, generator.integers(0, k)] for k in range(1, count) if generator.random() < 0.8])
            edges = generator.permutation(count)[edges.reshape(-1, 2).astype(int)]
            edges = np.where(generator.random(len(edges))[:, None] < 0.5, edges, edges[:, ::-1])
        right = walked(edges, count)
        if right is None:
            with pytest.raises(SelectionError, match="cycle"):
                rooted(edges, count)
        else:
            np.testing.assert_array_equal(rooted(edges, count), right)
