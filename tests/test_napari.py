"""napari's reader, run by npe2 as napari runs it, with real layers if napari is installed."""

import sys
from pathlib import Path
from types import SimpleNamespace

import npe2
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy import napari as reader
from zarr_vectors_lazy.errors import FormatError, SelectionError, ZVWarning

MANIFEST = Path(zvl.__file__).with_name("napari.yaml")


@pytest.fixture
def opened(npe2pm):
    """What a path becomes when napari opens it."""
    with npe2pm.tmp_plugin(manifest=str(MANIFEST)):
        yield lambda *paths: npe2.read([str(path) for path in paths], stack=len(paths) > 1)


def test_the_manifest_names_what_there_is(npe2pm):
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    with npe2pm.tmp_plugin(manifest=manifest):
        assert npe2pm.commands.execute("zarr-vectors-lazy.read", kwargs={"path": "nothing.zarrvectors"}) is None


def test_points_by_level(opened, goldens):
    store = zvl.open_zv(goldens["cloud-0.9"].path)
    layers = opened(goldens["cloud-0.9"].path)
    assert [meta.get("visible", True) for _, meta, _ in layers] == [True, False, False]
    for level, (data, meta, kind) in zip(store, layers, strict=True):
        assert kind == "points"
        np.testing.assert_array_equal(data, level.vertices.compute()[:, ::-1])
        assert meta["axis_labels"] == ("z", "y", "x")
        assert meta["features"].keys() >= {"object_id"} & set(meta["features"])
        for name in level.attribute_names:
            if level.attributes[name].ndim == 1:
                np.testing.assert_array_equal(meta["features"][name], level.attributes[name].compute())
        assert meta["size"] > 0


def test_objects_that_no_vertex_is_of_are_no_column(opened, variety):
    path = variety("q092-object-attributes-no-index")
    ((data, meta, kind),) = opened(path)
    assert (kind, len(data)) == ("points", zvl.open_zv(path)[0].vertex_count)
    assert "object_id" not in meta["features"]


def test_vertices_are_shown_where_links_are_lost(opened, variety):
    path = variety("q092-rechunk-group")
    with pytest.warns(ZVWarning, match=r"dropped its links .* its vertices are shown"):
        layers = opened(path)
    assert [kind for _, _, kind in layers] == ["points"] * len(layers)
    np.testing.assert_array_equal(layers[0][0], zvl.open_zv(path)[0].vertices.compute()[:, ::-1])


def test_few_paths_are_shapes(opened, tracts):
    level = zvl.open_zv(tracts)[0]
    data, meta, kind = opened(tracts)[0]
    assert (kind, meta["shape_type"]) == ("shapes", "path")
    assert len(data) == len(level.objects.ids) == len(meta["features"]["object_id"])
    for at, one in enumerate(level.objects.ids[:5].tolist()):
        np.testing.assert_allclose(data[at], level.objects[one].compute()[:, ::-1])
    assert meta["features"].keys() >= set(level.objects.attributes.data_vars) & meta["features"].keys()


def test_paths_of_one_vertex_are_no_shapes(opened, tmp_path):
    lines = [np.eye(3, dtype="f4"), np.ones((1, 3), "f4"), np.ones((2, 3), "f4") * [[1], [2]]]
    zvl.write_polylines(tmp_path / "s.zv", lines, chunk_shape=5.0, object_attributes={"size": [3, 1, 2]})
    with pytest.warns(ZVWarning, match=r"fewer than two vertices are left out \(1 of 3\)"):
        ((data, meta, _),) = opened(tmp_path / "s.zv")
    assert [len(path) for path in data] == meta["features"]["size"].tolist() == [3, 2]
    assert meta["features"]["object_id"].tolist() == [0, 2]
    none = np.empty((0, 3), "f4"), [0]
    zvl.write_polylines(tmp_path / "none.zv", none, chunk_shape=5.0, bounds=([0, 0, 0], [9, 9, 9]))
    ((data, meta, kind),) = opened(tmp_path / "none.zv")
    assert (data, meta["ndim"], kind) == ([], 3, "shapes")


def test_many_paths_are_vectors(opened, tracts, monkeypatch):
    monkeypatch.setattr(reader, "MOST_SHAPES", 10)
    level = zvl.open_zv(tracts)[0]
    data, _, kind = opened(tracts)[0]
    ends = level.vertices.compute()[level.edges.compute()][:, :, ::-1]
    assert kind == "vectors"
    np.testing.assert_allclose(data[:, 0], ends[:, 0])
    np.testing.assert_allclose(data.sum(axis=1), ends[:, 1])


def test_paths_with_time_are_tracks(opened, tmp_path):
    rng = np.random.default_rng(1)
    paths = [np.column_stack([rng.uniform(0, 9, (n, 3)), rng.permutation(n)]) for n in (5, 1, 7)]
    speeds = [path[:, 3] * 2 for path in paths]
    zvl.write_polylines(
        tmp_path / "cells.zv",
        paths,
        chunk_shape=5,
        axes=("x", "y", "z", "t"),
        units=("um", "um", "um", "s"),
        object_ids=[30, 10, 20],
        vertex_attributes={"speed": speeds, "v": [path[:, :2] for path in paths]},
    )
    ((data, meta, kind),) = opened(tmp_path / "cells.zv")
    assert (kind, meta["axis_labels"], meta["units"]) == ("tracks", ("t", "z", "y", "x"), ("s", "um", "um", "um"))
    assert data[:, 0].tolist() == [10] + [20] * 7 + [30] * 5
    assert data[:, 1].tolist() == [0, *range(7), *range(5)]
    np.testing.assert_array_equal(data[8:, 4:1:-1], paths[0][np.argsort(paths[0][:, 3]), :3])
    np.testing.assert_array_equal(meta["features"]["speed"], data[:, 1] * 2)
    np.testing.assert_array_equal(meta["features"]["v_0"], data[:, 4])


