"""Blocks of edges, faces, links and objects: their tasks, their reads, and values aligned with them."""

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import NotFoundError
from zarr_vectors_lazy.read import layers

CHUNKS = (1.0, 1.0, 1.0)


def tasks_of(*arrays):
    """Tasks that computing arrays takes, before Dask joins some."""
    graph = (
        arrays[0].__dask_graph__().cull({key for array in arrays for key in dask.core.flatten(array.__dask_keys__())})
    )
    return len(graph.to_dict())


def written_surface(path, side):
    """A plane of (side / 2)^2 chunks, faces inside them and across."""
    u, v = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    vertices = np.column_stack([u.ravel() / 2, v.ravel() / 2, np.full(u.size, 0.5)]).astype("f4")
    at = (u[:-1, :-1] * side + v[:-1, :-1]).ravel()
    faces = np.concatenate(
        [np.column_stack([at, at + 1, at + side]), np.column_stack([at + 1, at + side + 1, at + side])]
    )
    zvl.write_mesh(path, vertices, faces, chunk_shape=CHUNKS)
    return vertices, faces


@pytest.fixture(scope="module")
def tracts(tmp_path_factory):
    """160,000 short paths."""
    path = tmp_path_factory.mktemp("tracts") / "paths"
    rng = np.random.default_rng(7)
    starts = rng.random((160_000, 1, 3)) * 7
    paths = np.clip(starts + np.cumsum(rng.normal(0, 0.3, (160_000, 3, 3)), axis=1), 0, 7.99).astype("f4")
    zvl.write_polylines(path, list(paths), chunk_shape=CHUNKS, geometry_type="streamline")
    return path, paths


def test_tasks_of_faces_grow_with_blocks(tmp_path):
    written_surface(tmp_path / "x", 124)
    level = zvl.open_zv(tmp_path / "x", chunks="auto")[0]
    assert level.chunk_count > 3_800
    few = zvl.open_zv(tmp_path / "x", chunks=1000)[0]
    with dask.config.set(scheduler="threads", num_workers=2):
        assert level.faces.numblocks[0] == 1
        assert 1 < few.faces.numblocks[0] <= few.vertices.numblocks[0]
        assert max(tasks_of(level.faces), tasks_of(few.faces), tasks_of(level.links(0))) <= 200


@pytest.mark.parametrize("chunks", [None, "auto", 30])
def test_blocks_do_not_change_faces(tmp_path, chunks):
    vertices, faces = written_surface(tmp_path / "x", 24)
    level = zvl.open_zv(tmp_path / "x", chunks=chunks)[0]
    found, rows = dask.compute(level.faces, level.vertices)
    assert len(found) == len(faces)
    assert np.array_equal(np.unique(rows[found], axis=0), np.unique(vertices[faces], axis=0))
    assert np.array_equal(found, zvl.read_mesh(tmp_path / "x")["faces"])


def test_tasks_of_objects_and_edges_grow_with_blocks(tracts):
    level = zvl.open_zv(tracts[0], chunks="auto")[0]
    with dask.config.set(scheduler="threads", num_workers=2):
        assert level.objects.ragged()[0].numblocks[0] == level.edges.numblocks[0] == 1
        assert tasks_of(*level.objects.ragged()) <= 100
        assert tasks_of(level.edges) <= 100
    with dask.config.set({"array.chunk-size": "1 MiB", "scheduler": "threads", "num_workers": 2}):
        vertices, offsets = level.objects.ragged()
        assert vertices.numblocks[0] == 6
        assert tasks_of(vertices, offsets) <= 100 * vertices.numblocks[0]
        assert tasks_of(level.edges) <= 100 * level.edges.numblocks[0]


@pytest.mark.parametrize("size", ["128 MiB", "1 MiB"])
def test_objects_read_no_cell_twice(tracts, monkeypatch, size):
    path, paths = tracts
    read, known = [], layers.read_batch

    def counted(source, wanted):
        read.extend((want.spec.path, *coord) for want in wanted for coord in want.coords.tolist())
        return known(source, wanted)

    monkeypatch.setattr(layers, "read_batch", counted)
    with dask.config.set({"array.chunk-size": size}):
        level = zvl.open_zv(path, chunks="auto")[0]
        vertices, offsets = dask.compute(*level.objects.ragged())
    assert len(read) == len(set(read)) == 2 * level.chunk_count
    assert np.array_equal(offsets, 3 * np.arange(len(paths) + 1))
    assert vertices.tobytes() == paths.tobytes()


