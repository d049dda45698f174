"""Stores of graphs, skeletons and meshes."""

import numpy as np
from expect import Level, by_chunk, objects_of
from points import pyramid
from shapes import cloud, grid_mesh, random_edges, trees
from zarr_vectors.core.arrays import write_groupings
from zarr_vectors.core.store import get_resolution_level, open_store
from zarr_vectors.headers.registry import HeaderRegistry
from zarr_vectors.types.graphs import write_graph
from zarr_vectors.types.meshes import write_mesh
from zarr_vectors.types.parametric import write_parametric_objects


def graph(path, seed, ids, *, n_edges=150, ndim=3, dtype="float32", chunk=None, attrs=None, link_attrs=None, more=None):
    """Write a graph."""
    rng = np.random.default_rng(seed)
    points = cloud(seed, len(ids), ndim, dtype=dtype)
    chunk = chunk or (25.0, 40.0, 40.0)[:ndim]
    edges = random_edges(rng, ids, n_edges)
    link_attrs = link_attrs(rng, n_edges) if link_attrs else {}
    write_graph(
        str(path),
        points,
        edges,
        chunk_shape=chunk,
        object_ids=ids,
        dtype=dtype,
        vertex_attributes=attrs or None,
        link_attributes=link_attrs or None,
        **(more or {}),
    )
    level = Level(points, chunk, attrs or {}, edges=edges, links=edges, link_attrs=link_attrs, objects=objects_of(ids))
    level.objects = {i: by_chunk(level, rows) for i, rows in level.objects.items()}
    return level


def store_graph(path):
    def link_attrs(rng, n):
        return {
            "weight": rng.normal(size=n),
            "count": rng.integers(0, 99, n),
            "small": rng.integers(0, 9, n).astype("u1"),
            "vector": rng.normal(size=(n, 3)).astype("f4"),
            "flag": rng.random(n) < 0.5,
        }

    rng = np.random.default_rng(130)
    attrs = {"radius": rng.normal(size=160), "dir": rng.normal(size=(160, 3)).astype("f4")}
    return "graph", [graph(path, 130, rng.integers(0, 4, 160), attrs=attrs, link_attrs=link_attrs, n_edges=36)]


def store_graph_2d_f64(path):
    level = graph(path, 131, np.zeros(100, "i8"), ndim=2, dtype="float64", chunk=(8.0, 20.0), n_edges=100)
    return "graph", [level]


def store_graph_self_contained(path):
    """One chunk holds all of it."""
    return "graph", [
        graph(
            path,
            132,
            np.repeat([0, 1], 25),
            chunk=(1000.0,) * 3,
            n_edges=60,
            link_attrs=lambda rng, n: {"w": rng.normal(size=n).astype("f4")},
        )
    ]


def store_graph_no_edges(path):
    points = cloud(133, 30)
    write_graph(str(path), points, np.empty((0, 2), "i8"), chunk_shape=(20.0,) * 3)
    level = Level(points, (20.0,) * 3, edges=np.empty((0, 2), "i8"))
    level.objects = {0: by_chunk(level, np.arange(30))}
    return "graph", [level]


def store_graph_self_loops(path):
    points = cloud(134, 40, 2)
    edges = np.asarray([[i, i] for i in range(5)] + [[0, 1], [1, 0], [0, 1], [3, 20]])
    write_graph(str(path), points, edges, chunk_shape=(15.0,) * 2, link_attributes={"n": np.arange(9)})
    level = Level(points, (15.0,) * 2, edges=edges, links=edges, link_attrs={"n": np.arange(9)})
    level.objects = {0: by_chunk(level, np.arange(40))}
    return "graph", [level]


def store_graph_sparse_ids(path):
    rng = np.random.default_rng(135)
    level = graph(path, 135, rng.choice([5, 90, 17], 90), n_edges=80, more={"compressor": "blosc"})
    write_groupings(get_resolution_level(open_store(str(path), mode="r+"), 0), {0: [90, 5], 1: range(17, 18)})
    level.groups = {0: [5, 90], 1: [17]}
    return "graph", [level]


