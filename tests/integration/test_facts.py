"""What a store states about itself, and about what it does not have."""

from itertools import pairwise

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.collect import LINKED, boxes_of, same_bytes
from tests.integration.generations import STAMPED
from zarr_vectors_lazy.errors import NotFoundError, SelectionError
from zarr_vectors_lazy.storage.requests import counting


@pytest.mark.parametrize("chunks", [0, -1, 1.5, "all", True, (2,)])
def test_chunks_that_make_no_sense(open_at, chunks):
    with pytest.raises(SelectionError, match="chunks"):
        open_at("tracts-0.9", chunks=chunks)


def test_bounds_contain_the_vertices(golden, open_at, whole):
    store = open_at(golden.name)
    lo, hi = store.bounds
    for level in store:
        positions = whole(golden.name, level.index).positions
        assert (positions >= lo - 1e-6).all()
        assert (positions <= hi + 1e-6).all()
    low, high = store[0].sel(bbox=(lo + 1, hi + 5)).bounds
    assert np.array_equal(low, lo + 1)
    assert np.array_equal(high, hi)


def test_level_for_a_resolution(golden, open_at):
    store = open_at(golden.name)
    bins = [store[i].bin_shape for i in store.levels]
    assert all((a <= b).all() for a, b in pairwise(bins))
    for index, shape in zip(store.levels, bins, strict=True):
        assert store.level_for(float(shape[0])).index == index
        assert store.level_for(tuple(shape)).index == index
        assert store.level_for(float(np.nextafter(shape[0], 0))).index == max(index - 1, store.levels[0])
    assert store.level_for(1e-9).index == store.levels[0]
    assert store.level_for(1e9).index == store.levels[-1]
    for wrong in (0, -1, (1.0,) * 7, "fine"):
        with pytest.raises(SelectionError):
            store.level_for(wrong)


def test_query(golden, open_at, whole):
    store = open_at(golden.name)
    box = boxes_of(golden.name, 0)[0]
    coarse = store.levels[-1]
    for level, part in (
        (store.levels[0], store.query(box)),
        (coarse, store.query(bbox=box, resolution=1e9)),
        (coarse, store.query(box, level=coarse)),
    ):
        assert part.index == level
        known = whole(golden.name, level)
        assert same_bytes(part.vertices.compute(), known.positions[known.inside(*box)])
    assert store.query(resolution=1e9).vertex_count == store[coarse].vertex_count
    with pytest.raises(SelectionError):
        store.query(box, resolution=1.0, level=0)
    with pytest.raises(NotFoundError, match="there is"):
        store.query(box, level=9)


def test_texts_tell_what_there_is(golden, open_at):
    store = open_at(golden.name)
    for text in (repr(store), store._repr_html_()):
        for fact in (store.format_version, *store.geometry_types, *store.axes, golden.name, store.backend):
            assert str(fact) in text
    for level in store:
        part = level.sel(bbox=boxes_of(golden.name, level.index)[0])
        for text in (repr(level), level._repr_html_()):
            assert f"{level.vertex_count:,}" in text
        assert f"{part.chunk_count} of {level.chunk_count}" in repr(part)
        assert "<table" in part._repr_html_()
        assert "<table" in part.explain()._repr_html_()
        for word in ("chunks", "requests", "bytes", "tasks", "blocks"):
            assert word in str(part.explain())


BAD_BOXES = [
    ((0, 0, 0), (1, 1)),
    ((0, 0), (1, 1)),
    ((5, 5, 5), (1, 9, 9)),
    ((0, np.nan, 0), (1, 1, 1)),
    ((0, 0, 0), (1, 1, "z")),
    (1, 2),
    ((0, 0, 0),),
    "box",
]


@pytest.mark.parametrize("box", BAD_BOXES, ids=range(len(BAD_BOXES)))
def test_malformed_boxes(open_at, box):
    with pytest.raises(SelectionError, match="bbox") as caught:
        open_at("tracts-0.9")[0].sel(bbox=box)
    assert isinstance(caught.value, ValueError)


BAD_SELECTIONS = [
    ({"q": slice(0, 1)}, SelectionError, ["'x'", "'y'", "'z'"]),
    ({"x": slice(2, 1)}, SelectionError, ["x"]),
    ({"x": slice(0, 9, 2)}, SelectionError, ["slice"]),
    ({"x": 5}, SelectionError, ["slice"]),
    ({"x": slice(np.nan, 1)}, SelectionError, ["NaN"]),
    ({"x": slice("a", 1)}, SelectionError, ["numbers"]),
    ({"whole_objects": True}, SelectionError, ["box"]),
    ({"objects": "all"}, SelectionError, ["objects"]),
    ({"objects": [1.5]}, SelectionError, ["objects"]),
    ({"objects": [0, 10_000]}, NotFoundError, ["10000", "0, 1, 2, 3", "19", "90 more"]),
    ({"groups": "tall"}, NotFoundError, ["'tall'", "'short'", "'middle'", "'long'"]),
    ({"groups": 9}, NotFoundError, ["9", "0, 1, 2"]),
    ({"groups": 1.5}, NotFoundError, ["1.5", "0, 1, 2"]),
    ({"groups": True}, NotFoundError, ["True", "0, 1, 2"]),
    ({"groups": [[0, 1]]}, NotFoundError, ["[0, 1]"]),
    ({"where": {"colour": (0, 1)}}, NotFoundError, ["'colour'", "'arc_length'", "'index'", "'tangent'"]),
    ({"where": lambda colour: colour > 0}, NotFoundError, ["'colour'", "'arc_length'", "'index'", "'tangent'"]),
    ({"where": {"index": (2, 1)}}, SelectionError, ["lo > hi"]),
    ({"where": {"index": (1, 2, 3)}}, SelectionError, ["'index'", "(1, 2, 3)", "range", "list"]),
    ({"where": {"index": ("a", "b")}}, SelectionError, ["'index'", "int32 cannot be compared with 'a'"]),
    ({"where": {"index": [1, "b"]}}, SelectionError, ["int32 cannot be compared with 'b'"]),
    ({"where": {"index": [1, np.nan]}}, SelectionError, ["NaN", "None"]),
    ({"where": {"index": slice(0, 4, 2)}}, SelectionError, ["step"]),
    ({"where": {"index": {"lo": 1}}}, SelectionError, ["'index'", "range"]),
    ({"where": {"tangent": 5}}, SelectionError, ["'tangent'", "each vertex has 3 values"]),
    ({"where": {"index": (np.nan, 1)}}, SelectionError, ["NaN"]),
    ({"where": {"index": np.zeros((2, 2))}}, SelectionError, ["index"]),
    ({"where": "index > 5"}, SelectionError, ["where"]),
    ({"where": lambda *names: names}, SelectionError, ["parameters"]),
]


