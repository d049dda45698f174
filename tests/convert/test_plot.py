"""Pictures of levels: what is drawn where, in which colour, and from which level."""

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
    figure = level.sel(z=slice(0, 40)).plot(projection="y,z")
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
    nothing = level.sel(x=slice(0, 1)).plot(color="arc_length")
    assert ("0 vertices" in nothing.get_suptitle(), nothing.vertex_count) == (True, 0)


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


# Colours: categories, objects, quantities.


@pytest.fixture
def made(tmp_path):
    """Write points with attributes, and return their level."""

    def write(positions, **attributes):
        path = tmp_path / "made.zarrvectors"
        zvl.write_points(path, np.asarray(positions, float), chunk_shape=50, vertex_attributes=attributes, mode="w")
        return zvl.open_zv(path)[0]

    return write


def legend_of(figure):
    (legend,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    patches = zip(legend.get_patches(), legend.get_texts(), strict=True)
    return {text.get_text(): plot._part("colors").to_hex(patch.get_facecolor()) for patch, text in patches}


def colours_of(artist):
    artist.update_scalarmappable()
    to_hex = plot._part("colors").to_hex
    drawn = artist.get_facecolor() if isinstance(artist, PathCollection) else artist.get_edgecolor()
    return [to_hex(colour) for colour in drawn]


NAMES = np.array(["", *(f"kind {letter}" for letter in "abcdefghijklmnop")])


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (NAMES[np.arange(60) % 17], NAMES[np.arange(60) % 17]),
        (np.arange(60) % 2 == 0, [str(k % 2 == 0) for k in range(60)]),
        (np.arange(60) % 12 - 3, [str(k % 12 - 3) for k in range(60)]),
        (np.array([f"k{k:02}" for k in range(60)]), [f"k{k:02}" for k in range(60)]),
    ],
    ids=["text", "truth", "classes", "many"],
)
def test_each_category_has_a_colour_and_its_name(made, values, shown):
    positions = np.column_stack([np.arange(60.0), np.arange(60.0), np.zeros(60)])
    figure = made(positions, kind=values).plot(color="kind", projection="xy")
    points = drawn(panels(figure)[0], PathCollection)
    legend = legend_of(figure)
    of_row = dict(zip(points.get_offsets()[:, 0].astype(int).tolist(), colours_of(points), strict=True))
    wanted = {name: {of_row[k] for k in range(60) if shown[k] == name} for name in set(shown)}
    assert all(len(colours) == 1 for colours in wanted.values())
    assert len(set().union(*wanted.values())) == len(wanted)
    named = {name: colour for name, colour in legend.items() if "more" not in name}
    assert all(wanted["" if name == "none" else name] == {colour} for name, colour in named.items())
    assert len(named) == min(len(wanted), plot.MOST_LABELS)
    if "" in wanted:
        assert wanted[""] == {plot.NONE}


def test_a_long_name_of_a_store_is_shortened(tmp_path):
    path = tmp_path / f"from-{'x' * 150}-to.zv"
    zvl.write_points(path, np.eye(3) * 9, chunk_shape=50, vertex_attributes={"q": np.arange(3)})
    figure = zvl.open_zv(path)[0].plot(projection="xy")
    figure.canvas.draw()
    title = figure.get_suptitle()
    assert title.startswith("from-xx")
    assert "xx..." in title
    assert title.endswith("-to.zv, level 0: 3 vertices")
    box = figure._suptitle.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_a_colour_bar_has_room_beside_a_low_panel(made):
    dates = np.datetime64("2024-01-01") + np.arange(60).astype("m8[D]")
    figure = made(np.arange(60.0)[:, None] * [1, 0.05, 0.05], day=dates).plot(color="day", projection="xy")
    assert figure.axes[-1].get_position().height * figure.get_figheight() >= 1.75


