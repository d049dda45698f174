"""Malicious metadata: refused with an error that says where, before memory is allocated."""

import json
import shutil
import struct

import dask
import numcodecs.zstd
import numpy as np
import pytest
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from tests.bounds import at_most
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.storage.requests import counting

NAN, INF = float("nan"), float("inf")
ARRAY = "0/vertex_attributes/arc_length"
OBJECTS = "0/object_attributes"


def put(*path):
    """Change that sets the last of ``path`` at the others."""
    *keys, last, value = path

    def change(doc):
        for key in keys:
            doc = doc[key]
        doc[last] = value

    return change


def an_attribute(store):
    return store[0].attributes["arc_length"].compute()


def the_vertices(store):
    return store[0].vertices.compute()


def the_ids(store):
    return store[0].objects.ids


HOSTILE = {
    "chunk_shape nan": ("", put("attributes", "zarr_vectors", "chunk_shape", [NAN] * 3), the_vertices),
    "chunk_shape inf": ("", put("attributes", "zarr_vectors", "chunk_shape", [INF] * 3), the_vertices),
    "chunk_shape negative": ("", put("attributes", "zarr_vectors", "chunk_shape", [-1.0] * 3), the_vertices),
    "chunk_shape beyond float": ("", put("attributes", "zarr_vectors", "chunk_shape", [10**400] * 3), the_vertices),
    "axes": ("", put("attributes", "multiscales", 0, "axes", [{"name": str(i)} for i in range(1000)]), the_vertices),
    "dtype of objects": (ARRAY, put("attributes", "dtype", "O"), an_attribute),
    "dtype of records": (ARRAY, put("attributes", "dtype", "f4,f4"), an_attribute),
    "dtype of subarrays": (ARRAY, put("attributes", "dtype", "(100000,1000)f8"), an_attribute),
    "dtype of wide text": (ARRAY, put("attributes", "dtype", "<U500000000"), an_attribute),
    "row_shape": (ARRAY, put("attributes", "row_shape", [2**62, 2**62]), an_attribute),
    "row_shape of many axes": (ARRAY, put("attributes", "row_shape", [1] * 100), an_attribute),
    "grid": ("0/vertices", put("attributes", "chunk_grid_origin", [-(2**62)] * 3), the_vertices),
    "chunks far apart": (
        "0/vertices",
        put("attributes", "nonempty_chunks", ["0.0.0", ".".join(["9" * 18] * 3)]),
        the_vertices,
    ),
    "stored chunks": ("0/vertices", put("chunk_grid", "configuration", "chunk_shape", [10**12] * 3), the_vertices),
    "compressed twice": (
        ARRAY,
        put("codecs", [{"name": name} for name in ("vlen-bytes", "numcodecs.shuffle", "zstd", "zstd")]),
        an_attribute,
    ),
    "manifests": ("0/object_index/manifests", put("shape", [10**12]), the_ids),
    "manifests in pieces": (
        "0/object_index/manifests",
        lambda doc: doc.update(shape=[2**31], chunk_grid={"name": "regular", "configuration": {"chunk_shape": [1]}}),
        the_ids,
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_metadata(tamper, kind):
    node, change, ask = HOSTILE[kind]
    copy = tamper("tracts-0.9")
    copy.edit(change, node)
    ask_of = zvl.open_zv  # imports and caches are not what is measured
    with at_most(32 * 2**20), pytest.raises(FormatError) as caught:
        ask(ask_of(copy.path))
    assert str(copy.path) in str(caught.value)


def test_json_nested_beyond_what_python_follows(tamper):
    copy = tamper("tracts-0.9")
    copy.put("zarr.json", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    with pytest.raises(FormatError, match=r"nested too deeply|not JSON"):
        zvl.open_zv(copy.path)


def test_of_keys_that_are_there_twice_the_last_counts(tamper):
    copy = tamper("tracts-0.9")
    raw = (copy.path / "zarr.json").read_bytes()
    copy.put("zarr.json", b'{"zarr_format": 2, "node_type": "array", ' + raw.lstrip()[1:])
    assert zvl.open_zv(copy.path)[0].vertex_count


def test_a_count_that_cannot_be_is_not_known(tamper):
    copy = tamper("tracts-0.9")
    rows = len(zvl.open_zv(copy.path)[0].vertices.compute())
    copy.edit(put("attributes", "zarr_vectors_level", "vertex_count", 10**400), "0")
    level = zvl.open_zv(copy.path)[0]
    assert level.vertex_count is None
    assert len(level.vertices.compute()) == rows


@pytest.mark.parametrize("name", ["..", "a/../../b", "a\\b", "a\0b", "a//b", "../../../etc"])
@pytest.mark.parametrize("family", ["0/vertex_attributes", "0/links/0", "headers", ""])
def test_names_that_lead_out_of_the_store(tamper, family, name):
    copy = tamper("tracts-0.9").consolidate()
    node = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    path = f"{family}/{name}" if family else name
    copy.edit(lambda doc: doc["consolidated_metadata"]["metadata"].update({path: node}))
    with pytest.raises(FormatError, match="would lie outside the store"):
        zvl.open_zv(copy.path)


def test_a_separator_that_leads_out_of_the_store(tamper):
    copy = tamper("tracts-0.7")
    chunk = copy.listed("0/vertices")[0]
    copy.edit(put("chunk_key_encoding", "configuration", "separator", "/../../../../"), f"0/vertices/{chunk}")
    with pytest.raises(FormatError, match="separator"):
        zvl.open_zv(copy.path)[0].vertices.compute()


def test_zeros_of_which_nothing_is_stored(tamper):
    copy = tamper("tracts-0.7")
    chunk = copy.listed("0/vertices")[0]
    copy.edit(
        lambda doc: doc.update(
            shape=[2**32],
            chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2**32]}},
            codecs=[{"name": "bytes"}, {"name": "zstd"}],
        ),
        f"0/vertices/{chunk}",
    )
    copy.remove(copy.key("0/vertices", chunk))
    with at_most(64 * 2**20), pytest.raises(FormatError, match="too many to be plausible"):
        zvl.open_zv(copy.path)[0].vertices.compute()


