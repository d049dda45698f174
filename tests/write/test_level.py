"""A level written by tasks, and what a write has left at every moment."""

import pickle

import numpy as np
import pytest
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import FormatError, SelectionError, StoreError
from zarr_vectors_lazy.format.manifests import encode_tiling
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.format.v09.writing import place_links
from zarr_vectors_lazy.format.vectors import encode_rows
from zarr_vectors_lazy.model.objects import Manifests
from zarr_vectors_lazy.model.writing import (
    Cells,
    Encoding,
    Grid,
    LevelDraft,
    LinkFamilyDraft,
    StoreDraft,
    merge_records,
)
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.requests import Get, ListSizes, Put, counting
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.write.part import LevelWriter
from zarr_vectors_lazy.write.session import begin_write, check_mode

COORDS = np.array([(-1, 0), (0, 0), (10, 0)])
ROWS = [np.array([[-1, 1], [-2, 2]], "f4"), np.array([[5, 5]], "f4"), np.array([[105, 1], [104, 3], [103, 2]], "f4")]
EDGES = np.array([[0, 1], [0, 2], [3, 5], [4, 2]])
STORE = StoreDraft(
    chunk_shape=np.array([10.0, 10.0]),
    bin_shape=np.array([10.0, 10.0]),
    bounds=(np.array([-2.0, 0.0]), np.array([105.0, 5.0])),
    geometry_types=("graph",),
    links_convention="explicit",
    axes=("x", "y"),
    units=("um", None),
)


@pytest.fixture(params=["local", "zarr"])
def spec(request, tmp_path):
    return resolve(tmp_path / "store" if request.param == "local" else MemoryStore())


def write(spec, mode="w-", encoding=Encoding()):  # noqa: B008  frozen
    """A graph of three chunks, a task each, by hand."""
    session = begin_write(spec, mode)
    grid = Grid.of_bounds(*STORE.bounds, STORE.chunk_shape)
    writer = pickle.loads(pickle.dumps(LevelWriter(spec=spec, level=0, grid=grid, encoding=encoding)))
    chunk = np.repeat(np.arange(3), [2, 1, 3])
    row = np.array([0, 1, 0, 0, 1, 2])
    placed = place_links(chunk[EDGES], row[EDGES], COORDS)
    weights = np.arange(4.0)
    records = []
    for i in range(3):
        here = COORDS[i : i + 1]
        cells = [
            Cells(path="vertex_fragments", coords=here, payloads=[encode_tiling(np.array([len(ROWS[i])]))]),
            Cells(path="vertex_attributes/n", coords=here, payloads=[encode_rows(np.arange(len(ROWS[i])))]),
        ]
        for cell in np.flatnonzero(placed.sources == i).tolist():
            segment = placed.segments[cell]
            cells.append(Cells(path=CURRENT.link_path(0, segment), coords=here, payloads=[placed.payload(cell)]))
            values = encode_rows(weights[placed.members(cell)])
            path = CURRENT.link_attribute_path("w", 0, segment)
            cells.append(Cells(path=path, coords=here, payloads=[values]))
            if CURRENT.is_within(0, segment):
                counts = np.diff(placed.bounds)[cell : cell + 1]
                cells.append(Cells(path=CURRENT.link_fragments, coords=here, payloads=[encode_tiling(counts)]))
        records.append(writer.write(here, [ROWS[i]], cells))
    family = LinkFamilyDraft(delta=0, width=2, directed=False, count=4, values={"w": (np.dtype("f8"), ())})
    draft = LevelDraft(
        level=0,
        rank=2,
        arrays=(
            CURRENT.vertices(np.dtype("f4")),
            CURRENT.fragments(),
            CURRENT.attribute("n", np.dtype("i8")),
        ),
        families=(family,),
        attributes={"fragments_tile": True},
    )
    manifests = Manifests(np.array([0, 2, 3]), COORDS[[0, 1, 2]], np.zeros(3, np.int64))
    puts = CURRENT.object_puts(0, np.array([4, 9]), manifests, 2, encoding)
    puts += CURRENT.dense_puts(0, "object_attributes", {"size": np.array([3, 3])}, encoding)
    puts += CURRENT.group_puts(0, [np.array([9]), np.array([4, 9])], ["one", "all"], encoding)
    record = writer.finish(draft, records, puts)
    session.commit(CURRENT.root(STORE, draft.arrays))
    return record


