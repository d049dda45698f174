"""Laziness: what is fetched, when, and how often, counted by the reader and once by a server."""

import pickle

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.collect import LINKED, boxes_of, same_bytes
from tests.integration.generations import copy_of
from tests.servers import file_server
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.read.cells import read_batch
from zarr_vectors_lazy.read.objects import forget
from zarr_vectors_lazy.storage.requests import counting


def data_of(counts):
    """Keys of all requests that are not for metadata, in order."""
    return [key for key in counts.keys if "/c/" in key]


def lists_of(counts):
    return counts.by_kind["list"]


@pytest.fixture
def copy(golden, tmp_path):
    """A store that this process has never seen, so that nothing of it is kept."""
    return copy_of(golden, tmp_path)


def test_opening_reads_metadata_only(copy):
    with counting() as counts:
        store = zvl.open_zv(copy.path)
    assert not data_of(counts)
    assert all(key == "" or key.endswith("zarr.json") for key in counts.keys)
    assert lists_of(counts) <= 1
    assert counts.requests <= 2 + 2 * len(store.levels)


def test_what_metadata_tell_is_free(copy):
    store = zvl.open_zv(copy.path)
    with counting() as counts:
        repr(store), store._repr_html_(), store.bounds, store.attrs
        for level in store:
            repr(level), level._repr_html_(), level.vertex_count, level.chunk_keys, level.chunk_bounds, level.bounds
    # In generation 0.7 only a listing shows the chunks: one for each level, once.
    assert counts.requests == lists_of(counts) == (0 if copy.lists_chunks else len(store.levels))


@pytest.mark.parametrize("consolidated", [None, True])
def test_consolidated_metadata_are_one_request(copy, consolidated):
    levels = zvl.open_zv(copy.path).levels
    copy.consolidate()
    with counting() as counts:
        store = zvl.open_zv(copy.path, consolidated=consolidated)
        assert store.levels == levels
    assert counts.keys == ["zarr.json"]
    with counting() as counts:
        for level in store:
            assert len(level.vertices.chunks[0]) == level.chunk_count
            list(level.attribute_names), level.deltas, list(level.link_attributes), level.objects.groups.names
            level.sel(x=slice(0, 1)).vertices, level.explain()
    assert not counts.requests


def test_consolidated_false_ignores_them(copy):
    copy.consolidate(keep=lambda path: not path.startswith("0/vertex_attributes/"))
    assert zvl.open_zv(copy.path)[0].attribute_names == ()
    with counting() as counts:
        store = zvl.open_zv(copy.path, consolidated=False)
    assert counts.requests > 1
    assert store[0].attribute_names


def test_consolidated_true_demands_them(copy):
    with pytest.raises(FormatError, match="no consolidated metadata"):
        zvl.open_zv(copy.path, consolidated=True)


def test_stale_consolidated_metadata_do_not_hide_a_level(tamper, results):
    copy = tamper("tracts-0.9").consolidate(keep=lambda path: path.split("/")[0] != "2")
    store = zvl.open_zv(copy.path)
    assert store.levels == [0, 1, 2]
    assert same_bytes(store[2].vertices.compute(), results("tracts-0.9")["L2/vertices"])
    assert store[0].attribute_names == ("arc_length", "index", "tangent")


def test_consolidated_metadata_give_the_same(copy, golden, results):
    copy.consolidate()
    level = zvl.open_zv(copy.path)[0]
    found = dask.compute({"vertices": level.vertices, **level.attributes})[0]
    assert same_bytes(found["vertices"], results(golden.name)["L0/vertices"])
    for name in level.attribute_names:
        assert same_bytes(found[name], results(golden.name)[f"L0/attr/{name}"])


