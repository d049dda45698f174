"""Boxes are exact: brute force over the complete, computed level gives the same."""

from itertools import pairwise

import dask
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.brute_force import check, check_objects
from tests.integration.collect import boxes_of, picked, same_bytes
from tests.integration.generations import GOLDEN

EXAMPLES = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)


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
