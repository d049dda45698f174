"""Rechunked stores whose coarse levels are rebuilt, compared with those of the source."""

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy import maintenance
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, StoreError

BUILD = {
    "factors": [(2, 1), (2, 3), ((2, 1), 2)],
    "sparsity_seed": 7,
    "cross_level_depth": 2,
    "cross_level_storage": "implicit",
    "aggregate": {"kind": "max", "gone": None},
    "chunk_scale_factors": [1, 1, (2, 1)],
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Points of objects with a pyramid none of whose arguments are those by default."""
    rng = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("source") / "points"
    zvl.write_points(
        path,
        rng.random((3000, 2)) * 100,
        chunk_shape=20.0,
        bin_shape=5.0,
        object_ids=np.arange(3000) // 100,
        vertex_attributes={"kind": rng.integers(0, 9, 3000), "gone": rng.random(3000)},
    )
    zvl.build_pyramid(path, **BUILD)
    return path


def rows(level):
    """Rows and values of a level, in an order that does not depend on chunks."""
    with dask.config.set(scheduler="sync"):
        vertices, attributes = dask.compute(level.vertices, dict(level.attributes))
    order = np.lexsort(vertices.T)
    return vertices[order], {name: values[order] for name, values in attributes.items()}


def same_levels(found, expected):
    assert found.levels == expected.levels
    for new, old in zip(found, expected, strict=True):
        vertices, attributes = rows(new)
        known, values = rows(old)
        np.testing.assert_allclose(vertices, known, rtol=1e-14)  # sums in another order
        assert attributes.keys() == values.keys()
        for name in set(values) - {"gone"}:
            np.testing.assert_array_equal(attributes[name], values[name])
        assert new.bin_shape.tolist() == old.bin_shape.tolist()
        assert new.deltas == old.deltas
        assert new.objects.ids.tolist() == old.objects.ids.tolist()


def test_levels_as_the_source_states_them(source, tmp_path):
    done = zvl.rechunk(source, tmp_path / "new", chunk_shape=15, pyramid=True)
    new, old = zvl.open_zv(tmp_path / "new"), zvl.open_zv(source)
    same_levels(new, old)
    assert [level.chunk_shape[0] for level in old] == [20, 20, 20, 40]
    assert [level.chunk_shape[0] for level in new] == [15, 30, 60, 120]  # bins of 10 do not tile 15, nor 20 30, ...
    assert (done["levels_left_out"], done["pyramid"]["levels_created"]) == ([], 3)
    again = zvl.rechunk(tmp_path / "new", tmp_path / "again", chunk_shape=20, pyramid=True)
    same_levels(zvl.open_zv(tmp_path / "again"), old)
    assert again["pyramid"]["levels_created"] == 3


@pytest.mark.parametrize("name", ["pyramid-graph", "pyramid-points-0.7"])
def test_levels_of_the_reference_are_made_in_this_packages_way_where_that_is_said(variety, tmp_path, name):
    old = zvl.open_zv(variety(name))
    with pytest.raises(SelectionError, match=r"made by 'per_object'.*\{'method': 'aggregate'\}"):
        zvl.rechunk(variety(name), tmp_path / "new", chunk_shape=old.chunk_shape * 2, pyramid=True)
    given = {"method": "aggregate"}
    zvl.rechunk(variety(name), tmp_path / "new", chunk_shape=old.chunk_shape * 2, pyramid=given)
    new = zvl.open_zv(tmp_path / "new")
    for level, known in zip(new, old, strict=True):
        assert set(known.deltas) <= set(level.deltas)  # edges inside coarse levels too
        np.testing.assert_array_equal(level.chunk_shape, known.chunk_shape * 2)
        np.testing.assert_array_equal(level.bin_shape, known.bin_shape)


def test_other_levels_than_those_of_the_source(source, variety, tmp_path):
    given = {"factors": [(4, 1)], "method": "aggregate", "cross_level_storage": "none"}
    zvl.rechunk(source, tmp_path / "new", chunk_shape=40, bin_shape=10, pyramid=given)
    assert [level.bin_shape[0] for level in zvl.open_zv(tmp_path / "new")] == [10, 40]
    assert zvl.open_zv(tmp_path / "new")[1].attribute_names == ("count", "kind")
    done = zvl.rechunk(variety("points-2d"), tmp_path / "alone", chunk_shape=40, pyramid=True)
    assert (done["levels_left_out"], "pyramid" in done) == ([], False)
    zvl.rechunk(variety("points-2d"), tmp_path / "one", chunk_shape=40, pyramid={"factors": [(1, 1)]})
    assert zvl.open_zv(tmp_path / "one").levels == [0, 1]


def test_an_interrupted_build_says_how_to_go_on(source, tmp_path, monkeypatch):
    new = tmp_path / "new"

    def fail(*_, **__):
        raise StoreError("the bucket is gone")

    with monkeypatch.context() as patch:
        patch.setattr(maintenance, "build_pyramid", fail)
        with pytest.raises(StoreError, match="gone") as raised:
            zvl.rechunk(source, new, chunk_shape=15, pyramid=True)
    with pytest.raises(StoreError, match="is here already") as again:
        zvl.rechunk(source, new, chunk_shape=15, pyramid=True)
    (said,) = again.value.__notes__
    assert raised.value.__notes__ == [said]
    assert zvl.open_zv(new).levels == [0]
    eval(said[said.index("zvl.build_pyramid") :], {"zvl": zvl})
    same_levels(zvl.open_zv(new), zvl.open_zv(source))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pyramid": True, "bin_shape": 15}, "choose a smaller bin_shape, or pass pyramid="),
        ({"pyramid": True, "level": 1}, "builds on level 0"),
        ({"pyramid": True, "compute": False}, r"bin_shape=\[5.0, 5.0\].*zvl.build_pyramid\(.*factors="),
        ({"pyramid": {"factor": 2}}, "pyramid has 'factor'; it takes 'aggregate'"),
        ({"pyramid": {"factors": [(3, 1)], "chunk_scale_factors": [2]}, "chunk_shape": 20}, "smallest chunk scale"),
        ({"pyramid": {"min_vertices": 1}}, "min_vertices"),
        ({"pyramid": {"aggregate": {"nope": "max"}}}, "no attribute 'nope'"),
        ({"pyramid": 2}, "pyramid must be"),
    ],
)
def test_what_is_refused_before_anything_is_written(source, tmp_path, given, message):
    with pytest.raises((SelectionError, NotFoundError), match=message):
        zvl.rechunk(source, tmp_path / "new", **{"chunk_shape": 15, **given})
    assert not (tmp_path / "new").exists()


def test_what_the_source_does_not_tell(source, variety, tmp_path):
    with pytest.raises(SelectionError, match=r"object_sparsity of 0.5.*pyramid={'factors'"):
        zvl.rechunk(variety("pyramid-paths"), tmp_path / "new", chunk_shape=60, pyramid=True)
    zvl.write_points(tmp_path / "gap", np.random.default_rng(0).random((50, 2)), chunk_shape=1.0)
    zvl.coarsen_level(tmp_path / "gap", 0, 2)
    with pytest.raises(SelectionError, match=r"levels are \[0, 2\]"):
        zvl.rechunk(tmp_path / "gap", tmp_path / "new", chunk_shape=2, pyramid=True)
    store = zvl.open_zv(source)
    store[1]._view.data.meta.attributes["zarr_vectors_level"]["coarsening_method"] = "rdp"
    with pytest.raises(SelectionError, match="made by 'aggregate', 'rdp'"):
        maintenance.stated_pyramid(store, store.chunk_shape, store.bin_shape, {})


def test_bins_of_the_source_that_do_not_tile_are_said_to_be_those(source, tmp_path):
    with pytest.raises(SelectionError, match="must divide") as caught:
        zvl.rechunk(source, tmp_path / "new", chunk_shape=22, pyramid=True)
    assert "those of the source" in caught.value.__notes__[0]
    with pytest.raises(SelectionError, match="must divide") as caught:
        zvl.rechunk(source, tmp_path / "new", chunk_shape=22, bin_shape=5, pyramid=True)
    assert not hasattr(caught.value, "__notes__")
