"""The one-line readers return the same as the lazy arrays, which other tests verify."""

import shutil
import warnings
from itertools import pairwise

import dask
import numpy as np
import pytest
import zarr

import zarr_vectors_lazy as zvl
from tests.integration.collect import Whole
from zarr_vectors_lazy.errors import FormatError, NotFoundError, SelectionError
from zarr_vectors_lazy.read import cells as read
from zarr_vectors_lazy.storage.requests import counting

BOTH = ["0.9", "0.7"]


@pytest.fixture
def level_of(goldens):
    def of(name, index=0):
        with dask.config.set(scheduler="sync"):
            level = zvl.open_zv(goldens[name].path)[index]
            names = level.attribute_names
            vertices, attributes, points, offsets, edges, faces = dask.compute(
                level.vertices,
                {name: level.attributes[name] for name in names},
                *level.objects.ragged(),
                level.edges,
                level.faces,
            )
        ids = level.objects.ids
        paths = dict(zip(ids.tolist(), np.split(points, offsets[1:-1]), strict=True)) if len(ids) else {}
        whole = Whole(
            positions=vertices, attributes=attributes, edges=edges, faces=faces, links={}, ids=ids, paths=paths
        )
        return level, whole

    return of


def middle(points):
    """A box that holds some of the points and cuts chunks."""
    lo, hi = np.quantile(points.astype(np.float64), [0.3, 0.7], axis=0)
    return lo, hi


def same(found, expected):
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("generation", BOTH)
@pytest.mark.parametrize("index", [0, 1])
def test_points(goldens, level_of, generation, index):
    name = f"cloud-{generation}"
    path = goldens[name].path
    level, whole = level_of(name, index)
    lo, hi = middle(whole.positions)
    found = zvl.read_points(path, level=index, bbox=(lo, hi), attribute_names="all")
    inside = whole.inside(lo, hi)
    assert set(found) == {"positions", "vertex_attributes", "vertex_count"}
    assert 0 < found["vertex_count"] == inside.sum() < len(inside)
    same(found["positions"], whole.positions[inside])
    assert set(found["vertex_attributes"]) == set(level.attribute_names)
    for attribute, values in found["vertex_attributes"].items():
        same(values, whole.attributes[attribute][inside])
    assert zvl.read_points(path, level=index)["vertex_attributes"] == {}


def test_points_outside_keep_their_dtype(goldens):
    found = zvl.read_points(goldens["cloud-0.9"].path, bbox=([1e6] * 3, [2e6] * 3), attribute_names="all")
    level = zvl.open_zv(goldens["cloud-0.9"].path)[0]
    assert found["positions"].shape == (0, 3)
    assert found["positions"].dtype == level.vertices.dtype
    assert {name: values.dtype for name, values in found["vertex_attributes"].items()} == {
        name: array.dtype for name, array in level.attributes.items()
    }


@pytest.mark.parametrize("generation", BOTH)
def test_points_of_objects_follow_the_ids_given(goldens, level_of, generation):
    name = f"tracts-{generation}"
    _, whole = level_of(name)
    ids = [*whole.ids[::-3].tolist(), int(whole.ids[0])]  # one of them again
    found = zvl.read_points(goldens[name].path, object_ids=ids, attribute_names=["index"])
    same(found["positions"], np.concatenate([whole.paths[i] for i in ids]))
    same(found["object_ids"], np.concatenate([np.full(len(whole.paths[i]), i) for i in ids]))
    steps = np.diff(found["vertex_attributes"]["index"])
    assert set(steps[np.diff(found["object_ids"]) == 0].tolist()) == {1}  # along each path


@pytest.mark.parametrize("generation", BOTH)
def test_points_of_groups(goldens, level_of, generation):
    name = f"tracts-{generation}"
    level, whole = level_of(name)
    groups = level.objects.groups
    members = np.union1d(groups[1], groups[0])
    found = zvl.read_points(goldens[name].path, group_ids=[1, 0])
    same(np.unique(found["object_ids"]), members)
    same(found["positions"], np.concatenate([whole.paths[i] for i in members.tolist()]))
    both = zvl.read_points(goldens[name].path, group_ids=[0], object_ids=whole.ids[::-1])
    kept = [i for i in whole.ids[::-1].tolist() if i in set(groups[0].tolist())]
    same(both["object_ids"][np.append(True, np.diff(both["object_ids"]) != 0)], np.asarray(kept))


