"""Stores of graphs, skeletons and meshes that the writers of zarr-vectors 0.2.0 make."""

import numpy as np
from expect import Level, by_chunk, objects_of
from shapes import cloud, grid_mesh, random_edges, trees
from written import pyramid
from zarr_vectors.sharding.io import shard_store
from zarr_vectors.sharding.layout import ShardLayout
from zarr_vectors.types.graphs import write_graph
from zarr_vectors.types.meshes import write_mesh

SOURCES = {True: "float64", False: "float32"}


def graph(path, seed, ids, *, n_edges=100, ndim=3, chunk=(25.0, 40.0, 40.0), dtype="f4", span=(-10.0, 30.0), **more):
    """Write a graph; ids ascend with the rows, as the writer needs it (FORMAT 0.7, 9.1)."""
    points = cloud(seed, len(ids), ndim, span, dtype)
    edges = random_edges(np.random.default_rng(seed), ids, n_edges)
    write_graph(
        str(path), points, edges, chunk_shape=chunk[:ndim], object_ids=ids, dtype=SOURCES[dtype == "f8"], **more
    )
    level = Level(points, chunk[:ndim], more.get("vertex_attributes") or {}, edges=edges, links=edges)
    level.objects = {i: by_chunk(level, rows) for i, rows in objects_of(ids).items()}
    return level


def store_graph(path):
    rng = np.random.default_rng(30)
    attrs = {"radius": rng.normal(size=120), "dir": rng.normal(size=(120, 3)).astype("f4")}
    return "graph", [graph(path, 30, np.zeros(120, "i8"), vertex_attributes=attrs)]


def store_graph_objects_2d_f64(path):
    return "graph", [graph(path, 31, np.repeat([0, 1, 2], 30), ndim=2, chunk=(8.0, 20.0), dtype="f8", n_edges=60)]


def store_graph_values(path):
    """One chunk holds all of it, so that no value is lost."""
    rng = np.random.default_rng(32)
    values = {
        "weight": rng.normal(size=60),
        "count": rng.integers(0, 99, 60),
        "vector": rng.normal(size=(60, 3)).astype("f4"),
    }
    ids = np.repeat([0, 1], 25)
    level = graph(path, 32, ids, n_edges=60, span=(1.0, 30.0), chunk=(1000.0,) * 3, link_attributes=values)
    level.link_attrs = values
    return "graph", [level]


def store_graph_values_lost(path):
    """Values of edges across chunks were never written: NaN."""
    weight = np.random.default_rng(33).normal(size=100)
    level = graph(path, 33, np.zeros(80, "i8"), link_attributes={"weight": weight})
    chunks = level.coords()
    across = (chunks[level.edges[:, 0]] != chunks[level.edges[:, 1]]).any(1)
    level.link_attrs = {"weight": np.where(across, np.nan, weight)}
    return "graph", [level]


def store_graph_4d(path):
    return "graph", [graph(path, 36, np.repeat([0, 1], 30), ndim=4, chunk=(20.0,) * 4, n_edges=50)]


def store_graph_by_text(path):
    """Chunks are cut by a value that is the same for all vertices of an object."""
    ids = np.repeat([0, 1, 2, 3], 15)
    attrs = {"side": np.asarray(["right", "left", "right", "both"])[ids], "v": np.arange(60.0)}
    level = graph(
        path, 37, ids, ndim=2, chunk=(20.0,) * 2, n_edges=50, vertex_attributes=attrs, chunk_by_attribute="side"
    )
    level.chunk_by = "side"
    level.objects = {i: by_chunk(level, rows) for i, rows in objects_of(ids).items()}
    return "graph", [level]


def store_graph_no_edges(path):
    points = cloud(34, 30)
    write_graph(str(path), points, np.empty((0, 2), "i8"), chunk_shape=(20.0,) * 3)
    level = Level(points, (20.0,) * 3, edges=np.empty((0, 2), "i8"))
    level.objects = {0: by_chunk(level, np.arange(30))}
    return "graph", [level]


def store_pyramid_graph(path):
    level = graph(path, 35, np.repeat([0, 1], 35), bin_shape=(5.0,) * 3, n_edges=25, chunk=(20.0,) * 3)
    levels = pyramid(path, level, (5.0,) * 3, [(2, 1), (4, 1)], scales=[2, 1], depth=-1)
    for upper in levels[1:]:
        upper.edges = np.empty((0, 2), "i8")
    return "graph", levels


