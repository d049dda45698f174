"""Pictures of levels: what is drawn, where, in which colour, from which level."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.convert import plot
from zarr_vectors_lazy.errors import NotFoundError, SelectionError
from zarr_vectors_lazy.storage.requests import counting


@pytest.fixture
def level(tracts):
    return zvl.open_zv(tracts)[0]


def panels(figure):
    return [axes for axes in figure.axes if axes.get_xlabel()]


def drawn(axes, kind):
    (found,) = [artist for artist in axes.collections if isinstance(artist, kind)]
    return found


def test_lines_are_the_edges_in_three_projections(level):
    vertices, edges = level.vertices.compute(), level.edges.compute()
    figure = level.plot()
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in panels(figure)] == [("x", "y"), ("x", "z"), ("y", "z")]
    for axes, pair in zip(panels(figure), ([0, 1], [0, 2], [1, 2]), strict=True):
        segments = np.asarray(drawn(axes, LineCollection).get_segments())
        expected = vertices[edges][:, :, pair]
        assert segments.shape == expected.shape
        assert np.array_equal(np.sort(segments.reshape(-1, 4), axis=0), np.sort(expected.reshape(-1, 4), axis=0))


def test_colour_is_the_attribute(goldens):
    level = zvl.open_zv(goldens["cloud-0.9"].path)[0]
    figure = level.plot(color="confidence", projection="xz")
    (axes,) = panels(figure)
    points = drawn(axes, PathCollection)
    vertices, values = level.vertices.compute(), level.attributes["confidence"].compute()
    order = np.argsort(vertices[:, 1], kind="stable")
    assert np.array_equal(points.get_offsets(), vertices[order][:, [0, 2]])
    assert np.array_equal(points.get_array(), values[order])
    assert figure.axes[-1].get_ylabel() == "confidence"


def test_mesh_is_drawn_by_the_outlines_of_its_faces(surface):
    level = zvl.open_zv(surface)[0]
    figure = level.sel(z=slice(0, 40)).plot(projection="yz")
    faces = level.sel(z=slice(0, 40)).faces.compute()
    edges = {tuple(sorted(pair)) for face in faces.tolist() for pair in zip(face, face[1:] + face[:1], strict=True)}
    assert len(drawn(panels(figure)[0], LineCollection).get_segments()) == len(edges)


def test_the_level_that_fits_the_figure_is_read(level, monkeypatch):
    monkeypatch.setattr(plot, "DPI", 4)  # pixels of 2 units: bins of 1.5 fit, of 3 do not
    assert "level 0" in level.plot().get_suptitle()
    monkeypatch.setattr(plot, "DPI", 2)
    with counting() as counts:
        figure = level.sel(x=slice(80, 95)).plot(projection="yz")
    assert "level 1" in figure.get_suptitle()
    assert not [key for key in counts.keys if key.startswith("0/vertices/")]
    assert "level 0" in level.plot(exact=True).get_suptitle()
    assert "level 0" in level.plot(color="arc_length").get_suptitle()  # coarser levels have no attributes
    assert "level 0" in level.sel(objects=[1, 2]).plot().get_suptitle()


def test_axes_of_ones_own_are_drawn_into(level):
    axes = Figure().subplots()
    assert level.plot(projection=("x", "y"), ax=axes) is axes.figure
    assert axes.collections


def test_figures_show_themselves_in_a_notebook(level):
    assert level.plot(projection="xy")._repr_png_().startswith(b"\x89PNG")


def test_nothing_selected_is_an_empty_picture(level):
    assert "0 vertices" in level.sel(x=slice(0, 1)).plot(color="arc_length").get_suptitle()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"color": "weight"}, NotFoundError, "arc_length"),
        ({"color": "tangent"}, SelectionError, "one number"),
        ({"projection": "xw"}, SelectionError, "two of the axes"),
        ({"projection": "x"}, SelectionError, "two of the axes"),
        ({"ax": object()}, SelectionError, "one projection"),
    ],
)
def test_wrong_arguments_are_named(level, options, error, message):
    with pytest.raises(error, match=message):
        level.plot(**options)


def test_pictures_are_in_world_coordinates(tmp_path):
    positions = np.random.default_rng(0).uniform(0, 90, (50, 4))
    zvl.write_points(
        tmp_path / "p.zv", positions, chunk_shape=50, axes=("t", "Z", "y", "x"), units=("s", "um", "um", "nm")
    )
    level = zvl.open_zv(tmp_path / "p.zv")[0]
    figure = level.plot()
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in panels(figure)]
    assert labels == [("x (nm)", "y (um)"), ("x (nm)", "z (um)"), ("y (um)", "z (um)")]
    (axes,) = panels(level.plot(projection="XT"))  # an axis that the world has not
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x (nm)", "t (s)")
    seen = np.asarray(drawn(axes, PathCollection).get_offsets())
    stored = level.vertices.compute()[:, [3, 0]]
    assert np.array_equal(seen[np.lexsort(seen.T)], stored[np.lexsort(stored.T)])