@pytest.mark.parametrize("generation", BOTH)
@pytest.mark.parametrize("index", [0, 1])
def test_polylines_of_a_box_are_whole(goldens, level_of, generation, index):
    name = f"tracts-{generation}"
    _, whole = level_of(name, index)
    lo, hi = middle(whole.positions)
    found = zvl.read_polylines(goldens[name].path, level=index, bbox=(lo, hi))
    hit = [i for i, points in whole.paths.items() if whole.inside(lo, hi, points).any()]
    assert set(found) == {
        "polylines", "object_ids", "vertex_attributes", "ndim", "polyline_count", "vertex_count",
    }  # fmt: skip
    assert found["object_ids"] == hit
    assert 0 < len(hit) == found["polyline_count"] < len(whole.paths)
    for i, pieces in zip(hit, found["polylines"], strict=True):
        same(np.concatenate(pieces), whole.paths[i])
    total = sum(len(whole.paths[i]) for i in hit)
    assert found["vertex_count"] == total
    assert {len(values) for values in found["vertex_attributes"].values()} <= {total}


def test_polylines_are_cut_into_their_fragments(goldens, level_of):
    _, whole = level_of("tracts-0.9")
    found = zvl.read_polylines(goldens["tracts-0.9"].path, attribute_names=None)
    assert found["object_ids"] == whole.ids.tolist()
    assert found["vertex_attributes"] == {}
    shape = zvl.open_zv(goldens["tracts-0.9"].path).chunk_shape
    several = 0
    for pieces in found["polylines"]:
        chunks = [np.unique(np.floor(piece.astype(np.float64) / shape), axis=0) for piece in pieces]
        assert {len(chunk) for chunk in chunks} == {1}
        assert all((a != b).any() for a, b in pairwise(chunks))
        several += len(pieces) > 1
    assert several


