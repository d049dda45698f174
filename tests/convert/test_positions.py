"""Coordinates of vertices in xarray: ``ds.sel(x=slice(0, 10))`` and the nearest vertex, against brute force."""

import pickle
import warnings

import dask
import numpy as np
import pytest
import xarray as xr

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.convert.index import index_of
from zarr_vectors_lazy.errors import NotFoundError, SelectionError
from zarr_vectors_lazy.storage.requests import counting

POINTS = np.random.default_rng(0).uniform(0, 100, (3000, 3))
EVERY = np.arange(3000)
BOX = {"x": slice(0, 10), "y": slice(20, 50)}
INSIDE = (POINTS[:, 0] <= 10) & (POINTS[:, 1] >= 20) & (POINTS[:, 1] <= 50)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("positions") / "x.zv"
    values = {"i": np.arange(3000), "v": POINTS[:, :2]}
    zvl.write_points(
        path, POINTS, chunk_shape=25, vertex_attributes=values, object_ids=np.arange(3000) % 7, units="micrometer"
    )
    zvl.build_pyramid(path, factors=[2])
    return path


WAYS = {
    "lazy": lambda path: xr.open_dataset(path, engine="zarr_vectors"),
    "dask": lambda path: xr.open_dataset(path, engine="zarr_vectors", chunks={}),
    "auto": lambda path: xr.open_dataset(path, engine="zarr_vectors", chunks="auto"),
    "level": lambda path: zvl.open_zv(path)[0].to_xarray(),
    "tree": lambda path: xr.open_datatree(path, engine="zarr_vectors")["0"].to_dataset(),
}


@pytest.fixture(params=WAYS)
def dataset(request, path):
    return WAYS[request.param](path)


def cells(counts, array="vertices"):
    return {key for key in counts.keys if f"/{array}/c/" in key}


def ids(dataset):
    return sorted(dataset["i"].values.tolist())


def test_coordinates_say_what_they_are(dataset):
    assert {"x", "y", "z"} <= set(dataset.coords)
    assert dataset["y"].dims == ("vertex",)
    assert dataset["y"].attrs == {"long_name": "y of vertices", "axis": "Y", "units": "micrometer"}
    assert np.array_equal(dataset["z"].values, dataset["vertices"].values[:, 2])
    assert "PositionIndex of 3,000 vertices over x, y, z" in repr(index_of(dataset))
    assert "PositionIndex" in repr(dataset.xindexes)


def test_ranges_are_exact_and_read_the_positions_of_their_chunks_alone(dataset):
    with counting() as counts:
        found = dataset.sel(BOX)
    assert 0 < len(cells(counts)) <= 12  # of 64
    assert not cells(counts, "i")
    assert ids(found) == np.flatnonzero(INSIDE).tolist()
    assert found.sizes["vertex"] == INSIDE.sum()
    with counting() as counts:
        found = found.compute()
    assert len(cells(counts)) <= 12
    assert np.array_equal(found["vertices"].values, POINTS[found["i"].values])
    assert np.array_equal(found["x"].values, POINTS[found["i"].values, 0])
    assert np.array_equal(found["v"].values, POINTS[found["i"].values, :2])
    assert np.array_equal(found["vertex_object_id"].values, found["i"].values % 7)


def test_what_is_selected_is_selected_again_without_reading(dataset):
    part = dataset.sel(BOX)
    with counting() as counts:
        found = part.sel(z=slice(50, None))
    assert not counts.requests
    assert ids(found) == np.flatnonzero(INSIDE & (POINTS[:, 2] >= 50)).tolist()
    assert part.sel(x=slice(500, 600)).sizes["vertex"] == 0
    assert dataset.sel(x=slice(500, 600)).sizes["vertex"] == 0


