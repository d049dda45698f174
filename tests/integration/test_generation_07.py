"""What only generation 0.7 has: cells with their own metadata, listings, links in one table."""

import importlib
import shutil
import warnings
from dataclasses import replace

import dask
import numpy as np
import pytest
import zarr

import zarr_vectors_lazy as zvl
from tests.integration.collect import boxes_of, collect, compute_together, differing, same_bytes
from tests.integration.generations import COPIES_07
from tests.servers import file_server
from zarr_vectors_lazy.errors import CorruptChunkError, FormatError, StoreError, UnsupportedVersionError
from zarr_vectors_lazy.format.manifests import decode_fragments
from zarr_vectors_lazy.read.direct import ChunkReader
from zarr_vectors_lazy.requests import ListDir
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.storage.requests import counting

ACROSS = "0/cross_chunk_links/0/data"


@pytest.fixture(params=COPIES_07)
def name(request):
    return request.param


@pytest.fixture
def neuron07(tamper):
    return tamper("neuron-0.7")


def test_a_box_asks_for_its_chunks_and_nothing_else(tamper, name):
    """Two requests per chunk: one for its metadata, one for its bytes."""
    copy = tamper(name)
    level = zvl.open_zv(copy.path)[0]
    part = level.sel(bbox=boxes_of(name, 0)[0])
    assert 0 < part.chunk_count < level.chunk_count
    vertices, explained = part.vertices, part.explain()
    with counting() as counts:
        vertices.compute()
    chunks = [".".join(map(str, key)) for key in part.chunk_keys]
    wanted = [f"0/vertices/{chunk}/{file}" for chunk in chunks for file in ("zarr.json", "c/0")]
    assert sorted(counts.keys) == sorted(wanted)
    assert explained.requests == len(wanted)


def test_chunks_are_found_by_one_listing_an_array(tamper, name):
    copy = tamper(name)
    level = zvl.open_zv(copy.path)[0]
    with counting() as counts:
        for _ in range(2):
            assert len(level.chunk_keys) == level.chunk_count
            level.vertices, level.sel(x=slice(0, None)).vertices
    assert counts.keys == ["0/vertices"]
    assert counts.by_kind["list"] == counts.requests == 1


def test_arrays_are_listed_at_once(tamper, monkeypatch):
    level = zvl.open_zv(tamper("tracts-0.7").path)[0]
    names, rounds = level.attribute_names, []
    assert len(names) == 3

    def counted(backend, requests):
        rounds.append([request.prefix for request in requests if isinstance(request, ListDir)])
        return fetch(backend, requests)

    _ = level.vertices
    monkeypatch.setattr("zarr_vectors_lazy.read.metadata.fetch", counted)
    arrays = dict(level.attributes.items())
    assert [listed for listed in rounds if listed] == [[f"0/vertex_attributes/{name}" for name in names]]
    assert list(arrays) == list(names)


def test_what_is_wrong_with_one_attribute_is_said_of_it_alone(neuron07):
    neuron07.put("0/vertex_attributes/radius/zarr.json", b"{")
    level = zvl.open_zv(neuron07.path)[0]
    with pytest.raises(FormatError, match="radius"):
        dict(level.attributes.items())
    assert len(level.attributes["label"].compute()) == level.vertex_count


def test_a_box_of_a_skeleton_reads_the_table_of_links_once(neuron07, whole):
    level = zvl.open_zv(neuron07.path)[0]
    lo, hi = boxes_of("neuron-0.7", 0)[0]
    part = level.sel(bbox=(lo, hi))
    explained = part.explain("edges")
    with counting() as counts:
        edges = part.edges.compute()
    assert explained.requests == counts.requests
    assert counts.keys.count(f"{ACROSS}/c/0") == 1
    assert len(set(counts.keys)) == len(counts.keys)
    inside = whole("neuron-0.7", 0).inside(lo, hi)
    new = np.cumsum(inside) - 1
    expected = whole("neuron-0.7", 0).edges
    assert same_bytes(edges, new[expected[inside[expected].all(axis=1)]])


