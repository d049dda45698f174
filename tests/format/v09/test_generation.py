import numpy as np
import pytest

from tests.format.v09.nodes import GENERATION, array_doc, ask, changed, found, group_doc, level_doc, root_doc
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.metadata import parse_level, parse_root

STORE = parse_root(found(root_doc(), ""), None)
BY_KIND = {"chunk_attribute_name": "kind", "chunk_attribute_values": ["a", "b", "c"]}


def level(**block):
    return parse_level(found(level_doc(**block), "0"), STORE, 0)


def vertices(doc, **block):
    return ask(GENERATION.vertices(level(**block), STORE), {"0/vertices": doc})


def test_paths_of_a_level():
    assert GENERATION.level_nodes(12) == ("12", "12/vertices")


def test_the_generation_parses_roots_and_levels():
    store = GENERATION.parse_store(found(root_doc(), ""), ("0", "3"))
    assert store.level_names == (0, 1, 3)
    assert GENERATION.parse_level(found(level_doc(1), "1"), store, 1).index == 1


def test_vertices_have_a_column_an_axis():
    array = vertices(array_doc(dtype="float64", row_shape=[7], encoding="raw"))
    assert (array.spec.row_shape, array.spec.dtype) == ((2,), np.float64)
    assert vertices(array_doc()).spec.dtype == np.float32


@pytest.mark.parametrize(
    ("doc", "match"),
    [
        (array_doc(encoding="draco"), "draco"),
        (array_doc((4,), ["0"]), "chunks have 1 components, expected 2 or 3"),
        (array_doc((4, 4, 4, 4), ["0.0.0.0"]), "chunks have 4 components, expected 2 or 3"),
        (array_doc(dtype="<U3"), "numbers"),
        (array_doc(dtype="bool"), "numbers"),
        (array_doc(dtype="complex64"), "numbers"),
        (group_doc({}), "array"),
    ],
)
def test_vertices_that_cannot_be_read(doc, match):
    with pytest.raises(FormatError, match=match) as caught:
        vertices(doc)
    assert caught.value.where == "0/vertices"


def test_what_is_missing_is_named():
    with pytest.raises(FormatError, match="level 0 has no array 'vertices'"):
        ask(GENERATION.vertices(level(), STORE), {})
    array = vertices(array_doc())
    with pytest.raises(FormatError, match="level 0 has no array 'vertex_fragments'"):
        ask(GENERATION.fragments(level(), array), {})
    with pytest.raises(FormatError, match="vertex_attributes/speed"):
        ask(GENERATION.attribute(level(), array, "speed"), {})


def test_chunks_by_attribute():
    array = vertices(array_doc((3, 4, 4), ["0.0.0", "2.3.1"]), **BY_KIND)
    assert array.chunks.rank == 3
    assert vertices(array_doc(), **BY_KIND).chunks.rank == 2


def test_siblings_may_have_another_origin_and_shape_but_no_other_rank():
    array = vertices(array_doc((4, 6), ["0.0", "3.5"]))
    other = array_doc((9, 9), ["-1.0"], chunk_grid_origin=[-2, 0])
    docs = {"0/vertex_fragments": other, "0/vertex_attributes/a": other}
    assert ask(GENERATION.fragments(level(), array), docs).spec.layout.origin == (-2, 0)
    assert ask(GENERATION.attribute(level(), array, "a"), docs).spec.layout.origin == (-2, 0)
    wrong = {path: array_doc((4, 6, 1), ["0.0.0"]) for path in docs}
    for steps in (GENERATION.fragments(level(), array), GENERATION.attribute(level(), array, "a")):
        with pytest.raises(FormatError, match="chunks have 3 components, expected 2"):
            ask(steps, wrong)


def test_names_of_attributes_are_sorted():
    docs = {f"0/vertex_attributes/{name}": array_doc() for name in ("b", "a", "B")}
    assert ask(GENERATION.attribute_names(level()), docs) == ("B", "a", "b")
    assert ask(GENERATION.attribute_names(level()), {}) == ()


def test_fragments_are_bytes():
    array = vertices(array_doc())
    fragments = ask(GENERATION.fragments(level(), array), {"0/vertex_fragments": changed(array_doc(), ("fill_value",))})
    assert (fragments.spec.dtype, fragments.spec.row_shape) == (np.uint8, ())
