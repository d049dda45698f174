"""Small stores of every geometry, and the same with codecs that only other writers use."""

import json
import shutil

import numcodecs
import numpy as np

import zarr_vectors_lazy as zvl


def spiral(turns, n):
    t = np.linspace(0, turns * 2 * np.pi, n)
    return np.stack([40 + 30 * np.cos(t), 40 + 30 * np.sin(t), np.linspace(5, 75, n)], axis=1)


def write_cloud(path, n=20_000, chunk=20, **codec):
    points = np.random.default_rng(0).normal(40, 12, (n, 3)).clip(0, 80).astype("f4")
    depth = {"depth": points[:, 2].copy()}
    zvl.write_points(path, points, chunk_shape=chunk, vertex_attributes=depth, units="um", **codec)


def write_paths(path, n=60, chunk=20, **codec):
    rng = np.random.default_rng(1)
    paths = [spiral(2, 200) + rng.normal(0, 3, 3) for _ in range(n)]
    values = {"length": np.arange(n, dtype="f4")}
    zvl.write_polylines(
        path, paths, chunk_shape=chunk, geometry_type="streamline", object_attributes=values, units="um", **codec
    )


def _trees(n):
    branch = spiral(1, n)
    vertices = np.concatenate([branch * scale for scale in (1, 0.95, 0.8)])
    rows = np.arange(len(vertices)).reshape(3, n)
    before = np.arange(n - 1)
    before[n // 2 - 1] = n // 4  # a branch
    edges = np.concatenate([np.stack([row[1:], row[before]], axis=1) for row in rows])
    return vertices, edges, np.repeat([4, 5, 6], n)


def write_trees(path, n=100, chunk=20, **codec):
    vertices, edges, ids = _trees(n)
    zvl.write_graph(path, vertices, edges, chunk_shape=chunk, object_ids=ids, kind="skeleton", units="um", **codec)


def write_net(path, n=100, chunk=20, **codec):
    vertices, edges, _ = _trees(n)
    rungs = np.stack([np.arange(n), np.arange(n) + 2 * n], axis=1)
    zvl.write_graph(path, vertices, np.concatenate([edges, rungs]), chunk_shape=chunk, units="um", **codec)


def write_balls(path, n=25, chunk=20, **codec):
    u, v = np.meshgrid(np.linspace(0, np.pi, n), np.linspace(0, 2 * np.pi, 2 * n), indexing="ij")
    ball = np.stack([np.sin(u) * np.cos(v), np.sin(u) * np.sin(v), np.cos(u)], axis=-1).reshape(-1, 3)
    corner = (np.arange(n - 1)[:, None] * 2 * n + np.arange(2 * n - 1)).reshape(-1)
    below = corner + 2 * n
    faces = np.concatenate([np.stack([corner, below, below + 1], 1), np.stack([corner, below + 1, corner + 1], 1)])
    vertices = np.concatenate([ball * 12 + centre for centre in ([20, 20, 20], [55, 55, 40])])
    ids = np.repeat([1, 2], len(ball))
    both = np.concatenate([faces, faces + len(ball)])
    zvl.write_mesh(path, vertices, both, chunk_shape=chunk, object_ids=ids, units="um", **codec)


SHAPES = {
    "points": write_cloud,
    "lines": write_paths,
    "skeletons": write_trees,
    "graph": write_net,
    "mesh": write_balls,
}
PACKERS = {"gzip": ("gzip", numcodecs.GZip(1)), "zlib": ("numcodecs.zlib", numcodecs.Zlib(1))}


def recoded(raw, path, codec):
    """Copy a raw store, with its cells packed as others may."""
    name, packer = PACKERS[codec]
    shutil.copytree(raw, path)
    for file in path.rglob("zarr.json"):
        doc = json.loads(file.read_text())
        doc.pop("consolidated_metadata", None)
        if doc["node_type"] == "array" and doc["codecs"][0]["name"] == "vlen-bytes":
            doc["codecs"] = [doc["codecs"][0], {"name": name, "configuration": {"level": 1}}]
            for cell in file.parent.rglob("*"):
                if cell.is_file() and cell != file:
                    cell.write_bytes(packer.encode(cell.read_bytes()))
        file.write_text(json.dumps(doc))