@pytest.mark.parametrize(("arguments", "kind", "words"), BAD_SELECTIONS, ids=range(len(BAD_SELECTIONS)))
def test_selections_that_cannot_be(open_at, arguments, kind, words):
    with pytest.raises(kind) as caught:
        open_at("tracts-0.9")[0].sel(**arguments)
    for word in words:
        assert word in str(caught.value)


def test_numbers_of_numpy_are_numbers(open_at):
    store = open_at("tracts-0.9", chunks=np.int64(3))
    level = store[np.int8(0)]
    assert level.vertices.numblocks[0] == -(-level.chunk_count // 3)
    bounds = level.sel(where={"index": (np.int8(0), np.int8(5))}).vertices.compute()
    assert bounds.tolist() == level.sel(where={"index": (0, 5)}).vertices.compute().tolist()
    assert level.objects[np.uint8(1)].compute().tolist() == level.objects[1].compute().tolist()


def test_what_is_not_there(golden, open_at):
    store = open_at(golden.name)
    level = store[0]
    asks = [
        (lambda: store[7], [str(i) for i in store.levels]),
        (lambda: store["0"], [str(i) for i in store.levels]),
        (lambda: store[True], [str(i) for i in store.levels]),
        (lambda: store[0:1], [str(i) for i in store.levels]),
        (lambda: level.objects.groups[[0]], ["[0]"]),
        (lambda: level.attributes["colour"], [repr(name) for name in level.attribute_names]),
        (lambda: level.codes["colour"], ["colour"]),
        (lambda: level.link_attributes["weight"], ["weight"]),
        (lambda: level.objects[123456], ["123456", "0"]),
        (lambda: level.objects.groups["tall"], ["tall"]),
        (lambda: level.links(7), ["7", *(str(delta) for delta in level.deltas)]),
        (lambda: level.explain("colours"), ["colours", "vertices"]),
    ]
    for ask, words in asks:
        with pytest.raises(NotFoundError) as caught:
            ask()
        assert isinstance(caught.value, KeyError)
        assert all(word in str(caught.value) for word in words), caught.value
        assert not str(caught.value).startswith(("'", '"'))
    assert 7 not in store
    assert 123456 not in level.objects


def test_geometries_without_edges_or_faces(open_at):
    cloud, mesh = open_at("cloud-0.9")[0], open_at("surface-0.9")[0]
    assert cloud.edges.compute().shape == (0, 2)
    assert cloud.faces.compute().shape[0] == 0
    assert mesh.edges.compute().shape == (0, 2)
    assert not LINKED & set(mesh.store.geometry_types)
    assert zvl.ZVLevel is type(mesh)


def test_explain_tells_bytes_of_reads_that_another_opening_shares(open_at):
    first = open_at("tracts-0.9")[0].compute_chunk_sizes()
    alive = first.vertices  # its reads are shared with other opens of the same place
    again = open_at("tracts-0.9")[0].compute_chunk_sizes()
    assert again.explain().nbytes == first.explain().nbytes is not None
    assert alive.shape == again.vertices.shape


@pytest.mark.parametrize("name", STAMPED)
def test_explain_tells_bytes_once_sizes_are_known(name, open_at):
    store = open_at(name)
    for level in store:
        assert level.explain().nbytes is None
        sized = level.compute_chunk_sizes()
        with counting() as counts:
            sized.vertices.compute()
        assert sized.explain().nbytes == counts.bytes
        assert sized.sel(bbox=boxes_of(name, level.index)[0]).explain().nbytes is None
    assert store[0].compute_chunk_sizes().explain("vertices", "attributes").nbytes is None


def test_one_attribute_asks_for_no_document_of_another(tamper):
    """A document lists every chunk: those of all attributes of a large store are much to read for one."""
    copy = tamper("tracts-0.9")
    level = zvl.open_zv(copy.path)[0]
    with counting() as counts:
        level.attributes["tangent"], level.sel(where=lambda tangent: tangent[:, 0] > 0)
        level.to_dask_dataframe(attributes=["tangent"])
    documents = [key for key in counts.keys if key.startswith("0/vertex_attributes/") and key.endswith("zarr.json")]
    assert documents == ["0/vertex_attributes/tangent/zarr.json"]
    assert zvl.open_zv(copy.path)[0].attribute_names == ("arc_length", "index", "tangent")
