"""FORMAT-0.7, 3.2 to 3.4: chunks named by folders, or packed several in a blob."""

import json

import numpy as np
import pytest

from tests.format.v07.nodes import (
    GENERATION,
    LEVEL,
    STORE,
    ZSTD,
    ask,
    blob,
    blob_doc,
    found,
    group_doc,
    level_doc,
    read,
    root_doc,
)
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.v07.cells import BlobLayout, find_cells
from zarr_vectors_lazy.model.arrays import UNTOLD

GROUP = group_doc({"zv_array": "attribute", "dtype": "int16"})
KEYS = ["-1.0", "0.10", "0.9", "2.-30"]
DOCS = {"a": GROUP, **{f"a/{key}": blob_doc(4) for key in KEYS}}
CONTENT = {key: bytes(range(i, i + 4 * (i + 1))) for i, key in enumerate(KEYS)}
FLETCHER = {"name": "numcodecs.fletcher32", "configuration": {}}


def cells(docs, ranks=(2, 3), **more):
    return ask(find_cells("a", ranks, **more), docs)


def test_chunks_are_the_children_in_integer_order():
    array = cells(DOCS)
    assert array.chunks.coords.tolist() == [[-1, 0], [0, 9], [0, 10], [2, -30]]
    assert (array.spec.path, array.spec.dtype, array.spec.row_shape) == ("a", np.int16, None)
    assert array.places is None


def test_a_group_without_metadata_is_found_by_its_children():
    docs = {path: doc for path, doc in DOCS.items() if path != "a"}
    assert len(cells(docs, dtype="uint8").chunks) == 4
    assert cells(docs).spec.dtype == UNTOLD


def test_nothing_is_none():
    assert cells({}) is None


def test_no_chunk():
    assert cells({"a": GROUP}).chunks.coords.shape == (0, 2)


@pytest.mark.parametrize("key", ["1", "1.2.3.4", "1.x", "1.", "+1.2", "1.2 copy", "__shard_12"])
def test_other_children_are_refused(key):
    with pytest.raises(FormatError, match="chunk") as caught:
        cells({"a": GROUP, f"a/{key}": blob_doc(4)})
    assert "a" in str(caught.value)


def test_chunks_of_two_ranks_are_refused():
    with pytest.raises(FormatError, match="integers"):
        cells(DOCS | {"a/1.2.3": blob_doc(4)})


def test_an_array_is_no_group_of_chunks():
    with pytest.raises(FormatError, match="group of chunks"):
        cells({"a": blob_doc(4)})


def test_the_digest_changes_with_the_list_and_the_metadata():
    docs = [DOCS, DOCS | {"a/7.7": blob_doc(4)}, DOCS | {"a": group_doc({"dtype": "int32"})}]
    first, more, _ = (cells(doc).digest for doc in docs)
    assert first == cells(DOCS).digest
    assert first != more


def test_vectors_and_dictionaries():
    assert cells({"a": group_doc({"dtype": "float32", "channel_names": ["x", "y"]})}).spec.row_shape == (2,)
    coded = {"dtype": "uint8", "encoding": "dictionary", "categories": ["u", "v"], "_FillValue": 255}
    spec = cells({"a": group_doc(coded)}).spec
    assert (spec.row_shape, spec.dictionary.categories.tolist(), spec.dictionary.fill) == ((), ["u", "v"], 255)


def test_cells_cost_two_requests_and_heads_one():
    layout = BlobLayout(path="a", headed=False)
    coords = np.asarray([[-1, 0], [2, -30]])
    objects = {}
    for key, payload in CONTENT.items():
        objects |= blob(f"a/{key}", payload)
    raws, rounds = read(layout.fetch(coords), objects)
    assert [bytes(layout.decode(raw)) for raw in raws] == [CONTENT["-1.0"], CONTENT["2.-30"]]
    assert sum(map(len, rounds)) == layout.requests(coords) == 4
    heads, rounds = read(layout.fetch_heads(coords), objects)
    assert [layout.head_nbytes(head) for head in heads] == [len(CONTENT["-1.0"]), len(CONTENT["2.-30"])]
    assert sum(map(len, rounds)) == layout.requests(coords, head=True) == 2


def packs(codecs, per=2):
    """Metadata and objects of packed chunks."""
    docs, objects = {"a": GROUP}, {}
    for number, keys in enumerate(KEYS[i : i + per] for i in range(0, len(KEYS), per)):
        body, index = b"", {}
        for key in keys:
            index[key] = [len(body), len(CONTENT[key])]
            body += CONTENT[key]
        path = f"a/__shard_{number:06d}"
        objects |= blob(path, body, *codecs)
        if FLETCHER in codecs:
            objects[f"{path}/elements"] = body
        doc = json.loads(objects.pop(f"{path}/zarr.json"))
        docs[path] = doc | {"attributes": {"shard_index": index}}
    return docs, objects