def store_graph_by_int(path):
    rng = np.random.default_rng(136)
    ids = rng.integers(0, 5, 120)
    attrs = {"layer": (ids % 2) * 10 - 5, "v": rng.normal(size=120).astype("f4")}
    level = graph(
        path,
        136,
        ids,
        attrs=attrs,
        chunk=(40.0,) * 3,
        more={"chunk_by_attribute": "layer"},
        n_edges=90,
        link_attrs=lambda rng, n: {"w": rng.normal(size=n)},
    )
    level.chunk_by = "layer"
    level.objects = {i: by_chunk(level, rows) for i, rows in objects_of(ids).items()}
    return "graph", [level]


def store_graph_by_text(path):
    """Every node is an object: edges cross chunks of different values."""
    rng = np.random.default_rng(137)
    points = cloud(137, 80, 2)
    edges = random_edges(rng, np.zeros(80), 70)
    attrs = {"cell": np.asarray(["x", "yy"])[rng.integers(0, 2, 80)]}
    write_graph(
        str(path),
        points,
        edges,
        chunk_shape=(40.0,) * 2,
        vertex_attributes=attrs,
        chunk_by_attribute="cell",
        link_attributes={"w": np.arange(70.0)},
    )
    return "graph", [
        Level(
            points,
            (40.0,) * 2,
            attrs,
            edges=edges,
            links=edges,
            link_attrs={"w": np.arange(70.0)},
            chunk_by="cell",
            objects={i: np.asarray([i]) for i in range(80)},
        )
    ]


def store_graph_sharded(path):
    return "graph", [
        graph(
            path,
            138,
            np.zeros(90, "i8"),
            n_edges=120,
            more={"shard_shape": 2, "compressor": "zstd"},
            link_attrs=lambda rng, n: {"w": rng.normal(size=n)},
        )
    ]


def store_pyramid_graph(path):
    level = graph(
        path,
        139,
        np.random.default_rng(139).integers(0, 4, 70),
        more={"bin_shape": (5.0,) * 3},
        n_edges=25,
        chunk=(20.0,) * 3,
    )
    levels = pyramid(path, level, (5.0,) * 3, [(2, 1), (2, 1)], scales=[2, 1], depth=-1)
    for upper in levels[1:]:
        upper.edges = np.empty((0, 2), "i8")
    return "graph", levels


def skeleton(path, seed, sizes, ndim=3, *, dtype="f4", start=0.0, **more):
    positions, edges, ids = trees(seed, sizes, ndim, start)
    positions = positions.astype(dtype)
    chunk = more.pop("chunk", (12.0,) * ndim)
    attrs = more.pop("attrs", None) or {"radius": np.random.default_rng(seed).normal(size=len(positions))}
    write_graph(
        str(path),
        positions,
        edges,
        chunk_shape=chunk,
        kind="skeleton",
        object_ids=ids,
        vertex_attributes=attrs,
        dtype=np.dtype(dtype).name,
        **more,
    )
    return Level(positions, chunk, attrs, edges=edges, tree=True, objects=objects_of(ids), ordered=False)


def store_skeleton(path):
    rng = np.random.default_rng(140)
    values = {"cable": rng.normal(size=3), "soma": rng.normal(size=(3, 3))}
    attrs = {"radius": rng.normal(size=92).astype("f4"), "label": rng.integers(0, 5, 92).astype("u1")}
    level = skeleton(path, 140, [50, 30, 12], attrs=attrs, object_attributes=values)
    level.object_attrs = values
    return "skeleton", [level]


def store_skeleton_2d(path):
    return "skeleton", [skeleton(path, 141, [60, 1, 2], 2, compressor="zstd")]


def store_skeleton_f64_far(path):
    return "skeleton", [skeleton(path, 142, [60, 40], dtype="f8", start=1e7)]


def store_skeleton_one_chunk(path):
    return "skeleton", [skeleton(path, 143, [40, 30], chunk=(500.0,) * 3)]


