"""Every kind of store that the reference writes returns what its writers were given (data/*-variety)."""

import json
import zipfile
from functools import cache

import dask
import numpy as np
import pytest
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from tests.conftest import DATA

STORES = {
    path.name.removesuffix(".zarrvectors.zip"): path.parent for path in sorted(DATA.glob("*-variety/stores/*.zip"))
}
NAMES = sorted(STORES)
BLOCKS = [None, "auto", 3]


class Case:
    """A store, what is expected of it, and what its levels give, each computed once."""

    def __init__(self, name):
        buffer = default_buffer_prototype().buffer
        folder = STORES[name]
        with zipfile.ZipFile(folder / f"{name}.zarrvectors.zip") as files:
            self.files = MemoryStore({key: buffer.from_bytes(files.read(key)) for key in files.namelist()})
        with np.load(folder / f"{name}.expected.npz") as arrays:
            self.expected = dict(arrays)
        self.meta = json.loads((folder / f"{name}.expected.json").read_text())
        self.store = zvl.open_zv(self.files)

    def __iter__(self):
        """(level, what is expected of it by name, what is said of it) for each level."""
        for fact in self.meta["levels"]:
            i = fact["level"]
            prefix = f"L{i}/"
            found = {k.removeprefix(prefix): v for k, v in self.expected.items() if k.startswith(prefix)}
            yield self.store[i], found, fact

    @cache  # noqa: B019  # cases live as long as the tests
    def rows(self, index):
        return rows_of(self.store[index])


def rows_of(level):
    """Positions and attributes by name."""
    with dask.config.set(scheduler="sync"):
        return dask.compute(level.vertices, dict(level.attributes))


def compute(*arrays):
    with dask.config.set(scheduler="sync"):
        return dask.compute(*arrays)


@pytest.fixture(scope="module")
def cases():
    return cache(Case)


@pytest.fixture(params=NAMES)
def case(request, cases):
    return cases(request.param)


def below(expected, prefix):
    return {key.removeprefix(prefix): value for key, value in expected.items() if key.startswith(prefix)}


def in_order(keys, *values):
    """Sort rows by their coordinates, then by values: (n, ...) each."""
    columns = [np.asarray(part).reshape(len(part), -1) for part in (keys, *values) if np.asarray(part).size]
    order = np.lexsort([column for part in columns for column in part.T][::-1]) if columns else slice(None)
    return [np.asarray(part)[order] for part in (keys, *values)]