def skeleton(path, seed, sizes, ndim=3, *, dtype="f4", start=0.0, **more):
    positions, edges, ids = trees(seed, sizes, ndim, start)
    positions, chunk = positions.astype(dtype), more.pop("chunk", (12.0,) * ndim)
    attrs = {"radius": np.random.default_rng(seed).normal(size=len(positions))}
    write_graph(
        str(path),
        positions,
        edges,
        chunk_shape=chunk,
        kind="skeleton",
        object_ids=ids,
        vertex_attributes=attrs,
        dtype=SOURCES[dtype == "f8"],
        **more,
    )
    return Level(positions, chunk, attrs, edges=edges, tree=True, objects=objects_of(ids), ordered=False)


def store_skeleton(path):
    level = skeleton(path, 40, [50, 30, 12], object_attributes={"cable": np.arange(3.0)})
    level.object_attrs = {"cable": np.arange(3.0)}
    return "skeleton", [level]


def store_skeleton_2d(path):
    return "skeleton", [skeleton(path, 41, [60, 1, 2], 2)]


def store_skeleton_f64_far(path):
    return "skeleton", [skeleton(path, 42, [60, 40], dtype="f8", start=1e7)]


def store_skeleton_gaps(path):
    """Ids that are not there."""
    positions, edges, ids = trees(45, [30, 25, 10])
    ids = np.asarray([1, 4, 9])[ids]
    write_graph(str(path), positions, edges, chunk_shape=(12.0,) * 3, kind="skeleton", object_ids=ids)
    objects = dict.fromkeys(range(10), np.empty(0, "i8")) | objects_of(ids)
    return "skeleton", [
        Level(positions.astype("f4"), (12.0,) * 3, edges=edges, tree=True, objects=objects, ordered=False)
    ]


def store_skeleton_one_chunk(path):
    return "skeleton", [skeleton(path, 43, [40, 30], chunk=(500.0,) * 3)]


def store_pyramid_skeleton(path):
    level = skeleton(path, 44, [50, 30], bin_shape=(4.0,) * 3, chunk=(24.0,) * 3)
    lower, upper = pyramid(path, level, (4.0,) * 3, [(2, 1)])
    # The writer numbers nodes depth first, and with them the bins that an object passes through.
    upper.edges, upper.tree, upper.objects = np.empty((0, 2), "i8"), True, None
    return "skeleton", [lower, upper]


def mesh(path, seed, n, width, *, attrs=None, chunk=(15.0, 9.0, 40.0), **more):
    vertices, faces = grid_mesh(seed, n, width)
    vertices = vertices.astype(more.get("dtype", "f4"))
    write_mesh(str(path), vertices, faces, chunk_shape=chunk, vertex_attributes=attrs, **more)
    level = Level(vertices, chunk, attrs or {}, faces=faces)
    level.objects = {0: by_chunk(level, np.arange(len(vertices)))}
    return "mesh", [level]


def store_mesh(path):
    rng = np.random.default_rng(50)
    attrs = {"normal": rng.normal(size=(100, 3)).astype("f4"), "curv": rng.normal(size=100)}
    return mesh(path, 50, 10, 3, attrs=attrs)


def store_mesh_quads(path):
    return mesh(path, 51, 9, 4, dtype="float64")


def store_mesh_objects(path):
    """An object is given all vertices of the chunks that it touches: they share a fragment."""
    vertices, faces = grid_mesh(53, 8, 3)
    ids, chunk = np.arange(64) // 24, (9.0, 9.0, 40.0)
    write_mesh(str(path), vertices, faces, chunk_shape=chunk, object_ids=ids, object_attributes={"a": np.arange(3.0)})
    level = Level(vertices, chunk, faces=faces, object_attrs={"a": np.arange(3.0)})
    chunks = np.unique(level.coords(), axis=0, return_inverse=True)[1].reshape(-1)
    level.objects = {i: by_chunk(level, np.flatnonzero(np.isin(chunks, chunks[ids == i]))) for i in range(3)}
    return "mesh", [level]


def store_pyramid_mesh(path):
    kind, (level,) = mesh(path, 52, 10, 3, chunk=(12.0, 12.0, 20.0), bin_shape=(3.0, 3.0, 5.0))
    levels = pyramid(path, level, (3.0, 3.0, 5.0), [(2, 1), (4, 1)], scales=[(1, 2, 1), (2, 1, 1)], depth=2)
    for upper in levels[1:]:
        upper.faces = None
    return kind, levels


def store_packed_skeleton(path):
    kind, levels = store_skeleton(path)
    shard_store(str(path), ShardLayout("snake"), 6)
    return kind, levels


def store_packed_graph(path):
    kind, levels = store_graph_values_lost(path)
    shard_store(str(path), ShardLayout("octree"), 4)
    return kind, levels


def store_packed_mesh(path):
    kind, levels = store_mesh(path)
    shard_store(str(path), ShardLayout("index_table"), 5)
    return kind, levels
