"""Text and HTML of stores, levels and selections."""

import html.parser
import re

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.generations import write_grid_store
from zarr_vectors_lazy.display import CHOSEN, REST, chunks_svg


class Balanced(html.parser.HTMLParser):
    """Tags that are closed in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check(text):
    parser = Balanced()
    parser.feed(text)
    assert not parser.open


def test_store_and_selections_have_tables_and_a_drawing(golden):
    store = zvl.open_zv(golden.path)
    lo, hi = store.bounds
    for part in (store, store[0], store[0].sel(bbox=(lo, (lo + hi) / 2))):
        check(part._repr_html_())
        assert "<svg" in part._repr_html_()
    for level in store:
        assert f"<td>{level.chunk_count:,}</td>" in store._repr_html_()


def test_drawing_tells_chosen_chunks_from_the_rest(tracts):
    level = zvl.open_zv(tracts)[0]
    text = level.sel(bbox=([84, 100, 78], [92, 112, 88]))._repr_html_()
    assert CHOSEN in text
    assert REST in text
    assert "3 of 16" in text
    assert CHOSEN not in level.sel(x=slice(0, 1))._repr_html_()
    assert REST not in level._repr_html_()


def test_names_from_a_store_are_escaped():
    coords = np.zeros((1, 2), int)
    drawing = chunks_svg(coords, np.ones(1, bool), np.ones(2), ["<b>", "y"])
    assert "<b>" not in drawing
    check(drawing)


def test_many_chunks_are_drawn_together(tmp_path):
    store = zvl.open_zv(write_grid_store(tmp_path / "grid.zarrvectors", 50))
    assert len(store._repr_html_()) < 600_000
    assert len(re.findall("<rect", store._repr_html_())) <= 3 * 40 * 40


@pytest.mark.parametrize("ndim", [1, 2, 4])
def test_any_number_of_axes(ndim):
    coords = np.arange(3 * ndim).reshape(3, ndim)
    box = (np.zeros(ndim), np.full(ndim, 2.5))
    drawing = chunks_svg(coords, np.array([True, False, True]), np.full(ndim, 2.0), list("xyzt")[:ndim], box)
    check(drawing)
    assert drawing.count("<g ") == {1: 1, 2: 1, 4: 3}[ndim]
    assert chunks_svg(coords[:0], np.ones(0, bool), np.ones(ndim), list("xyzt")[:ndim]) == ""


def test_attributes_are_named_where_they_are_known(tracts):
    level = zvl.open_zv(tracts)[0]
    assert "arc_length" not in level._repr_html_()
    assert "arc_length" in level.attribute_names
    assert "arc_length" in level._repr_html_()