def test_zarrs_own_consolidated_metadata_are_not_trusted(tamper, results, name):
    """They leave out what lies below groups without metadata."""
    copy = tamper(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it does not recognise folders, which is the point
        zarr.consolidate_metadata(copy.path)
    entries = copy.read()["consolidated_metadata"]["metadata"]
    assert "0/vertices" in entries
    assert not [path for path in entries if path.startswith("0/vertex_attributes/")]
    store = zvl.open_zv(copy.path)
    assert not differing(compute_together(collect(store, name, depth="some")), results(name))
    with pytest.raises(FormatError, match=r"zvl\.consolidate"):
        zvl.open_zv(copy.path, consolidated=True)


def test_the_mark_of_completeness_is_none_of_zarrs_business(neuron07):
    neuron07.consolidate()
    group = zarr.open_group(neuron07.path, mode="r")
    assert group["0/vertices/0.3.3"].dtype == np.uint8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(neuron07.path)  # makes them incomplete, and removes the mark
    assert "zarr_vectors_lazy" not in neuron07.read()["consolidated_metadata"]


@pytest.mark.emulator
def test_plain_http(neuron07, results):
    options = {"backend": "obstore", "client_options": {"allow_http": True}}
    with file_server(neuron07.path.parent) as (url, _):
        path = f"{url}/{neuron07.path.name}"
        with pytest.raises(StoreError, match=r"zvl\.consolidate"):
            zvl.open_zv(path, **options)[0].vertices  # noqa: B018
        neuron07.consolidate()
        level = zvl.open_zv(path, **options)[0]
        found = dask.compute({"L0/vertices": level.vertices, "L0/edges": level.edges})[0]
    assert not differing(found, results("neuron-0.7"))


def test_a_store_that_refuses_to_be_listed(neuron07, monkeypatch, results):
    """A bucket whose policy grants reading objects only; a failure of another kind says nothing of the sort."""
    answer, expected = {"refuses": True}, results("neuron-0.7")["L0/vertices"]

    def refusing(backend, requests):
        lists = [isinstance(request, ListDir) for request in requests]
        if any(lists) and (
            not answer["refuses"] or any(r.required for r, one in zip(requests, lists, strict=True) if one)
        ):
            raise StoreError("no", where="s3://bucket")
        answers = iter(fetch(backend, [r for r, one in zip(requests, lists, strict=True) if not one]))
        return [None if one else next(answers) for one in lists]

    monkeypatch.setattr("zarr_vectors_lazy.read.metadata.fetch", refusing)
    level = zvl.open_zv(neuron07.path)[0]
    with pytest.raises(StoreError, match=r"zvl\.consolidate"):
        level.vertices  # noqa: B018
    answer["refuses"] = False
    with pytest.raises(StoreError, match=r"^no [^;]*$"):
        level.vertices  # noqa: B018
    neuron07.consolidate()
    assert same_bytes(zvl.open_zv(neuron07.path)[0].vertices.compute(), expected)


def test_a_store_written_anew_is_read_anew(tamper, goldens, results):
    """In a process that has read what was there before."""
    copy = tamper("cloud-0.7")
    assert len(zvl.open_zv(copy.path)[0].objects.ids) == 5
    shutil.rmtree(copy.path)
    shutil.copytree(goldens["tracts-0.7"].path, copy.path)
    store = zvl.open_zv(copy.path)
    assert not differing(compute_together(collect(store, "tracts-0.7", depth="some")), results("tracts-0.7"))


def damaged_metadata(copy, array, chunk):
    copy.put(f"{array}/{chunk}/zarr.json", b'{"shape": [')


def no_metadata(copy, array, chunk):
    copy.remove(f"{array}/{chunk}/zarr.json")


def no_bytes(copy, array, chunk):
    copy.remove(copy.key(array, chunk))


def truncated(copy, array, chunk):
    copy.put(copy.key(array, chunk), copy.cell(array, chunk).read_bytes()[:-12])


def overlong(copy, array, chunk):
    copy.put(copy.key(array, chunk), copy.cell(array, chunk).read_bytes() + bytes(12))


def another_codec(copy, array, chunk):
    copy.edit(lambda doc: doc["codecs"].append({"name": "zstd", "configuration": {}}), f"{array}/{chunk}")


DAMAGES = [damaged_metadata, no_metadata, no_bytes, truncated, overlong, another_codec]
MEMBERS = {
    "0/vertices": lambda level: level.vertices,
    "0/vertex_attributes/radius": lambda level: level.attributes["radius"],
    "0/vertex_fragments": lambda level: level.edges,
    "0/links/0": lambda level: level.links(0),
    "0/links/+1": lambda level: level.links(1),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("array", MEMBERS)
def test_a_damaged_cell(neuron07, array, damage):
    chunk = neuron07.listed(array)[-1]
    damage(neuron07, array, chunk)
    level = zvl.open_zv(neuron07.path)[0]
    with pytest.raises(CorruptChunkError) as caught:
        MEMBERS[array](level).compute()
    assert (caught.value.level, caught.value.array, caught.value.chunk) == (0, array, chunk)
    assert str(neuron07.path) in str(caught.value)


@pytest.mark.distributed
def test_the_error_arrives_whole(neuron07, on_scheduler):
    chunk = neuron07.listed("0/vertices")[3]
    truncated(neuron07, "0/vertices", chunk)
    with on_scheduler("distributed"), pytest.raises(CorruptChunkError) as caught:
        zvl.open_zv(neuron07.path)[0].vertices.compute()
    assert caught.value.chunk == chunk


@pytest.mark.parametrize("damage", ["missing", "truncated", "row", "chunk"])
def test_a_damaged_table_of_links(neuron07, damage):
    raw = bytearray((neuron07.path / ACROSS / "c/0").read_bytes())
    if damage == "missing":
        neuron07.remove(f"{ACROSS}/c/0")
    else:
        at = {"row": len(raw) - 8, "chunk": len(raw) - 16}.get(damage, 0)
        raw[at : at + 8] = (10**6).to_bytes(8, "little")
        neuron07.put(f"{ACROSS}/c/0", bytes(raw[: len(raw) - 8 if damage == "truncated" else len(raw)]))
    level = zvl.open_zv(neuron07.path)[0]
    for ask in (level.links(0), level.edges):
        with pytest.raises(FormatError, match="cross_chunk_links/0") as caught:
            ask.compute()
        assert str(neuron07.path) in str(caught.value)
    with pytest.raises(FormatError, match="cross_chunk_links/0"):
        ChunkReader(level._view, "edges").read(np.arange(len(level._view)))
    assert len(level.vertices.compute()) == level.vertex_count


def test_links_between_objects_of_a_skeleton_are_refused(neuron07):
    """The writer garbles links where objects interleave inside a chunk: a tree then leads into another one."""
    level = zvl.open_zv(neuron07.path)[0]
    edges = level.edges.compute()
    for chunk in neuron07.listed("0/links/0"):
        index = decode_fragments(neuron07.cell("0/vertex_fragments", chunk).read_bytes())
        if (index.counts > 0).sum() > 1:
            break
    records = np.frombuffer(neuron07.cell("0/links/0", chunk).read_bytes(), "<i8").reshape(-1, 2).copy()
    records[0] = index.first[index.counts > 0][:2]
    neuron07.put(neuron07.key("0/links/0", chunk), records.tobytes())
    with pytest.raises(CorruptChunkError, match="joins two objects") as caught:
        level.edges.compute()
    assert caught.value.chunk == chunk
    assert len(level.links(0).compute()) < len(edges)


def test_two_parents_are_refused(neuron07):
    path = neuron07.path / ACROSS / "c/0"
    records = np.frombuffer(path.read_bytes(), "<i8").reshape(-1, 2, 4).copy()
    records[1, 0] = records[0, 0]
    path.write_bytes(records.tobytes())
    level = zvl.open_zv(neuron07.path)[0]
    with pytest.raises(CorruptChunkError, match=f"row {records[0, 0, -1]} two parents") as caught:
        level.edges.compute()
    assert caught.value.chunk == ".".join(map(str, records[0, 0, :-1]))
    assert len(level.links(0).compute())


@pytest.mark.parametrize("member", ["edges", "faces"])
def test_edges_that_cannot_be_told_are_refused(tamper, member):
    """The writer adds a geometry to what is there; it joins vertices by another rule."""
    copy = tamper("tracts-0.7")
    copy.edit(lambda doc: doc["attributes"]["zarr_vectors"]["geometry_types"].append("graph"))
    level = zvl.open_zv(copy.path)[0]
    assert len(level.vertices.compute()) == level.vertex_count
    with pytest.raises(FormatError, match="one path") as caught:
        getattr(level, member)
    assert f"{copy.path}/0" in str(caught.value)


def test_a_level_without_its_chunks_is_not_empty(neuron07):
    shutil.rmtree(neuron07.path / "0/vertices")
    neuron07.write({"zarr_format": 3, "node_type": "group", "attributes": {}}, "0/vertices")
    with pytest.raises(FormatError, match="no chunk"):
        zvl.open_zv(neuron07.path)[0].vertices  # noqa: B018


def test_manifests_that_are_gone_are_not_absent_objects(neuron07):
    neuron07.remove("0/object_index/manifests/c/0")
    level = zvl.open_zv(neuron07.path)[0]
    for ask in (lambda: level.objects.ids, lambda: level.sel(objects=0), lambda: level.objects[0]):
        with pytest.raises(FormatError, match="that held it is missing"):
            ask()


def test_positions_that_were_misread_as_float32_are_refused(neuron07):
    neuron07.edit(lambda doc: doc["attributes"].update(dtype="float64"), "0/vertices")
    store = zvl.open_zv(neuron07.path)
    with pytest.raises(FormatError, match="garbage"):
        store[1].vertices  # noqa: B018


def test_an_attribute_without_a_dtype_is_refused(neuron07):
    neuron07.edit(lambda doc: doc.update(attributes={}), "0/vertex_attributes/radius")
    level = zvl.open_zv(neuron07.path)[0]
    assert level.attribute_names == ("label", "radius")
    assert len(level.attributes["label"].compute()) == level.vertex_count
    with pytest.raises(FormatError, match="no dtype"):
        level.attributes["radius"]


def test_draco_is_decoded(neuron07):
    draco = importlib.import_module("DracoPy")
    positions = zvl.open_zv(neuron07.path)[0].vertices.compute()[:30].astype("f4")
    faces = np.arange(30).reshape(10, 3)
    stream = draco.encode(positions, faces, quantization_bits=20)
    neuron07.edit(lambda doc: doc["attributes"].update(encoding="draco"), "0/vertices")
    level = zvl.open_zv(neuron07.path)[0]
    with pytest.raises(CorruptChunkError, match="not a Draco stream"):
        level.vertices.compute()
    rows = replace(level._view.data.vertices.spec.layout, inner=Plain()).decode(stream)
    assert np.allclose(np.sort(np.frombuffer(rows, "f4")), np.sort(positions.ravel()), atol=0.5)


class Plain:
    def decode(self, raw):
        return raw


@pytest.mark.parametrize("version", ["0.8.0", "0.8.1", "0.6.0", "0.5.2"])
def test_versions_between_and_before(neuron07, version):
    neuron07.edit(lambda doc: doc["attributes"]["zarr_vectors"].update(zv_version=version))
    with pytest.raises(UnsupportedVersionError, match=version.replace(".", r"\.")) as caught:
        zvl.open_zv(neuron07.path)
    assert "0.7.x, 0.9.x" in str(caught.value)


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", f"zarr.{'0a' * 16}.partial"])
def test_what_file_managers_and_killed_writers_leave_is_neither_chunk_nor_attribute(neuron07, results, name):
    names = zvl.open_zv(neuron07.path)[0].attribute_names
    neuron07.put(f"0/vertices/{name}", b"?")
    neuron07.put(f"0/vertex_attributes/{name}", b"?")
    level = zvl.open_zv(neuron07.path)[0]
    assert same_bytes(level.vertices.compute(), results("neuron-0.7")["L0/vertices"])
    assert level.attribute_names == names


def test_another_folder_among_the_chunks_is_refused(neuron07):
    neuron07.put("0/vertices/copy of 0.3.3/zarr.json", b"{}")
    with pytest.raises(FormatError, match=r"copy of 0\.3\.3"):
        zvl.open_zv(neuron07.path)[0].vertices  # noqa: B018
