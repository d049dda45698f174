"""Objects along their manifests: results of tasks, run by run, compared with a loop over vertices."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import entries, fragment_index, manifest, thorough
from zarr_vectors_lazy.errors import CorruptChunkError, FormatError
from zarr_vectors_lazy.format.manifests import decode_manifests
from zarr_vectors_lazy.kernels.rows import kept_of_mask
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.read import paths
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.read.paths import PathReader, Router

ROWS = 13  # of each chunk
ranges = st.tuples(st.integers(0, 9), st.integers(0, 4))
listed = st.lists(st.integers(0, 12), max_size=4)
LAYOUT = SimpleNamespace(direct=True, decode=lambda raw: raw)
SOURCE = Source(SimpleNamespace(url="memory://level"), 0)
VERTICES = CellSpec(path="0/vertices", dtype=np.dtype("f4"), row_shape=(2,), layout=LAYOUT)
FRAGMENTS = CellSpec(path="0/vertex_fragments", dtype=np.dtype("u1"), row_shape=(), layout=LAYOUT)


@st.composite
def levels(draw):
    """Fragments by chunk, the chunks that are selected, masks of their rows, blocks of objects, and cuts of both."""
    fragments = draw(st.lists(st.lists(ranges | listed, min_size=1, max_size=5), min_size=1, max_size=4))
    selected = sorted(draw(st.lists(st.sampled_from(range(len(fragments))), unique=True, min_size=1)))
    block = st.integers(0, len(fragments) - 1).flatmap(
        lambda chunk: st.tuples(st.just((chunk,)), st.lists(st.integers(0, len(fragments[chunk]) - 1), max_size=4))
    )
    objects = draw(st.lists(st.lists(block, max_size=5), min_size=1, max_size=5))
    rows = st.lists(st.booleans(), min_size=ROWS, max_size=ROWS)
    masks = [draw(st.none() | rows) for _ in selected]
    return fragments, selected, masks, objects, draw(cuts(len(selected))), draw(cuts(len(objects)))


def cuts(n):
    return st.sets(st.integers(1, max(n - 1, 1))).map(
        lambda inner: np.array(sorted({0, n} | {c for c in inner if c < n}))
    )


def rows_of(fragment):
    return list(range(fragment[0], sum(fragment))) if isinstance(fragment, tuple) else fragment


def naive(fragments, selected, masks, objects):
    """(object, chunk, row, whether an edge leads to it) of each selected vertex, in path order."""
    found = []
    for owner, blocks in enumerate(objects):
        joined = False
        for (chunk,), fragment in entries(blocks):
            if chunk not in selected:
                joined = joined and not rows_of(fragments[chunk][fragment])
                continue
            at = selected.index(chunk)
            for row in rows_of(fragments[chunk][fragment]):
                here = masks[at] is None or masks[at][row]
                if here:
                    found.append((owner, at, row, joined))
                joined = here
    return found


def lengths_of(fragments, wanted):
    return [np.array([len(rows_of(of)) for of in fragments[chunk]]) for chunk in wanted[0].coords.ravel()]


@pytest.fixture(scope="module")
def of_manifests():
    with pytest.MonkeyPatch.context() as patch:
        yield lambda found: patch.setattr(paths, "read_manifests", lambda source, index, objects: found)


def router(selected, objects, runs, blocks, *, whole=False):
    coords = np.array(selected)[:, None]
    return Router(
        source=SOURCE, index=None, objects=range(objects), cuts=blocks, coords=coords, bounds=runs, whole=whole
    )


def rows_before(masks):
    """(c + 1,) rows of the view before each chunk."""
    return np.cumsum([0, *(ROWS if mask is None else sum(mask) for mask in masks)])


def given_to(fragments, selected, masks, start, stop):
    """Coordinates, fragment indexes, spans in the view and chosen rows of a run."""
    before = rows_before(masks)
    spans = np.stack([before[start:stop], np.diff(before)[start:stop]], axis=1)
    kept = [None if mask is None else kept_of_mask(np.array(mask)) for mask in masks[start:stop]]
    chunks = selected[start:stop]
    return np.array(chunks)[:, None], [fragment_index(fragments[chunk]) for chunk in chunks], spans, kept


def view_rows(level):
    _, _, masks, *_ = level
    before = rows_before(masks)
    return [
        int(before[at]) + (row if masks[at] is None else sum(masks[at][:row])) for _, at, row, _ in naive(*level[:4])
    ]


@thorough
@given(levels())
def test_runs_give_blocks_of_objects_what_manifests_say(of_manifests, level):
    fragments, selected, masks, objects, runs, blocks = level
    of_manifests(decode_manifests([manifest(of) for of in objects], 1))
    reader = PathReader(source=SOURCE, fragments=FRAGMENTS, vertices=VERTICES, positions=True)
    cells = [(np.arange(2 * ROWS, dtype="f4").reshape(ROWS, 2) + 1000 * at).tobytes() for at in range(len(selected))]
    pieces = []
    for visits, (start, stop) in zip(
        paths.route_paths(router(selected, len(objects), runs, blocks)), pairwise(runs.tolist()), strict=True
    ):
        coords, indexes, spans, kept = given_to(fragments, selected, masks, start, stop)
        pieces.append(paths.read_paths(reader, coords, None, visits, indexes, cells[start:stop], [], spans, kept))
    found = [
        paths.join_paths([of_run[block] for of_run in pieces], int(size)) for block, size in enumerate(np.diff(blocks))
    ]
    expected = naive(*level[:4])
    positions, rows = (np.concatenate([joined.values[part] for joined in found]) for part in (0, 1))
    assert positions.dtype == np.float32
    assert positions[:, 0].tolist() == [2 * row + 1000 * at for _, at, row, _ in expected]
    assert rows.tolist() == view_rows(level)
    counts = np.bincount([owner for owner, *_ in expected], minlength=len(objects))
    assert np.diff(paths.offsets_of([joined.counts for joined in found])).tolist() == counts.tolist()


@thorough
@given(levels())
def test_edges_join_what_follows_in_a_path(of_manifests, level):
    fragments, selected, masks, objects, runs, _ = level
    of_manifests(decode_manifests([manifest(of) for of in objects], 1))
    reader = PathReader(source=SOURCE, fragments=FRAGMENTS, vertices=VERTICES)
    read = []
    for start, stop in pairwise(runs.tolist()):
        coords, indexes, spans, kept = given_to(fragments, selected, masks, start, stop)
        read.append(paths.read_fragments_of_paths(reader, coords, indexes, spans, kept))
    of_all = router(selected, len(objects), runs, np.array([0, len(objects)]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "read_lengths", lambda _, __, wanted: lengths_of(fragments, wanted))
        named = paths.name_fragments(of_all, [paths.ends_of(run) for run in read], FRAGMENTS)
    found = [
        paths.path_edges(run, of_run, np.array([0, stop - start]))
        for run, of_run, (start, stop) in zip(read, named, pairwise(runs.tolist()), strict=True)
    ]
    rows = view_rows(level)
    expected = [(rows[i - 1], rows[i]) for i, (*_, joined) in enumerate(naive(*level[:4])) if joined]
    edges = [tuple(edge) for (of_run,) in found for edge in of_run.tolist()]
    assert sorted(edges) == sorted(expected)
    together = paths.path_edges(read[0], named[0], np.arange(int(runs[1]) + 1))
    assert np.array_equal(np.concatenate(together), found[0][0])  # blocks do not change the order


@pytest.mark.parametrize("named", [2, -1, 2**40])
def test_a_fragment_that_the_chunk_does_not_have(of_manifests, named):
    of_manifests(decode_manifests([manifest([((0,), 0), ((0,), named)])], 1))
    one = np.array([0, 1])
    coords, indexes, spans, kept = given_to([[(0, 1), [3]]], [0], [None], 0, 1)
    reader = PathReader(source=SOURCE, fragments=FRAGMENTS, vertices=VERTICES)
    of_all = router([0], 1, one, one)
    run = paths.read_fragments_of_paths(reader, coords, indexes, spans, kept)
    with pytest.raises(FormatError, match=r"manifests of level 0: .*the chunk has 2"):
        paths.name_fragments(of_all, [paths.ends_of(run)])
    (visits,) = paths.route_paths(of_all)
    with pytest.raises(FormatError, match=r"manifests of level 0: .*the chunk has 2"):
        paths.read_paths(reader, coords, None, visits, indexes, (), [], spans, kept)


def test_a_chunk_that_the_level_does_not_have(of_manifests):
    of_manifests(decode_manifests([manifest([((7,), 0)])], 1))
    one = np.array([0, 1])
    with pytest.raises(FormatError, match="names chunk"):
        paths.route_paths(router([0], 1, one, one, whole=True))
    (visits,) = paths.route_paths(router([0], 1, one, one))
    assert len(visits.entries) == 0


@pytest.mark.parametrize("fragment", [(9, 5), [3, 13], [-1]])
def test_a_row_that_the_chunk_does_not_have(fragment):
    coords, indexes, spans, kept = given_to([[(0, 2)], [(0, 1), fragment]], [0, 1], [None, None], 0, 2)
    reader = PathReader(source=SOURCE, fragments=FRAGMENTS, vertices=VERTICES)
    with pytest.raises(CorruptChunkError, match="the chunk has 13") as caught:
        paths.read_fragments_of_paths(reader, coords, indexes, spans, kept)
    assert caught.value.chunk == "1"
