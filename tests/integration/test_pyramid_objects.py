"""Pyramids of points with objects, paths, graphs, skeletons and meshes."""

import json
import shutil
from itertools import groupby, pairwise

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from tests.format.encode import cell, fragment_index, modest
from tests.integration.pyramids import computed, files, traced, units_apart
from zarr_vectors_lazy.storage.requests import counting

RANDOM = np.random.default_rng(8)
steps = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=12)
paths = st.lists(steps.map(lambda moves: np.cumsum(np.array(moves, "f4"), axis=0)), min_size=1, max_size=6)


def walk(n, scale=2.0):
    return np.cumsum(RANDOM.normal(scale=scale, size=(n, 3)), axis=0).astype("f4")


def bins_of(positions, level):
    return list(map(tuple, np.floor(np.asarray(positions, "f8") / level.bin_shape).astype(int).tolist()))


def components(n, edges):
    """Smallest vertex of the component of each vertex."""
    group = np.arange(n)
    while True:
        low = group.copy()
        for a, b in edges:
            low[a] = low[b] = min(low[a], low[b])
        if np.array_equal(low, group):
            return group
        group = low


def test_a_fragment_without_vertices_is_no_part_of_a_path(tmp_path):
    x = np.array([9.5, 10.5, 11, 12, 13, 21], "f4")
    lines = [np.stack([x, np.full(6, y, "f4")], axis=1) for y in (1, 3, 5)]
    zvl.write_polylines(tmp_path, lines, chunk_shape=10, bin_shape=5, compressor=None, checksum=False)
    edited = tmp_path / "0" / "vertex_fragments" / "c"  # as an edit of the reference leaves it
    (edited / "0" / "0").write_bytes(cell(fragment_index([[], (1, 1), (2, 1)])))  # the first line's first
    (edited / "1" / "0").write_bytes(cell(fragment_index([(0, 4), [], (8, 4)])))  # the second's middle
    (edited / "2" / "0").write_bytes(cell(fragment_index([[], (1, 1), []])))  # the first's and the third's last
    level = tmp_path / "0" / "zarr.json"
    level.write_text(json.dumps(json.loads(level.read_text()) | {"attributes": {"zarr_vectors_level": {"level": 0}}}))
    zvl.build_pyramid(tmp_path, factors=[2], chunk_scale_factors=1)
    coarse = zvl.open_zv(tmp_path)[1]
    found = {number: coarse.objects[number].compute()[:, 0].tolist() for number in coarse.objects}
    assert found == {0: [10.5, 13], 1: [9.5, 21], 2: [9.5, 13]}
    assert len(coarse.links(0).compute()) == 2  # of the second and the third line


@modest
@given(paths, st.sampled_from([1, 2, 3]), st.sampled_from([2, 3, 5]))
def test_paths_keep_their_ends_and_their_bins(drawn, factor, least):
    path = MemoryStore()
    zvl.write_polylines(path, drawn, chunk_shape=6.0, bin_shape=3.0)
    zvl.build_pyramid(path, factors=[(factor, 1), (2, 1)], min_vertices=least)
    store = zvl.open_zv(path)
    for level in list(store)[1:]:
        assert level.objects.ids.tolist() == list(range(len(drawn)))
        for number, points in enumerate(drawn):
            found = level.objects[number].compute()
            assert np.array_equal(found[[0, -1]], points[[0, -1]])
            assert len(found) >= min(least, len(points))
            visited = [key for key, _ in groupby(bins_of(points, level))]
            assert [key for key, _ in groupby(bins_of(found, level))] == visited
        edges = level.edges.compute()
        assert len(edges) == level.vertex_count - len(drawn)
        assert edges_as_set(level.links(0).compute()) <= edges_as_set(edges) if 0 in level.deltas else True
    assert store[1].attributes["count"].compute().sum() == sum(map(len, drawn))
    up = traced(store, 0, 1)
    assert bins_of(store[0].vertices.compute()[up[:, 0]], store[1]) == bins_of(
        store[1].vertices.compute()[up[:, 1]], store[1]
    )


