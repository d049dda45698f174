"""Golden stores return what is expected: from local disk with threads, and the same bytes everywhere else."""

import pickle

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.collect import boxes_of, collect, compute_together, differing, picked
from tests.integration.generations import GOLDEN
from tests.integration.processes import run_python
from zarr_vectors_lazy.storage.requests import counting, snapshot

FORMATS = {"zarr-vectors 0.9.2": "0.9.2", "zarr-vectors 0.2.0": "0.7.0"}


def row_order(positions, attributes=()):
    """Order of the expected files: by coordinates, then by attributes in name order."""
    if not len(positions):
        return np.zeros(0, np.int64)
    columns = [part.reshape(len(positions), -1) for part in (positions, *attributes)]
    return np.lexsort([column for part in columns for column in part.T][::-1])


def sorted_rows(coordinates):
    """(M, W, D) coordinates, in an order that only they decide."""
    if not len(coordinates):
        return coordinates
    flat = coordinates.reshape(len(coordinates), -1)
    return coordinates[np.lexsort(flat.T[::-1])]


def small_end_first(edges):
    """(M, 2, D) edges without direction: the lexicographically smaller end first, rows sorted."""
    a, b = edges[:, 0], edges[:, 1]
    axis = (a != b).argmax(axis=1)
    at = np.arange(len(edges))
    swap = b[at, axis] < a[at, axis]
    return sorted_rows(np.where(swap[:, None, None], edges[:, ::-1], edges))


def small_corner_first(faces):
    """(F, W, D) faces, turned so that the lexicographically smallest corner is first, rows sorted."""
    if not len(faces):
        return faces
    width = faces.shape[1]
    corners = np.unique(faces.reshape(-1, faces.shape[2]), axis=0, return_inverse=True)[1].reshape(-1, width)
    turn = (corners.argmin(axis=1)[:, None] + np.arange(width)) % width
    return sorted_rows(np.take_along_axis(faces, turn[:, :, None], axis=1))


def assert_same(found, expected, label):
    assert found.shape == expected.shape, label
    same = found == expected
    if found.dtype.kind == expected.dtype.kind == "f":
        same |= np.isnan(found) & np.isnan(expected)
    assert same.all(), f"{label}: {np.count_nonzero(~same)} of {same.size} values differ"


@pytest.fixture
def levels(golden, results, open_at):
    """(level, its results by name, its expected arrays by name, its expected facts) of each level."""
    store, found = open_at(golden.name), results(golden.name)

    def below(mapping, prefix):
        return {key.removeprefix(prefix): value for key, value in mapping.items() if key.startswith(prefix)}

    facts = golden.meta["levels"]
    assert store.levels == [fact["level"] for fact in facts]
    return [
        (store[i], below(found, f"L{i}/"), below(golden.expected, f"L{i}/"), fact)
        for i, fact in ((fact["level"], fact) for fact in facts)
    ]


def names_below(expected, prefix):
    return sorted(key.removeprefix(prefix) for key in expected if key.startswith(prefix))


def ordered(found, expected, prefix=""):
    """Order of rows, and the rows' attributes in name order."""
    names = names_below(expected, "attr/")
    return row_order(found[f"{prefix}vertices"], [found[f"{prefix}attr/{name}"] for name in names])


def test_what_metadata_tell(golden, open_at, levels):
    store = open_at(golden.name)
    assert store.format_version == FORMATS[golden.meta["written_by"]]
    assert list(store.geometry_types) == golden.meta["geometry_types"]
    assert store.ndim == golden.meta["ndim"] == len(store.axes) == len(store.units)
    assert np.array_equal(store.bounds, np.asarray(golden.meta["bounds"]))
    assert np.array_equal(store.chunk_shape, golden.meta["chunk_shape"])
    assert [level.index for level in store] == store.levels
    assert len(store) == len(store.levels)
    for level, _, expected, fact in levels:
        assert level.vertex_count == fact["vertex_count"]
        assert level.chunk_count == len(level.chunk_keys) == fact["chunks"]
        assert level.chunk_keys == sorted(level.chunk_keys)
        assert np.array_equal(level.chunk_shape, fact["chunk_shape"])
        assert level.chunk_bounds.shape == (fact["chunks"], 2, store.ndim)
        assert sorted(level.attribute_names) == sorted(fact["attributes"]) == names_below(expected, "attr/")


