"""xarray datasets as input of the writers: those of levels, and others with coordinates or CF's ragged arrays."""

import numpy as np
import pytest
import xarray as xr

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import NotFoundError, SelectionError
from zarr_vectors_lazy.xarray_engine import ZarrVectorsEntrypoint as ENGINE

POINTS = np.random.default_rng(0).uniform(0, 100, (500, 3)).astype(np.float32)


def rows(level):
    """Rows of a level, sorted."""
    columns = [level.vertices.compute(), *(values.compute() for values in level.attributes.values())]
    table = np.column_stack([column.astype(np.float64) for column in columns])
    return table[np.lexsort(table.T)]


def same(path, level, **opened):
    again = zvl.open_zv(path, **opened)[0]
    assert again.store.axes == level.store.axes
    assert again.store.units == level.store.units
    assert again.store.crs == level.store.crs
    assert again.attribute_names == level.attribute_names
    assert np.array_equal(rows(again), rows(level))
    return again


@pytest.mark.parametrize("chunks", [None, {}, {"vertex": 100}])
def test_points_of_a_level(tmp_path, chunks):
    zvl.write_points(
        tmp_path / "a.zv",
        POINTS,
        chunk_shape=50,
        vertex_attributes={"i": np.arange(500), "v": POINTS[:, :2]},
        object_ids=np.arange(500) % 7 + 10,
        object_attributes={"volume": np.arange(7.0)},
        units="micrometer",
        crs={"name": "mine"},
    )
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    dataset = xr.open_dataset(tmp_path / "a.zv", engine=ENGINE).chunk(chunks or {})
    dataset = dataset if chunks is not None else dataset.load()
    zvl.write_points(tmp_path / "b.zv", dataset)  # chunks as those of the level
    again = same(tmp_path / "b.zv", level)
    assert again.chunk_shape.tolist() == [50] * 3
    assert again.objects.ids.tolist() == list(range(10, 17))
    assert again.objects.attributes["volume"].values.tolist() == list(range(7))
    part = dataset.sel(x=slice(0, 20)).isel(vertex=slice(0, 3))
    zvl.write_points(tmp_path / "c.zv", part, chunk_shape=9, vertex_attributes=None)
    few = zvl.open_zv(tmp_path / "c.zv")[0]
    assert few.objects.ids.tolist() == np.unique(part["vertex_object_id"]).tolist()
    assert np.array_equal(few.objects.attributes["volume"], few.objects.ids - 10.0)


def test_streamlines_of_a_level(tracts, tmp_path):
    level = zvl.open_zv(tracts)[0]
    dataset = xr.open_dataset(tracts, engine=ENGINE, objects=True)
    zvl.write_polylines(tmp_path / "b.zv", dataset)
    again = same(tmp_path / "b.zv", level)
    assert again.objects.ids.tolist() == level.objects.ids.tolist()
    middle = float(level.vertices[:, 0].mean())
    with pytest.raises(SelectionError, match=r"dataset\.zv\.sel renumbers"):
        zvl.write_polylines(tmp_path / "c.zv", dataset.sel(x=slice(middle, None)))
    zvl.write_polylines(tmp_path / "c.zv", dataset.zv.sel(x=slice(middle, None)))
    assert len(zvl.open_zv(tmp_path / "c.zv")[0].vertices.compute()) == (level.vertices[:, 0] >= middle).sum().compute()
    for one in level.objects.ids[[0, 7, -1]].tolist():
        assert np.array_equal(again.objects[one].compute(), level.objects[one].compute())
    assert np.array_equal(
        again.objects.attributes["length"], level.objects.attributes["length"].sel(object=again.objects.ids)
    )


def test_lines_of_a_level(tmp_path):
    ends = POINTS[:200].reshape(-1, 2, 3)
    zvl.write_lines(tmp_path / "a.zv", ends, chunk_shape=50, vertex_attributes={"t": np.arange(200).reshape(-1, 2)})
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    zvl.write_lines(tmp_path / "b.zv", level.to_xarray(objects=True))
    again = same(tmp_path / "b.zv", level)
    assert np.array_equal(again.objects[42].compute(), ends[42])
    with pytest.raises(SelectionError, match="two vertices each"):
        zvl.write_lines(tmp_path / "c.zv", ragged(), chunk_shape=5)


