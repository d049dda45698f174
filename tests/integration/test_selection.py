"""Selections are what brute force over the whole, computed level gives."""

from itertools import pairwise

import dask
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import zarr_vectors_lazy as zvl
from tests.integration.collect import LINKED, boxes_of, collect_rows, compute_together, differing, picked, same_bytes
from tests.integration.generations import GOLDEN
from zarr_vectors_lazy.errors import NotFoundError, SelectionError

EXAMPLES = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)


def part_of(level, store):
    """Everything of a selection that `Whole.cut` knows."""
    return collect_rows(store, level) | {f"links/{delta}": level.links(delta) for delta in level.deltas}


def check(store, level, data, mask):
    """Hold a selection against the rows of a mask: rows, attributes, edges, faces, links; same order, same bytes."""
    found = compute_together({key: a for key, a in part_of(level, store).items() if not key.startswith("codes/")})
    expected = data.cut(mask)
    assert set(found) == set(expected)
    assert not differing(found, expected)


def a_coordinate(draw, bounds, edge, values):
    """A coordinate anywhere, of a vertex, on a chunk border, or outside."""
    at = draw(st.sampled_from(["anywhere", "vertex", "vertex", "border", "outside"]))
    lo, hi = bounds
    if at == "anywhere":
        return draw(st.floats(lo, hi))
    if at == "vertex":
        return float(values[draw(st.integers(0, len(values) - 1))])
    if at == "border":
        return float(draw(st.integers(int(lo // edge), int(hi // edge) + 1)) * edge)
    return float(draw(st.sampled_from([lo - 2 * edge, hi + 2 * edge])))


def a_box(draw, store, level, data):
    lo, hi = store.bounds
    axes = zip(zip(lo, hi, strict=True), level.chunk_shape, data.positions.T, strict=True)
    ends = [sorted(a_coordinate(draw, *axis) for _ in range(2)) for axis in axes]
    return tuple(zip(*ends, strict=True))


@settings(EXAMPLES, max_examples=30)
@given(data=st.data())
def test_boxes_are_exact(open_at, whole, data):
    store = open_at(data.draw(st.sampled_from(GOLDEN), "store"))
    name = next(name for name in GOLDEN if name in store.url)
    level = store[data.draw(st.sampled_from(store.levels), "level")]
    known = whole(name, level.index)
    mask, part = np.ones(len(known.positions), np.bool_), level
    for _ in range(data.draw(st.sampled_from([1, 1, 1, 2, 3]), "boxes")):
        lo, hi = box = a_box(data.draw, store, level, known)
        part, mask = part.sel(bbox=box), mask & known.inside(lo, hi)
    check(store, part, known, mask)


@settings(EXAMPLES, max_examples=12)
@given(data=st.data())
def test_objects_of_a_box_are_cut_to_it(open_at, whole, data):
    name = data.draw(st.sampled_from(GOLDEN), "store")
    store = open_at(name)
    level = store[data.draw(st.sampled_from(store.levels), "level")]
    known = whole(name, level.index)
    lo, hi = box = a_box(data.draw, store, level, known)
    check_objects(level.sel(bbox=box), known, lambda path: known.inside(lo, hi, path))


def check_objects(part, known, mask):
    """Objects of a selection: those with a selected vertex, each cut to the rows of a mask."""
    cut = {int(i): known.paths[int(i)][mask(known.paths[int(i)])] for i in known.ids}
    cut = {i: path for i, path in cut.items() if len(path)}
    ids = part.objects.ids
    assert ids.dtype == np.int64
    assert ids.tolist() == [int(i) for i in known.ids if int(i) in cut]
    assert part.objects.slots.tolist() == ids.tolist()
    assert all(i in part.objects for i in cut)
    assert len(part.objects) == len(cut)
    vertices, offsets = dask.compute(*part.objects.ragged())
    assert offsets[0] == 0
    assert np.array_equal(np.diff(offsets), [len(path) for path in cut.values()])
    assert same_bytes(vertices, np.concatenate([known.positions[:0], *cut.values()]))
    for i in picked(ids, 2).tolist():
        assert same_bytes(part.objects[i].compute(), cut[i])


def test_every_level_has_boxes_through_vertices(golden, open_at, whole):
    store = open_at(golden.name)
    for level in store:
        known = whole(golden.name, level.index)
        rows = np.linspace(0, len(known.positions) - 1, 3).astype(int)
        for a, b in pairwise(rows):
            ends = known.positions[[a, b]].astype(np.float64)
            lo, hi = ends.min(axis=0), ends.max(axis=0)
            part = level.sel(bbox=(lo, hi))
            mask = known.inside(lo, hi)
            assert mask[[a, b]].all()
            check(store, part, known, mask)
        point = known.positions[rows[1]]
        assert same_bytes(level.sel(bbox=(point, point)).vertices.compute(), point[None])
        above = np.nextafter(known.positions.max(axis=0).astype(np.float64), np.inf)
        assert level.sel(bbox=(above, above + 1)).vertices.compute().shape == (0, store.ndim)


def test_axes_are_slices(golden, open_at, whole):
    store = open_at(golden.name)
    level, known = store[0], whole(golden.name, 0)
    x, y, z = store.axes
    lo, hi = np.percentile(known.positions.astype(np.float64), [30, 60], axis=0)
    inf = np.inf
    check(store, level.sel(**{x: slice(lo[0], hi[0])}), known, known.inside((lo[0], -inf, -inf), (hi[0], inf, inf)))
    check(store, level.sel(**{z: slice(None, hi[2])}), known, known.inside((-inf,) * 3, (inf, inf, hi[2])))
    both = level.sel(**{y: slice(lo[1], None), z: slice(lo[2], hi[2])})
    check(store, both, known, known.inside((-inf, lo[1], lo[2]), (inf, inf, hi[2])))
    check(store, level.sel((lo, hi), **{x: slice(lo[0], None)}), known, known.inside(lo, hi))
    assert level.sel(**{x: slice(None, None)}).vertices.compute().shape == known.positions.shape


def test_boxes_compare_in_float64(golden, open_at, whole):
    """A face between two neighbouring float32 numbers is where it was put."""
    level, known = open_at(golden.name)[0], whole(golden.name, 0)
    row = known.positions[len(known.positions) // 2].astype(np.float64)
    inf = np.inf
    just_above = np.nextafter(row[0], inf)
    assert np.float32(just_above) == np.float32(row[0])
    found = level.sel(bbox=((just_above, row[1], row[2]), (inf, row[1], row[2]))).vertices.compute()
    assert not (found == row.astype(found.dtype)).all(axis=1).any()


def test_objects(golden, open_at, whole):
    store = open_at(golden.name)
    for level in store:
        known = whole(golden.name, level.index)
        chosen = picked(known.ids, 3)
        check(store, level.sel(objects=chosen), known, known.of_objects(chosen))
        check(store, level.sel(objects=int(chosen[0])), known, known.of_objects(chosen[:1]))
        check(store, level.sel(objects=[]), known, known.of_objects([]))
        part = level.sel(objects=chosen)
        assert part.objects.ids.tolist() == chosen.tolist()
        assert same_bytes(part.objects[int(chosen[-1])].compute(), known.paths[int(chosen[-1])])


def test_groups(golden, open_at, whole):
    level = open_at(golden.name)[0]
    known = whole(golden.name, 0)
    groups = level.objects.groups
    for key in [*groups, *groups.names]:
        check(level.store, level.sel(groups=key), known, known.of_objects(groups[key]))
    if len(groups) > 1:
        both = np.union1d(groups[0], groups[1])
        check(level.store, level.sel(groups=[groups.names[0], 1]), known, known.of_objects(both))
        one = groups[0][:1]
        check(level.store, level.sel(groups=0, objects=[*one, *groups[1]]), known, known.of_objects(one))


def test_objects_in_a_box(golden, open_at, whole):
    store = open_at(golden.name)
    for level in store:
        known = whole(golden.name, level.index)
        chosen = picked(known.ids, 4)
        lo, hi = boxes_of(golden.name, level.index)[1]
        mask = known.of_objects(chosen) & known.inside(lo, hi)
        check(store, level.sel(bbox=(lo, hi), objects=chosen), known, mask)
        assert same_bytes(level.sel(objects=chosen).sel(bbox=(lo, hi)).vertices.compute(), known.positions[mask])
        part = level.sel(bbox=(lo, hi)).sel(objects=chosen)
        assert same_bytes(part.vertices.compute(), known.positions[mask])
        assert part.objects.ids.tolist() == [i for i in chosen.tolist() if known.inside(lo, hi, known.paths[i]).any()]


@pytest.mark.parametrize("q", [0, 2])
def test_whole_objects(golden, open_at, whole, q):
    store = open_at(golden.name)
    for level in store:
        known = whole(golden.name, level.index)
        lo, hi = boxes_of(golden.name, level.index)[q]
        touching = [int(i) for i in known.ids if known.inside(lo, hi, known.paths[int(i)]).any()]
        mask = known.of_objects(touching)
        part = level.sel(bbox=(lo, hi), whole_objects=True)
        check(store, part, known, mask)
        # A vertex that several objects share on a coarse level is selected with any of them.
        assert set(touching) <= set(part.objects.ids.tolist())
        few = picked(known.ids, 3)
        narrow = level.sel(bbox=(lo, hi), whole_objects=True, objects=few)
        assert same_bytes(
            narrow.vertices.compute(), known.positions[known.of_objects([i for i in few.tolist() if i in touching])]
        )
        if level.index == 0 and q == 0:
            check_objects(part, known, lambda path, kept=mask, known=known: known.among(path, kept))


@pytest.fixture(params=["range", "open", "callable", "two", "strict"])
def condition(request, golden, whole):
    """(where=, mask of the rows that meet it) of level 0."""
    values = {name: array for name, array in whole(golden.name, 0).attributes.items() if array.ndim == 1}
    a, b = min(values), max(values)
    first, second = values[a], values[b]
    lo, hi = np.percentile(first, [25, 75]).astype(first.dtype)
    middle = np.median(second)
    if request.param == "range":
        return {a: (lo, hi)}, (first >= lo) & (first <= hi)
    if request.param == "open":
        return {a: (None, hi)}, first <= hi
    if request.param == "two":
        return {a: (lo, None), b: (None, middle)}, (first >= lo) & (second <= middle)
    namespace = {"middle": middle, "lo": lo}
    code = f"lambda {a}, {b}: ({b} > middle) & ({a} != lo)" if a != b else f"lambda {a}: {a} > middle"
    mask = (second > middle) & (first != lo) if a != b else first > middle
    if request.param == "strict":
        return {a: (first[0], first[0])}, first == first[0]
    return eval(code, namespace), mask  # parameters are named as the store's attributes are


def test_where(golden, open_at, whole, condition):
    where, mask = condition
    level, known = open_at(golden.name)[0], whole(golden.name, 0)
    check(level.store, level.sel(where=where), known, mask)
    lo, hi = boxes_of(golden.name, 0)[1]
    check(level.store, level.sel(bbox=(lo, hi), where=where), known, mask & known.inside(lo, hi))
    chosen = picked(known.ids, 2)
    found = level.sel(where=where).sel(objects=chosen).vertices.compute()
    assert same_bytes(found, known.positions[mask & known.of_objects(chosen)])


def test_where_on_a_vector(open_at, whole):
    level, known = open_at("tracts-0.9")[0], whole("tracts-0.9", 0)
    part = level.sel(where=lambda tangent: tangent[:, 2] > 0)
    check(level.store, part, known, known.attributes["tangent"][:, 2] > 0)


def test_where_must_give_a_mask(open_at):
    level = open_at("tracts-0.9")[0]
    for wrong in (lambda index: index, lambda index: index[:1] > 0, lambda index: True):
        with pytest.raises(SelectionError, match="mask"):
            level.sel(where=wrong).vertices.compute()


def test_sizes_become_known(golden, open_at, whole):
    store = open_at(golden.name)
    for level in store:
        known = whole(golden.name, level.index)
        lo, hi = boxes_of(golden.name, level.index)[0]
        some = picked(known.ids, 2)
        cases = [
            (level, np.ones(len(known.positions), np.bool_)),
            (level.sel(bbox=(lo, hi)), known.inside(lo, hi)),
            (level.sel(bbox=(lo, hi), objects=some), known.inside(lo, hi) & known.of_objects(some)),
            (level.sel(bbox=(hi + 1e6, hi + 2e6)), np.zeros(len(known.positions), np.bool_)),
        ]
        for part, mask in cases:
            sized = part.compute_chunk_sizes()
            vertices = sized.vertices
            assert sized.vertex_count == mask.sum() == vertices.shape[0]
            assert sized.chunk_keys == part.chunk_keys
            assert [sized.attributes[name].shape[0] for name in sized.attribute_names] == [mask.sum()] * len(
                sized.attribute_names
            )
            assert same_bytes(vertices.compute(), known.positions[mask])
            blocks = dask.compute(*[vertices.blocks[k] for k in range(vertices.numblocks[0])])
            assert tuple(map(len, blocks)) == vertices.chunks[0]
            check(store, sized, known, mask)
        assert level.sel(bbox=(lo, hi)).vertex_count is None


@pytest.mark.parametrize("chunks", ["auto", 1, 5, 1000])
def test_blocks_of_several_chunks_give_the_same(golden, open_at, whole, chunks):
    one = open_at(golden.name)
    store = open_at(golden.name, chunks=chunks)
    lo, hi = boxes_of(golden.name, 0)[1]
    known = whole(golden.name, 0)
    count = store[0].chunk_count
    blocks = {1: count, 5: -(-count // 5), 1000: 1, "auto": 1}[chunks]
    assert store[0].vertices.numblocks[0] == blocks
    assert [store[0].attributes[name].numblocks[0] for name in store[0].attribute_names] == [blocks] * len(
        store[0].attribute_names
    )
    check(store, store[0], known, np.ones(len(known.positions), np.bool_))
    check(store, store[0].sel(bbox=(lo, hi)).compute_chunk_sizes(), known, known.inside(lo, hi))
    check(store, store[0].sel(objects=known.ids[:1]), known, known.of_objects(known.ids[:1]))
    assert one[0].vertices.numblocks[0] == count
    with dask.config.set({"array.chunk-size": "10 kB"}):
        small = open_at(golden.name, chunks="auto")[0].vertices
        assert 1 < small.numblocks[0] <= count
        assert same_bytes(small.compute(), known.positions)


@pytest.mark.parametrize("chunks", [0, -1, 1.5, "all", True, (2,)])
def test_chunks_that_make_no_sense(open_at, chunks):
    with pytest.raises(SelectionError, match="chunks"):
        open_at("tracts-0.9", chunks=chunks)


def test_chunk_bounds_contain_their_vertices(golden, open_at):
    for level in open_at(golden.name):
        bounds = level.chunk_bounds
        assert bounds.shape == (level.chunk_count, 2, 3)
        blocks = dask.compute(*[level.vertices.blocks[k] for k in range(level.chunk_count)])
        for (lo, hi), block in zip(bounds, blocks, strict=True):
            assert ((block >= lo) & (block <= hi)).all()
        part = level.sel(bbox=(bounds[1, 0], bounds[1, 1]))
        keys = [level.chunk_keys.index(key) for key in part.chunk_keys]
        assert np.array_equal(part.chunk_bounds, bounds[keys])


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
    ({"where": {"colour": (0, 1)}}, NotFoundError, ["'colour'", "'arc_length'", "'index'", "'tangent'"]),
    ({"where": lambda colour: colour > 0}, NotFoundError, ["'colour'", "'arc_length'", "'index'", "'tangent'"]),
    ({"where": {"index": (2, 1)}}, SelectionError, ["lo > hi"]),
    ({"where": {"index": 5}}, SelectionError, ["index"]),
    ({"where": {"index": (np.nan, 1)}}, SelectionError, ["NaN"]),
    ({"where": "index > 5"}, SelectionError, ["where"]),
    ({"where": lambda *names: names}, SelectionError, ["parameters"]),
]


@pytest.mark.parametrize(("arguments", "kind", "words"), BAD_SELECTIONS, ids=range(len(BAD_SELECTIONS)))
def test_selections_that_cannot_be(open_at, arguments, kind, words):
    with pytest.raises(kind) as caught:
        open_at("tracts-0.9")[0].sel(**arguments)
    for word in words:
        assert word in str(caught.value)


def test_what_is_not_there(golden, open_at):
    store = open_at(golden.name)
    level = store[0]
    asks = [
        (lambda: store[7], [str(i) for i in store.levels]),
        (lambda: store["0"], [str(i) for i in store.levels]),
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
