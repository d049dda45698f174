"""Inputs of every geometry, written by us, and what both packages must read back."""

import warnings

import numpy as np
from zarr_vectors.types.graphs import read_graph
from zarr_vectors.types.lines import read_lines
from zarr_vectors.types.meshes import read_mesh
from zarr_vectors.types.points import read_points
from zarr_vectors.types.polylines import read_polylines
from zarr_vectors.validate import validate

import zarr_vectors_lazy as zvl

N = 40
CHUNK = 2.0
ENCODINGS = {
    "zstd": {},
    "blosc": {"compressor": "blosc"},
    "plain": {"compressor": None},
    "plain-unchecked": {"compressor": None, "checksum": False},
    "zstd-unchecked": {"checksum": False},
    "zstd-sharded": {"shard_shape": 2},
    "plain-sharded": {"compressor": None, "shard_shape": 3},
    "blosc-sharded": {"compressor": "blosc", "shard_shape": 2},
}


def rows(values):
    """Rows in a different order."""
    return sorted(map(tuple, np.asarray(values, "f8").reshape(len(values), -1).tolist()))


def corners(positions, links):
    return rows(np.asarray(positions)[np.asarray(links)])


def positions_of(dtype, ndim):
    """Points on both sides of 0, some exactly on the borders of chunks; few chunks, as the last axes are short."""
    extent = np.array([2.5, 2.5, 0.5, 0.5])[:ndim]
    found = np.random.default_rng(ndim).uniform(-extent, extent, (N, ndim)).astype(dtype)
    found[:3, 0] = [0, CHUNK, -CHUNK]
    return found