def test_meshes_are_surfaces_of_triangles(opened, surface, tmp_path):
    (vertices, faces), _, kind = opened(surface)[0]
    level = zvl.open_zv(surface)[0]
    assert kind == "surface"
    np.testing.assert_array_equal(faces, level.faces.compute())
    np.testing.assert_allclose(vertices, level.vertices.compute()[:, ::-1])
    zvl.write_mesh(tmp_path / "quad.zv", np.eye(4, 3), [[0, 1, 2, 3]], chunk_shape=5)
    ((_, faces), _, _) = opened(tmp_path / "quad.zv")[0]
    assert len(faces) == 2


def test_graphs_are_vectors_and_points(opened, tmp_path, neuron):
    zvl.write_graph(tmp_path / "g.zv", np.eye(3), [[0, 1], [1, 2]], chunk_shape=5)
    assert [kind for *_, kind in opened(tmp_path / "g.zv")] == ["vectors", "points"]
    assert {kind for *_, kind in opened(neuron)} == {"vectors"}


def test_axes_that_the_world_has_not(opened, tmp_path):
    zvl.write_points(tmp_path / "p.zv", [[1.0, 2, 3]], chunk_shape=5, axes=("y", "x", "t"), units="px")
    ((data, meta, _),) = opened(tmp_path / "p.zv")
    assert (data.tolist(), meta["axis_labels"]) == ([[3, 1, 2]], ("t", "y", "x"))
    assert "units" not in meta


def test_several_stores_at_once(opened, cloud, tracts):
    assert {kind for *_, kind in opened(cloud, tracts)} == {"points", "shapes"}


def test_other_folders_are_left_to_others(opened, tmp_path):
    (tmp_path / "image.zarrvectors").mkdir()
    assert reader.get_reader(str(tmp_path / "image.zarrvectors")) is None
    (tmp_path / "image.zarrvectors" / "zarr.json").write_text('{"attributes": {"ome": {}}}')
    with pytest.raises(ValueError, match="No readers"):
        opened(tmp_path / "image.zarrvectors")
    assert reader.get_reader([]) is None


def test_a_store_at_a_url_is_tried():
    read_it = reader.get_reader("memory://nothing/there.zarrvectors")
    with pytest.raises(FormatError):
        read_it("memory://nothing/there.zarrvectors")


def test_levels_that_are_too_large_are_left_out(opened, cloud, monkeypatch):
    monkeypatch.setattr(reader, "MOST_VERTICES", 1000)
    with pytest.warns(ZVWarning, match=r"levels \[0\] .* are left out"):
        assert len(opened(cloud)) == 2
    monkeypatch.setattr(reader, "MOST_VERTICES", 10)
    with pytest.raises(SelectionError, match="no level of"):
        opened(cloud)


class Emitter:
    def __init__(self):
        self.called = []

    def connect(self, function):
        if function not in self.called:
            self.called.append(function)


class Layer:
    def __init__(self, **named):
        self.__dict__.update(named)


class Layers(list):
    """As napari's list of layers, as far as the reader asks."""

    def __init__(self):
        super().__init__()
        self.events = SimpleNamespace(inserted=Emitter())

    def add(self, data, meta, kind):
        layer = Layer(data=data, kind=kind, **{"visible": True, "metadata": {}, **meta})
        layer.events = SimpleNamespace(visible=Emitter())
        self.append(layer)
        for call in self.events.inserted.called:
            call(SimpleNamespace(value=layer))


def test_in_a_viewer_levels_are_read_when_they_are_shown(opened, cloud, monkeypatch):
    viewer = SimpleNamespace(layers=Layers())
    read_levels = []
    make = reader.level_layers
    monkeypatch.setattr(reader, "level_layers", lambda level: read_levels.append(level.index) or make(level))
    create = SimpleNamespace(create=lambda *given: Layer(given=given))
    napari = SimpleNamespace(current_viewer=lambda: viewer, layers=SimpleNamespace(Layer=create))
    monkeypatch.setitem(sys.modules, "napari", napari)
    for layer in opened(cloud):
        viewer.layers.add(*layer)
    assert read_levels == [0]
    shown, second, third = viewer.layers
    assert [layer.visible for layer in viewer.layers] == [True, False, False]
    assert "read when shown" in second.name
    assert not shown.events.visible.called
    (show,) = second.events.visible.called
    show(None)
    assert read_levels == [0]  # it is hidden still
    second.visible = True
    show(None)
    assert read_levels == [0, 1]
    np.testing.assert_array_equal(viewer.layers[1].given[0], zvl.open_zv(cloud)[1].vertices.compute()[:, ::-1])
    assert [len(viewer.layers), viewer.layers[2]] == [3, third]
    show(None)
    assert read_levels == [0, 1]


@pytest.mark.parametrize("name", ["cloud-0.9", "tracts-0.9", "neuron-0.9", "surface-0.9", "cloud-0.7"])
def test_napari_makes_layers_of_it(opened, goldens, name):
    layers = pytest.importorskip("napari.layers")
    for data, meta, kind in opened(goldens[name].path):
        made = layers.Layer.create(data, meta, kind)
        assert (made.name, made.ndim) == (meta["name"], 3)
