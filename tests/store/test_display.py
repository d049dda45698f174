"""Text and HTML of stores, levels and selections."""

import html.parser
import re

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.generations import write_grid_store
from zarr_vectors_lazy.display import CHOSEN, REST, chunks_svg, naturally
from zarr_vectors_lazy.errors import counted


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


def test_ragged_objects_say_what_they_are(tracts):
    ragged = zvl.open_zv(tracts)[0].objects.ragged(["arc_length"])
    assert repr(ragged) == "<110 objects, not computed: vertices, offsets, attributes arc_length>"


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
    assert drawing.count("<g transform") == {1: 1, 2: 1, 4: 3}[ndim]
    assert chunks_svg(coords[:0], np.ones(0, bool), np.ones(ndim), list("xyzt")[:ndim]) == ""


def test_attributes_are_named_where_they_are_known(tracts):
    level = zvl.open_zv(tracts)[0]
    assert "arc_length" not in level._repr_html_()
    assert "arc_length" in level.attribute_names
    assert "arc_length" in level._repr_html_()


def test_selections_say_what_they_select(tracts):
    level = zvl.open_zv(tracts)[0]
    part = level.sel(bbox=([84, 100, 78], [92, 112, 88]), objects=[3, 5], where={"arc_length": (3, None)})
    for text in (repr(part), html.unescape(part._repr_html_())):
        assert "(84, 100, 78) to (92, 112, 88)" in text
        assert "3, 5" in text
        assert "3 <= arc_length" in text
        assert "counted when computed" in text
        assert "unknown" not in text
    assert "index in [1, 2]" in repr(level.sel(where={"index": [1, 2]}))
    assert "function(index)" in repr(level.sel(where=lambda index: index > 3))
    assert "objects in:" in repr(level.sel(bbox=([84, 100, 78], [92, 112, 88]), whole_objects=True))
    group = level.sel(groups=["short"]).sel(bbox=([84, 100, 78], [92, 112, 88]), whole_objects=True)
    assert "objects:      of 1, 2, " in repr(group), "those of the group that may touch the box"
    assert "objects:      none\n" in repr(level.sel(objects=[1, 2]).sel(groups=["long"]))
    assert "index has no such value" in repr(level.sel(where={"index": 1.5}))
    assert "index = 1\n" in repr(level.sel(where={"index": 1}))
    assert level.attribute_names[:2] == ("arc_length", "index")
    assert "attributes:   arc_length, index" in repr(level), "known by now"
    assert "any of 2 boxes" in repr(level.sel(bbox=np.array([[[84, 100, 78], [92, 112, 88]]] * 2)))


def test_conditions_on_categories_name_them(tmp_path):
    names = np.array(["soma", "axon", ""])[np.arange(9) % 3]
    zvl.write_points(tmp_path / "p.zv", np.zeros((9, 3)), chunk_shape=5, vertex_attributes={"kind": names})
    level = zvl.open_zv(tmp_path / "p.zv")[0]
    assert "kind = soma" in repr(level.sel(where={"kind": "soma"}))
    assert "kind has no such value" in repr(level.sel(where={"kind": "spine"}))
    assert "kind is missing" in repr(level.sel(where={"kind": None}))
    assert "kind = soma or missing" in repr(level.sel(where={"kind": ["soma", None]}))


def test_what_levels_give_has_tables(tracts, neuron, surface):
    level, trees, mesh = (zvl.open_zv(path)[0] for path in (tracts, neuron, surface))
    part = level.sel(objects=[3, 5])
    shown = {
        "count": [level.objects, part.objects, level.polylines, trees.skeletons, mesh.meshes],
        "arc_length": [level.attributes, part.compute(), level.polylines[3].attributes],
        "edges": [trees.skeletons[1], part.compute()],
        "none": [level.link_attributes, trees.edge_attributes],
        "middle": [level.objects.groups, level.objects],
    }
    for word, things in shown.items():
        for thing in things:
            check(thing._repr_html_())
            assert word in thing._repr_html_()
            assert len(repr(thing)) < 1000
    assert "110" in repr(level.polylines)
    assert "at most 2" in repr(part.objects)


def test_panels_are_to_one_scale_and_tell_where_they_end(tracts):
    coords = np.array([[0, 0, 0], [3, 1, 0]])
    drawing = chunks_svg(coords, np.ones(2, bool), np.full(3, 10.0), "xyz")
    check(drawing)
    widths = [float(w) for w in re.findall(r"<rect [^>]*width='([\d.]+)'", drawing)]
    assert len(set(widths)) == 1  # cells of a cube are squares of one size in every panel
    assert ">40</text>" in drawing
    assert ">20</text>" in drawing


def test_names_are_in_the_order_in_which_people_count():
    names = ["type 10", "b", "type 2", "a-007", "a-7b", "", "10", "9", "type 2.10", "type 2.9"]
    shown = [names[at] for at in naturally(names)]
    assert shown == ["", "9", "10", "a-007", "a-7b", "b", "type 2", "type 2.9", "type 2.10", "type 10"]


def test_categories_are_listed(tmp_path):
    kinds = np.array([f"type {k}" for k in (10, 2, 1)])
    zvl.write_points(tmp_path / "p.zv", np.eye(3), chunk_shape=5, vertex_attributes={"kind": kinds})
    level = zvl.open_zv(tmp_path / "p.zv")[0]
    assert repr(level.categories) == "<categories of 1 attribute: kind (3)>"
    check(level.categories._repr_html_())
    assert "type 1, type 2, type 10" in level.categories._repr_html_()
    assert "kind in [type 2, type 10]" in repr(level.sel(where={"kind": ["type 10", "type 2"]}))


def test_panels_of_a_flat_level_have_one_label_upright():
    drawing = chunks_svg(np.array([[0, 0], [99, 0]]), np.ones(2, bool), np.array([5, 1]), "xy")
    assert re.findall(r">([^<]+)</text>", drawing)[:3] == ["0", "500", "0 to 1"]


def test_one_is_no_plural():
    said = [
        counted(number, one) for number, one in ((1, "vertex"), (0, "vertex"), (2, "axis"), (1, "box"), (2000, "row"))
    ]
    assert said == ["1 vertex", "0 vertices", "2 axes", "1 box", "2,000 rows"]
