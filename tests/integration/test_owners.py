"""Fragments that name their object: a box reads their cells instead of every manifest."""

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.testing import counting

COUNT = 40_000  # three stored chunks of manifests
SIDE = 200


@pytest.fixture(scope="module")
def segments():
    """Short lines on a lattice, one per object, in an order that has nothing to do with space; ids with gaps."""
    rows = np.random.default_rng(0).permutation(COUNT)
    starts = np.stack([rows % SIDE, rows // SIDE], axis=1).astype("f4") + 0.25
    return np.stack([starts, starts + 0.5], axis=1)


@pytest.fixture(scope="module")
def path(segments, tmp_path_factory):
    path = tmp_path_factory.mktemp("owners") / "lines"
    zvl.write_lines(path, segments, chunk_shape=50, object_ids=3 * np.arange(COUNT))
    return path


BOX = ([2, 2], [2.9, 9.9])


def inside(segments):
    return ((segments >= BOX[0]) & (segments <= BOX[1])).all(axis=2).any(axis=1)


def test_ids_of_a_box(path, segments):
    level = zvl.open_zv(path)[0]
    with counting() as counts:
        ids = level.sel(bbox=BOX).objects.ids
    assert ids.tolist() == (3 * np.flatnonzero(inside(segments))).tolist()
    assert "0/fragment_attributes/segment_id/c/0/0" in counts.keys
    owners = [key for key in counts.keys if key.startswith("0/fragment_attributes/segment_id/c/")]
    assert len(owners) == 1


def test_a_whole_view_still_reads_all_manifests_once(path):
    level = zvl.open_zv(path)[0]
    with counting() as counts:
        assert len(level.objects.ids) == COUNT
    assert sum("manifests/c/" in key for key in counts.keys) <= 3
    assert not any("fragment_attributes" in key for key in counts.keys)


def test_one_object_reads_one_chunk_of_manifests(tmp_path, segments):
    zvl.write_lines(tmp_path / "x", segments, chunk_shape=50)
    level = zvl.open_zv(tmp_path / "x")[0]
    with counting() as counts:
        found = level.objects[20_000].compute()
    assert np.array_equal(found, segments[20_000])
    assert [key for key in counts.keys if "manifests/c/" in key] == ["0/object_index/manifests/c/1"]


def test_same_results_without_them(path, segments, tmp_path, monkeypatch):
    def members(level):
        cut = level.sel(bbox=BOX)
        whole = level.sel(bbox=BOX, whole_objects=True)
        return [
            cut.vertices.compute(),
            cut.edges.compute(),
            cut.objects.ids,
            whole.vertices.compute(),
            whole.edges.compute(),
            whole.objects.ids,
        ]

    told = members(zvl.open_zv(path)[0])
    monkeypatch.setattr("zarr_vectors_lazy.format.v09.generation.FRAGMENT_OWNERS", "fragment_attributes/something_else")
    for one, other in zip(told, members(zvl.open_zv(path)[0]), strict=True):
        assert np.array_equal(one, other)
    assert len(told[0]) > 5
    assert len(told[3]) == 2 * inside(segments).sum()


def test_an_owner_that_is_no_object(tmp_path, segments):
    zvl.write_lines(tmp_path / "x", segments, chunk_shape=50, object_ids=3 * np.arange(COUNT), compressor=None)
    other = tmp_path / "y"
    zvl.write_lines(other, segments, chunk_shape=50, object_ids=3 * np.arange(COUNT) + 1, compressor=None)
    cell = "0/fragment_attributes/segment_id/c/0/0"
    (tmp_path / "x" / cell).write_bytes((other / cell).read_bytes())
    with pytest.raises(FormatError, match=r"fragments belong to object [0-9]+, which does not exist"):
        zvl.open_zv(tmp_path / "x")[0].sel(bbox=BOX).objects.ids  # noqa: B018