def test_skeletons_of_a_level(neuron, tmp_path):
    level = zvl.open_zv(neuron)[0]
    for name, dataset in (("dask", level.to_xarray(edges=True)), ("plain", level.to_xarray(edges=True).load())):
        zvl.write_graph(tmp_path / name, dataset)
        again = same(tmp_path / name, level)
        assert again.store.geometry_types == ("skeleton",)
        lengths = [np.ptp(each.vertices.compute()[each.edges.compute()], axis=1).sum() for each in (level, again)]
        assert np.isclose(*lengths)


def test_meshes_of_a_level(surface, tmp_path):
    level = zvl.open_zv(surface)[0]
    zvl.write_mesh(tmp_path / "b.zv", level.to_xarray(edges=True).load())
    again = same(tmp_path / "b.zv", level)
    corners = [np.sort(each.vertices.compute()[each.faces.compute()].reshape(-1, 9), axis=0) for each in (level, again)]
    assert np.array_equal(*corners)


def ragged():
    return xr.Dataset(
        {
            "temp": ("obs", np.arange(10.0)),
            "row_size": ("traj", [4, 0, 6], {"sample_dimension": "obs"}),
            "ID": ("traj", [7, 5, 3], {"cf_role": "trajectory_id"}),
            "length": ("traj", [1.0, 3.0, 2.0]),
        },
        coords={
            "lon": ("obs", np.arange(10.0), {"axis": "X", "units": "degrees_east"}),
            "lat": ("obs", np.arange(10.0) * 2, {"axis": "Y", "units": "degrees_north"}),
            "time": ("obs", np.arange(10).astype("M8[s]")),
        },
    )


def test_a_ragged_array_of_somebody_else(tmp_path):
    zvl.write_polylines(tmp_path / "a.zv", ragged(), chunk_shape=5)
    store = zvl.open_zv(tmp_path / "a.zv")
    assert (store.axes, store.units) == (("x", "y"), ("degrees_east", "degrees_north"))
    level = store[0]
    assert level.attribute_names == ("temp", "time")
    assert level.objects[3].compute()[:, 1].tolist() == list(range(8, 20, 2))
    assert level.objects.attributes["length"].values.tolist() == [2.0, 1.0]
    zvl.write_points(tmp_path / "c.zv", ragged().chunk(obs=4), chunk_shape=5)
    assert zvl.open_zv(tmp_path / "c.zv")[0].objects.ids.tolist() == [3, 7]
    zvl.write_points(tmp_path / "b.zv", ragged(), chunk_shape=5, axes=("lon", "lat"), units="degree")
    store = zvl.open_zv(tmp_path / "b.zv")
    assert (store.axes, store.units) == (("lon", "lat"), ("degree", "degree"))
    assert store[0].objects.ids.tolist() == [3, 7]
    assert store[0].objects.attributes["length"].values.tolist() == [2.0, 1.0]