def test_a_graph(spec):
    record = write(spec)
    assert record.vertex_count == 6
    assert (record.lo.tolist(), record.hi.tolist()) == ([-2, 1], [105, 5])
    level = zvl.open_zv(spec.instance or spec.url)[0]
    assert level.vertex_count == 6
    assert level.vertices.chunks[0] == (2, 1, 3)
    assert np.array_equal(level.vertices.compute(), np.concatenate(ROWS))
    assert level.attributes["n"].compute().tolist() == [0, 1, 0, 0, 1, 2]
    edges, weights = level.edges.compute(), level.link_attributes["w"].compute()
    assert sorted(map(tuple, edges.tolist())) == [tuple(edge) for edge in sorted(EDGES.tolist())]
    assert edges[np.argsort(weights)].tolist() == EDGES.tolist()
    assert level.objects.ids.tolist() == [4, 9]
    assert len(level.objects[4].compute()) == 3
    assert level.objects.attributes["size"].values.tolist() == [3, 3]
    assert level.objects.groups["all"].tolist() == [4, 9]


def test_one_put_an_object_and_the_root_last(spec):
    with counting() as counts:
        write(spec)
    (sizes,) = fetch(connect(spec), [ListSizes("")])
    assert counts.by_kind["put"] == len(sizes) + 1  # the root twice
    assert counts.by_kind.total() - counts.by_kind["put"] == 3  # what is there, and whether it is still our root
    assert counts.keys[-3:] == ["0/zarr.json", "zarr.json", "zarr.json"]


def test_nothing_opens_before_the_last_put(spec):
    begin_write(spec, "w-")
    with pytest.raises(FormatError, match="unfinished write"):
        zvl.open_zv(spec.instance or spec.url)
    with pytest.raises(StoreError, match="an unfinished write is here already; mode='w' replaces it"):
        begin_write(spec, "w-")
    write(spec, "w")
    assert zvl.open_zv(spec.instance or spec.url)[0].vertex_count == 6


def test_a_store_is_replaced_only_when_told_to(spec):
    write(spec)
    before = fetch(connect(spec), [ListSizes("")])
    with pytest.raises(StoreError, match="a Zarr Vectors store is here already"):
        write(spec)
    assert fetch(connect(spec), [ListSizes("")]) == before
    fetch(connect(spec), [Put("0/leftover", b"x")])
    write(spec, "w")
    assert fetch(connect(spec), [ListSizes("")]) == before


@pytest.mark.parametrize("mode", ["w-", "w"])
@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("photos/cat.jpg", b"miau"),
        ("zarr.json", b'{"zarr_format": 3, "node_type": "group", "attributes": {}}'),
        ("zarr.json", b"no json"),
        ("zarr.json", b"[]"),
    ],
)
def test_what_is_no_store_is_never_touched(spec, mode, key, data):
    fetch(connect(spec), [Put(key, data)])
    with pytest.raises(StoreError, match="never replaced"):
        begin_write(spec, mode)
    assert fetch(connect(spec), [ListSizes("")]) == [{key: len(data)}]


def test_parts_of_a_killed_first_put_do_not_matter(tmp_path):
    (tmp_path / ".zarr.json.0123456789abcdef").write_bytes(b"{")
    begin_write(resolve(tmp_path), "w-")


def test_of_two_writes_one_gives_up(spec):
    first = begin_write(spec, "w-")
    second = begin_write(spec, "w")
    with pytest.raises(StoreError, match="another write took this place"):
        first.commit(CURRENT.root(STORE, ()))
    second.commit(CURRENT.root(STORE, ()))
    (root,) = fetch(connect(spec), [Get("zarr.json")])
    assert b"0.9.2" in bytes(root)


def test_modes():
    check_mode("w")
    with pytest.raises(SelectionError, match="mode must be 'w-'"):
        check_mode("a")


def test_records_join_in_any_order(spec):
    encoding = Encoding()
    grid = Grid(origin=(-1, 0), shape=(12, 1))
    writer = LevelWriter(spec=spec, level=0, grid=grid, encoding=encoding)
    records = [writer.write(COORDS[i : i + 1], [ROWS[i]]) for i in range(3)]
    one, other = merge_records(records), merge_records(records[::-1])
    assert one.content == other.content
    assert one.counts.tolist() == other.counts[::-1].tolist()
    again = writer.write(COORDS[:1], [ROWS[0] + 1])
    assert again.content != records[0].content
