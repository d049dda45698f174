"""Damaged cells are errors that say where, on every scheduler; what a store declares empty is empty."""

import pickle
import traceback

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.collect import same_bytes
from tests.integration.generations import STAMPED
from zarr_vectors_lazy.errors import CorruptChunkError, FormatError, ZVError
from zarr_vectors_lazy.storage.requests import counting

ZSTD = {"name": "zstd", "configuration": {"level": 0, "checksum": False}}


def missing(copy, array, chunk):
    copy.remove(copy.key(array, chunk))


def truncated(copy, array, chunk):
    copy.put(copy.key(array, chunk), copy.cell(array, chunk).read_bytes()[:-5])


def emptied(copy, array, chunk):
    copy.put(copy.key(array, chunk), b"")


def garbage(copy, array, chunk):
    copy.put(copy.key(array, chunk), np.random.default_rng(7).bytes(201))


def odd_length(copy, array, chunk):
    copy.put(copy.key(array, chunk), bytes([1, 0, 0, 0, 7, 0, 0, 0]) + b"1234567")


def another_codec(copy, array, chunk):
    """The metadata say zstd; the cells are not."""
    copy.edit(lambda doc: doc["codecs"].append(ZSTD), array)


DAMAGES = [missing, truncated, emptied, garbage, odd_length, another_codec]
MEMBERS = {
    "tracts-0.9": {
        "0/vertices": lambda level: level.vertices,
        "1/vertices": lambda level: level.vertices,
        "0/vertex_attributes/arc_length": lambda level: level.attributes["arc_length"],
        "0/vertex_attributes/tangent": lambda level: level.attributes["tangent"],
        "0/vertex_fragments": lambda level: level.edges,
        "0/links/0/+1.0.0": lambda level: level.links(0),
        "0/links/+1/0.0.0": lambda level: level.links(1),
    },
    "neuron-0.9": {"0/links/0/0.0.0": lambda level: level.edges, "0/vertex_fragments": lambda level: level.edges},
    "surface-0.9": {"0/links/0/0.0.0_0.0.0": lambda level: level.faces},
}
CASES = [(name, array) for name, arrays in MEMBERS.items() for array in arrays]


def assert_says_where(error, copy, array, chunk):
    assert type(error) is CorruptChunkError
    assert (error.level, error.array, error.chunk) == (int(array[0]), array, chunk)
    assert error.url == zvl.open_zv(copy.path).url
    for word in (array, chunk, error.url, f"level {array[0]}"):
        assert word in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is CorruptChunkError
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize(("name", "array"), CASES, ids=[f"{name[:-4]}:{array}" for name, array in CASES])
def test_a_damaged_cell(tamper, name, array, damage):
    copy = tamper(name)
    chunk = copy.listed(array)[-1]
    damage(copy, array, chunk)
    level = zvl.open_zv(copy.path)[int(array[0])]
    with pytest.raises(CorruptChunkError) as caught:
        MEMBERS[name][array](level).compute()
    if damage is another_codec:  # whichever cell is met first
        chunk = caught.value.chunk
        assert chunk in copy.listed(array)
    assert_says_where(caught.value, copy, array, chunk)


@pytest.mark.parametrize("scheduler", ["threads", "sync", pytest.param("distributed", marks=pytest.mark.distributed)])
@pytest.mark.parametrize("array", ["0/vertices", "0/vertex_attributes/index", "0/vertex_fragments"])
@pytest.mark.parametrize("damage", [missing, truncated], ids=lambda damage: damage.__name__)
def test_the_error_arrives_whole(tamper, on_scheduler, scheduler, array, damage):
    copy = tamper("tracts-0.9")
    chunk = copy.listed(array)[3]
    damage(copy, array, chunk)
    level = zvl.open_zv(copy.path)[0]
    with on_scheduler(scheduler), pytest.raises(CorruptChunkError) as caught:
        dask.compute(level.vertices, *level.attributes.values(), level.edges)
    assert_says_where(caught.value, copy, array, chunk)
    assert "reason" in vars(caught.value)
    assert caught.value.reason
    assert str(copy.path) in "".join(traceback.format_exception_only(caught.value))