def store_skeleton_sharded(path):
    return "skeleton", [skeleton(path, 144, [80], shard_shape=2)]


def store_skeleton_by_int(path):
    _, _, ids = trees(145, [50, 40, 30])
    level = skeleton(path, 145, [50, 40, 30], attrs={"kind": ids % 2}, chunk_by_attribute="kind")
    level.chunk_by = "kind"
    return "skeleton", [level]


def mesh(path, seed, n, width, *, attrs=None, ids=None, level=None, chunk=(15.0, 9.0, 40.0), **more):
    vertices, faces = grid_mesh(seed, n, width)
    vertices = vertices.astype(more.get("dtype", "f4"))
    write_mesh(str(path), vertices, faces, chunk_shape=chunk, vertex_attributes=attrs, object_ids=ids, **more)
    out = Level(vertices, chunk, attrs or {}, faces=faces, **(level or {}))
    objects = objects_of(np.zeros(len(vertices), "i8") if ids is None else ids)
    out.objects = {i: by_chunk(out, rows) for i, rows in objects.items()}
    return "mesh", [out]


def store_mesh(path):
    rng = np.random.default_rng(150)
    attrs = {
        "normal": rng.normal(size=(100, 3)).astype("f4"),
        "curv": rng.normal(size=100),
        "uv": rng.normal(size=(100, 2)),
        "rgba": rng.integers(0, 255, (100, 4)).astype("u1"),
    }
    return mesh(path, 150, 10, 3, attrs=attrs)


def store_mesh_quads(path):
    return mesh(path, 151, 9, 4, dtype="float64", compressor="blosc")


def store_mesh_objects(path):
    vertices, _ = grid_mesh(152, 8, 3)
    ids = (vertices[:, 0] > 0).astype("i8") * 4 + 1
    return mesh(path, 152, 8, 3, ids=ids, shard_shape=2)


def store_mesh_one_chunk(path):
    return mesh(path, 153, 6, 3, chunk=(100.0,) * 3, bounds=([-100.0] * 3, [100.0] * 3))


def store_mesh_by_int(path):
    vertices, _ = grid_mesh(154, 8, 4)
    ids = (vertices[:, 1] > 0).astype("i8")
    return mesh(
        path, 154, 8, 4, ids=ids, attrs={"part": ids + 5}, chunk_by_attribute="part", level={"chunk_by": "part"}
    )


def store_mesh_by_text(path):
    rng = np.random.default_rng(155)
    part = np.asarray(["one", "three", "two"])[rng.integers(0, 3, 49)]
    return mesh(
        path, 155, 7, 3, ids=np.arange(49), attrs={"part": part}, chunk_by_attribute="part", level={"chunk_by": "part"}
    )


def store_pyramid_mesh(path):
    kind, (level,) = mesh(path, 156, 10, 3, chunk=(12.0, 12.0, 20.0), bin_shape=(3.0, 3.0, 5.0))
    levels = pyramid(path, level, (3.0, 3.0, 5.0), [(2, 1), (2, 1)], scales=[(1, 2, 1), (2, 1, 1)], depth=2)
    for upper in levels[1:]:
        upper.faces = None
    return kind, levels


def store_graph_with_parametric(path):
    level = graph(path, 160, np.zeros(40, "i8"), n_edges=30, ndim=3)
    write_parametric_objects(
        str(path), [{"type": "plane", "coefficients": [1, 0, 0, 2.5]}, {"type": "sphere", "coefficients": [0, 0, 0, 3]}]
    )
    HeaderRegistry(str(path)).add("swc", {"comment": "none"})
    return "graph", [level]


def store_pyramid_skeleton(path):
    level = skeleton(path, 146, [50, 30], bin_shape=(4.0,) * 3, chunk=(24.0,) * 3)
    lower, upper = pyramid(path, level, (4.0,) * 3, [(2, 1)])
    # The writer numbers nodes depth first, and with them the bins that an object passes through.
    upper.edges, upper.tree, upper.objects = np.empty((0, 2), "i8"), True, None
    return "skeleton", [lower, upper]