@pytest.mark.parametrize("codecs", [[], [ZSTD], [FLETCHER]], ids=["plain", "zstd", "zarr"])
@pytest.mark.parametrize("per", [1, 2, 3])
def test_packed_chunks(codecs, per):
    docs, objects = packs(codecs, per)
    array = cells(docs)
    layout, coords = array.spec.layout, array.chunks.coords
    by_coord = {tuple(map(int, key.split("."))): payload for key, payload in CONTENT.items()}
    for chosen in ([0, 1, 2, 3], [3], [2, 0], []):
        rows = np.asarray(chosen, np.int64)
        places = array.places.take(rows)
        raws, rounds = read(layout.fetch(coords[rows], places), objects)
        assert [bytes(layout.decode(raw)) for raw in raws] == [by_coord[tuple(coords[row].tolist())] for row in rows]
        assert sum(map(len, rounds)) <= layout.requests(coords[rows], places)
        assert len(places.packs) <= len(rows)
        heads, rounds = read(layout.fetch_heads(coords[rows], places), {})
        assert [layout.head_nbytes(head) for head in heads] == [
            len(by_coord[tuple(coords[row].tolist())]) for row in rows
        ]
        assert rounds == []
        assert layout.requests(coords[rows], places, head=True) == 0


def test_packed_and_alone():
    docs, objects = packs([])
    docs["a/5.5"] = blob_doc(3)
    objects |= blob("a/5.5", b"own")
    array = cells(docs)
    raws, _ = read(array.spec.layout.fetch(array.chunks.coords, array.places), objects)
    assert bytes(array.spec.layout.decode(raws[-1])) == b"own"
    assert [len(array.spec.layout.decode(raw)) for raw in raws] == [4, 12, 8, 16, 3]
    with pytest.raises(FormatError, match="on its own"):
        cells(docs | {"a/0.9": blob_doc(3)})


@pytest.mark.parametrize("damage", ["gone", "short"])
@pytest.mark.parametrize("codecs", [[], [ZSTD]])
def test_damaged_packs(codecs, damage):
    docs, objects = packs(codecs)
    array = cells(docs, headed=True)
    for key in [key for key in objects if key.startswith("a/__shard_000001")]:
        objects[key] = objects[key][:3]
        if damage == "gone":
            del objects[key]
    raws, _ = read(array.spec.layout.fetch(array.chunks.coords, array.places), objects)
    good = [raw for raw in raws if raw is not None and not isinstance(raw, Exception)]
    assert len(good) == 2


@pytest.mark.parametrize(
    "index", [None, [], {"0.9": [0]}, {"0.9": [-1, 2]}, {"0.9": [0, 99]}, {"0.9": "0"}, {"0.9": [0, -2]}]
)
def test_indexes_that_make_no_sense(index):
    docs = {"a": GROUP, "a/__shard_000000": blob_doc(8) | {"attributes": {"shard_index": index}}}
    with pytest.raises(FormatError, match="shard_index"):
        cells(docs)


def test_positions_of_packs_tell_their_counts():
    docs, _ = packs([])
    docs = {path.replace("a", "0/vertices", 1): doc for path, doc in docs.items()}
    docs["0/vertices"] = group_doc({"dtype": "uint16", "encoding": "raw"})
    assert ask(GENERATION.vertices(LEVEL, STORE), docs).counts.tolist() == [1, 3, 2, 4]
    docs["0/vertices"] = group_doc({"dtype": "float64"})
    with pytest.raises(FormatError, match="whole number"):
        ask(GENERATION.vertices(LEVEL, STORE), docs)


def vertices(**attributes):
    return {"0/vertices": group_doc({"dtype": "float32"} | attributes), "0/vertices/1.2": blob_doc(8)}


def test_positions():
    array = ask(GENERATION.vertices(LEVEL, STORE), vertices())
    assert (array.spec.dtype, array.spec.row_shape, array.counts) == (np.float32, (2,), None)
    for encoding in ("draco", "zip"):  # Draco's has three axes
        with pytest.raises(FormatError, match=encoding):
            ask(GENERATION.vertices(LEVEL, STORE), vertices(encoding=encoding))
    with pytest.raises(FormatError, match="no group 'vertices'"):
        ask(GENERATION.vertices(LEVEL, STORE), {})
    with pytest.raises(FormatError, match="several geometries"):
        ask(GENERATION.vertices(LEVEL, STORE), {"0/geometry_index": group_doc({})})


def test_vertices_that_are_gone_are_not_none():
    with pytest.raises(FormatError, match="7 vertices but has no chunk"):
        ask(GENERATION.vertices(LEVEL, STORE), {"0/vertices": group_doc({"dtype": "float32"})})
    empty = GENERATION.parse_level(found(level_doc(vertex_count=0), "0"), STORE, 0)
    assert len(ask(GENERATION.vertices(empty, STORE), {"0/vertices": group_doc({})}).chunks) == 0