def assert_rows(found, expected):
    """Same dtype (text of any width), shape and values, NaN equal."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype or found.dtype.kind == expected.dtype.kind == "U"
    np.testing.assert_array_equal(found, expected, strict=found.dtype == expected.dtype)


def smaller_first(pairs):
    swap = np.asarray([tuple(b) < tuple(a) for a, b in pairs], np.bool_)
    out = pairs.copy()
    out[swap] = pairs[swap][:, ::-1]
    return out


def turned(faces):
    """Smallest corner first, winding kept."""
    first = [min(range(len(face)), key=lambda i, face=face: tuple(face[i])) for face in faces]
    rolled = [np.roll(face, -k, axis=0) for face, k in zip(faces, first, strict=True)]
    return np.asarray(rolled, faces.dtype).reshape(faces.shape)


def inside(points, lo, hi):
    return ((points.astype(np.float64) >= lo) & (points.astype(np.float64) <= hi)).all(axis=-1)


def ends(level, rows, name):
    """Coordinates of the rows that a member of a level gives."""
    (found,) = compute(getattr(level, name))
    assert found.dtype == np.int64
    return rows[found]


def test_there_are_stores_of_every_kind():
    kinds = {"point_cloud", "polyline", "streamline", "line", "graph", "skeleton", "mesh"}
    for generation, more in {"0.9": {"links"}, "0.7": set()}.items():
        files = (DATA / f"{generation}-variety").glob("stores/*.expected.json")
        found = [json.loads(path.read_text())["kind"] for path in files]
        assert set(found) == kinds | more
        assert len(found) > 35


def test_rows_and_attributes(case):
    assert case.store.levels == [fact["level"] for _, _, fact in case]
    for level, expected, fact in case:
        positions, attributes = case.rows(level.index)
        assert (level.vertex_count, level.chunk_count) == (fact["vertex_count"], fact["chunks"])
        assert str(positions.dtype) == str(level.vertices.dtype) == fact["dtype"]
        names = sorted(below(expected, "attr/"))
        assert list(level.attribute_names) == names
        for name, values in attributes.items():
            stated = level.attributes[name].dtype
            assert stated == values.dtype or stated.kind == values.dtype.kind == "U"
        found = in_order(positions, *(attributes[name] for name in names))
        for got, key in zip(found, ["positions", *(f"attr/{name}" for name in names)], strict=True):
            assert_rows(got, expected[key])


@pytest.mark.parametrize("chunks", BLOCKS[1:])
def test_blocks_of_several_chunks_hold_the_same(case, chunks):
    store = zvl.open_zv(case.files, chunks=chunks)
    for level in store:
        positions, attributes = rows_of(level)
        expected_positions, expected_attributes = case.rows(level.index)
        assert_rows(positions, expected_positions)
        for name, values in attributes.items():
            assert_rows(values, expected_attributes[name])
        assert level.vertices.numblocks[0] <= level.chunk_count


def test_chunk_sizes(case):
    for level, expected, _ in case:
        sized = level.compute_chunk_sizes()
        blocks = compute(*level.vertices.blocks)
        assert sized.vertices.chunks[0] == tuple(len(block) for block in blocks)
        assert sized.vertices.shape == expected["positions"].shape
        assert sized.vertex_count == len(expected["positions"])
        for name in level.attribute_names:
            assert sized.attributes[name].chunks[0] == sized.vertices.chunks[0]


def test_edges_and_faces(case):
    for level, expected, _ in case:
        positions, _ = case.rows(level.index)
        if "edges" in expected:
            found = ends(level, positions, "edges")
            assert_rows(in_order(smaller_first(found))[0], expected["edges"])
            if "edges_child_parent" in expected:
                assert_rows(in_order(found)[0], expected["edges_child_parent"])
        if "faces" in expected:
            assert_rows(in_order(turned(ends(level, positions, "faces")))[0], expected["faces"])
        elif case.meta["kind"] == "mesh":
            assert len(compute(level.faces)[0]) == 0


def test_links_and_their_attributes(case):
    for level, expected, _ in case:
        if "links" not in expected:
            continue
        positions, _ = case.rows(level.index)
        names = sorted(below(expected, "link_attr/"))
        assert sorted(level.link_attributes) == names
        records, *values = compute(level.links(0), *(level.link_attributes[name] for name in names))
        found = in_order(positions[records], *values)
        for got, key in zip(found, ["links", *(f"link_attr/{name}" for name in names)], strict=True):
            assert_rows(got, expected[key])


def test_links_across_levels(case):
    for level, expected, _ in case:
        for name, pairs in below(expected, "crosslevel/").items():
            here, there = case.rows(level.index)[0], case.rows(level.index + int(name))[0]
            (records,) = compute(level.links(int(name)))
            found = np.stack([here[records[:, 0]].astype("f8"), there[records[:, 1]].astype("f8")], axis=1)
            assert_rows(in_order(found)[0], pairs.astype("f8"))
        if any(key.startswith("crosslevel/") for key in expected):
            assert sorted(map(int, below(expected, "crosslevel/"))) == [delta for delta in level.deltas if delta]


def expected_objects(expected):
    """Vertices of each object, and whether their order is known."""
    ordered = "objects/ids" in expected
    part = below(expected, "objects/" if ordered else "object_sets/")
    return dict(zip(part["ids"].tolist(), np.split(part["vertices"], part["offsets"][1:-1]), strict=True)), ordered


def test_objects(case):
    for level, expected, _ in case:
        if level.index == 0 and not any(key.startswith("object") for key in expected):
            assert [part.tolist() for part in compute(*level.objects.ragged())] == [[], [0]]
            assert len(level.objects) == len(level.objects.slots) == 0
            assert not level.objects.attributes
        if not any(key.startswith("object") for key in expected):
            continue
        wanted, ordered = expected_objects(expected)
        present = [i for i, rows in wanted.items() if len(rows)]
        assert level.objects.ids.tolist() == present
        assert level.objects.slots.tolist() == list(wanted)
        vertices, offsets = compute(*level.objects.ragged())
        found = dict(zip(present, np.split(vertices, offsets[1:-1]), strict=True))
        for i in present:
            assert_rows(found[i] if ordered else in_order(found[i])[0], wanted[i])
        for i in list(wanted)[:: max(1, len(wanted) // 5)]:
            (one,) = compute(level.objects[i])
            assert_rows(one if ordered else in_order(one)[0], wanted[i])


def test_attributes_of_objects(case):
    for level, expected, _ in case:
        wanted = below(expected, "object_attr/")
        if not wanted:
            continue
        ids = expected_objects(expected)[0]
        table = level.objects.attributes
        assert sorted(table) == sorted(wanted)
        assert table["object"].values.tolist() == list(ids)
        kept = np.asarray([len(rows) > 0 or level.index == 0 for rows in ids.values()])
        for name, values in wanted.items():
            assert_rows(table[name].values[kept], values[kept])


def test_groups(case):
    for level, expected, fact in case:
        groups, members = level.objects.groups, fact.get("groups", {})
        assert {i: sorted(np.asarray(groups[i]).tolist()) for i in groups} == {int(g): m for g, m in members.items()}
        for number, name in enumerate(fact.get("group_names", [])):
            assert sorted(np.asarray(groups[name]).tolist()) == members[str(number)]
        for name, values in below(expected, "group_attr/").items():
            assert_rows(groups.attributes[name].values, values)


@pytest.mark.parametrize("box", range(3))
def test_boxes(case, box):
    for level, expected, _ in case:
        lo, hi, rows = (expected[f"bbox{box}/{key}"] for key in ("lo", "hi", "rows"))
        part = level.sel(bbox=(lo, hi))
        joins = {key: getattr(part, key) for key in ("edges", "faces") if key in expected}
        if "links" in expected:
            joins |= {"links": part.links(0), "values": dict(part.link_attributes)}
        positions, attributes, found = compute(part.vertices, dict(part.attributes), joins)
        names = sorted(attributes)
        for got, key in zip(
            in_order(positions, *(attributes[name] for name in names)),
            ["positions", *(f"attr/{name}" for name in names)],
            strict=True,
        ):
            assert_rows(got, expected[key][rows])
        for key, of, form in (
            ("edges", "edges", smaller_first),
            ("edges_child_parent", "edges", np.asarray),
            ("faces", "faces", turned),
        ):
            if key in expected:
                kept = inside(expected[key], lo, hi).all(axis=1)
                assert_rows(in_order(form(positions[found[of]]))[0], expected[key][kept])
        if "links" in expected:
            kept = inside(expected["links"], lo, hi).all(axis=1)
            names = sorted(found["values"])
            got = in_order(positions[found["links"]], *(found["values"][name] for name in names))
            for values, key in zip(got, ["links", *(f"link_attr/{name}" for name in names)], strict=True):
                assert_rows(values, expected[key][kept])


@pytest.mark.parametrize("box", range(3))
def test_objects_of_boxes(case, box):
    for level, expected, _ in case:
        if not any(key.startswith("object") for key in expected):
            continue
        lo, hi = expected[f"bbox{box}/lo"], expected[f"bbox{box}/hi"]
        wanted, ordered = expected_objects(expected)
        cut = {i: rows[inside(rows, lo, hi)] for i, rows in wanted.items()}
        objects = level.sel(bbox=(lo, hi)).objects
        with dask.config.set(scheduler="sync"):
            assert objects.ids.tolist() == [i for i, rows in cut.items() if len(rows)]
        vertices, offsets = compute(*objects.ragged())
        for i, found in zip(objects.ids.tolist(), np.split(vertices, offsets[1:-1]), strict=False):
            assert_rows(found if ordered else in_order(found)[0], cut[i])


def test_some_objects(case):
    for level, expected, _ in case:
        if not any(key.startswith("object") for key in expected):
            continue
        wanted, _ = expected_objects(expected)
        ids = [i for i, rows in wanted.items() if len(rows)][::2]
        positions, _ = rows_of(level.sel(objects=ids))
        union = np.unique(np.concatenate([wanted[i] for i in ids]), axis=0)
        assert_rows(np.unique(positions, axis=0), union)


def test_headers(cases):
    assert cases("paths-fragment-attributes").store.headers == {"trk": {"voxel": [1, 2, 3], "nested": {"a": None}}}
    assert cases("paths-2d-0.7").store.headers == {"trk": {"voxel": [1, 2, 3], "nested": {"a": None}}}
    assert cases("graph-with-parametric").store.headers == {"swc": {"comment": "none"}}