@pytest.mark.parametrize("count", [3, 12, 24, 25, 40])
def test_a_legend_is_whole(made, count):
    positions = np.random.default_rng(0).uniform(0, 50, (count + 1, 3)) * [1, 1, 0.1]
    names = np.array([*(f"k{k:02}" for k in range(count)), ""])
    figure = made(positions, kind=names).plot(color="kind")
    figure.canvas.draw()
    (legend,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    box = legend.get_window_extent()
    assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1


def test_integers_of_many_values_and_numbers_are_quantities(made):
    positions = np.random.default_rng(0).uniform(0, 50, (60, 3))
    level = made(positions, count=np.arange(60), weight=np.append(np.nan, np.arange(59.0)))
    assert level.plot(color="count", projection="xy").axes[-1].get_ylabel() == "count"
    figure = level.plot(color="weight", projection="xy")
    assert plot.NONE in colours_of(drawn(panels(figure)[0], PathCollection))
    assert list(legend_of(figure)) == ["none"]


def test_truth_values_some_of_which_are_missing_are_named(made):
    values = np.ma.masked_array(np.arange(60) % 2 == 0, np.arange(60) % 5 == 0)
    figure = made(np.random.default_rng(0).uniform(0, 50, (60, 3)), flag=values).plot(color="flag", projection="xy")
    assert list(legend_of(figure)) == ["False", "True", "none"]


def test_a_level_without_vertices_is_drawn(tmp_path):
    bounds = ([0, 0, 0], [5, 5, 5])
    zvl.write_points(tmp_path / "p.zv", np.zeros((0, 3)), chunk_shape=5, bounds=bounds, vertex_attributes={"q": []})
    figure = zvl.open_zv(tmp_path / "p.zv")[0].plot(color="q")
    assert figure.get_suptitle() == "p.zv, level 0: 0 vertices"
    assert "no vertices" in [text.get_text() for text in panels(figure)[0].texts]


def test_robust_colours_leave_out_what_is_far_off(made):
    values = np.append(np.linspace(0, 1, 99), 1e6)
    level = made(np.random.default_rng(0).uniform(0, 50, (100, 3)), weight=values)
    for robust, most in ((False, 1e6), (True, 2)):
        points = drawn(panels(level.plot(color="weight", robust=robust, projection="xy"))[0], PathCollection)
        assert most / 4 <= points.get_clim()[1] <= most


def test_an_edge_has_the_colour_of_its_child(neuron):
    level = zvl.open_zv(neuron)[0]
    lines = drawn(panels(level.plot(color="radius", projection="xy"))[0], LineCollection)
    vertices, edges, radius = (part.compute() for part in (level.vertices, level.edges, level.attributes["radius"]))
    depth = np.argsort(vertices[edges][:, :, 2].astype(float).mean(axis=1), kind="stable")
    assert np.array_equal(lines.get_array(), radius[edges[depth, 0]])


def test_colour_by_object_and_by_what_objects_have(level):
    part = level.sel(objects=[3, 5, 8])
    figure = part.plot(color="object_id", projection="xy")
    assert list(legend_of(figure)) == ["3", "5", "8"]
    assert len(set(colours_of(drawn(panels(figure)[0], LineCollection)))) == 3
    lengths = level.objects.attributes["length"].values[[3, 5, 8]]
    lines = drawn(panels(part.plot(color="length", projection="xy"))[0], LineCollection)
    assert np.allclose(np.unique(lines.get_array()), np.sort(lengths))


def test_many_points_are_counted_in_hexagons(made, monkeypatch):
    monkeypatch.setattr(plot, "DENSE", 500)
    level = made(np.random.default_rng(0).uniform(0, 50, (600, 3)), kind=np.arange(600) % 3)
    figure = level.plot()
    for axes in panels(figure)[:3]:
        assert axes.collections[0].get_array().sum() == 600
    assert figure.axes[-1].get_ylabel() == "vertices in a hexagon"
    assert drawn(panels(level.plot(density=False))[0], PathCollection)
    with pytest.raises(SelectionError, match="has categories"):
        level.plot(color="kind", density=True)


def test_panels_are_to_one_scale_and_have_a_bar_of_it(level):
    figure = level.plot()
    scales = []
    for axes in panels(figure):
        place = axes.get_position()
        scales += [place.width * figure.get_figwidth() / np.ptp(axes.get_xlim())]
        scales += [place.height * figure.get_figheight() / np.ptp(axes.get_ylim())]
        assert "5" in [text.get_text() for text in axes.findobj(plot._part("text").Text)]
        assert len(axes.get_xticks()) >= 2
    assert np.allclose(scales, scales[0])


@pytest.mark.parametrize("most", [0.3, 1, 4.9, 5, 7e5])
def test_lengths_of_bars_are_round(most):
    found = plot.nice_length(most)
    assert most / 2.5 <= found <= most
    assert f"{found:e}"[0] in "125"


def test_one_vertex_is_seen_in_the_middle(made):
    figure = made([[1e5, 2, 3]]).plot()
    assert figure.get_suptitle() == "made.zarrvectors, level 0: 1 vertex"
    axes = panels(figure)[0]
    assert np.mean(axes.get_xlim()) == 1e5
    assert np.ptp(axes.get_xlim()) > 1


def test_colour_maps_are_matplotlibs(level):
    assert "cividis" in drawn(panels(level.plot(color="arc_length", cmap="cividis"))[0], LineCollection).get_cmap().name
    with pytest.raises(NotFoundError, match="did you mean 'viridis'"):
        level.plot(cmap="viridiss")
    assert plot.category_colours(3, "Set1") == ["#e41a1c", "#377eb8", "#4daf4a"]


def test_coordinates_of_maps_are_written_out(tmp_path):
    positions = np.random.default_rng(0).uniform([440_000, 4_480_000], [440_100, 4_480_100], (200, 2))
    zvl.write_points(tmp_path / "a.zv", positions, chunk_shape=50)
    figure = zvl.open_zv(tmp_path / "a.zv")[0].plot()
    figure.canvas.draw()
    (axes,) = panels(figure)
    for axis, ticks in ((axes.xaxis, axes.get_xticks()), (axes.yaxis, axes.get_yticks())):
        assert [text.get_text() for text in axis.get_ticklabels()] == [f"{at:.0f}" for at in ticks]
        assert not axis.get_offset_text().get_text()


# True colours.


def hexes(colours):
    return [plot._part("colors").to_hex(colour) for colour in colours]


@pytest.fixture
def coloured(made):
    """A level with colours in several forms, and their hexadecimal names by x."""
    colours = np.random.default_rng(0).integers(0, 256, (60, 3)).astype("u1")
    parts = dict(zip(("red", "green", "blue"), colours.T, strict=True))
    forms = {"rgb": colours, "share": colours / 255, "deep": colours * np.uint16(257), "float": colours.astype("f4")}
    forms["rgba"] = np.column_stack([colours, np.full(60, 255, "u1")])
    level = made(np.column_stack([np.arange(60.0)] * 2 + [np.zeros(60)]), **forms, **parts, normal=colours - 100.0)
    return level, hexes(colours / 255)


@pytest.mark.parametrize("color", ["rgb", "share", "deep", "float", "rgba", "red, green,blue", "lazy", "array", "list"])
def test_red_green_and_blue_are_drawn_as_they_are(coloured, color):
    level, expected = coloured
    given = level.attributes["rgb"]
    arrays = {"lazy": given, "array": given.compute(), "list": given.compute().tolist()}
    figure = level.plot(color=arrays.get(color, color), projection="xy")
    points = drawn(panels(figure)[0], PathCollection)
    rows = points.get_offsets()[:, 0].astype(int)
    assert colours_of(points) == [expected[row] for row in rows]
    assert len(figure.axes) == 1, "no colour bar"
    assert figure.axes[0].get_legend() is None


def test_edges_and_selections_have_true_colours(neuron):
    part = zvl.open_zv(neuron)[0].sel(objects=[1])
    vertices, edges = part.vertices.compute(), part.edges.compute()
    colours = (vertices - vertices.min(axis=0)) / np.ptp(vertices, axis=0)
    lines = drawn(panels(part.plot(color=colours, projection="xy"))[0], LineCollection)
    depth = np.argsort(vertices[edges][:, :, 2].astype(float).mean(axis=1), kind="stable")
    assert colours_of(lines) == hexes(colours[edges[depth, 0]])


def test_arrays_are_quantities_or_categories(made):
    level = made([[0, 0, 0], [1, 1, 0], [2, 2, 0], [3, 3, 0]])
    figure = level.plot(color=np.array(["type 10", None, "type 2", "type 2"], object), projection="xy")
    assert list(legend_of(figure)) == ["type 2", "type 10", "none"]
    points = drawn(panels(level.plot(color=[1.5, 2, 0, 4], projection="xy"))[0], PathCollection)
    assert points.get_array().tolist() == [1.5, 2, 0, 4]
    masked = np.ma.masked_array(np.full((4, 3), 0.5), [[False] * 3] * 3 + [[True] * 3])
    points = drawn(panels(level.plot(color=masked, projection="xy"))[0], PathCollection)
    assert colours_of(points) == ["#808080"] * 3 + [plot.NONE]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"color": "normal"}, SelectionError, "'normal' has numbers from -100 to"),
        ({"color": "red,green,gold"}, NotFoundError, "'red,green,gold'"),
        ({"color": (1, 0, 0)}, SelectionError, "3 rows, but 60 vertices"),
        ({"color": 7}, SelectionError, "array with a row for each vertex"),
        ({"color": np.zeros((60, 2))}, SelectionError, r"color=.* has \(2,\)"),
        ({"color": np.full((60, 3), "a")}, SelectionError, "values of <U1"),
        ({"color": "rgb", "robust": True}, SelectionError, "are for numbers"),
        ({"color": "rgb", "density": True}, SelectionError, "are for numbers"),
    ],
)
def test_what_is_no_colour_is_named(coloured, options, error, message):
    with pytest.raises(error, match=message):
        coloured[0].plot(**options)


def test_legends_are_in_the_order_in_which_people_count(made):
    names = np.array([f"type {k}" for k in (10, 2, 1, 21, 3)])
    figure = made(np.eye(5, 3), kind=names).plot(color="kind", projection="xy")
    assert list(legend_of(figure)) == [f"type {k}" for k in (1, 2, 3, 10, 21)]
    points = drawn(panels(figure)[0], PathCollection)
    assert len(set(colours_of(points))) == 5
