"""A level as a Dask collection, as delayed values, and chunk by chunk."""

import threading

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.bounds import HANGS_S
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.read import columns
from zarr_vectors_lazy.storage.requests import counting

STORES = ["tracts-0.9", "cloud-0.7", "surface-0.9"]


@pytest.fixture(params=STORES)
def level(request, goldens):
    return zvl.open_zv(goldens[request.param].path)[0]


def cells_of(counts):
    return [key for key in counts.keys if key.startswith("0/vertices/") and "/c/" in key]


def once(level):
    """Each cell of positions once, and those whose heads tell the shape of an attribute."""
    return level.chunk_count + 2 * len(level.attribute_names)


def test_computing_a_level_gives_its_members_in_one_pass(level):
    with counting() as counts:
        (found,) = dask.compute(level)
    assert len(cells_of(counts)) <= once(level)
    assert np.array_equal(found.vertices, level.vertices.compute())
    assert list(found.attributes) == list(level.attribute_names)
    for name, values in found.attributes.items():
        assert np.array_equal(values, level.attributes[name].compute())
    kind = level.store.geometry_types[0]
    assert (found.edges is None) == (kind in {"point_cloud", "mesh"})
    assert (found.faces is None) == (kind != "mesh")
    if found.faces is not None:
        assert np.array_equal(found.faces, level.faces.compute())
    if found.edges is not None:
        assert np.array_equal(found.edges, level.edges.compute())


def test_a_computed_level_is_no_collection(tracts):
    level = zvl.open_zv(tracts)[1]
    assert dask.is_dask_collection(level)
    computed = level.compute()
    assert not dask.is_dask_collection(computed)
    assert dask.compute(computed, 1)[0] is computed
    assert dask.delayed(len)(computed.vertices).compute() == 141


def test_a_persisted_level_reads_no_more(level):
    kept = level.persist()
    with counting() as counts:
        vertices = kept.vertices.compute()
        (again,) = dask.compute(kept)
    assert not counts.requests
    assert np.array_equal(vertices, level.vertices.compute())
    assert np.array_equal(again.vertices, vertices)


def test_computed_beside_an_array_it_shares_reads(level):
    with counting() as counts:
        found, top = dask.compute(level, level.vertices.max(axis=0))
    assert len(cells_of(counts)) <= once(level)
    assert np.array_equal(top, found.vertices.max(axis=0))


def test_delayed_values_are_the_blocks(level):
    values = dask.compute(*level.to_delayed())
    assert len(values) == level.chunk_count
    assert np.array_equal(np.concatenate([value["vertices"] for value in values]), level.vertices.compute())
    with counting() as counts:
        level.to_delayed()[0].compute()
    assert counts.requests <= 2 * (1 + len(level.attribute_names))


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_chunks_come_in_order_with_their_rows(level, prefetch):
    box = level.sel(x=slice(float(np.mean(level.bounds, axis=0)[0]), None))
    for part in (level, box):
        found = list(part.iter_chunks(prefetch=prefetch))
        assert [key for key, _ in found] == part.chunk_keys
        for name in ("vertices", *part.attribute_names):
            values = [rows[name] if name == "vertices" else rows["attributes"][name] for _, rows in found]
            expected = part.vertices if name == "vertices" else part.attributes[name]
            assert np.array_equal(np.concatenate(values), expected.compute())


def test_no_more_chunks_are_read_ahead_than_asked_for(tracts, monkeypatch):
    level, begun, gate = zvl.open_zv(tracts)[0], [], threading.Semaphore(0)
    whole = columns.read_chunk

    def read(view, number):
        begun.append(number)
        gate.release()
        return whole(view, number)

    monkeypatch.setattr(columns, "read_chunk", read)
    for taken, _ in enumerate(level.iter_chunks(prefetch=3), start=1):
        for _ in range(min(3 + taken, 16) - len(begun)):
            gate.acquire(timeout=HANGS_S)
        assert len(begun) <= taken + 3
        if taken == 5:
            break
    assert len(begun) <= 8  # closing the iterator ends the reading


@pytest.mark.parametrize("prefetch", [-1, 1.5, True])
def test_prefetch_is_a_whole_number(tracts, prefetch):
    with pytest.raises(SelectionError):
        zvl.open_zv(tracts)[0].iter_chunks(prefetch=prefetch)