@pytest.mark.parametrize("damage", DAMAGES[:5], ids=lambda damage: damage.__name__)
def test_one_bad_cell_leaves_the_others_readable(tamper, whole, damage):
    copy = tamper("tracts-0.9")
    bad = copy.listed("0/vertices")[5]
    damage(copy, "0/vertices", bad)
    level, known = zvl.open_zv(copy.path)[0], whole("tracts-0.9", 0)
    other = next(key for key in level.chunk_keys if ".".join(map(str, key)) != bad)
    lo = np.asarray(other) * level.chunk_shape
    hi = np.nextafter(lo + level.chunk_shape, -np.inf)
    assert same_bytes(level.sel(bbox=(lo, hi)).vertices.compute(), known.positions[known.inside(lo, hi)])
    for ask in (level.vertices, level.sel(x=slice(0, None)).vertices, level.objects.ragged()[0]):
        with pytest.raises(CorruptChunkError, match=bad.replace(".", r"\.")):
            ask.compute()


@pytest.mark.parametrize("damage", [missing, truncated], ids=lambda damage: damage.__name__)
def test_sizes_of_a_damaged_store(tamper, damage):
    copy = tamper("tracts-0.9")
    bad = copy.listed("0/vertices")[5]
    damage(copy, "0/vertices", bad)
    level = zvl.open_zv(copy.path)[0]
    with pytest.raises(CorruptChunkError) as caught:
        level.compute_chunk_sizes().vertices.compute()
    assert_says_where(caught.value, copy, "0/vertices", bad)


MANIFESTS = "0/object_index/manifests"


