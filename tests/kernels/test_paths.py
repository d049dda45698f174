import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import entries, fragment_index, manifest, thorough
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.fragments import decode_fragments
from zarr_vectors_lazy.format.manifests import decode_manifests
from zarr_vectors_lazy.kernels.paths import trace

ranges = st.tuples(st.integers(0, 9), st.integers(0, 4))
listed = st.lists(st.integers(0, 12), max_size=4)


@st.composite
def levels(draw):
    """Fragments by chunk, the chunks that are selected, and the blocks of objects."""
    fragments = draw(st.lists(st.lists(ranges | listed, min_size=1, max_size=5), min_size=1, max_size=4))
    selected = draw(st.lists(st.sampled_from(range(len(fragments))), unique=True))
    block = st.integers(0, len(fragments) - 1).flatmap(
        lambda chunk: st.tuples(st.just((chunk,)), st.lists(st.integers(0, len(fragments[chunk]) - 1), max_size=4))
    )
    return fragments, selected, draw(st.lists(st.lists(block, max_size=5), max_size=5))


def rows_of(fragment):
    return list(range(fragment[0], sum(fragment))) if isinstance(fragment, tuple) else fragment


def naive(fragments, selected, blocks_of):
    found = []
    for owner, blocks in enumerate(blocks_of):
        begins = True
        for (chunk,), fragment in entries(blocks):
            if chunk not in selected:
                begins = True
                continue
            for row in rows_of(fragments[chunk][fragment]):
                found.append((owner, selected.index(chunk), row, begins))
                begins = False
    return found


@thorough
@given(levels())
def test_paths_go_as_manifests_say(level):
    fragments, selected, blocks_of = level
    manifests = decode_manifests([manifest(blocks) for blocks in blocks_of], 1)
    number = {chunk: i for i, chunk in enumerate(selected)}
    chunk_of_entry = np.array([number.get(chunk, -1) for chunk in manifests.chunks[:, 0].tolist()], np.int64)
    paths = trace(manifests, chunk_of_entry, [decode_fragments(fragment_index(fragments[c])) for c in selected])
    found = [column.tolist() for column in (paths.owners, paths.chunks, paths.rows, paths.begins)]
    assert list(zip(*found, strict=True)) == naive(*level)


@thorough
@given(levels(), st.sampled_from([(), (3,)]))
def test_values_are_gathered_along_paths(level, shape):
    fragments, selected, blocks_of = level
    manifests = decode_manifests([manifest(blocks) for blocks in blocks_of], 1)
    number = {chunk: i for i, chunk in enumerate(selected)}
    chunk_of_entry = np.array([number.get(chunk, -1) for chunk in manifests.chunks[:, 0].tolist()], np.int64)
    paths = trace(manifests, chunk_of_entry, [decode_fragments(fragment_index(fragments[c])) for c in selected])
    size = int(np.prod(shape))
    values = [np.arange(13 * size, dtype="f4").reshape(13, *shape) + 1000 * i for i in range(len(selected))]
    found = paths.gather(values, np.empty((0, *shape), "f4"))
    assert found.dtype == np.float32
    assert found.shape == (len(paths.rows), *shape)
    expected = [values[chunk][row] for _, chunk, row, _ in naive(*level)]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("named", [2, -1, 2**40])
def test_a_fragment_that_the_chunk_does_not_have(named):
    manifests = decode_manifests([manifest([((0,), 0), ((0,), named)])], 1)
    with pytest.raises(FormatError, match="the chunk has 2"):
        trace(manifests, np.zeros(2, np.int64), [decode_fragments(fragment_index([(0, 1), [3]]))])


def test_paths_begin_anew_after_chunks_that_are_left_out():
    blocks = [((0,), 0), ((9,), 0), ((0,), 1), ((0,), 0)]
    manifests = decode_manifests([manifest(blocks), manifest([]), manifest(blocks[:1])], 1)
    index = decode_fragments(fragment_index([(4, 2), (0, 2)]))
    paths = trace(manifests, np.array([0, -1, 0, 0, 0]), [index])
    assert paths.rows.tolist() == [4, 5, 0, 1, 4, 5, 4, 5]
    assert paths.owners.tolist() == [0] * 6 + [2] * 2
    assert np.flatnonzero(paths.begins).tolist() == [0, 2, 6]


def test_fragments_of_chunks_left_out_are_not_looked_at():
    manifests = decode_manifests([manifest([((7,), 99), ((0,), 0)])], 1)
    paths = trace(manifests, np.array([-1, 0]), [decode_fragments(fragment_index([(4, 2)]))])
    assert paths.rows.tolist() == [4, 5]