def check_reference(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = validate(str(path), level=5)
    assert report.errors == []
    assert report.ok


def reference(read, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(str(path), **options)


def box_of(ndim):
    return np.full(ndim, -1.5), np.full(ndim, 1.25)


def points(path, dtype, ndim, **encoding):
    given = positions_of(dtype, ndim)
    values = {
        "row": np.arange(N),
        "vector": np.arange(3 * N, dtype="f4").reshape(N, 3),
        "name": np.array(["a", "bb", "ccc"])[np.arange(N) % 3],
        "flag": np.arange(N) % 2 == 0,
    }
    summary = zvl.write_points(
        path, given, chunk_shape=CHUNK, bin_shape=CHUNK / 2, vertex_attributes=values, **encoding
    )
    assert summary["vertex_count"] == N
    assert summary["bins_per_chunk"] == (2,) * ndim
    found = reference(read_points, path, attribute_names=list(values))
    at = found["vertex_attributes"]["row"]
    assert np.array_equal(found["positions"], given[at])
    assert found["positions"].dtype == dtype
    level = zvl.open_zv(path)[0]
    assert np.array_equal(level.vertices.compute(), given[level.attributes["row"].compute()])
    for name, array in values.items():
        assert np.array_equal(found["vertex_attributes"][name], array[at])
        assert np.array_equal(level.attributes[name].compute(), array[level.attributes["row"].compute()])
    box = box_of(ndim)
    expected = rows(given[((given >= box[0]) & (given <= box[1])).all(axis=1)])
    assert rows(reference(read_points, path, bbox=box)["positions"]) == expected
    assert rows(level.sel(bbox=box).vertices.compute()) == expected


def points_of_objects(path, dtype, ndim, **encoding):
    given, ids = positions_of(dtype, ndim), np.arange(N) * 7 % 5 * 3 - 4
    zvl.write_points(
        path,
        given,
        chunk_shape=CHUNK,
        bin_shape=CHUNK / 2,
        object_ids=ids,
        object_attributes={"size": np.arange(5.0), "label": np.array(list("abcde"))},
        groups={"first": [-4], "others": [-1, 2]},
        group_attributes={"weight": np.array([1, 2])},
        **encoding,
    )
    level, box = zvl.open_zv(path)[0], box_of(ndim)
    assert level.bin_shape.tolist() == [CHUNK / 2] * ndim
    inside = rows(given[((given >= box[0]) & (given <= box[1])).all(axis=1)])
    assert rows(reference(read_points, path, bbox=box)["positions"]) == inside
    assert rows(level.sel(bbox=box).vertices.compute()) == inside
    assert rows(reference(read_points, path, object_ids=[2])["positions"]) == rows(given[ids == 2])
    assert rows(reference(read_points, path, group_ids=[1])["positions"]) == rows(given[np.isin(ids, [-1, 2])])
    assert level.objects.ids.tolist() == [-4, -1, 2, 5, 8]
    assert rows(level.objects[-4].compute()) == rows(given[ids == -4])
    assert level.objects.attributes["label"].values.tolist() == list("abcde")
    assert level.objects.groups["others"].tolist() == [-1, 2]
    assert level.objects.groups.attributes["weight"].values.tolist() == [1, 2]


def lines(path, dtype, ndim, **encoding):
    given = positions_of(dtype, ndim).reshape(-1, 2, ndim)
    values = {"end": np.arange(N).reshape(-1, 2), "vector": np.arange(2.0 * N).reshape(-1, 2, 2)}
    summary = zvl.write_lines(path, given, chunk_shape=CHUNK, vertex_attributes=values, **encoding)
    assert summary["line_count"] == N // 2
    found = reference(read_lines, path)
    assert np.array_equal(found["endpoints"], given)
    assert found["vertex_attributes"]["end"].tolist() == list(range(N))
    assert np.array_equal(found["vertex_attributes"]["vector"], values["vector"].reshape(N, 2))
    level = zvl.open_zv(path)[0]
    flat, offsets = (part.compute() for part in level.objects.ragged())
    assert np.array_equal(flat.reshape(given.shape), given)
    assert offsets.tolist() == list(range(0, N + 1, 2))
    assert corners(level.vertices.compute(), level.edges.compute()) == rows(given)
    bridges = level.links(0).compute()  # right where the reference's own are not (FORMAT-0.9, 14 no. 1)
    assert set(corners(level.vertices.compute(), bridges)) <= set(rows(given))
    assert len(bridges) == summary["cross_chunk_count"]


def polylines(path, dtype, ndim, **encoding):
    cuts = [0, 1, 9, 20, N]
    given = np.split(positions_of(dtype, ndim), cuts[1:-1])
    values = {"row": [np.arange(len(p)) for p in given], "vector": np.arange(2.0 * N).reshape(N, 2)}
    ids = np.array([5, 1, 3, 2])
    zvl.write_polylines(
        path,
        given,
        chunk_shape=CHUNK,
        vertex_attributes=values,
        object_ids=ids,
        object_attributes={"id": ids},
        geometry_type="polyline",
        **encoding,
    )
    found = reference(read_polylines, path, object_ids=[1, 2, 3, 5])
    by_id = [given[i] for i in np.argsort(ids)]
    assert all(np.array_equal(np.concatenate(a), b) for a, b in zip(found["polylines"], by_id, strict=True))
    rows_of = [values["row"][i] for i in np.argsort(ids)]
    assert found["vertex_attributes"]["row"].tolist() == np.concatenate(rows_of).tolist()
    assert found["vertex_attributes"]["vector"].shape == (N, 2)
    level = zvl.open_zv(path)[0]
    assert all(np.array_equal(level.objects[i].compute(), p) for i, p in zip(ids.tolist(), given, strict=True))
    assert level.objects.attributes["id"].values.tolist() == [1, 2, 3, 5]
    steps = np.concatenate([np.stack([p[:-1], p[1:]], axis=1) for p in given])
    assert corners(level.vertices.compute(), level.edges.compute()) == rows(steps)


def graph(path, dtype, ndim, **encoding):
    given, edges = positions_of(dtype, ndim), np.random.default_rng(5).integers(0, N, (30, 2))
    zvl.write_graph(
        path,
        given,
        edges,
        chunk_shape=CHUNK,
        vertex_attributes={"row": np.arange(N)},
        link_attributes={"number": np.arange(30), "vector": np.arange(60.0).reshape(30, 2)},
        object_ids=np.arange(N) % 2,
        **encoding,
    )
    found = reference(read_graph, path)
    assert corners(found["positions"], found["edges"]) == corners(given, edges)
    check_links(zvl.open_zv(path)[0], "edges", edges)


def mesh(path, dtype, ndim, **encoding):
    given, faces = positions_of(dtype, ndim), np.random.default_rng(6).integers(0, N, (20, 2 + ndim % 3))
    faces = faces if faces.shape[1] > 2 else np.concatenate([faces, faces[:, :1]], axis=1)
    zvl.write_mesh(
        path,
        given,
        faces,
        chunk_shape=CHUNK,
        vertex_attributes={"row": np.arange(N)},
        link_attributes={"number": np.arange(20), "vector": np.arange(40.0).reshape(20, 2)},
        **encoding,
    )
    found = reference(read_mesh, path)
    assert corners(found["vertices"], found["faces"]) == corners(given, faces)
    check_links(zvl.open_zv(path)[0], "faces", faces)


def check_links(level, member, given):
    """Endpoints keep the order given, and values go with their record."""
    row = level.attributes["row"].compute()
    number = level.link_attributes["number"].compute()
    assert np.array_equal(row[getattr(level, member).compute()], given[number])
    vector = np.arange(2.0 * len(given)).reshape(-1, 2)
    assert np.array_equal(level.link_attributes["vector"].compute(), vector[number])


def skeleton(path, dtype, ndim, **encoding):
    given, random = positions_of(dtype, ndim), np.random.default_rng(7)
    names, parents = random.permutation(N), np.full(N, -1)
    for i in range(1, N):
        parents[names[i]] = names[random.integers(max(0, i - 3), i)] if i not in (11, 25) else -1
    children = np.flatnonzero(parents >= 0)
    edges = np.stack([children, parents[children]], axis=1)
    summary = zvl.write_graph(path, given, edges, chunk_shape=CHUNK, kind="skeleton", **encoding)
    assert summary["edge_count"] == N - 3
    assert summary["intra_edge_count"] + summary["cross_edge_count"] <= N - 3 - (ndim < 4)
    found = reference(read_graph, path)
    assert corners(found["positions"], found["edges"]) == corners(given, edges)
    level = zvl.open_zv(path)[0]
    assert corners(level.vertices.compute(), level.edges.compute()) == corners(given, edges)


GEOMETRIES = {
    "points": points,
    "points-of-objects": points_of_objects,
    "lines": lines,
    "polylines": polylines,
    "graph": graph,
    "mesh": mesh,
    "skeleton": skeleton,
}