def test_categories_that_stand_for_more_than_there_is_memory(tamper):
    copy = tamper("tracts-0.9")
    long = {"encoding": "dictionary", "dtype": "int8", "categories": ["x" * 10**6, *map(str, range(2000))]}
    copy.edit(lambda doc: doc["attributes"].update(long), ARRAY)
    with at_most(64 * 2**20), pytest.raises(FormatError, match="max-array-bytes"):
        an_attribute(zvl.open_zv(copy.path))


def test_groups_of_more_objects_than_there_is_memory(tamper):
    copy = tamper("tracts-0.9")
    copy.edit(lambda doc: doc["attributes"].update(group_ranges={"0": [0, 10**12]}), "0/groups")
    with at_most(64 * 2**20), pytest.raises(FormatError, match="max-array-bytes"):
        dict(zvl.open_zv(copy.path)[0].objects.groups)


def test_a_setting_lets_more_in(tamper):
    copy = tamper("cloud-0.9")
    array, chunk = "0/vertices", copy.listed("0/vertices")[0]
    zeros = bytes(12 * 200_000)
    copy.edit(lambda doc: doc.update(codecs=[{"name": "vlen-bytes"}, {"name": "zstd"}]), array)
    copy.edit(lambda doc: doc["attributes"].update(nonempty_chunks=[chunk]), array)
    copy.put(copy.key(array, chunk), numcodecs.zstd.compress(struct.pack("<II", 1, len(zeros)) + zeros, 1))
    level = zvl.open_zv(copy.path)[0]
    with (
        dask.config.set({"zarr_vectors_lazy.max-cell-bytes": "1 MiB"}),
        pytest.raises(FormatError, match="max-cell-bytes"),
    ):
        level.vertices.compute()
    assert len(level.vertices.compute()) == 200_000


class Odd(MemoryStore):
    """It lists what no store should list."""

    async def list_dir(self, prefix):
        async for name in super().list_dir(prefix):
            yield name
        yield "a\\b"


def test_a_store_object_whose_listing_names_nonsense(goldens):
    buffer, folder = default_buffer_prototype().buffer, goldens["tracts-0.9"].path
    files = {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    store = Odd({key: buffer.from_bytes(data) for key, data in files.items()})
    with pytest.raises(FormatError, match="would lie outside the store"):
        zvl.open_zv(store)


def of_many_levels(tmp_path, consolidated):
    where = tmp_path / "many"
    zvl.write_points(where, np.eye(3) + 1, chunk_shape=5)
    if consolidated:
        zvl.consolidate(where)
    document = json.loads((where / "zarr.json").read_text())
    entry = document["attributes"]["multiscales"][0]["datasets"][0]
    names = [{**entry, "path": str(level)} for level in range(10_000)]
    document["attributes"]["multiscales"][0]["datasets"] = names
    (where / "zarr.json").write_text(json.dumps(document))
    return where


@pytest.mark.parametrize("consolidated", [True, False])
def test_a_root_that_names_very_many_levels_opens_in_few_requests(tmp_path, consolidated):
    where = of_many_levels(tmp_path, consolidated)
    with counting() as counts:
        store = zvl.open_zv(where)
    assert store.levels == [0]
    assert counts.requests < 10
    for level in range(1, 300):
        shutil.copytree(where / "0", where / str(level))
    with pytest.raises(FormatError, match="300 levels"):
        zvl.open_zv(where, consolidated=False)


def test_bounds_that_are_no_numbers_are_refused(tmp_path):
    zvl.write_points(tmp_path / "a", np.eye(3) + 1, chunk_shape=5)
    document = json.loads((tmp_path / "a/zarr.json").read_text())
    document["attributes"]["zarr_vectors"]["bounds"][0][1] = float("nan")
    (tmp_path / "a/zarr.json").write_text(json.dumps(document))
    with pytest.raises(FormatError, match="bounds"):
        zvl.open_zv(tmp_path / "a")