def test_columns_of_somebody_else(tmp_path):
    plain = xr.Dataset(
        {name: ("row", POINTS[:, d]) for d, name in enumerate("xyz")} | {"cell": ("row", POINTS[:, 0] > 9)}
    )
    for name, dataset in (("memory", plain), ("dask", plain.chunk(row=100))):
        zvl.write_points(
            tmp_path / name,
            positions=dataset.assign(owner=("row", np.arange(500) // 100)),
            chunk_shape=50,
            object_ids="owner",
            vertex_attributes={"given": dataset["x"].data},
        )
        level = zvl.open_zv(tmp_path / name)[0]
        assert level.attribute_names == ("cell", "given")
        assert level.objects.ids.tolist() == [0, 1, 2, 3, 4]
        assert np.array_equal(level.vertices[:, 0].compute() > 9, level.attributes["cell"].compute())


@pytest.mark.parametrize("axes", ["xy", "xyz"])
def test_points_of_geopandas(tmp_path, axes):
    geopandas = pytest.importorskip("geopandas")
    points = geopandas.points_from_xy(*POINTS[:, : len(axes)].T, crs=2056)
    frame = geopandas.GeoDataFrame({"row": np.arange(500), "cell": np.arange(500) % 3}, geometry=points)
    zvl.write_points(tmp_path / "a.zv", frame.set_index(np.arange(500) + 7), chunk_shape=50, object_ids="cell")
    store = zvl.open_zv(tmp_path / "a.zv")
    vertices, attributes = store[0].vertices.compute(), store[0].attributes
    assert np.array_equal(vertices, POINTS[attributes["row"].compute(), : len(axes)])
    assert (store.axes, store.crs["epsg"], store[0].attribute_names) == (tuple(axes), 2056, ("row",))
    assert store[0].objects.ids.tolist() == [0, 1, 2]
    assert store[0].to_geopandas().crs == frame.crs
    zvl.write_points(tmp_path / "b.zv", frame.assign(x=POINTS[:, 0]).geometry, chunk_shape=50, crs="mine")
    assert zvl.open_zv(tmp_path / "b.zv").crs == "mine"


def test_what_geopandas_has_and_no_writer_takes(tmp_path):
    geopandas, shapely = pytest.importorskip("geopandas"), pytest.importorskip("shapely")
    path, point, line = tmp_path / "a.zv", shapely.Point(1, 2), shapely.LineString([[0, 0], [1, 1]])
    for geometry, reason in (
        ([point, line], "the geometry has 'LineString', 'Point'; write_points takes points alone"),
        ([point, None], "the geometry has 'Point', 'none'"),
        ([point, shapely.Point()], "the geometry has 'Point', 'empty'"),
    ):
        with pytest.raises(SelectionError, match=reason):
            zvl.write_points(path, geopandas.GeoDataFrame(geometry=geometry), chunk_shape=5)
    frame = geopandas.GeoDataFrame({"x": [5.0]}, geometry=[point])
    with pytest.raises(SelectionError, match="the column 'x' differs from the x of the geometry"):
        zvl.write_points(path, frame, chunk_shape=5)
    with pytest.raises(SelectionError, match=r"write_polylines takes no objects of GeoPandas.* are polylines"):
        zvl.write_polylines(path, geopandas.GeoSeries([line]), chunk_shape=5)
    lazy = pytest.importorskip("dask_geopandas").from_geopandas(frame, npartitions=1)
    with pytest.raises(SelectionError, match=r"frame.compute\(\)"):
        zvl.write_points(path, lazy, chunk_shape=5)
    assert not path.exists()


def test_what_is_no_such_dataset(tmp_path):
    path, grid = tmp_path / "a.zv", xr.Dataset(coords={"x": [1.0, 2], "y": [1.0, 2, 3]})
    with pytest.raises(SelectionError, match=r"for a grid: dataset.stack\(\)"):
        zvl.write_points(path, grid, chunk_shape=5)
    with pytest.raises(SelectionError, match="no axes among"):
        zvl.write_points(path, ragged().drop_vars(["lon"]), chunk_shape=5)
    with pytest.raises(NotFoundError, match="variable 'depth'"):
        zvl.write_points(path, ragged(), chunk_shape=5, axes=("lon", "depth"))
    with pytest.raises(NotFoundError, match="variable 'who'"):
        zvl.write_points(path, ragged(), chunk_shape=5, object_ids="who")
    with pytest.raises(TypeError, match="chunk_shape"):
        zvl.write_points(path, ragged())
    with pytest.raises(TypeError, match="edges"):
        zvl.write_graph(path, ragged(), chunk_shape=5)
    with pytest.raises(SelectionError, match="sample_dimension"):
        zvl.write_polylines(path, ragged().drop_vars("row_size"), chunk_shape=5)
    assert not path.exists()