def edges_as_set(edges):
    return {tuple(sorted(edge)) for edge in edges.tolist()}


def test_runs_are_weighted_means(tmp_path):
    lines = [walk(60) for _ in range(20)]
    zvl.write_polylines(tmp_path / "s", lines, chunk_shape=20.0, bin_shape=2.5, geometry_type="streamline")
    zvl.build_pyramid(tmp_path / "s", factors=[(2, 1), (2, 1)])
    store = zvl.open_zv(tmp_path / "s")
    for level in (store[1], store[2]):
        for number, points in enumerate(lines):
            found, rows = level.objects[number].compute(), iter(range(len(points)))
            runs = [[next(rows) for _ in run] for _, run in groupby(bins_of(points, level))]
            if len(runs) < 3:
                continue
            exact = [points[run].astype("f8").mean(axis=0) for run in runs]
            assert len(found) == len(runs)
            assert (units_apart(found[1:-1], exact[1:-1], "f4") <= 2 + 4 * level.index).all()
    bridges = edges_as_set(store[1].links(0).compute())
    chunk = np.floor(store[1].vertices.compute().astype("f8") / store[1].chunk_shape)
    across = {tuple(sorted(e)) for e in store[1].edges.compute().tolist() if (chunk[e[0]] != chunk[e[1]]).any()}
    assert bridges == across
    report = zvl.validate(tmp_path / "s")
    assert report.ok, report


def test_objects_are_not_mixed_and_are_dropped_by_their_hash(tmp_path):
    n, ids = 2000, np.array([-5, 3, 7, 11, 200, 201, 202, 300])
    points = (RANDOM.random((n, 3)) * 50).astype("f4")
    zvl.write_points(
        tmp_path / "s",
        points,
        chunk_shape=20.0,
        bin_shape=5.0,
        object_ids=ids[RANDOM.integers(0, len(ids), n)],
        object_attributes={"size": np.arange(8.0), "kind": np.arange(8)},
        groups={"low": [-5, 3, 7], "high": [200, 300]},
        group_attributes={"weight": [0.5, 1.5]},
    )
    zvl.build_pyramid(tmp_path / "s", factors=[(2, 1), (2, 2), (1, 2)], sparsity_seed=1)
    store = zvl.open_zv(tmp_path / "s")
    present = [level.objects.ids.tolist() for level in store]
    assert [len(found) for found in present] == [8, 8, 4, 2]
    assert set(present[3]) < set(present[2]) < set(present[1])
    for level in store:
        assert level.objects.slots.tolist() == ids.tolist()
        assert level.objects.groups["low"].tolist() == [-5, 3, 7]
        assert level.objects.groups.attributes["weight"].values.tolist() == [0.5, 1.5]
        size, kind = level.objects.attributes["size"].values, level.objects.attributes["kind"].values
        here = np.isin(ids, level.objects.ids)
        assert size[here].tolist() == np.arange(8.0)[here].tolist()
        assert np.isnan(size[~here]).all()
        assert (kind[~here] == np.iinfo("i8").min).all()
    for number in present[2]:
        mine = store[0].objects[number].compute()
        for level in (store[1], store[2]):
            found = level.objects[number].compute()
            assert sorted(bins_of(found, level)) == sorted(set(bins_of(mine, level)))
    assert all(level._view.data.fragment_owners is not None for level in store)
    assert store[1].attributes["count"].compute().sum() == n
    assert store[2].attributes["count"].compute().sum() == sum(len(store[0].objects[i].compute()) for i in present[2])
    report = zvl.validate(tmp_path / "s")
    assert report.ok, report


def forest(trees=5, n=60):
    """Positions, [child, parent] edges and object ids of random trees."""
    positions, edges, owners = [], [], []
    for tree in range(trees):
        first = tree * n
        points = [RANDOM.random(3) * 40]
        for i in range(1, n):
            parent = int(RANDOM.integers(max(0, i - 4), i))
            points.append(points[parent] + RANDOM.normal(scale=2, size=3))
            edges.append((first + i, first + parent))
        positions += points
        owners += [tree] * n
    return np.array(positions, "f4"), np.array(edges), np.array(owners)