def test_building_fetches_no_chunk(copy):
    store = zvl.open_zv(copy.path)
    lo, hi = store.bounds
    with counting() as counts:
        for level in store:
            for part in (level, level.sel(bbox=(lo, (lo + hi) / 2)), level.sel(x=slice(lo[0], None))):
                part.vertices, part.explain(), part.vertex_count, repr(part)
                if LINKED & set(store.geometry_types) and "skeleton" in store.geometry_types:
                    part.edges, part.explain("edges")
                if "mesh" in store.geometry_types:
                    part.faces, part.explain("faces")
                [part.links(delta) for delta in part.deltas]
    assert not data_of(counts)
    # A vector stamped as a scalar is told from a scalar by two heads, once (access.attributes.probe_row_shape).
    with counting() as counts:
        for _ in range(2):
            dict(store[0].attributes), dict(store[0].sel(bbox=(lo, (lo + hi) / 2)).attributes)
    trusted = set(store.geometry_types) == {"point_cloud"}
    assert len(data_of(counts)) <= (0 if trusted else 2 * len(store[0].attribute_names))
    assert counts.by_kind["range"] == len(data_of(counts))


def boxes_and_borders(store, name, level):
    """The expected boxes, one whose faces are chunk borders, and one that holds a single chunk's inside."""
    corner = np.asarray(level.chunk_keys[level.chunk_count // 2])[-store.ndim :] * level.chunk_shape
    return [*boxes_of(name, level.index).values(), (corner, corner + level.chunk_shape), (corner, corner)]


def candidates(level, lo, hi):
    """Chunks of a level that a box meets, by brute force."""
    first, last = np.floor(np.asarray([lo, hi], np.float64) / level.chunk_shape)
    return [key for key in level.chunk_keys if (first <= key).all() and (key <= last).all()]


def test_a_box_requests_the_candidate_chunks_and_nothing_else(copy, golden):
    store = zvl.open_zv(copy.path)
    for level in store:
        for lo, hi in boxes_and_borders(store, golden.name, level):
            part = level.sel(bbox=(lo, hi))
            expected = candidates(level, lo, hi)
            assert part.chunk_keys == expected
            assert part.vertices.numblocks[0] == max(part.chunk_count, 1)
            explained = part.explain()
            with counting() as counts:
                part.vertices.compute()
            assert sorted(data_of(counts)) == sorted(copy.keys(f"{level.index}/vertices", expected))
            assert explained.requests == counts.requests == len(expected) * copy.requests_per_cell
            assert explained.chunks == len(expected)
            assert explained.chunks_total == level.chunk_count
            assert str(len(expected)) in str(explained)


def test_the_chunks_of_a_box_on_borders_are_exact(copy, golden, whole):
    store = zvl.open_zv(copy.path)
    for level in store:
        data = whole(golden.name, level.index)
        for lo, hi in boxes_and_borders(store, golden.name, level):
            found = level.sel(bbox=(lo, hi)).vertices.compute()
            assert same_bytes(found, data.positions[data.inside(lo, hi)])


def test_a_box_outside_requests_nothing(copy):
    store = zvl.open_zv(copy.path)
    far = store.bounds[1] + 1000 * store.chunk_shape
    for level in store:
        whole_arrays = {"vertices": level.vertices, **level.attributes}
        part = level.sel(bbox=(far, far + 1))
        with counting() as counts:
            empty = {"vertices": part.vertices, **part.attributes}
            found = dask.compute(empty)[0]
            for key, array in whole_arrays.items():
                assert found[key].shape == empty[key].shape == (0, *array.shape[1:])
                assert found[key].dtype == empty[key].dtype == array.dtype
            assert part.chunk_count == len(part.chunk_keys) == 0
            assert part.explain().requests == 0
            assert part.chunk_bounds.shape == (0, 2, store.ndim)
            if LINKED & set(store.geometry_types):
                assert part.edges.compute().shape == (0, 2)
            if "mesh" in store.geometry_types:
                assert part.faces.compute().shape == (0, level.faces.shape[1])
            for delta in part.deltas:
                assert part.links(delta).compute().shape == (0, level.links(delta).shape[1])
            assert part.objects.ids.tolist() == []
            vertices, offsets = dask.compute(*part.objects.ragged())
            assert (vertices.shape, offsets.tolist()) == ((0, store.ndim), [0])
        assert {key for key in data_of(counts) if "/object_index/" not in key} == set()


def test_all_of_a_level_is_requested_once(copy):
    level = zvl.open_zv(copy.path)[0]
    arrays = [level.vertices, *level.attributes.values()]
    with counting() as counts:
        dask.compute(*arrays)
    wanted = [copy.keys(f"0/vertex_attributes/{name}", level.chunk_keys) for name in level.attribute_names]
    assert sorted(data_of(counts)) == sorted(copy.keys("0/vertices", level.chunk_keys).union(*wanted))
    assert level.explain("vertices", "attributes").requests == counts.requests


@pytest.fixture
def batches(monkeypatch):
    """Compute arrays; return the number of tasks that fetched, and of the cells that they fetched."""

    def run(*arrays):
        calls = []

        def spy(source, wanted):
            calls.append(sum(len(want.rows) for want in wanted))
            return read_batch(source, wanted)

        with monkeypatch.context() as patch:
            patch.setattr("zarr_vectors_lazy.read.layers.read_batch", spy)
            dask.compute(*arrays)
        return len(calls), sum(calls)

    return run


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_what_is_computed_together_is_fetched_together(copy, batches, workers):
    level = zvl.open_zv(copy.path)[0]
    vertices, values = level.vertices, level.attributes[level.attribute_names[0]]
    with dask.config.set({"zarr_vectors_lazy.workers": workers}):
        together, apart = batches(vertices, values), [batches(vertices), batches(values)]
    assert together[0] <= workers
    assert together[0] < apart[0][0] + apart[1][0]
    assert together[1] == apart[0][1] + apart[1][1] == 2 * level.chunk_count


def test_limits_of_a_batch(copy, batches):
    vertices = zvl.open_zv(copy.path)[0].vertices
    n = vertices.numblocks[0]
    with dask.config.set({"zarr_vectors_lazy.workers": 1}):
        assert batches(vertices) == (1, n)
        with dask.config.set({"zarr_vectors_lazy.batch-chunks": 4}):
            assert batches(vertices) == (-(-n // 4), n)
        with dask.config.set({"zarr_vectors_lazy.batch-bytes": "1 B"}):
            assert batches(vertices) == (n, n)
    with dask.config.set({"zarr_vectors_lazy.workers": 50}):
        assert batches(vertices)[0] >= min(n, 50) // 2


def test_edges_and_faces_request_each_cell_once(copy):
    store = zvl.open_zv(copy.path)
    for level in store:
        arrays = [level.vertices]
        arrays += [level.edges] if LINKED & set(store.geometry_types) else []
        arrays += [level.faces] if "mesh" in store.geometry_types else []
        with counting() as counts:
            dask.compute(*arrays)
        keys = data_of(counts)
        assert len(set(keys)) == len(keys)


def test_blocks_request_their_chunks(copy):
    level = zvl.open_zv(copy.path)[0]
    blocks = level.vertices.blocks[3:6]
    with counting() as counts:
        blocks.compute()
    assert sorted(data_of(counts)) == sorted(copy.keys("0/vertices", level.chunk_keys[3:6]))


def test_rows_request_their_chunks_once_sizes_are_known(copy, golden, whole):
    level = zvl.open_zv(copy.path)[0].compute_chunk_sizes()
    sizes = level.vertices.chunks[0]
    rows = level.vertices[sizes[0] : sizes[0] + sizes[1] + 1]
    with counting() as counts:
        found = rows.compute()
    assert same_bytes(found, whole(golden.name, 0).positions[sizes[0] : sizes[0] + sizes[1] + 1])
    assert sorted(data_of(counts)) == sorted(copy.keys("0/vertices", level.chunk_keys[1:3]))


def cells(counts, array):
    return sorted(key for key in data_of(counts) if key.startswith(f"{array}/"))


def test_an_object_requests_the_chunks_it_touches(copy, golden, whole):
    store = zvl.open_zv(copy.path)
    for level in store:
        data = whole(golden.name, level.index)
        i = int(min(data.ids, key=lambda i: len(data.paths[int(i)])))
        touched = {tuple(key) for key in np.floor(data.paths[i].astype(float) / level.chunk_shape).astype(int).tolist()}
        with counting() as counts:
            assert same_bytes(level.objects[i].compute(), data.paths[i])
        for array in ("vertices", "vertex_fragments"):
            assert cells(counts, f"{level.index}/{array}") == sorted(copy.keys(f"{level.index}/{array}", touched))
        rest = [key for key in data_of(counts) if "/vert" not in key]
        assert all("/object_index/" in key for key in rest)
        part = level.sel(objects=i)
        assert set(part.chunk_keys) == touched
        with counting() as counts:
            part.vertices.compute()
        assert cells(counts, f"{level.index}/vertices") == sorted(copy.keys(f"{level.index}/vertices", touched))
        assert len(data_of(counts)) == 2 * len(touched)


def test_a_group_requests_the_chunks_of_its_members(tamper, whole):
    copy = tamper("tracts-0.9")
    level = zvl.open_zv(copy.path)[0]
    data, members = whole("tracts-0.9", 0), level.objects.groups["short"]
    rows = np.concatenate([data.paths[int(i)] for i in members])
    touched = {tuple(key) for key in np.floor(rows.astype(float) / level.chunk_shape).astype(int).tolist()}
    with counting() as counts:
        level.sel(groups="short").vertices.compute()
    assert cells(counts, "0/vertices") == sorted(copy.keys("0/vertices", touched))
    assert cells(counts, "0/vertex_fragments") == sorted(copy.keys("0/vertex_fragments", touched))


def test_where_reads_the_attributes_that_it_names(copy, golden, whole):
    level = zvl.open_zv(copy.path)[0]
    lo, hi = boxes_of(golden.name, 0)[0]
    name = level.attribute_names[0]
    part = level.sel(bbox=(lo, hi), where={name: (None, float(np.median(whole(golden.name, 0).attributes[name])))})
    vertices = part.vertices
    with counting() as counts:
        vertices.compute()
    wanted = candidates(level, lo, hi)
    assert cells(counts, "0/vertices") == sorted(copy.keys("0/vertices", wanted))
    assert cells(counts, f"0/vertex_attributes/{name}") == sorted(copy.keys(f"0/vertex_attributes/{name}", wanted))
    assert len(data_of(counts)) == 2 * len(wanted)


def test_whole_objects_request_the_chunks_of_candidates(tamper, whole):
    copy = tamper("tracts-0.9")
    level = zvl.open_zv(copy.path)[0]
    lo, hi = boxes_of("tracts-0.9", 0)[2]
    data = whole("tracts-0.9", 0)
    first, last = np.floor(lo / level.chunk_shape), np.floor(hi / level.chunk_shape)
    touched = set()
    for path in data.paths.values():
        chunks = np.floor(path.astype(float) / level.chunk_shape)
        if ((chunks >= first) & (chunks <= last)).all(axis=1).any():
            touched |= {tuple(key) for key in chunks.astype(int).tolist()}
    part = level.sel(bbox=(lo, hi), whole_objects=True)
    assert set(part.chunk_keys) == touched
    with counting() as counts:
        part.vertices.compute()
    assert set(cells(counts, "0/vertices")) == copy.keys("0/vertices", touched)
    assert set(cells(counts, "0/vertex_fragments")) == copy.keys("0/vertex_fragments", touched)


def test_manifests_are_read_once_a_process(tamper):
    copy = tamper("tracts-0.9")
    with counting() as counts:
        opened = zvl.open_zv(copy.path)[0], zvl.open_zv(copy.path)[0]
        for level in (*opened, pickle.loads(pickle.dumps(opened[0]))):
            assert len(level.objects) == 110
            level.objects[3].compute()
            level.sel(objects=[1, 2]).vertices.compute()
            level.sel(bbox=boxes_of("tracts-0.9", 0)[0], whole_objects=True).vertices.compute()
            level.objects.ragged()[1].compute()
    assert len(cells(counts, "0/object_index/manifests")) == 1
    assert counts.keys.count("0/object_index/manifests/zarr.json") == 3  # once for each of the levels
    assert len(cells(counts, "0/object_index/object_ids")) == 1
    assert not [key for key in data_of(counts) if key.startswith("1/")]


def test_an_absent_object_reads_the_manifests_beside_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("zarr_vectors_lazy.format.v09.writing.MANIFEST_ROWS", 8)
    monkeypatch.setattr(type(CURRENT), "shard_rows", 8)
    lines = np.random.default_rng(0).uniform(0, 9, (40, 1, 2)) + np.linspace(0, 1, 5)[:, None]
    zvl.write_polylines(tmp_path / "a.zv", list(lines), chunk_shape=10)
    zvl.build_pyramid(tmp_path / "a.zv", factors=[(2, 2)])
    absent = np.setdiff1d(np.arange(40), zvl.open_zv(tmp_path / "a.zv")[1].objects.ids)
    forget([zvl.open_zv(tmp_path / "a.zv")[1]._view.source])
    assert len(absent) == 20
    with counting() as counts:
        assert not len(zvl.open_zv(tmp_path / "a.zv")[1].objects[int(absent[0])].compute())
    assert len(cells(counts, "1/object_index/manifests")) == 1


def test_metadata_of_paths_are_read_together_and_only_those_needed(tamper):
    copy = tamper("tracts-0.9")
    with counting() as counts:
        zvl.read_polylines(copy.path)
    documents = [at for at, key in enumerate(counts.keys) if key.startswith("0/") and key.endswith("zarr.json")]
    first = min(at for at, key in enumerate(counts.keys) if "/c/" in key)
    names = {counts.keys[at].split("/")[1] for at in documents if at < first}
    assert {"object_index", "vertex_fragments", "fragment_attributes"} <= names
    with counting() as counts:
        zvl.read_polylines(copy.path, object_ids=[1], attribute_names=None)
    assert not [key for key in counts.keys if "attributes" in key]


def test_known_sizes_cost_nothing(copy):
    level = zvl.open_zv(copy.path)[0].compute_chunk_sizes()
    with counting() as counts:
        assert level.compute_chunk_sizes().vertex_count == level.vertex_count
        assert level.vertices.shape[0] == level.vertex_count
    assert not counts.requests


def test_sizes_are_read_from_a_listing_or_heads(copy):
    level = zvl.open_zv(copy.path)[0]
    with counting() as counts:
        level.compute_chunk_sizes()
    assert counts.by_kind["range"] == len(data_of(counts))  # no cell is read whole
    assert counts.requests - lists_of(counts) <= level.chunk_count
    assert lists_of(counts) <= 1
    assert counts.bytes <= copy.head_nbytes * level.chunk_count


def test_explain_tells_the_requests(copy, golden):
    store = zvl.open_zv(copy.path)
    for level in store:
        for box in boxes_and_borders(store, golden.name, level):
            part = level.sel(bbox=box)
            arrays = [part.vertices, *part.attributes.values()]
            explained = part.explain("vertices", *part.attribute_names)
            with counting() as counts:
                dask.compute(*arrays)
            assert explained.requests == counts.requests == part.chunk_count * len(arrays) * copy.requests_per_cell
            assert explained.blocks == sum(array.numblocks[0] for array in arrays)
            assert explained.nbytes in (None, counts.bytes)


@pytest.mark.emulator
def test_the_servers_own_log(tamper):
    copy = tamper("neuron-0.9").consolidate()
    with file_server(copy.path.parent) as (url, seen):
        options = {"backend": "obstore", "client_options": {"allow_http": True}}
        with counting() as counts:
            level = zvl.open_zv(f"{url}/{copy.path.name}", **options)[0]
            assert [path for _, path, _ in seen.requests] == [f"/{copy.path.name}/zarr.json"]
            part = level.sel(bbox=boxes_of("neuron-0.9", 0)[0])
            explained = part.explain()
            vertices = part.vertices
            del seen.requests[:]
            vertices.compute()
        asked = [(method, path.removeprefix(f"/{copy.path.name}/")) for method, path, _ in seen.requests]
    assert sorted(asked) == sorted(("GET", key) for key in copy.keys("0/vertices", part.chunk_keys))
    assert len(asked) == explained.requests == counts.requests - 1