def test_polylines_of_chunks_are_cut_to_them(goldens, level_of):
    level, whole = level_of("tracts-0.9")
    chunk = level.chunk_keys[len(level.chunk_keys) // 2]
    found = zvl.read_polylines(goldens["tracts-0.9"].path, chunks=[chunk])
    mask = (np.floor(whole.positions.astype(np.float64) / level.chunk_shape) == chunk).all(axis=1)
    assert found["vertex_count"] == mask.sum()
    for i, pieces in zip(found["object_ids"], found["polylines"], strict=True):
        same(np.concatenate(pieces), whole.paths[i][whole.among(whole.paths[i], mask)])
    assert zvl.read_polylines(goldens["tracts-0.9"].path, chunks=[(900, 0, 0)])["polylines"] == []


@pytest.mark.parametrize("generation", BOTH)
def test_graph(goldens, level_of, generation):
    name = f"neuron-{generation}"
    _, whole = level_of(name)
    lo, hi = middle(whole.positions)
    found = zvl.read_graph(goldens[name].path, bbox=(lo, hi))
    expected = whole.cut(whole.inside(lo, hi))
    assert set(found) == {"positions", "edges", "node_count", "edge_count"}
    same(found["positions"], expected["vertices"])
    same(found["edges"], expected["edges"])
    assert (found["node_count"], found["edge_count"]) == (len(found["positions"]), len(found["edges"]))
    assert found["edge_count"] > 0


def test_mesh(goldens, level_of):
    _, whole = level_of("surface-0.9")
    lo, hi = middle(whole.positions)
    found = zvl.read_mesh(goldens["surface-0.9"].path, bbox=(lo, hi), attribute_names="all")
    expected = whole.cut(whole.inside(lo, hi))
    assert set(found) == {"vertices", "faces", "vertex_count", "face_count", "vertex_attributes"}
    same(found["vertices"], expected["vertices"])
    same(found["faces"], expected["faces"])
    assert found["face_count"] == len(found["faces"]) > 0
    for attribute, values in found["vertex_attributes"].items():
        same(values, expected[f"attr/{attribute}"])


@pytest.mark.parametrize("name", ["lines-across", "lines-2d-f64-0.7"])
def test_lines(variety, name):
    path = variety(name)
    whole = zvl.read_lines(path)
    objects = zvl.open_zv(path)[0].objects
    assert set(whole) == {"endpoints", "vertex_attributes", "line_count"}
    assert whole["line_count"] == len(objects)
    for k, i in enumerate(objects):
        same(whole["endpoints"][k], objects[i].compute())
    lo, hi = middle(whole["endpoints"].reshape(-1, whole["endpoints"].shape[2]))
    part = zvl.read_lines(path, bbox=(lo, hi))
    inside = ((whole["endpoints"] >= lo) & (whole["endpoints"] <= hi)).all(axis=2).any(axis=1)
    assert 0 < part["line_count"] < whole["line_count"]
    same(part["endpoints"], whole["endpoints"][inside])


@pytest.mark.parametrize("name", ["points-by-text", "points-by-text-0.7"])
def test_attribute_filter(variety, name):
    path = variety(name)
    level = zvl.open_zv(path)[0]
    genes = level.attributes["gene"].compute()
    values = sorted(set(genes.tolist()))[:2]
    with counting() as counts:
        found = zvl.read_points(path, attribute_filter={"gene": values}, attribute_names=["gene"])
    assert sorted(found["vertex_attributes"]["gene"].tolist()) == sorted(g for g in genes.tolist() if g in values)
    same(found["positions"], level.vertices.compute()[np.isin(genes, values)])
    with counting() as whole:
        zvl.read_points(path, attribute_names=["gene"])
    assert counts.requests < whole.requests  # chunks of other values are not read
    v = level.attributes["v"].compute()
    same(zvl.read_points(path, attribute_filter={"v": v[3]})["positions"], level.vertices.compute()[v == v[3]])


def test_shared_vertices_bring_no_other_object_in(variety):
    path = variety("pyramid-paths")  # objects of coarse levels share vertices
    store = zvl.open_zv(path)
    level = store[store.levels[-1]]
    vertices, offsets = dask.compute(*level.objects.ragged())
    paths = dict(zip(level.objects.ids.tolist(), np.split(vertices, offsets[1:-1]), strict=True))
    seen = set()
    for point in np.unique(vertices, axis=0):
        found = zvl.read_polylines(path, level=level.index, bbox=(point, point))
        hit = [i for i, points in paths.items() if (points == point).all(axis=1).any()]
        assert found["object_ids"] == hit
        assert all(len(np.concatenate(p)) == len(paths[i]) for i, p in zip(hit, found["polylines"], strict=True))
        seen.add(len(hit))
    assert max(seen) > 1


def test_each_cell_is_fetched_once_in_batches_that_all_members_share(goldens, monkeypatch):
    batches = []

    def counted(source, wanted):
        batches.append([(want.member, row) for want in wanted for row in want.rows])
        return read.read_batch(source, wanted)

    monkeypatch.setattr("zarr_vectors_lazy.read.layers.read_batch", counted)
    zvl.read_polylines(goldens["tracts-0.9"].path)
    cells = [cell for batch in batches for cell in batch]
    level = zvl.open_zv(goldens["tracts-0.9"].path)[0]
    assert len(cells) == len(set(cells)) == level.chunk_count * (2 + len(level.attribute_names))
    assert all(len({member for member, _ in batch}) > 2 for batch in batches)


@pytest.mark.parametrize("generation", BOTH)
def test_what_is_not_there_is_an_error(goldens, variety, generation):
    path = goldens[f"tracts-{generation}"].path
    for arguments in ({"object_ids": [10**6]}, {"group_ids": [99]}, {"level": 9}, {"attribute_names": ["nope"]}):
        with pytest.raises(NotFoundError):
            zvl.read_points(path, **arguments)
    with pytest.raises(NotFoundError, match="1000000"):
        zvl.read_polylines(path, object_ids=[0, 10**6], group_ids=[0])
    with pytest.raises(NotFoundError, match="nope"):
        zvl.read_points(path, attribute_filter={"nope": 1})
    with pytest.raises(NotFoundError, match="no objects"):
        zvl.read_points(variety({"0.9": "points-one-chunk", "0.7": "points-2d-0.7"}[generation]), object_ids=[0])
    for arguments in (
        {"bbox": ([1] * 3, [0] * 3)},
        {"object_ids": [0.5]},
        {"chunks": [(0, 0)]},
        {"group_ids": 1.5},
        {"attribute_names": 5},
        {"attribute_filter": 5},
    ):
        with pytest.raises(SelectionError):
            zvl.read_polylines(path, **arguments)


def test_filters_that_nothing_can_meet(tmp_path):
    values = {
        "vector": np.zeros((4, 2)),
        "number": [1.0, np.nan, 2, 3],
        "text": np.array(["a", "", None, "b"], object),
        "row": np.arange(4),
    }
    zvl.write_points(tmp_path / "x", np.zeros((4, 2)), chunk_shape=1, vertex_attributes=values)
    for name, value, words in (
        ("vector", 0, "'vector'.*each vertex has 2 values"),
        ("number", ["a"], "'number'.*float64 cannot be compared with 'a'"),
        ("text", ["a", 7], "'text'.*text cannot be compared with 7"),
    ):
        with pytest.raises(SelectionError, match=words):
            zvl.read_points(tmp_path / "x", attribute_filter={name: value})
    for name, rows in (("number", [1]), ("text", [2]), ("row", [])):
        found = zvl.read_points(tmp_path / "x", attribute_names="row", attribute_filter={name: None})
        assert found["vertex_attributes"]["row"].tolist() == rows


def test_options_reach_the_backend(goldens):
    path = goldens["cloud-0.9"].path
    plain = zvl.read_points(path)["positions"]
    same(zvl.read_points(path.as_uri(), backend="fsspec", storage_options={"auto_mkdir": False})["positions"], plain)
    with pytest.raises(zvl.errors.StoreError, match="colour"):
        zvl.read_points(path.as_uri(), backend="fsspec", colour="blue")


@pytest.mark.parametrize("backend", ["local", "fsspec", "obstore"])
def test_open_store_gives_the_zarr_group(goldens, backend):
    path = goldens["cloud-0.9"].path
    opened = zvl.open_store(path.as_uri(), backend=backend)
    group = opened.zarr_group
    assert group.attrs["zarr_vectors"]["zv_version"] == "0.9.2"
    array = group["0/vertices"]
    index = tuple(
        int(c) - o
        for c, o in zip(
            array.attrs["nonempty_chunks"][0].split("."),
            array.attrs.get("chunk_grid_origin", [0] * array.ndim),
            strict=True,
        )
    )
    cell = array[tuple(slice(i, i + 1) for i in index)].item()
    assert len(cell) % 12 == 0
    assert len(cell) > 0
    with pytest.raises(ValueError, match=r"read-only|read only"):
        group.create_group("new")


def test_open_store_wants_a_store(tmp_path):
    with pytest.raises(FormatError, match="nothing is here"):
        zvl.open_store(tmp_path)
    with pytest.raises(SelectionError, match="'w'"):
        zvl.open_store(tmp_path, mode="w")


def test_a_store_opened_for_change_is_a_writable_group(goldens, tmp_path):
    where = shutil.copytree(goldens["cloud-0.9"].path, tmp_path / "c.zarrvectors")
    change_and_consolidate(where, {})
    with pytest.raises(FormatError, match="migrate"):
        zvl.open_store(goldens["cloud-0.7"].path, mode="r+")


@pytest.mark.emulator
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_a_store_in_a_bucket_opened_for_change(s3, cloud, backend):
    s3.upload(cloud, f"change-{backend}")
    url, options = s3.options(backend, f"change-{backend}")
    change_and_consolidate(url, {"backend": backend, "storage_options": options})


def change_and_consolidate(where, options):
    right = zvl.open_zv(where, **options)[0].vertices.compute()
    root = zvl.open_store(where, mode="r+", **options)
    root.zarr_group.attrs["note"] = "mine"
    root.zarr_group.create_group("headers/made", attributes={"a": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's: consolidated metadata are no part of its specification
        zarr.consolidate_metadata(root.zarr_group.store)
    with counting() as counts:
        store = zvl.open_zv(where, **options)
    assert len(counts.keys) == 1
    assert store.attrs["note"] == "mine"
    assert "made" in store.headers
    same(store[0].vertices.compute(), right)
    zvl.coarsen_level(where, 0, 3, coarsen_factor=2, **options)  # what changes a store renews them, zarr's own too
    assert zvl.open_zv(where, consolidated=True, **options).levels == [0, 1, 2, 3]
    zvl.open_store(where, mode="r+", **options).zarr_group.create_group("headers/later")
    assert "later" in zvl.open_store(where, mode="r+", **options).zarr_group["headers"]  # as it is: not consolidated