def test_vertices(levels):
    for level, found, expected, fact in levels:
        positions = found["vertices"]
        assert str(positions.dtype) == str(level.vertices.dtype) == fact["dtype"]
        assert level.vertices.numblocks == (level.chunk_count, 1)
        assert_same(positions[ordered(found, expected)], expected["positions"], f"level {level.index}")


def test_every_block_is_the_chunk_of_its_key(levels):
    for level, found, _, _ in levels:
        blocks = [level.vertices.blocks[k].compute() for k in (0, level.chunk_count // 2, level.chunk_count - 1)]
        for k, block in zip((0, level.chunk_count // 2, level.chunk_count - 1), blocks, strict=True):
            chunks = np.floor(block.astype(np.float64) / level.chunk_shape)
            assert (chunks == np.asarray(level.chunk_keys[k])).all()
        assert np.array_equal(blocks[0], found["vertices"][: len(blocks[0])])


def test_attributes(levels):
    for level, found, expected, fact in levels:
        order = ordered(found, expected)
        for name in names_below(expected, "attr/"):
            values, want = found[f"attr/{name}"], expected[f"attr/{name}"]
            assert values.dtype == level.attributes[name].dtype
            assert values.dtype == want.dtype or {values.dtype.kind, want.dtype.kind} <= set("OUST")
            assert [str(want.dtype), list(want.shape[1:])] == fact["attributes"][name] or want.dtype.kind in "OUST"
            assert level.attributes[name].shape[1:] == want.shape[1:]
            assert level.attributes[name].numblocks[0] == level.vertices.numblocks[0]
            assert_same(values[order], want, f"level {level.index}, {name}")


def test_edges(levels):
    for level, found, expected, _ in levels:
        if "edges" in expected:
            assert found["edges"].dtype == level.edges.dtype == np.int64
            edges = found["vertices"][found["edges"]]
            assert_same(small_end_first(edges), sorted_rows(expected["edges"]), f"level {level.index}")
        if "edges_child_parent" in expected:
            edges = found["vertices"][found["edges"]]
            assert_same(sorted_rows(edges), sorted_rows(expected["edges_child_parent"]), f"level {level.index}")


def test_faces(levels):
    for level, found, expected, _ in levels:
        if "faces" in expected:
            assert found["faces"].dtype == level.faces.dtype == np.int64
            faces = found["vertices"][found["faces"]]
            assert_same(small_corner_first(faces), small_corner_first(expected["faces"]), f"level {level.index}")


def test_link_attributes(levels):
    for level, found, expected, _ in levels:
        names = names_below(expected, "edge_attr/")
        assert set(names) <= set(level.link_attributes)
        for name in names:
            present = expected[f"edge_attr_present/{name}"].astype(bool)
            rows, values = found["links/0"], found[f"link_attr/{name}"]
            assert len(rows) == len(values)
            assert not present.all() or values.dtype == expected[f"edge_attr/{name}"].dtype
            ends = small_ends(found["vertices"][rows])
            keyed = {(*end.ravel().tolist(), float(value)) for end, value in zip(ends, values, strict=True)}
            pairs = zip(expected["edges"][present], expected[f"edge_attr/{name}"][present], strict=True)
            want = {(*end.ravel().tolist(), float(value)) for end, value in pairs}
            assert want == keyed if present.all() else want <= keyed


def small_ends(edges):
    """The smaller end first, rows as they are."""
    axis, at = (edges[:, 0] != edges[:, 1]).argmax(axis=1), np.arange(len(edges))
    swap = edges[at, 1, axis] < edges[at, 0, axis]
    return np.where(swap[:, None, None], edges[:, ::-1], edges)


def test_links_across_levels(golden, results, levels):
    for level, found, expected, _ in levels:
        deltas = sorted(int(key) for key in names_below(expected, "crosslevel/"))
        assert [delta for delta in level.deltas if delta] == deltas
        for delta in deltas:
            name = next(key for key in names_below(expected, "crosslevel/") if int(key) == delta)
            rows, other = found[f"links/{delta}"], results(golden.name)[f"L{level.index + delta}/vertices"]
            assert rows.dtype == np.int64
            pairs = np.stack([found["vertices"][rows[:, 0]], other[rows[:, 1]]], axis=1)
            assert_same(sorted_rows(pairs), sorted_rows(expected[f"crosslevel/{name}"]), f"{level.index} {delta:+d}")


def test_objects(levels):
    for level, found, expected, fact in levels:
        ids, offsets, flat = (expected[f"objects/{key}"] for key in ("ids", "offsets", "vertices"))
        present = np.diff(offsets) > 0
        assert np.array_equal(np.sort(found["objects/ids"]), np.sort(ids[present]))
        assert len(level.objects) == present.sum() == fact["objects_present"]
        assert len(level.objects.slots) == fact["objects"]
        assert level.objects.ids.dtype == level.objects.slots.dtype == found["objects/offsets"].dtype == np.int64
        paths = dict(zip(ids.tolist(), np.split(flat, offsets[1:-1]), strict=True))
        starts, stops = found["objects/offsets"][:-1], found["objects/offsets"][1:]
        for i, start, stop in zip(found["objects/ids"].tolist(), starts, stops, strict=True):
            assert np.array_equal(found["objects/vertices"][start:stop], paths[i]), i
        assert found["objects/vertices"].dtype == flat.dtype
        for i in picked(found["objects/ids"]).tolist():
            assert np.array_equal(found[f"object/{i}"], paths[i])
            assert found[f"object/{i}"].dtype == flat.dtype
        assert list(level.objects) == found["objects/ids"].tolist()


def test_object_attributes(levels):
    for level, found, expected, _ in levels:
        ids = expected["objects/ids"]
        for name in names_below(expected, "object_attr/"):
            values, want = found[f"object_attr/{name}"], expected[f"object_attr/{name}"]
            assert values.dtype == want.dtype or {values.dtype.kind, want.dtype.kind} <= set("OUST")
            slots = found["object_attr_ids"]
            assert np.array_equal(slots, level.objects.slots)
            assert level.objects.attributes[name].dims[0] == "object"
            assert_same(level.objects.attributes[name].values, values, name)
            row_of = {int(i): row for row, i in enumerate(slots)}
            present = expected.get(f"object_attr_present/{name}", np.diff(expected["objects/offsets"]) > 0).astype(bool)
            rows = np.asarray([row_of[int(i)] for i in ids[present]], np.int64)
            assert_same(values[rows], want[present], f"level {level.index}, {name}")


def test_groups(levels):
    for level, found, expected, fact in levels:
        groups = level.objects.groups
        assert {int(key) for key in groups} == {int(key) for key in fact.get("groups") or {}}
        names = fact.get("group_names") or []
        assert list(groups.names) == names
        for key, members in (fact.get("groups") or {}).items():
            assert found[f"group/{key}"].dtype == np.int64
            assert sorted(found[f"group/{key}"].tolist()) == sorted(members)
            if int(key) < len(names):
                assert np.array_equal(found[f"group/{names[int(key)]}"], found[f"group/{key}"])
        for name in names_below(expected, "group_attr/"):
            assert_same(found[f"group_attr/{name}"], expected[f"group_attr/{name}"], name)


def test_boxes(golden, levels):
    for level, found, expected, _ in levels:
        boxes = boxes_of(golden.name, level.index)
        assert boxes
        for q, (lo, hi) in boxes.items():
            prefix, label = f"bbox{q}/", f"level {level.index}, box {q}"
            order = ordered(found, expected, prefix)
            positions = found[f"{prefix}vertices"]
            assert positions.dtype == found["vertices"].dtype
            assert_same(positions[order], expected[f"{prefix}positions"], label)
            for name in names_below(expected, "attr/"):
                want = expected[f"attr/{name}"][expected[f"{prefix}rows"]]
                assert_same(found[f"{prefix}attr/{name}"][order], want, f"{label}, {name}")
            for key, canonical in (("edges", small_end_first), ("faces", small_corner_first)):
                if key in expected:
                    both = ((expected[key] >= lo) & (expected[key] <= hi)).all(axis=(1, 2))
                    want = canonical(expected[key][both])
                    assert_same(canonical(positions[found[f"{prefix}{key}"]]), want, f"{label}, {key}")


def test_per_geometry_views(golden, open_at, results):
    store, found = open_at(golden.name), results(golden.name)
    level, i = store[0], int(store[0].objects.ids[0])
    if "skeleton" in store.geometry_types:
        piece = level.skeletons[i]
        assert np.array_equal(piece.edges.compute(), level.sel(objects=i).edges.compute())
        assert len(piece.edges.compute()) == len(piece.vertices.compute()) - 1
    elif "mesh" in store.geometry_types:
        piece = level.meshes[i]
        assert len(piece.faces.compute()) == len(found["L0/faces"])
    else:
        assert list(level.polylines) == list(level.objects)
        assert np.array_equal(level.polylines[i].compute(), found[f"L0/object/{i}"])
        return
    name = level.attribute_names[0]
    assert np.array_equal(piece.attributes[name].compute(), level.sel(objects=i).attributes[name].compute())
    assert len(piece.vertices.compute()) == len(piece.attributes[name].compute())


BACKENDS = [
    "local",
    pytest.param("obstore-s3", marks=pytest.mark.emulator),
    pytest.param("s3fs-s3", marks=pytest.mark.emulator),
    "memory",
    "zarr",
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_on_every_backend(golden, backend, open_at, results, on_scheduler):
    with on_scheduler("threads"):
        found = compute_together(
            collect(open_at(golden.name, backend), golden.name, depth="some" if "-s3" in backend else "all")
        )
    assert not differing(found, results(golden.name))


def test_sync(golden, open_at, results, on_scheduler):
    with on_scheduler("sync"):
        found = compute_together(collect(open_at(golden.name), golden.name))
    assert not differing(found, results(golden.name))


@pytest.mark.distributed
@pytest.mark.parametrize("backend", BACKENDS[:3])
def test_distributed_on_every_backend(golden, backend, open_at, results, on_scheduler):
    members = collect(open_at(golden.name, backend), golden.name, depth="all" if backend == "local" else "few")
    with on_scheduler("distributed"):
        found = compute_together(members)
    assert not differing(found, results(golden.name))


@pytest.mark.distributed
def test_the_workers_read_and_this_process_does_not(tamper, client, on_scheduler):
    level = zvl.open_zv(tamper("surface-0.9").path)[0]
    vertices, faces = level.vertices, level.faces
    before = client.run(requests_so_far)
    with on_scheduler("distributed"), counting() as counts:
        dask.compute(vertices, faces)
    assert not counts.requests
    made = [after - before[worker] for worker, after in client.run(requests_so_far).items()]
    assert len(made) == 2
    assert min(made) > 0


def requests_so_far():
    return snapshot().requests


EXPRESSIONS = """
import pickle, sys
import dask
import dask.array as da
import zarr_vectors_lazy as zvl
from tests.integration.collect import collect, compute_together
assert da.ARRAY_EXPR_ENABLED
stores = dict(map(str.split, sys.stdin))
found = {name: compute_together(collect(zvl.open_zv(path), name, depth="some")) for name, path in stores.items()}
with open(sys.argv[1], "wb") as out:
    pickle.dump(found, out)
"""


def test_array_expressions(goldens, results, tmp_path):
    stores = "\n".join(f"{name} {goldens[name].path}" for name in GOLDEN)
    out = tmp_path / "found"
    run_python(EXPRESSIONS, str(out), stdin=stores, DASK_ARRAY__QUERY_PLANNING="True")
    found = pickle.loads(out.read_bytes())
    assert list(found) == GOLDEN
    for name in GOLDEN:
        assert not differing(found[name], results(name))
