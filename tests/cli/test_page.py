"""What the page of ``zvl view`` receives, and that it needs nothing else; `tests/web/test_page.py` uses a browser."""

import json
import re
from importlib.resources import files

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.cli import server
from zarr_vectors_lazy.errors import NotFoundError


def shade_of(level, color):
    data = server.packed_shade(level, color)
    size = int.from_bytes(data[:4], "little")
    assert size % 4 == 0
    return json.loads(data[4 : 4 + size]), np.frombuffer(data[4 + size :], "<f4")


def test_rows_are_about_the_middle_of_the_store(tracts):
    store = zvl.open_zv(tracts)
    data = server.packed(store[0])
    n, e = np.frombuffer(data[:8], "<u4")
    points = np.frombuffer(data[8 : 8 + 12 * n], "<f4").reshape(-1, 3)
    edges = np.frombuffer(data[8 + 12 * n :], "<u4").reshape(-1, 2)
    assert np.allclose(points + np.mean(store.bounds, axis=0), store[0].vertices.compute(), atol=1e-4)
    assert np.array_equal(edges, store[0].edges.compute())
    assert len(edges) == e


def test_far_from_zero_positions_keep_their_digits(tmp_path):
    positions = 5e6 + np.arange(30.0).reshape(10, 3) / 100
    zvl.write_points(tmp_path / "p.zv", positions, chunk_shape=50, dtype="float64")
    points = np.frombuffer(server.packed(zvl.open_zv(tmp_path / "p.zv")[0])[8:], "<f4").reshape(-1, 3)
    assert np.allclose(np.diff(np.sort(points, axis=0), axis=0), 0.03, atol=1e-5)


def test_colours_are_of_vertices_and_of_objects(tracts):
    store = zvl.open_zv(tracts)
    told = server.described(store)
    assert told["levels"][0]["colors"] == ["arc_length", "index", "object_id", "length", "npoints"]
    said, values = shade_of(store[0], "arc_length")
    assert said == {"name": "arc_length", "labels": None, "dates": False, "true": False}
    assert np.array_equal(values, store[0].attributes["arc_length"].compute())
    said, values = shade_of(store[0], "object_id")
    assert len(said["labels"]) == 110
    assert set(values.tolist()) == set(range(110))
    with pytest.raises(NotFoundError, match="object_id"):
        server.packed_shade(store[0], "weight")


def test_true_colours_are_bytes(tmp_path):
    colours = {name: np.array([at, 100, 200], "u1") for at, name in enumerate(("red", "green", "blue"))}
    colours["rgb"] = np.column_stack(list(colours.values()))
    zvl.write_points(tmp_path / "p.zv", np.arange(9.0).reshape(3, 3), chunk_shape=50, vertex_attributes=colours)
    store = zvl.open_zv(tmp_path / "p.zv")
    assert server.described(store)["levels"][0]["colors"] == ["blue", "green", "red", "rgb", "red,green,blue"]
    for name in ("rgb", "red,green,blue"):
        said, values = shade_of(store[0], name)
        assert said["true"]
        assert values.view("u1").reshape(3, 4)[:, :3].tolist() == colours["rgb"].tolist()


def test_the_page_is_one_file():
    text = files("zarr_vectors_lazy.cli").joinpath("page.html").read_text()
    assert re.findall(r"https?://", text) == []
    assert re.findall(r"(?:src|href)=.([^ >]*)", text) == ['data:,"']  # an icon, so that no browser asks for one
    assert "width=device-width" in text
    assert "prefers-color-scheme: dark" in text