@pytest.mark.parametrize("kind", ["skeleton", "graph"])
def test_trees_stay_trees(tmp_path, kind):
    positions, edges, owners = forest()
    zvl.write_graph(tmp_path / "s", positions, edges, kind=kind, object_ids=owners, chunk_shape=10.0, bin_shape=2.5)
    zvl.build_pyramid(tmp_path / "s", factors=[(2, 1), (2, 2), (2, 1)])
    store = zvl.open_zv(tmp_path / "s")
    for level in list(store)[1:]:
        found = level.edges.compute()
        objects = level.objects.ids
        assert len(objects) == (5 if level.index == 1 else 2)
        assert len(found) == level.vertex_count - len(objects)
        assert len(np.unique(components(level.vertex_count, found))) == len(objects)
        if kind == "skeleton":
            assert len(np.unique(found[:, 0])) == len(found)
            roots = np.setdiff1d(np.arange(level.vertex_count), found[:, 0])
            assert len(roots) == len(objects)
    check_clusters(store)
    report = zvl.validate(tmp_path / "s")
    assert report.ok, report


def check_clusters(store):
    """A vertex of level 1 is what is connected inside a bin and an object; its edges are those that are left."""
    zero, level = computed(store, 0), store[1]
    up = dict(traced(store, 0, 1).tolist())
    bins = bins_of(zero.positions, level)
    edges = store[0].edges.compute()
    assert all(bins[a] == bins[b] for a, b in edges.tolist() if up[a] == up[b])
    inside = [(a, b) for a, b in edges.tolist() if bins[a] == bins[b]]
    group = components(len(bins), inside)
    assert {frozenset(np.flatnonzero(group == g).tolist()) for g in set(group.tolist())} == {
        frozenset(row for row, parent in up.items() if parent == p) for p in set(up.values())
    }
    left = {tuple(sorted((up[a], up[b]))) for a, b in edges.tolist()} - {(p, p) for p in up.values()}
    assert edges_as_set(level.edges.compute()) == left


@modest
@given(
    st.lists(st.tuples(st.integers(-8, 8), st.integers(-8, 8)), min_size=2, max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30),
)
def test_any_graph(points, pairs):
    edges = sorted({tuple(sorted((a % len(points), b % len(points)))) for a, b in pairs})
    edges = np.array([edge for edge in edges if edge[0] != edge[1]] or [(0, 1)])
    path = MemoryStore()
    zvl.write_graph(path, np.array(points, "f4"), edges, chunk_shape=4.0, bin_shape=2.0)
    zvl.build_pyramid(path, factors=[(1, 1), (2, 1)])
    store = zvl.open_zv(path)
    check_clusters(store)
    before = len(set(components(len(points), edges.tolist()).tolist()))
    for level in list(store)[1:]:
        assert len(set(components(level.vertex_count, level.edges.compute().tolist()).tolist())) == before


def sheet(n=14):
    """A bent sheet of triangles."""
    x, y = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    vertices = np.stack([x, y, np.sin(x / 3) * 4], axis=-1).reshape(-1, 3).astype("f4")
    at = np.arange(n * n).reshape(n, n)
    low = np.stack([at[:-1, :-1], at[1:, :-1], at[1:, 1:]], axis=-1).reshape(-1, 3)
    high = np.stack([at[:-1, :-1], at[1:, 1:], at[:-1, 1:]], axis=-1).reshape(-1, 3)
    return vertices, np.concatenate([low, high])