@pytest.mark.parametrize(
    "rows",
    [
        slice(100, 900),
        slice(None, None, -3),
        np.arange(3000)[::-1],
        np.arange(0, 3000, 7),
        np.arange(3000) % 3 == 0,
        slice(None),
    ],
    ids=range(6),
)
def test_the_index_stays_through_isel(dataset, rows):
    part = dataset.isel(vertex=rows)
    kept = dataset["i"].values[rows]
    assert part["i"].values.tolist() == kept.tolist()
    assert np.array_equal(part["x"].values, POINTS[kept, 0])
    found = part.sel(BOX)
    assert found["i"].values.tolist() == [i for i in kept.tolist() if INSIDE[i]]  # in the order of the part
    assert np.array_equal(found["y"].values, POINTS[found["i"].values, 1])


def test_one_vertex_has_no_index(dataset):
    one = dataset.isel(vertex=5)
    assert index_of(one) is None
    assert float(one["x"]) == POINTS[int(one["i"]), 0]


def test_the_index_stays_through_concat(dataset):
    parts = [
        dataset.isel(vertex=slice(0, 1000)),
        dataset.sel(x=slice(90, None)),
        dataset.isel(vertex=slice(2000, None)),
    ]
    joined = xr.concat(parts, "vertex", data_vars="minimal", coords="minimal", compat="override", join="override")
    kept = np.concatenate([part["i"].values for part in parts])
    assert joined["i"].values.tolist() == kept.tolist()
    assert np.array_equal(joined["x"].values, POINTS[kept, 0])
    assert joined["x"].attrs["axis"] == "X"
    for whole in (joined, pickle.loads(pickle.dumps(joined)), joined.isel(vertex=slice(500, 2500))):
        expected = [i for i in whole["i"].values.tolist() if INSIDE[i]]
        assert whole.sel(BOX)["i"].values.tolist() == expected
        found = whole.sel(x=50.0, y=50.0, z=50.0, method="nearest")
        nearest = np.linalg.norm(POINTS[whole["i"].values] - 50, axis=1)
        assert int(found["i"]) == whole["i"].values[np.argmin(nearest)]


def test_the_index_stays_through_merge_rename_copies_and_pickles(dataset):
    merged = xr.merge([dataset[["i"]], dataset[["v"]]])
    assert ids(merged.sel(BOX)) == np.flatnonzero(INSIDE).tolist()
    renamed = dataset.rename(x="east", vertex="point")
    assert renamed.sel(east=slice(0, 10), y=slice(20, 50)).sizes["point"] == INSIDE.sum()
    for copy in (
        dataset.copy(deep=True),
        pickle.loads(pickle.dumps(dataset)),
        dataset.load() if dataset.chunks else dataset,
    ):
        assert ids(copy.sel(BOX)) == np.flatnonzero(INSIDE).tolist()
    total = dataset["i"] + dataset["i"]
    assert index_of(total.to_dataset(name="twice")) is not None
    assert total.sel(BOX).values.sum() == 2 * np.flatnonzero(INSIDE).sum()


def test_a_changed_variable_is_what_is_selected(dataset):
    changed = dataset.assign(i=dataset["i"] * 2)
    assert sorted(changed.sel(BOX)["i"].values.tolist()) == (2 * np.flatnonzero(INSIDE)).tolist()


def test_the_nearest_vertex(dataset):
    rng = np.random.default_rng(1)
    targets = rng.uniform(-20, 120, (20, 3))
    expected = [int(np.argmin(np.linalg.norm(POINTS - target, axis=1))) for target in targets]
    with counting() as counts:
        found = dataset.sel(x=targets[0, 0], y=targets[0, 1], z=targets[0, 2], method="nearest")
    assert len(cells(counts)) <= 8
    assert int(found["i"]) == expected[0]
    assert "vertex" not in found.dims
    columns = {name: xr.DataArray(targets[:, d], dims="probe") for d, name in enumerate("xyz")}
    assert dataset.sel(columns, method="nearest")["i"].values.tolist() == expected
    assert dataset.sel(columns, method="nearest").sizes["probe"] == 20
    lists = {name: targets[:, d].tolist() for d, name in enumerate("xyz")}
    assert dataset.sel(lists, method="nearest")["i"].values.tolist() == expected
    near = POINTS[7] + 0.01
    at = dict(zip("xyz", near, strict=True))
    assert int(dataset.sel(at, method="nearest", tolerance=0.1)["i"]) == 7
    with pytest.raises(KeyError, match="no vertex within"):
        dataset.sel(at, method="nearest", tolerance=0.001)