def store_of(*kinds, **block):
    """Root of a store of such geometries."""
    return GENERATION.parse_store(found(root_doc(zv_version="0.7.0", geometry_types=list(kinds), **block), ""), None)


def test_a_second_geometry_beside_the_vertices_is_refused():
    docs = vertices() | {"0/geometry_index": group_doc({"graph": {"array": "vertices_graph"}})}
    with pytest.raises(FormatError, match="several geometries"):
        ask(GENERATION.vertices(LEVEL, store_of("point_cloud", "graph")), docs)


def test_the_first_writers_convention_is_not_the_skeletons():
    store = store_of("skeleton", links_convention="implicit_sequential")
    assert store.links_convention == "implicit_sequential_with_branches"


@pytest.mark.parametrize(
    ("kinds", "lost"),
    [
        (["point_cloud", "skeleton"], True),
        (["graph", "streamline"], True),
        (["graph", "skeleton"], True),
        (["point_cloud", "streamline"], False),
        (["line", "polyline"], False),
        (["skeleton"], False),
    ],
)
def test_geometries_written_to_one_path(kinds, lost):
    level = GENERATION.parse_level(found(level_doc(), "0"), store_of(*kinds), 0)
    assert ("one path" in level.edges_lost) == lost


@pytest.mark.parametrize(
    ("kind", "block", "lost"),
    [
        ("streamline", {"vertex_count": 0}, True),
        ("mesh", {"vertex_count": 0}, True),
        ("point_cloud", {"vertex_count": 0}, False),
        ("streamline", {"vertex_count": 0, "chunk_attribute_name": "k", "chunk_attribute_values": [1]}, True),
        ("streamline", {"vertex_count": 9, "chunk_attribute_name": "k", "chunk_attribute_values": [1]}, False),
    ],
)
def test_rechunked_levels_lost_what_joins_vertices(kind, block, lost):
    node = found(level_doc(chunk_dims=["k", "x", "y"], **block), "0")
    assert ("rechunked" in GENERATION.parse_level(node, store_of(kind), 0).edges_lost) == lost


def test_a_first_axis_of_bins():
    by = {"chunk_attribute_name": "gene", "chunk_attribute_values": ["a", "b"]}
    level = GENERATION.parse_level(found(level_doc(**by), "0"), STORE, 0)
    docs = {
        "0/vertices": group_doc({"dtype": "float32"}),
        "0/vertices/1.0.0": blob_doc(8),
        "0/vertices/-1.0.0": blob_doc(8),
    }
    assert ask(GENERATION.vertices(level, STORE), docs).chunks.rank == 3
    with pytest.raises(FormatError, match="beyond the 2"):
        ask(GENERATION.vertices(level, STORE), docs | {"0/vertices/2.0.0": blob_doc(8)})
    with pytest.raises(FormatError, match="3 dotted"):
        ask(GENERATION.vertices(level, STORE), vertices())
    for name, value in by.items():
        bare = GENERATION.parse_level(found(level_doc(**{name: value}), "0"), STORE, 0)
        assert bare.chunk_attribute is None
        assert ask(GENERATION.vertices(bare, STORE), docs).chunks.rank == 3


@pytest.mark.parametrize(
    ("dtype", "method", "fine"),
    [("float64", "per_object", 0), ("float32", "per_object", 1), ("<f4", "per_object", 1), ("float64", "none", 1)],
)
def test_coarse_levels_of_misread_positions(dtype, method, fine):
    level = GENERATION.parse_level(found(level_doc(1, coarsening_method=method), "1"), STORE, 1)
    docs = {"0/vertices": group_doc({"dtype": dtype}), "1/vertices": group_doc({"dtype": "float32"})}
    docs["1/vertices/1.2"] = blob_doc(8)
    if fine:
        assert len(ask(GENERATION.vertices(level, STORE), docs).chunks) == 1
    else:
        with pytest.raises(FormatError, match="garbage"):
            ask(GENERATION.vertices(level, STORE), docs)


def test_fragments():
    array = ask(GENERATION.vertices(LEVEL, STORE), vertices())
    index = ask(GENERATION.fragments(LEVEL, array), {"0/vertex_fragments/1.2": blob_doc(44)})
    assert index.spec.layout.headed
    with pytest.raises(FormatError, match="vertex_fragments"):
        ask(GENERATION.fragments(LEVEL, array), {})


def test_names_of_attributes_need_no_group():
    docs = {"0/vertex_attributes/b/0.0": blob_doc(4), "0/vertex_attributes/a": GROUP}
    assert ask(GENERATION.attribute_names(LEVEL), docs) == ("a", "b")


def test_what_is_trusted_of_the_root():
    assert GENERATION.trusts_consolidated({"zarr_vectors_lazy": {"complete": True}})
    assert not GENERATION.trusts_consolidated({"kind": "inline"})
    assert not LEVEL.count_is_sure