def test_faces_are_remapped_with_their_winding(tmp_path):
    vertices, faces = sheet()
    zvl.write_mesh(tmp_path / "s", vertices, faces, chunk_shape=4.0, bin_shape=1.0)
    zvl.build_pyramid(tmp_path / "s", factors=[(2, 1), (2, 1)])
    store = zvl.open_zv(tmp_path / "s")
    for fine, level in pairwise(store):
        up = dict(traced(store, fine.index, level.index).tolist())
        expected = set()
        for face in fine.faces.compute().tolist():
            corners = [up[row] for row in face]
            if len(set(corners)) == 3:
                least = corners.index(min(corners))
                expected.add(tuple(corners[least:] + corners[:least]))
        found = level.faces.compute()
        turned = [tuple(face[face.argmin() :].tolist() + face[: face.argmin()].tolist()) for face in found]
        assert len(turned) == len(set(turned))
        assert set(turned) == expected
        assert found.max() < level.vertex_count
    # The sheet's faces look up, and so do those of its levels.
    for level in store:
        a, b, c = (level.vertices.compute()[column] for column in level.faces.compute().T)
        assert (np.cross(b - a, c - a)[:, 2] > 0).all()
    report = zvl.validate(tmp_path / "s")
    assert report.ok, report


def test_lines(tmp_path):
    ends = (RANDOM.random((50, 2, 3)) * 40).astype("f4")
    zvl.write_lines(tmp_path / "s", ends, chunk_shape=10.0)
    zvl.build_pyramid(tmp_path / "s", factors=[(1, 1), (2, 1)])
    for level in zvl.open_zv(tmp_path / "s"):
        found = zvl.read_lines(tmp_path / "s", level=level.index)["endpoints"]
        assert np.array_equal(found, ends)


def test_what_is_not_carried_is_named(tmp_path):
    positions, edges, owners = forest()
    weights = {"weight": np.arange(len(edges))}
    options = {"chunk_shape": 10.0, "bin_shape": 2.5, "object_ids": owners, "link_attributes": weights}
    zvl.write_graph(tmp_path / "s", positions, edges, vertex_attributes={"size": positions[:, 0]}, **options)
    shutil.copytree(
        tmp_path / "s" / "0" / "vertex_attributes", tmp_path / "s" / "0" / "fragment_attributes", dirs_exist_ok=True
    )
    assert zvl.build_pyramid(tmp_path / "s", factors=[2])["left_out"] == [
        "fragment_attributes/size",
        "link_attributes/weight",
    ]


@pytest.mark.parametrize("kind", ["skeleton", "graph", "mesh", "streamline"])
def test_bytes_do_not_depend_on_how_chunks_are_dealt_out(tmp_path, monkeypatch, kind):
    positions, edges, owners = forest()
    options = {"chunk_shape": 10.0, "bin_shape": 2.5}
    if kind == "mesh":
        zvl.write_mesh(tmp_path / "whole", *sheet(), **options)
    elif kind == "streamline":
        zvl.write_polylines(tmp_path / "whole", [walk(60) for _ in range(20)], **options)
    else:
        zvl.write_graph(tmp_path / "whole", positions, edges, kind=kind, object_ids=owners, **options)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for name, chunks in ("whole", 10**6), ("cut", 1):
        monkeypatch.setattr("zarr_vectors_lazy.plan.blocks.PART_CHUNKS", chunks)
        monkeypatch.setattr("zarr_vectors_lazy.plan.blocks.PARTS_A_SLOT", 1 if name == "whole" else 64)
        zvl.build_pyramid(tmp_path / name, factors=[2, (1, 2), 2], chunk_scale_factors=[1, 1, 2])
    assert files(tmp_path / "whole") == files(tmp_path / "cut")


def test_what_vertices_became_is_noted_once_a_part(tmp_path):
    positions, edges, owners = forest()
    zvl.write_graph(tmp_path / "s", positions, edges, chunk_shape=5.0, bin_shape=2.5, object_ids=owners)
    with dask.config.set({"zarr_vectors_lazy.workers": 8}), counting() as counts:
        zvl.build_pyramid(tmp_path / "s", factors=[2])
    fine, coarse = (len(zvl.open_zv(tmp_path / "s")[level].vertices.chunks[0]) for level in (0, 1))
    noted = {key for key in counts.keys if "/maps/" in key}
    assert 0 < len(noted) <= coarse < fine
