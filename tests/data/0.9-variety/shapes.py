"""Random input: clouds, walks, trees, meshes, and the levels that they are."""

import numpy as np
from expect import Level


def cloud(seed, n, ndim=3, span=(-10.0, 30.0), dtype="f4"):
    """Random positions."""
    return np.random.default_rng(seed).uniform(*span, (n, ndim)).astype(dtype)


def walks(seed, lengths, ndim=3, *, dtype="f4", step=2.0, start=0.0):
    """Random walks: they leave chunks and come back."""
    rng = np.random.default_rng(seed)
    first = [start + rng.uniform(-15, 25, ndim) for _ in lengths]
    steps = [rng.normal(0, step, (n, ndim)).cumsum(0) for n in lengths]
    return [(a + b).astype(dtype) for a, b in zip(first, steps, strict=True)]


def path_level(lines, chunk, attrs=None, **more):
    """Level of polylines, each an object."""
    ends = np.cumsum([len(line) for line in lines])
    rows = [np.arange(end - len(line), end) for line, end in zip(lines, ends, strict=True)]
    edges = np.concatenate([np.stack([r[:-1], r[1:]], 1) for r in rows])
    joined = {name: np.concatenate(parts) for name, parts in (attrs or {}).items()}
    return Level(np.concatenate(lines), chunk, joined, edges=edges, objects=dict(enumerate(rows)), **more)


def lines_level(ends, chunk, attrs, **more):
    rows = np.arange(2 * len(ends)).reshape(-1, 2)
    joined = {name: values.reshape(-1, *values.shape[2:]) for name, values in attrs.items()}
    return Level(ends.reshape(-1, ends.shape[-1]), chunk, joined, edges=rows, objects=dict(enumerate(rows)), **more)


def segments(seed, n, ndim, size, dtype="f4"):
    rng = np.random.default_rng(seed)
    first = rng.uniform(-20, 30, (n, ndim))
    return np.stack([first, first + rng.normal(0, size, (n, ndim))], 1).astype(dtype)


def random_edges(rng, ids, n):
    """Edges inside objects, no pair twice."""
    pairs = set()
    while len(pairs) < n:
        a, b = rng.integers(0, len(ids), 2).tolist()
        if a != b and ids[a] == ids[b] and (b, a) not in pairs:
            pairs.add((a, b))
    return np.asarray(sorted(pairs))[rng.permutation(n)]


def trees(seed, sizes, ndim=3, start=0.0):
    """Positions, [child, parent] edges and tree of each node; parents come before children."""
    rng = np.random.default_rng(seed)
    positions, edges, ids = [], [], []
    for tree, size in enumerate(sizes):
        first = len(positions)
        positions.append(start + rng.uniform(-10, 20, ndim))
        ids.append(tree)
        for k in range(1, size):
            parent = first + (k - 1 if rng.random() < 0.7 else int(rng.integers(0, k)))
            edges.append((len(positions), parent))
            positions.append(positions[parent] + rng.normal(0, 3, ndim))
            ids.append(tree)
    return np.asarray(positions), np.asarray(edges).reshape(-1, 2), np.asarray(ids)


def grid_mesh(seed, n, width):
    """Vertices of a bent grid and its faces of 3 or 4 corners."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    vertices = np.stack([x.ravel() * 3.0, y.ravel() * 3.0, rng.normal(0, 2, n * n)], 1) - 11
    a = (x[:-1, :-1] * n + y[:-1, :-1]).ravel()
    quads = np.stack([a, a + n, a + n + 1, a + 1], 1)
    if width == 3:
        quads = np.concatenate([quads[:, [0, 1, 2]], quads[:, [2, 3, 0]]])
    faces = np.stack([np.roll(f, k) for f, k in zip(quads, rng.integers(0, width, len(quads)), strict=True)])
    return vertices.astype("f4"), faces[rng.permutation(len(faces))]