def test_single_values(dataset):
    x, y, _ = POINTS[11]
    assert dataset.sel(x=x)["i"].values.tolist() == [11]
    assert dataset.sel(x=x, y=slice(y - 1, y + 1))["i"].values.tolist() == [11]
    with pytest.raises(KeyError, match="no vertex has x=200"):
        dataset.sel(x=200)


@pytest.mark.parametrize(
    ("wanted", "options", "error", "words"),
    [
        ({"x": slice(2, 1)}, {}, SelectionError, "lower end above"),
        ({"x": slice(0, 9, 2)}, {}, SelectionError, "slice"),
        ({"x": [1, 2]}, {}, SelectionError, "method='nearest'"),
        ({"x": np.nan}, {}, SelectionError, "NaN"),
        ({"x": slice("a", "b")}, {}, SelectionError, "numbers"),
        ({"x": 5}, {"method": "nearest"}, SelectionError, "each of x, y, z"),
        ({"x": 5, "y": 5, "z": slice(0, 5)}, {"method": "nearest"}, SelectionError, "not slices"),
        ({"x": 5, "y": 5, "z": 5}, {"method": "pad"}, SelectionError, "'nearest', found 'pad'"),
        ({"x": slice(0, 5)}, {"tolerance": 3}, Exception, "tolerance"),
        ({"x": np.nan, "y": 5, "z": 5}, {"method": "nearest"}, SelectionError, "NaN"),
        ({"q": 5}, {}, KeyError, "q"),
    ],
)
def test_what_cannot_be_selected(dataset, wanted, options, error, words):
    with pytest.raises(error, match=words):
        dataset.sel(wanted, **options)


def test_datasets_of_different_vertices_are_not_aligned(dataset):
    with pytest.raises((SelectionError, ValueError)):
        dataset["i"] + dataset["i"].isel(vertex=slice(None, None, -1))


def test_a_tree_is_selected_level_by_level(path):
    tree = xr.open_datatree(path, engine="zarr_vectors")
    assert ids(tree["0"].dataset.sel(BOX)) == np.flatnonzero(INSIDE).tolist()
    found = tree.zv.sel(**BOX)
    assert ids(found["0"]) == np.flatnonzero(INSIDE).tolist()
    coarse = zvl.open_zv(path)[1]
    assert found["1"].sizes["vertex"] == len(coarse.sel(**BOX).vertices.compute())
    mapped = tree.map_over_datasets(lambda dataset: dataset.sel(BOX) if "x" in dataset.coords else dataset)
    assert ids(mapped["0"]) == ids(found["0"])
    with counting() as counts:
        near = tree.zv.sel(x=50, y=50, z=50, method="nearest", tolerance=50)
    assert int(near["0"]["i"]) == np.argmin(np.linalg.norm(POINTS - 50, axis=1))
    assert len(cells(counts)) <= 16  # of both levels
    with pytest.raises(SelectionError, match="need a value for each axis"):
        tree.zv.sel([[0] * 3, [9] * 3], method="nearest")
    with pytest.raises(KeyError, match="no vertex within"):
        tree.zv.sel(x=500, y=50, z=50, method="nearest", tolerance=50)


def test_the_index_stays_through_a_plain_concat_and_a_tree_of_it(dataset):
    joined = xr.concat([dataset, dataset.isel(vertex=slice(1000))], "vertex")
    with counting() as counts:
        found = joined.sel(BOX)
    assert len(cells(counts)) <= 2 * 12
    assert ids(found) == sorted([*np.flatnonzero(INSIDE).tolist(), *ids(dataset.isel(vertex=slice(1000)).sel(BOX))])
    tree = xr.DataTree.from_dict({"both": joined, "one": dataset})
    assert ids(tree.zv.sel(**BOX)["both"]) == ids(found)