def test_one_block_of_objects_alone(tracts):
    path, paths = tracts
    with dask.config.set({"array.chunk-size": "1 MiB"}):
        vertices, _ = zvl.open_zv(path, chunks="auto")[0].objects.ragged()
        third = np.asarray(vertices.blocks[2])
    assert len(third)
    first = int(np.flatnonzero((paths.reshape(-1, 3) == third[0]).all(axis=1))[0])
    assert third.tobytes() == paths.reshape(-1, 3)[first : first + len(third)].tobytes()


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Two skeletons through several chunks, with a value a stored record."""
    path = tmp_path_factory.mktemp("trees") / "skeletons"
    n = 40
    positions = np.concatenate([np.linspace([0, 0, 0], [5, 4, 3], n), np.linspace([5, 0, 0], [0, 4, 3], n)]).astype(
        "f4"
    )
    child = np.concatenate([np.arange(1, n), np.arange(n + 1, 2 * n)])
    parent = child - 1
    parent[5], parent[50] = 2, n + 4  # two branches
    edges = np.stack([child, parent], axis=1)
    values = 10.0 * child + parent
    zvl.write_graph(
        path,
        positions,
        edges,
        chunk_shape=CHUNKS,
        kind="skeleton",
        object_ids=np.repeat([3, 8], n),
        link_attributes={"width": values.astype("f4")},
    )
    return path, positions, {tuple(edge): value for edge, value in zip(edges.tolist(), values.tolist(), strict=True)}


@pytest.mark.parametrize("chunks", [None, "auto", 2])
def test_values_of_edges_of_skeletons(trees, chunks):
    path, positions, of_edges = trees
    level = zvl.open_zv(path, chunks=chunks)[0]
    assert list(level.edge_attributes) == ["width"]
    rows, edges, widths, links, stored = dask.compute(
        level.vertices, level.edges, level.edge_attributes["width"], level.links(0), level.link_attributes["width"]
    )
    assert len(widths) == len(edges) == len(of_edges)
    number = {tuple(place): i for i, place in enumerate(positions.tolist())}
    given = np.array([number[tuple(place)] for place in rows.tolist()])
    known = {tuple(given[record]): value for record, value in zip(links, stored, strict=True)}
    for edge, width in zip(given[edges].tolist(), widths.tolist(), strict=True):
        assert np.isnan(width) if tuple(edge) not in known else width == known[tuple(edge)] == of_edges[tuple(edge)]
    assert len(known) == (~np.isnan(widths)).sum() > 0
    one = level.skeletons[8]
    mine, values = dask.compute(one.edges, one.edge_attributes["width"])
    assert len(mine) == len(values) == 39
    with pytest.raises(NotFoundError, match="width"):
        level.edge_attributes["height"]


def test_values_of_edges_of_graphs_are_those_of_links(tmp_path):
    rng = np.random.default_rng(3)
    positions, edges = rng.random((50, 2)).astype("f4") * 4, rng.integers(0, 50, (80, 2))
    edges = edges[edges[:, 0] != edges[:, 1]]
    zvl.write_graph(
        tmp_path / "x", positions, edges, chunk_shape=(1.0, 1.0), link_attributes={"w": np.arange(len(edges)) * 1.0}
    )
    level = zvl.open_zv(tmp_path / "x")[0].sel(x=slice(0, 2.5))
    edges, values, links = dask.compute(level.edges, level.edge_attributes["w"], level.link_attributes["w"])
    assert len(edges) == len(values)
    assert np.array_equal(values, links)


@pytest.mark.parametrize("size", ["128 MiB", "200 B"])
def test_attributes_of_objects_in_the_same_pass(tmp_path, size):
    rng = np.random.default_rng(5)
    paths = [rng.random((n, 3)).astype("f4") * 3 for n in (4, 1, 9, 30, 2)]
    given = {
        "mean": [rng.random(len(path)) for path in paths],
        "rgb": [rng.integers(0, 9, (len(path), 3)) for path in paths],
    }
    zvl.write_polylines(tmp_path / "x", paths, chunk_shape=CHUNKS, vertex_attributes=given)
    level = zvl.open_zv(tmp_path / "x", chunks="auto")[0]
    with dask.config.set({"array.chunk-size": size}):
        ragged = level.objects.ragged(attributes=["mean", "rgb"])
        vertices, offsets, attributes = dask.compute(*ragged, ragged.attributes)
    assert vertices.tobytes() == np.concatenate(paths).tobytes()
    assert offsets.tolist() == np.cumsum([0, *map(len, paths)]).tolist()
    for name, values in given.items():
        assert np.array_equal(attributes[name], np.concatenate(values))
    assert dict(level.objects.ragged().attributes) == {}
    line = level.polylines[3]
    assert np.array_equal(line.compute(), paths[3])
    assert np.array_equal(line.attributes["rgb"].compute(), given["rgb"][3])
    with pytest.raises(NotFoundError, match="mean"):
        level.objects.ragged(attributes=["none"])
