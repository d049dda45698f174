"""Levels as xarray datasets, and what ``dataset.zv`` does with them."""

import pickle

import numpy as np
import pytest
import xarray as xr

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import FormatError, NotFoundError, SelectionError
from zarr_vectors_lazy.storage.requests import counting

STORES = ["tracts-0.9", "cloud-0.7", "neuron-0.9", "surface-0.9"]


@pytest.fixture(params=STORES)
def level(request, goldens):
    return zvl.open_zv(goldens[request.param].path)[0]


@pytest.fixture
def tracts_level(tracts):
    return zvl.open_zv(tracts)[0]


def box_about_the_middle(vertices, share=0.3):
    half = np.ptp(vertices, axis=0).astype(np.float64) * share / 2
    middle = vertices[len(vertices) // 2].astype(np.float64)
    return middle - half, middle + half


def test_dataset_has_the_rows_of_the_level(level):
    dataset = level.to_xarray()
    assert dataset["vertices"].dims == ("vertex", "axis")
    assert dataset["axis"].values.tolist() == list(level.store.axes)
    assert dataset["vertices"].chunks[0] == level.compute_chunk_sizes().vertices.chunks[0]
    assert np.array_equal(dataset["vertices"].values, level.vertices.compute())
    for name in level.attribute_names:
        np.testing.assert_array_equal(dataset[name].values, level.attributes[name].compute())
    attributes = level.objects.attributes
    for name in attributes.data_vars:
        assert np.array_equal(dataset[name].values, attributes[name].values)
    assert np.array_equal(dataset["object_id"].values, level.objects.slots)


def test_dataset_of_a_selection_has_its_rows(level):
    box = box_about_the_middle(level.vertices.compute())
    selection = level.sel(bbox=box)
    assert np.array_equal(selection.to_xarray()["vertices"].values, selection.vertices.compute())


def test_objects_are_a_ragged_index(level):
    dataset = level.to_xarray(objects=True)
    assert dataset["row_size"].attrs["sample_dimension"] == "object_vertex"
    ends = np.cumsum(dataset["row_size"].values)
    rows = np.split(dataset["object_rows"].values, ends[:-1])
    for row, object_id in zip(rows, dataset["object_id"].values.tolist(), strict=True):
        if object_id in level.objects:
            assert np.array_equal(dataset["vertices"].values[row], level.objects[object_id].compute())
        else:
            assert not len(row)


def test_coarse_objects_share_rows(tracts):
    level = zvl.open_zv(tracts)[2]
    dataset = level.to_xarray(objects=True)
    flat, offsets = level.objects.ragged()
    assert dataset.sizes["object_vertex"] > dataset.sizes["vertex"]
    assert np.array_equal(dataset["vertices"].values[dataset["object_rows"].values], flat.compute())
    sizes = dataset["row_size"].values
    assert np.array_equal(sizes[sizes > 0], np.diff(offsets.compute()))


def test_edges_and_faces_are_rows_of_vertex(tracts_level, surface):
    assert np.array_equal(tracts_level.to_xarray(edges=True)["edges"].values, tracts_level.edges.compute())
    mesh = zvl.open_zv(surface)[0]
    assert np.array_equal(mesh.to_xarray(edges=True)["faces"].values, mesh.faces.compute())


def test_tree_has_a_node_a_level(tracts):
    store = zvl.open_zv(tracts)
    tree = store.to_datatree()
    assert list(tree.children) == ["0", "1", "2"]
    assert tree.attrs["zarr_vectors_version"] == store.format_version
    assert np.array_equal(tree["2"]["vertices"].values, store[2].vertices.compute())


def test_dataset_writes_to_zarr(tracts_level, tmp_path):
    dataset = tracts_level.sel(x=slice(84, 92)).to_xarray(objects=True)
    dataset.chunk({"vertex": -1}).to_zarr(tmp_path / "copy.zarr", zarr_format=2)
    assert xr.open_zarr(tmp_path / "copy.zarr").equals(dataset)


def test_box_of_a_dataset_is_the_box_of_the_level(level):
    dataset = level.to_xarray()
    box = box_about_the_middle(level.vertices.compute())
    expected = level.sel(bbox=box)
    with counting() as counts:
        found = dataset.zv.sel(bbox=box)
    assert {key.split("/c/")[0].split("/")[1] for key in counts.keys} <= {"vertices"}
    assert counts.requests < 2 * level.chunk_count
    assert found.sizes["vertex"] > 10
    assert np.array_equal(found["vertices"].values, expected.vertices.compute())
    for name in level.attribute_names:
        np.testing.assert_array_equal(found[name].values, expected.attributes[name].compute())


def test_box_of_a_changed_dataset_keeps_what_was_added(tracts_level):
    dataset = tracts_level.to_xarray()
    vertices = tracts_level.vertices.compute()
    lo, hi = box_about_the_middle(vertices)
    turned = dataset.assign(number=("vertex", np.arange(len(vertices)))).isel(vertex=slice(None, None, -1))
    found = pickle.loads(pickle.dumps(turned)).zv.sel(bbox=(lo, hi))
    inside = ((vertices >= lo) & (vertices <= hi)).all(axis=1)
    assert np.array_equal(found["number"].values, np.flatnonzero(inside)[::-1])
    assert np.array_equal(found["vertices"].values, vertices[inside][::-1])


def test_box_renumbers_edges_and_object_rows(tracts_level):
    box = box_about_the_middle(tracts_level.vertices.compute())
    found = tracts_level.to_xarray(objects=True, edges=True).zv.sel(bbox=box)
    selection = tracts_level.sel(bbox=box)
    assert np.array_equal(found["edges"].values, selection.edges.compute())
    assert np.array_equal(
        found["vertices"].values[found["object_rows"].values], selection.objects.ragged()[0].compute()
    )
    assert int(found["row_size"].sum()) == found.sizes["object_vertex"]


def test_density_counts_every_vertex(level):
    vertices = level.vertices.compute()
    edges = np.ptp(vertices, axis=0).astype(np.float64) / 7
    with counting() as counts:
        image = level.to_xarray().zv.bin(edges)
        built = counts.requests
        image = image.compute()
    assert image.dtype == np.int64
    assert image.dims == level.store.axes
    lo, hi = level.store.bounds
    grid = [low + edge * np.arange(n + 1) for low, edge, n in zip(lo, edges, image.shape, strict=True)]
    for axis, ends in enumerate(grid):
        ends[-1] = np.nextafter(max(ends[-1], hi[axis]), np.inf)
    assert np.array_equal(image.values, np.histogramdd(vertices.astype(np.float64), bins=grid)[0])
    assert counts.requests - built <= 2 * level.chunk_count


def test_mean_of_an_attribute_in_a_box(tracts_level):
    dataset = tracts_level.to_xarray()
    vertices, length = tracts_level.vertices.compute(), tracts_level.attributes["arc_length"].compute()
    lo, hi = box_about_the_middle(vertices)
    with counting() as counts:
        image = dataset.zv.bin(4.0, "arc_length", bbox=(lo, hi), axes=["z"]).compute()
    assert counts.requests < 2 * tracts_level.chunk_count
    inside = ((vertices >= lo) & (vertices <= hi)).all(axis=1)
    at = ((vertices[inside, 2].astype(np.float64) - lo[2]) // 4.0).astype(int)
    for cell in range(image.sizes["z"]):
        values = length[inside][at == cell].astype(np.float64)
        assert np.isnan(image[cell]) if not len(values) else np.isclose(image[cell], values.mean(), rtol=1e-12)
    assert image.coords["z"].values[0] == lo[2] + 2.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda zv: zv.sel(), SelectionError, "needs a box"),
        (lambda zv: zv.sel(w=slice(0, 1)), SelectionError, "no axis 'w'"),
        (lambda zv: zv.bin(0), SelectionError, "positive"),
        (lambda zv: zv.bin((1, 2)), SelectionError, "one for each of 3 axes"),
        (lambda zv: zv.bin(1e-6), SelectionError, "too many"),
        (lambda zv: zv.bin(1, "weight"), NotFoundError, "arc_length"),
        (lambda zv: zv.bin(1, "tangent"), NotFoundError, "one number for each vertex"),
        (lambda zv: zv.bin(1, axes=["w"]), NotFoundError, "axis 'w'"),
    ],
)
def test_wrong_arguments_are_named(tracts_level, call, error, message):
    with pytest.raises(error, match=message):
        call(tracts_level.to_xarray().zv)


def test_vertices_outside_the_stated_bounds_are_an_error(tracts_level):
    dataset = tracts_level.to_xarray().assign_attrs(upper_bounds=[90.0, 200.0, 200.0])
    with pytest.raises(FormatError, match="outside the bounds"):
        dataset.zv.bin(5.0).compute()