def plain_copy(dataset, folder):
    """The same, written by xarray and opened without the index."""
    plain = dataset.drop_vars(["vertex_object_id", "object_id"]).chunk(vertex=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's, of consolidated metadata
        plain.to_zarr(folder / "x.zarr")
    return xr.open_zarr(folder / "x.zarr")


CHANGES = {
    "none": lambda whole, _: whole,
    "isel": lambda whole, _: whole.isel(vertex=slice(None, 100, -3)),
    "concat": lambda whole, _: xr.concat([whole.isel(vertex=slice(900)), whole.sel(z=slice(70, None))], "vertex"),
    "merge": lambda whole, _: xr.merge([whole[["i"]], whole[["v"]].rename(v="w")]),
    "to_zarr": plain_copy,
}


@pytest.mark.parametrize("change", CHANGES)
def test_random_boxes_and_nearest_vertices(path, tmp_path, change):
    """The dataset has the rows that brute force finds, in order."""
    rng, found = np.random.default_rng(7), CHANGES[change](WAYS["lazy"](path), tmp_path)
    kept = found["i"].values
    for _ in range(10):
        lo, hi = np.sort(rng.uniform(-10, 110, (2, 3)), axis=0)
        ranges = {axis: slice(lo[at], hi[at]) for at, axis in enumerate("xyz") if rng.random() < 0.7} or {
            "x": slice(lo[0], hi[0])
        }
        inside = np.logical_and.reduce(
            [
                (POINTS[kept, "xyz".index(axis)] >= r.start) & (POINTS[kept, "xyz".index(axis)] <= r.stop)
                for axis, r in ranges.items()
            ]
        )
        select = found.zv.sel if change == "to_zarr" else found.sel
        assert select(**ranges)["i"].values.tolist() == kept[inside].tolist()
        if change == "to_zarr":  # the index stayed behind
            continue
        away = np.linalg.norm(POINTS[kept] - hi, axis=1)
        nearest = {"x": hi[0], "y": hi[1], "z": hi[2], "method": "nearest"}
        assert int(found.sel(**nearest, tolerance=away.min() * 1.001)["i"]) == kept[np.argmin(away)]
        with pytest.raises(NotFoundError):
            found.sel(**nearest, tolerance=away.min() * 0.999)


@pytest.mark.parametrize("chunks", [None, {}])
def test_random_boxes_and_nearest_vertices_of_a_tree(path, tracts, chunks):
    """Each level has the rows that brute force finds in it, by ``tree.zv.sel`` and by its node's ``sel``."""
    rng = np.random.default_rng(8)
    for store in (path, tracts):
        tree = xr.open_datatree(store, engine="zarr_vectors", chunks=chunks)
        every = {name: node["vertices"].values for name, node in tree.children.items()}
        assert len(every) > 1
        ends = np.stack([every["0"].min(axis=0), every["0"].max(axis=0)])
        for _ in range(5):
            lo, hi = ends[0] + np.sort(rng.uniform(-0.1, 1.1, (2, 3)), axis=0) * (ends[1] - ends[0])
            ranges = {axis: slice(lo[at], hi[at]) for at, axis in enumerate("xyz") if rng.random() < 0.7}
            ranges = ranges or {"z": slice(lo[2], hi[2])}
            found, near = tree.zv.sel(**ranges), tree.zv.sel(**dict(zip("xyz", hi, strict=True)), method="nearest")
            for name, vertices in every.items():
                bounds = [(vertices[:, "xyz".index(axis)], each) for axis, each in ranges.items()]
                inside = np.all([(each.start <= column) & (column <= each.stop) for column, each in bounds], axis=0)
                for box in (found[name], tree[name].dataset.sel(**ranges)):
                    assert np.array_equal(box["vertices"].values, vertices[inside]), (store.name, name, ranges)
                away = np.linalg.norm(vertices.astype(np.float64) - hi, axis=1)
                assert np.linalg.norm(near[name]["vertices"].values - hi) == pytest.approx(away.min())


def test_uneven_chunks_become_even_ones_in_zarr(dataset, tmp_path):
    again = plain_copy(dataset, tmp_path)
    assert again["i"].chunks == ((1000,) * 3,)
    assert np.array_equal(again["y"].values, POINTS[again["i"].values, 1])
    assert again["y"].attrs == dataset["y"].attrs


def test_selections_of_a_level_have_an_index_too(path):
    level = zvl.open_zv(path)[0]
    for part in (level.sel(where={"i": (0, 999)}), level.sel(objects=[3]), level.sel(z=slice(30, 60))):
        dataset = part.to_xarray()
        kept = set(dataset["i"].values.tolist())
        assert ids(dataset.sel(BOX)) == [i for i in np.flatnonzero(INSIDE).tolist() if i in kept]


def test_a_group_is_a_level(path):
    assert xr.open_dataset(path, engine="zarr_vectors", group="1").attrs["level"] == 1
    assert xr.open_dataset(path, engine="zarr_vectors", group="/1", level=1).attrs["level"] == 1
    with pytest.raises(SelectionError, match="two levels"):
        xr.open_dataset(path, engine="zarr_vectors", group="1", level=0)
    with pytest.raises(NotFoundError, match="'sub/1'"):
        xr.open_dataset(path, engine="zarr_vectors", group="sub/1")
    with pytest.raises(TypeError, match="colour"):
        xr.open_dataset(path, engine="zarr_vectors", colour=1)


def test_names_that_are_ours_are_left_alone(tmp_path):
    names = ("vertex", "object", "edge", "axis", "x", "vertex_object_id", "v_1", "plain")
    values = {name: np.arange(10) + 100 * k for k, name in enumerate(names)}
    values["v"] = np.ones((10, 2))
    zvl.write_points(
        tmp_path / "x.zv",
        np.arange(30.0).reshape(10, 3),
        chunk_shape=9,
        vertex_attributes=values,
        object_ids=np.arange(10) // 5,
        object_attributes={"plain": [1, 2], "object": [3, 4], "row_size": [5, 6]},
    )
    with counting() as counts:
        dataset = xr.open_dataset(tmp_path / "x.zv", engine="zarr_vectors")
    assert not [key for key in counts.keys if "/c/" in key]
    for k, name in enumerate(names):
        label = name if name in ("v_1", "plain") else f"{name}_attribute"
        assert dataset[label].dims == ("vertex",)
        assert sorted(dataset[label].values.tolist()) == [100 * k + i for i in range(10)]
    assert dataset["v"].dims == ("vertex", "v_1_axis")
    assert [dataset[f"{name}_of_object"].values.tolist() for name in ("plain", "object", "row_size")] == [
        [1, 2],
        [3, 4],
        [5, 6],
    ]
    assert dataset["object_id"].values.tolist() == [0, 1]
    assert dataset["vertex_object_id"].values.tolist() == [0] * 5 + [1] * 5
    objects = zvl.open_zv(tmp_path / "x.zv")[0].objects.attributes
    assert objects["object_attribute"].values.tolist() == [3, 4]


def test_nothing_of_objects_is_read_unless_asked_for(path):
    dataset = xr.open_dataset(path, engine="zarr_vectors", chunks={})
    with counting() as counts:
        dataset["i"].values, dataset.sel(BOX)["i"].values
    assert not [key for key in counts.keys if "fragment" in key or "object" in key]
    with counting() as counts, dask.config.set(scheduler="sync"):
        assert set(dataset["vertex_object_id"].values.tolist()) == set(range(7))
    assert [key for key in counts.keys if "fragment" in key]