@pytest.mark.parametrize("damage", ["truncated", "garbage", "codec"])
def test_damaged_manifests(tamper, damage):
    copy = tamper("tracts-0.9")
    key = f"{MANIFESTS}/c/0"
    raw = (copy.path / key).read_bytes()
    if damage == "codec":
        copy.edit(lambda doc: doc.update(codecs=doc["codecs"][:1]), MANIFESTS)
    else:
        copy.put(key, raw[: len(raw) // 2] if damage == "truncated" else bytes(range(256)))
    level = zvl.open_zv(copy.path)[0]
    asks = [
        lambda: level.objects.ids,
        lambda: level.objects[3],
        lambda: level.edges,
        lambda: level.sel(objects=3),
    ]
    for ask in asks:
        with pytest.raises(FormatError, match=MANIFESTS) as caught:
            ask()
        assert str(copy.path) in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert len(level.vertices.compute()) == level.vertex_count


def test_manifests_that_are_gone_are_not_absent_objects(tamper):
    copy = tamper("tracts-0.9")
    copy.remove(f"{MANIFESTS}/c/0")
    level = zvl.open_zv(copy.path)[0]
    for ask in (lambda: level.objects.ids, lambda: level.edges, lambda: level.objects[3], lambda: level.sel(objects=3)):
        with pytest.raises(FormatError, match="110"):
            ask()


def test_a_manifest_that_names_what_is_not_there(tamper):
    """The first object's fragments lie in a chunk whose index is replaced by that of an empty chunk."""
    copy = tamper("tracts-0.9")
    chunk = copy.listed("0/vertex_fragments")[0]
    header = bytes([0x47, 0x46, 0x56, 0x5A, 1, 0, 0, 0]) + bytes(8)
    copy.put(copy.key("0/vertex_fragments", chunk), bytes([1, 0, 0, 0, 16, 0, 0, 0]) + header)
    level = zvl.open_zv(copy.path)[0]
    for ask in (level.edges, level.objects.ragged()[0], level.sel(objects=level.objects.ids).vertices):
        with pytest.raises(FormatError) as caught:
            ask.compute()
        assert str(copy.path) in str(caught.value)


def test_links_that_name_rows_that_are_not_there(tamper):
    copy = tamper("tracts-0.9")
    array, chunk = "0/links/0/+1.0.0", copy.listed("0/links/0/+1.0.0")[0]
    raw = bytearray(copy.cell(array, chunk).read_bytes())
    raw[-8:] = (10**6).to_bytes(8, "little")
    copy.put(copy.key(array, chunk), bytes(raw))
    with pytest.raises(CorruptChunkError) as caught:
        zvl.open_zv(copy.path)[0].links(0).compute()
    assert_says_where(caught.value, copy, array, chunk)


def test_an_attribute_with_too_few_rows(tamper):
    copy = tamper("tracts-0.9")
    array, chunk = "0/vertex_attributes/arc_length", copy.listed("0/vertices")[4]
    copy.put(copy.key(array, chunk), bytes([1, 0, 0, 0, 8, 0, 0, 0]) + bytes(8))
    level = zvl.open_zv(copy.path)[0]
    lo = np.asarray([int(c) for c in chunk.split(".")]) * level.chunk_shape + 1e-3
    box = (lo, lo + level.chunk_shape - 2e-3)
    asks = [
        level.sel(where={"arc_length": (0, 1)}).vertices.compute,
        level.sel(bbox=box).attributes["arc_length"].compute,
        level.compute_chunk_sizes().attributes["arc_length"].compute,
        lambda: dask.compute(level.vertices, level.attributes["arc_length"]),
    ]
    for ask in asks:
        with pytest.raises(FormatError) as caught:
            ask()
        assert chunk in str(caught.value)


def test_a_chunk_that_is_declared_empty_is_empty(tamper, whole):
    """A cell that is not listed does not count, even where its bytes are there."""
    copy = tamper("tracts-0.9")
    gone = copy.listed("0/vertices")[2]
    for array in ("0/vertices", "0/vertex_attributes/index"):
        copy.edit(lambda doc: doc["attributes"]["nonempty_chunks"].remove(gone), array)
    store = zvl.open_zv(copy.path)
    level, known = store[0], whole("tracts-0.9", 0)
    key = tuple(map(int, gone.split(".")))
    assert key not in level.chunk_keys
    keep = (np.floor(known.positions.astype(np.float64) / level.chunk_shape) != key).any(axis=1)
    with counting() as counts:
        vertices, values = dask.compute(level.vertices, level.attributes["index"])
    assert same_bytes(vertices, known.positions[keep])
    assert same_bytes(values, known.attributes["index"][keep])
    assert copy.key("0/vertices", gone) not in counts.keys
    lo = np.asarray(key) * level.chunk_shape
    box = (np.nextafter(lo, np.inf), np.nextafter(lo + level.chunk_shape, -np.inf))
    assert level.sel(bbox=box).vertices.compute().shape == (0, 3)


def test_a_cell_of_an_attribute_that_is_declared_empty_is_missing_values(tamper, whole):
    copy = tamper("tracts-0.9")
    gone = copy.listed("0/vertices")[2]
    for name in ("arc_length", "index"):
        copy.edit(lambda doc: doc["attributes"]["nonempty_chunks"].remove(gone), f"0/vertex_attributes/{name}")
    level, known = zvl.open_zv(copy.path)[0], whole("tracts-0.9", 0)
    here = (np.floor(known.positions.astype(np.float64) / level.chunk_shape) == tuple(map(int, gone.split(".")))).all(1)
    for name in ("arc_length", "index"):
        values = level.attributes[name].compute()
        assert values.dtype == level.attributes[name].dtype
        assert np.isnan(values[here]).all()
        assert (values[~here] == known.attributes[name][~here]).all()


def test_a_level_without_chunks(tamper):
    copy = tamper("cloud-0.9")
    for array in ("0/vertices", "0/vertex_fragments", *(f"0/vertex_attributes/{n}" for n in ("type", "to_node"))):
        copy.edit(lambda doc: doc["attributes"].update(nonempty_chunks=[]), array)
    level = zvl.open_zv(copy.path)[0]
    assert level.chunk_count == 0
    with counting() as counts:
        assert level.vertices.compute().shape == (0, 3)
        assert level.vertices.dtype == np.float32
        assert level.attributes["to_node"].compute().shape == (0, 3)
        assert level.attributes["type"].compute().dtype == np.int32
        assert level.compute_chunk_sizes().vertices.shape == (0, 3)
        assert level.sel(x=slice(0, 1)).vertices.compute().shape == (0, 3)
    assert not [key for key in counts.keys if "/c/" in key]


@pytest.mark.parametrize("name", STAMPED)
def test_stamped_counts_are_sizes(name, tamper, whole):
    copy = tamper(name)
    counts = copy.counts()
    copy.stamp(counts)
    with counting() as requests:
        level = zvl.open_zv(copy.path)[0]
        before = requests.requests
        vertices = level.vertices
        assert vertices.shape == (sum(counts), 3) == (level.vertex_count, 3)
        assert dict(zip(level.chunk_keys, vertices.chunks[0], strict=True)) == {
            tuple(map(int, chunk.split("."))): count
            for chunk, count in zip(copy.listed("0/vertices"), counts, strict=True)
        }
        assert level.compute_chunk_sizes().vertices.shape == vertices.shape
        assert requests.requests - before <= 1
    assert {array.shape[0] for array in level.attributes.values()} == {sum(counts)}
    known = whole(name, 0)
    assert same_bytes(vertices.compute(), known.positions)
    head = vertices[: counts[0]]
    assert same_bytes(head.compute(), known.positions[: counts[0]])
    if known.edges is not None:
        assert same_bytes(level.edges.compute(), known.edges)
    if known.faces is not None:
        assert same_bytes(level.faces.compute(), known.faces)
    name = level.attribute_names[0]
    assert same_bytes(level.attributes[name].compute(), known.attributes[name])


@pytest.fixture
def miscounted(tamper):
    """A store whose stamped counts are wrong in two chunks and right in their sum."""
    copy = tamper("tracts-0.9")
    counts = copy.counts()
    counts[0], counts[1] = counts[0] + 1, counts[1] - 1
    copy.stamp(counts)
    return zvl.open_zv(copy.path)[0]


@pytest.mark.parametrize(
    "ask",
    [
        lambda level: level.vertices,
        lambda level: level.attributes["arc_length"],
        lambda level: level.attributes["tangent"],
        lambda level: level.edges,
        lambda level: level.sel(bbox=((0, 0, 0), (91.5, 200, 200))).vertices,
        lambda level: level.sel(objects=level.objects.ids).vertices,
        lambda level: level.sel(where={"index": (0, 5)}).vertices,
    ],
    ids=["vertices", "scalar", "vector", "edges", "box", "objects", "where"],
)
@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_wrong_stamped_counts_are_an_error(miscounted, on_scheduler, scheduler, ask):
    with on_scheduler(scheduler), pytest.raises(FormatError, match=r"zvl\.index"):
        ask(miscounted).compute()


@pytest.mark.parametrize("counts", [[1, 2], [-1] * 16, "many", [1.5] * 16, ["a"] * 16])
def test_malformed_stamped_counts(tamper, counts):
    copy = tamper("tracts-0.9")
    copy.stamp(counts)
    with pytest.raises(FormatError, match="vertex_counts"):
        zvl.open_zv(copy.path)[0].vertices  # noqa: B018


def test_stamped_counts_that_contradict_the_level(tamper):
    copy = tamper("tracts-0.9")
    copy.stamp([count + 1 for count in copy.counts()])
    with pytest.raises(FormatError, match=r"zvl\.index"):
        zvl.open_zv(copy.path)[0].vertices.compute()


@pytest.fixture
def manifests(tmp_path, monkeypatch):
    """A store with four objects in each stored chunk of manifests, of which chunk 1 is missing."""
    monkeypatch.setattr("zarr_vectors_lazy.format.v09.writing.MANIFEST_ROWS", 4)
    ids = np.arange(10)
    weights = {"w": np.linspace(0, 1, 10)}
    zvl.write_points(tmp_path / "a.zv", np.ones((10, 2)), chunk_shape=2, object_ids=ids, object_attributes=weights)
    (tmp_path / "a.zv/0/object_index/manifests/c/1").unlink()
    return tmp_path / "a.zv"


def test_an_object_whose_manifest_is_gone_is_not_empty(manifests):
    level = zvl.open_zv(manifests)[0]
    assert level.objects[2].compute().tolist() == [[1, 1]]
    asked = [lambda: np.asarray(level.objects[5]), lambda: np.asarray(level.sel(objects=[0, 5]).vertices)]
    for ask in [*asked, lambda: level.objects.ids, lambda: zvl.read_points(manifests, object_ids=[5])]:
        with pytest.raises(CorruptChunkError, match=r"'0/object_index/manifests', chunk '1'"):
            ask()


def test_damaged_attributes_of_objects_say_where(manifests):
    path = manifests / "0/object_attributes/w/c/0"
    path.write_bytes(path.read_bytes()[:-5] + b"12345")
    with pytest.raises(CorruptChunkError, match=r"level 0, array '0/object_attributes/w', chunk '0'"):
        zvl.open_zv(manifests)[0].objects.attributes["w"].to_numpy()


def test_all_errors_have_a_common_base():
    assert issubclass(CorruptChunkError, FormatError)
    assert issubclass(FormatError, ZVError)
